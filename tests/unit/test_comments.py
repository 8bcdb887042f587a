"""Comments and docstrings can be understood without a search for what they are about."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.markdown import ROOT

# A comment that begins so makes its reader look for its subject: "Of no call", "Those of the role".
FRAGMENT = re.compile(r"(Of|Nor|Those of|That of|Whosever|As it is) ")


def remarks(text: str) -> Iterator[tuple[int, str]]:
    """Yield the docstrings of a module and its blocks of comments, each with its line."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring is not None:
                yield node.body[0].lineno, docstring
    before = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            if token.start[0] != before + 1:
                yield token.start[0], token.string.lstrip("# ")
            before = token.start[0]


def fragments(path: Path) -> list[str]:
    return [
        f"{path}:{line}: {remark}"
        for line, remark in remarks(path.read_text(encoding="utf-8"))
        if FRAGMENT.match(remark)
    ]


@pytest.mark.parametrize("folder", ["bench", "clients", "examples", "pdp", "tests", "tools"])
def test_comments_say_what_they_are_about(folder: str) -> None:
    paths = [path for path in (ROOT / folder).rglob("*.py") if "v1" not in path.parts]
    assert [each for path in paths for each in fragments(path)] == []


SAMPLE = '''"""A module."""

# Of no call.
x = 1
# The course
# Of a course is not looked at.


def f():
    """Those of f."""
'''


def test_fragments_are_found(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(SAMPLE)
    assert [each.rpartition(": ")[2] for each in fragments(module)] == ["Those of f.", "Of no call."]
