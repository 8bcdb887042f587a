"""The words for decisions: what an agent's model is told, and what people read of each reason.

They are short text of codes, ids, numbers and the words of rules' authors. Names of arguments are the only
words of the call, and never a value. The server, the client and the fake word them alike.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from datetime import timedelta

from placet.model.reasons import Effect, Figures, Reason, Remedy, SchemaViolation

# So many reasons are explained, and so many places of each.
_MAX_REASONS = 3
_MAX_PLACES = 5
_MAX_WORDS = 300
# A place that holds nothing but names.
_PLACE = re.compile(r'[\w.\[\]"$@:/…-]{1,256}')
# While the call itself is wrong, these may only be what follows from it.
_CONSEQUENCES = (
    "boundary.amount",
    "boundary.resource",
    "boundary.total",
    "counterparty.",
    "limit.",
    "payment.",
)
_ESCALATED = "A person would have to approve this, and nobody can resolve it yet."
_LATER = "Do not retry this call; tell the user."


def model_text(
    effect: Effect,
    decision_id: str,
    reasons: Sequence[Reason],
    *,
    retryable: bool,
    retry_after: timedelta | None = None,
) -> str:
    """Return what a model may be told of a decision, and whether changing the call can help."""
    if effect is Effect.ALLOW:
        return f"POLICY_ALLOWED decision_id={decision_id}."
    word = "POLICY_BLOCKED" if effect is Effect.BLOCK else "POLICY_ESCALATED"
    head = (
        f"{word} decision_id={decision_id or 'none'} reason_code={reasons[0].code} "
        f"retryable={'true' if retryable else 'false'}. The tool was not executed."
    )
    own = [reason for reason in reasons if reason.effect is effect]
    return " ".join(
        part for part in (head, _advice(effect, own, retryable, retry_after), _words(own)) if part
    )


def remedy_of(effect: Effect, reasons: Iterable[Reason], *, retryable: bool) -> Remedy | None:
    """Return what can help against all reasons of a decision together; None for an allow.

    None also where no reason says what can help.
    """
    if effect is Effect.ALLOW:
        return None
    if effect is Effect.ESCALATE:
        return Remedy.ASK
    if retryable:
        return Remedy.WAIT
    blocks = [reason for reason in reasons if reason.effect is Effect.BLOCK]
    said = {reason.remedy for reason in blocks}
    if said == {None}:
        return None
    if Remedy.NONE in said:
        return Remedy.NONE
    if Remedy.CHANGE_CALL in said:
        others = (reason for reason in blocks if reason.remedy in (None, Remedy.ASK))
        if all(reason.code.startswith(_CONSEQUENCES) for reason in others):
            return Remedy.CHANGE_CALL
    # Waiting helps only where the answer is retryable, and says so.
    return Remedy.FIRST if said == {Remedy.FIRST} else Remedy.ASK


def _advice(effect: Effect, reasons: Sequence[Reason], retryable: bool, retry_after: timedelta | None) -> str:
    match remedy_of(effect, reasons, retryable=retryable):
        case Remedy.CHANGE_CALL:
            return "The call is wrong. Correct it as said here, and send it as a new call."
        case Remedy.FIRST:
            return "Changing this call does not help: something else comes first. Then make it as a new call."
        case Remedy.WAIT if retry_after is not None:
            return f"Try again later, after {math.ceil(retry_after.total_seconds())} seconds."
        case Remedy.WAIT:
            return "Try again later."
        case Remedy.NONE:
            return "Nothing helps, and neither does changing the call. " + _LATER
        case None:
            return _LATER
        case _:
            escalated = f"{_ESCALATED} " if effect is Effect.ESCALATE else ""
            return f"{escalated}Changing the call does not help. {_LATER}"


def _words(reasons: Sequence[Reason]) -> str:
    """Return each reason's place and its author's advice."""
    # What the call itself is blamed for comes first, since the model can mend it.
    ordered = sorted(reasons, key=lambda reason: reason.remedy is not Remedy.CHANGE_CALL)
    said = []
    for reason in ordered[:_MAX_REASONS]:
        places = _places(reason)
        words = one_line(reason.remediation, _MAX_WORDS)
        if places or words:
            said.append(" ".join(part for part in (f"{reason.code}:", places, words) if part))
    return " ".join(said)


def _places(reason: Reason) -> str:
    """Return where the arguments do not fit, in words: `arguments.amount is missing`."""
    listed = violations_text(reason, _MAX_PLACES)
    if listed:
        return f"{listed}."
    named = reason.remedy is Remedy.CHANGE_CALL and _PLACE.fullmatch(reason.at) is not None
    return f"{reason.at}." if named else ""


def violations_text(reason: Reason, most: int) -> str:
    """Return where the arguments do not fit: "arguments.amount is missing: send it; and 2 more"."""
    listed = [violation_text(item) for item in reason.violations[:most]]
    more = len(reason.violations) - len(listed) + reason.more_violations
    return "; ".join([*listed, f"and {more} more"] if more > 0 else listed)


def violation_text(item: SchemaViolation) -> str:
    """Return one place at which the arguments do not fit, in words."""
    words = f"{item.at} {phrase_of(item.rule, item.demanded)}"
    return f"{words} (alternative {item.alternative})" if item.alternative else words


def figures_text(item: Figures) -> str:
    """Return what was measured against what: "grant at chain[1]: 900.00 used + 200.00 of 1000.00 EUR"."""
    whose = " at ".join(part for part in (item.of, item.at) if part)
    sums = " + ".join(part for part in (f"{item.used} used" if item.used else "", item.added) if part)
    limits = [
        f"of {item.limit}" if item.limit else "",
        f"open {item.open}" if item.open else "",
        f"less {item.unposted} unposted" if item.unposted else "",
    ]
    words = " ".join(part for part in (sums, *limits, item.unit) if part)
    if item.window is not None:
        words += f" in {item.window.total_seconds():g} s"
    if item.retry_after is not None:
        words += f", room again in {item.retry_after.total_seconds():g} s"
    return f"{whose}: {words}" if whose else words


def reason_text(reason: Reason) -> str:
    """Return a reason in one line for whoever develops the agent: its code, and what it found."""
    found = [violations_text(reason, len(reason.violations)), *map(figures_text, reason.figures)]
    words = "; ".join(part for part in found if part)
    return f"{reason.code}: {words}" if words else reason.code


def phrase_of(rule: str, demanded: str) -> str:
    """Return what is wrong at a place, in words."""
    match rule:
        case "required":
            return "is missing: send it"
        case "additionalProperties" | "unevaluatedProperties":
            return "is not known: leave it out"
        case "type":
            return f"must be of type {demanded}" if demanded else "has the wrong type"
        case "enum" if demanded:
            return f"must be one of {demanded}"
        case "const" if demanded:
            return f"must be {demanded}"
        case "anyOf" | "oneOf":
            return f"must fit {demanded}"
        case "normalise":
            return "has no normal spelling"
        case "falseSchema":
            return "is not permitted: leave it out"
        case "schema":
            return "does not fit the schema"
    return f"breaks {rule} {demanded}".rstrip()


def one_line(text: str, most: int) -> str:
    """Return text of an author in one line of printable characters, cut where it is too long."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= most else line[: most - 1] + "…"
