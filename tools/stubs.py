"""Generate the gRPC stubs from proto/ into the client wheel, or check that they are current.

`python tools/stubs.py` writes clients/python/src/placet/v1; with `--check` it generates into a
temporary directory and fails, naming the files, when the committed ones differ. Runs in the
project's environment, which pins the generators: code of grpcio-tools 1.76.0 loads on every
protobuf that the client admits.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
PACKAGE = Path("placet/v1")
STUBS = ROOT / "clients/python/src" / PACKAGE
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


def generate(into: Path) -> None:
    """Generate all stubs under `into`. Exits with protoc's messages if it fails."""
    plugins = Path(sys.prefix) / "bin"
    argv = [
        "protoc",
        f"-I{PROTO}",
        f"-I{files('grpc_tools') / '_proto'}",
        f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}",
        *(f"--{kind}_out={into}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")),
        *(str(path.relative_to(PROTO)) for path in sorted((PROTO / PACKAGE).glob("*.proto"))),
    ]
    if code := protoc.main(argv):
        sys.exit(code)


def stubs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name.endswith(SUFFIXES)}


def differences() -> list[str]:
    """Return the names of stubs that are missing, superfluous or not what proto/ gives."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = stubs(Path(folder) / PACKAGE)
    committed = stubs(STUBS)
    return sorted(name for name in fresh.keys() | committed.keys() if fresh.get(name) != committed.get(name))


def main() -> int:
    parser = argparse.ArgumentParser(description="Generate the gRPC stubs from proto/.")
    parser.add_argument("--check", action="store_true", help="only compare with what is committed")
    if parser.parse_args().check:
        if different := differences():
            print("These stubs are not what proto/ gives; run `make proto`:", *different, sep="\n  ")
            return 1
        return 0
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = Path(folder) / PACKAGE
        for name in stubs(STUBS).keys() - stubs(fresh).keys():
            (STUBS / name).unlink()
        for name in stubs(fresh):
            shutil.copyfile(fresh / name, STUBS / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
