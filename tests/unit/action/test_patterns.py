"""The folder of a pattern, against what bash makes of it."""

from __future__ import annotations

import posixpath
import shutil
import subprocess
from random import Random

import pytest

from pdp.action.patterns import folder_of_pattern


@pytest.mark.parametrize(
    ("pattern", "folder"),
    [
        ("src/*.py", "src/"),
        ("src/ab*", "src/"),
        ("src/{a,b}.{js,ts}", "src/"),
        ("src/{a,{b,c}d}/x", "src/"),
        ("src/a{,/}/x", "src/"),
        ("src/*.@(js|ts)", "src/"),
        ("src/.git*", "src/"),
        ("src/.*rc", "src/"),
        ("/tmp/x/**/*", "/tmp/x/"),
        ("*.py", ""),
        ("{a,b}/c", ""),
        ("?/x", ""),
        # Two dots behind the first character of the pattern.
        ("src/*/../x", None),
        ("src/{a,..}/x", None),
        ("src/{a,../../secrets}/**", None),
        ("src/@(..|x)/y", None),
        # Lists that make two dots.
        ("src/.{.,}/x", None),
        ("src/{.,x}./y", None),
        ("src/{a,}.{b,.}/y", None),
        ("src/{.,a}{.,b}", None),
        ("src/a{,/}.{.,}/x", None),
        # What some shells take for the parent.
        ("src/.*", None),
        ("src/.?/x", None),
        ("src/.[.]/x", None),
        ("src/.*.", None),
        ("src/@(.).", None),
        ("src/.+(.)", None),
        ("src/{?,a}(.).", None),
        # Braces that shells read differently.
        ("src/{a}/x", None),
        ("src/{a,b/x", None),
        ("src/{a}}/x", None),
        ("{/},~}", None),
        # Lists that make a path from somewhere else.
        ("{/etc/passwd,a}", None),
        ("{,a}/etc/passwd", None),
        ("{a,}/etc", None),
        ("{~,a}/x", None),
        ("{C:,a}/x", None),
        ("{file:,a}/x", None),
        ("C:*", None),
        ("src/" + "{a,b}" * 65, None),
    ],
)
def test_folder_holds_all_that_the_pattern_can_stand_for(pattern: str, folder: str | None) -> None:
    assert folder_of_pattern(pattern) == folder


def test_longest_pattern_is_read_in_linear_time() -> None:
    for pattern in ("{" * 64 + "a," * 1900 + "a,b}" * 64, "{a," * 64 + "}" * 64 + "*" * 3800, "*" * 4096):
        folder_of_pattern(pattern)


def test_what_bash_makes_of_lists_lies_in_the_folder() -> None:
    bash = shutil.which("bash")
    assert bash is not None
    random = Random(7)

    def draw(depth: int) -> str:
        pieces = random.choices(["{", ".", "/", "a", "~", ""], weights=[depth, 1, 1, 1, 0.2, 1], k=4)
        lists = ("{" + ",".join(draw(depth - 1) for _ in range(random.randint(2, 3))) + "}" for _ in pieces)
        return "".join(next(lists) if piece == "{" else piece for piece in pieces)

    drawn = [draw(2) for _ in range(10_000)]
    folders = {text: folder_of_pattern(text) for text in drawn if "{" in text}
    permitted = [text for text, folder in folders.items() if folder is not None and text[0] not in "~/"]
    assert len(permitted) > 500
    # `_` keeps the words of a line apart; no pattern has one.
    script = "set -f\n" + "".join(f"printf '%s_' {text}; echo\n" for text in permitted)
    made = subprocess.run([bash], input=script, capture_output=True, text=True, check=True).stdout
    for pattern, line in zip(permitted, made.splitlines(), strict=True):
        inside = posixpath.normpath(posixpath.join("/base", folders[pattern] or ""))
        for text in line.removesuffix("_").split("_"):
            reached = posixpath.normpath(posixpath.join("/base", text))
            assert f"{reached}/".startswith(f"{inside}/".replace("//", "/")), (pattern, text)
