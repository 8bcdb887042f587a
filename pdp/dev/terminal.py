"""What a person sees: lines with a little colour, where colour is wanted (no-color.org)."""

from __future__ import annotations

import os
import shutil
import textwrap
from typing import TextIO

BOLD, DIM, RED, GREEN, YELLOW = "1", "2", "31", "32", "33"


class Terminal:
    """Writes lines to a stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._colour = (stream.isatty() or bool(os.environ.get("FORCE_COLOR"))) and wanted

    def paint(self, text: str, *codes: str) -> str:
        if not self._colour or not codes:
            return text
        return f"\033[{';'.join(codes)}m{text}\033[0m"

    def cut(self, text: str, before: int) -> str:
        """Return `text` shortened to what fits behind `before` columns; a file gets all of it."""
        if not self._stream.isatty():
            return text
        room = max(shutil.get_terminal_size().columns - before, 20)
        return text if len(text) <= room else f"{text[: room - 1]}…"

    def wrapped(self, text: str) -> str:
        """Return `text` as a paragraph that is indented by two columns."""
        return textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="  ")

    def line(self, text: str = "") -> None:
        print(text, file=self._stream, flush=True)

    def blank(self) -> None:
        self.line()

    def title(self, text: str) -> None:
        self.line(self.paint(text, BOLD))

    def note(self, text: str) -> None:
        self.line(self.paint(f"  {text}", DIM))

    def fact(self, name: str, text: str) -> None:
        self.line(f"  {self.paint(f'{name:<18}', BOLD)}{text}")

    def error(self, text: str) -> None:
        self.line(self.paint("error: ", BOLD, RED) + text)
