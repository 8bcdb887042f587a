"""The base install is thin: what it imports, and what it says when an extra is missing."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import placet

PROJECT = Path(__file__).parents[3] / "clients/python"
# A finder that knows the standard library and these packages, and nothing else.
THIN = """
import sys
ALLOWED = set(sys.stdlib_module_names) | {"placet", "grpc", "google", "typing_extensions"}

class Thin:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in ALLOWED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Thin())
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", THIN + code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_base_install_needs_grpc_and_protobuf_only() -> None:
    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[<>=]", name)[0] for name in declared}
    assert names == {"grpcio", "protobuf", "googleapis-common-protos"}


def test_the_server_needs_the_client_that_is_released_with_it() -> None:
    client = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    server = tomllib.loads((PROJECT.parents[1] / "pyproject.toml").read_text())["project"]
    assert client["version"] == server["version"] == placet.__version__
    assert f"placet[cli]=={client['version']}" in server["dependencies"]


def test_everything_but_the_extras_works_without_them() -> None:
    done = run("""
import placet
for name in placet.__all__:
    getattr(placet, name)
from placet.testing import FakePdp
with FakePdp() as fake:
    fake.allow()
    with fake.client() as pdp:
        action = {"tool": "t", "arguments": {}, "tool_call_id": "c"}
        decision = pdp.evaluate(action, session=fake.session())
        print(decision.effect, decision.receipt_status)
        try:
            fake.client(jwks={"keys": []})
        except ValueError as exc:
            print(exc)
""")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "allow unverified",
        "checking signatures needs the extra: pip install 'placet[verify]'",
    ]


def test_command_says_what_to_install() -> None:
    done = run("from placet.cli import main; main()")
    assert done.returncode == 2
    assert "pip install 'placet[cli]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_formats_do_not_load_grpc() -> None:
    done = run("import placet.receipt, placet.canonical, placet.model; print('grpc' in sys.modules)")
    assert done.stdout == "False\n", done.stderr


def test_every_exported_name_is_typed() -> None:
    """The names that a type checker sees are those that exist."""
    import placet

    source = (PROJECT / "src/placet/__init__.py").read_text()
    typed = set(re.findall(r"import (\w+) as \1\n", source))
    assert typed | {"__version__"} == set(placet.__all__)
    assert (PROJECT / "src/placet/py.typed").exists()
