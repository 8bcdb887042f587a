"""The `placet` command. Needs the extra `placet[cli]`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command; say what to install if its extra is missing."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ImportError as exc:
        print(
            f"placet: the command needs packages that are not installed ({exc.name}).\n"
            "Install them with:  pip install 'placet[cli]'",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    from placet.cli.app import app

    app()
