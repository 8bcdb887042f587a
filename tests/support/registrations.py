"""Registrations as the server judges them, for tests of single tools."""

from __future__ import annotations

from pdp.action.lint import lint_registrations, refuse_errors
from pdp.model import Tool


def check_tool(tool: Tool, field: str) -> None:
    """Refuse a registration as PutTools does, at this place of the request. Raises `InvalidFieldError`."""
    index = int(field.removeprefix("tools[").removesuffix("]")) if "[" in field else 0
    before = [Tool(name=f"other-{n}", effect=tool.effect, resource="other:1") for n in range(index)]
    (*_, found) = lint_registrations([*before, tool])
    refuse_errors(found)
