"""Both wheels as they are installed: built, put into an environment of their own, run from another folder."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.support.stack import ROOT, START_PATIENCE, stack_directory

PROJECTS = {"placet": ROOT / "clients" / "python", "placet_pdp": ROOT}


def run(*argv: str | Path, cwd: Path, path: Path | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    environment |= {
        "NO_COLOR": "1",
        "PATH": os.pathsep.join(filter(None, [str(path or ""), os.environ["PATH"]])),
    }
    done = subprocess.run(
        [str(part) for part in argv],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=START_PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("wheels")
    for project in PROJECTS.values():
        run(
            sys.executable,
            "-m",
            "hatchling",
            "build",
            "--target",
            "wheel",
            "--directory",
            folder,
            cwd=project,
        )
    built = {path.name.partition("-")[0]: path for path in folder.glob("*.whl")}
    assert built.keys() == PROJECTS.keys()
    return built


@pytest.fixture(scope="module")
def installed(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has both wheels. Other packages are those of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    pip = (
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--disable-pip-version-check",
    )
    run(*pip, "--no-deps", "--no-index", *wheels.values(), cwd=folder)
    [packages] = folder.glob("lib/python*/site-packages")
    # Looked at last, and without its own .pth files: the checkout is not importable.
    (packages / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_wheels_carry_the_licence(wheels: dict[str, Path]) -> None:
    text = (ROOT / "LICENSE").read_bytes()
    assert b"Apache License" in text
    for name, wheel in wheels.items():
        with zipfile.ZipFile(wheel) as archive:
            assert archive.read(f"{name}-0.1.0.dist-info/licenses/LICENSE") == text
            metadata = archive.read(f"{name}-0.1.0.dist-info/METADATA").decode()
        assert "License-Expression: Apache-2.0\n" in metadata


def test_installed_modules_are_the_wheels_own(installed: Path, tmp_path: Path) -> None:
    said = run(
        installed / "python", "-c", "import pdp, placet; print(pdp.__path__, placet.__path__)", cwd=tmp_path
    )
    assert said.count(str(installed.parent)) == 2
    assert str(ROOT) not in said


@pytest.mark.parametrize("command", ["pdp", "placet"])
def test_installed_command_tells_what_it_can_do(installed: Path, tmp_path: Path, command: str) -> None:
    assert "Usage" in run(installed / command, "--help", cwd=tmp_path)


def test_installed_server_plays_the_first_story(installed: Path, opa_path: Path, tmp_path: Path) -> None:
    with stack_directory() as data:
        said = run(
            installed / "pdp",
            "dev",
            "--story",
            "--once",
            "--ports",
            "auto",
            "--data-dir",
            data,
            cwd=tmp_path,
            path=opa_path.parent,
        )
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())
