"""`python -m pdp.dev` is `pdp dev`."""

from __future__ import annotations

import typer

from pdp.dev.command import dev

if __name__ == "__main__":
    typer.run(dev)
