"""What a tool's name says that it does, against its registration. A hint, and no rule of any decision."""

from __future__ import annotations

import re

from placet._lint.registration import Registration, text
from placet._spelling import words, words_of

_NAMESPACE = re.compile(r"[./:]|__")
_READS = words(
    "get list read search find show describe count query fetch view lookup check validate verify preview "
    "export download summarize summarise"
)
# What a verb says that a tool does at least, by effect.
_SAYS = {
    word: effect
    for effect, words in {
        "delete": "delete remove drop destroy purge erase wipe truncate unlink rm rmdir uninstall",
        "pay": "pay transfer refund charge payout withdraw purchase buy remit disburse",
        "send": "send publish post notify reply forward broadcast tweet email sms",
        "share": "share invite expose",
        "credential": "grant revoke impersonate authorize authorise rotate",
        "write": "create update set put write edit modify patch insert add append move rename copy upload "
        "approve reject execute run exec deploy restart start stop cancel merge commit push install enable "
        "disable schedule book reserve assign close reset change save store submit sign apply",
    }.items()
    for word in words.split()
}
_CREDENTIALS = words("password passwd credential credentials secret secrets apikey token tokens")
# Verbs that are nouns as well, which these words after them show: `refund_status` reads.
_NOUNS = words("transfer refund charge purchase post email sms invite patch set book schedule save")
_OF_NOUNS = words("status history details info")
_ALSO = frozenset({"and", "or", "then"})
# The higher has every trust floor of the lower ones; those of one height are not compared.
_HEIGHT = {"read": 0, "write": 1, "send": 2, "share": 2, "delete": 2, "pay": 2, "credential": 3}


def check_effect(tool: Registration) -> None:
    """Add a warning where the effect is softer than the tool's name."""
    effect = text(tool.form.get("effect"))
    found = _said(tool.name)
    if effect not in _HEIGHT or found is None:
        return
    word, says = found
    if _HEIGHT[effect] < min(_HEIGHT[says], _HEIGHT["delete"]):
        tool.add(
            "effect.softer",
            ("effect",),
            f"is {effect}, and the name says {word!r}, which is {says}: floors of trust and boundaries go by "
            "the effect, so say what the tool does at its worst",
        )


def _said(name: str) -> tuple[str, str] | None:
    """Return the word of a tool's name that says most of what it does, and the effect that it says."""
    parts = [words_of(part) for part in _NAMESPACE.split(name)]
    for part in reversed(parts):
        found = _said_by(part)
        if found is not None:
            return found
        if any(word in _READS for word in part):
            return None
    return None


def _said_by(name: list[str]) -> tuple[str, str] | None:
    """Return what the verbs of a name say: the first one, and those after "and"."""
    found: list[tuple[str, str]] = []
    for index, word in enumerate(name):
        verb_before = any(other in _READS or other in _SAYS for other in name[:index])
        if verb_before and name[index - 1] not in _ALSO:
            continue
        if word in _NOUNS and _OF_NOUNS & set(name[index + 1 :]):
            continue
        if word in _SAYS:
            effect = _SAYS[word]
            if effect == "write" and _CREDENTIALS & set(name[index:]):
                effect = "credential"
            found.append((word, effect))
    return max(found, key=lambda item: _HEIGHT[item[1]], default=None)
