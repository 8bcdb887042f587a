"""Puts a sidecar's files where it will run: configuration, tokens and the script that starts OPA."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pdp.opa.sidecar import OpaSidecar

_SCRIPT = "run.sh"
_DECISION_TOKEN, _ADMIN_TOKEN = "decision.token", "admin.token"


def install(sidecar: OpaSidecar) -> Mapping[str, str]:
    """Write everything into the sidecar's directory; return the server's settings that belong to it.

    Tokens that are there already stay, so that a server which knows them goes on. An OPA that runs is left
    alone: it takes what has changed when it starts again. Raises OSError.
    """
    directory = sidecar.directory
    directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    sidecar = replace(
        sidecar,
        decision_token=_token(directory / _DECISION_TOKEN, sidecar.decision_token),
        admin_token=_token(directory / _ADMIN_TOKEN, sidecar.admin_token),
    )
    sidecar.write_files()
    script = directory / _SCRIPT
    script.write_text(sidecar.script(), encoding="utf-8")
    script.chmod(0o750)
    return {
        "opa_socket": str(sidecar.socket_path),
        "opa_token_file": str(directory / _DECISION_TOKEN),
        "opa_admin_url": f"http://{sidecar.admin_address}",
        "opa_admin_token_file": str(directory / _ADMIN_TOKEN),
    }


def _token(path: Path, fresh: str) -> str:
    """Return the token in the file, which gets the fresh one (mode 600) where there is none."""
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(fresh)
    except FileExistsError:
        return path.read_text(encoding="ascii").strip()
    return fresh
