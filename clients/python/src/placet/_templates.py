"""How a text says what an id is made of: literal text with arguments in braces, `{customer}-{account}`.

`{{` and `}}` are braces of the text. The server fills templates; this module reads them, also for whoever
checks a registration without a server.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[{}]|[^{}]+")


class TemplateError(ValueError):
    """A text is no template; the message says why, for whoever registers it."""


def split_template(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the literal texts and the names between them: one literal more than names.

    `literals[0] {names[0]} literals[1] … {names[-1]} literals[-1]`. Raises `TemplateError`.
    """
    literals: list[str] = [""]
    names: list[str] = []
    for token in _TOKEN.findall(text):
        if token in ("{{", "}}"):
            literals[-1] += token[0]
        elif token in ("{", "}"):
            raise TemplateError("has a brace without its pair; write {{ or }} for a brace of the text")
        elif token.startswith("{"):
            if token == "{}":
                raise TemplateError("has empty braces")
            if names and not literals[-1]:
                raise TemplateError(
                    f"has nothing between {{{names[-1]}}} and {token}: two different pairs of values "
                    "would make one id"
                )
            names.append(token[1:-1])
            literals.append("")
        else:
            literals[-1] += token
    return tuple(literals), tuple(names)
