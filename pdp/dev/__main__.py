"""`python -m pdp.dev` is `pdp dev`."""

from __future__ import annotations

import typer

from pdp.dev.command import add_to

if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    add_to(app)
    app()
