"""`decided`: guarded functions run on decisions that there are already, those of a plan.

    first, second = pdp.evaluate_plan(plan, session=session)
    with decided(first):
        approve("INV-1001")
    with decided(second):
        pay("INV-1001", Decimal("1200.00"))

The guard does not ask again. It runs the function on the decision if that allows this very call, of the
same session, tool, arguments and audience, and only once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from placet._calls.action import session_id_of
from placet._calls.jsontext import parsed_object
from placet._calls.receipts import whole_seconds
from placet._guard.carried import carried
from placet.errors import ArgumentsChanged, ReplayedAllow
from placet.model import Action, Decision
from placet.receipt import ReceiptError, check_binding, parse

_GIVEN: ContextVar[_Given | None] = carried(ContextVar("placet_decided", default=None))


@dataclass(slots=True)
class _Given:
    decision: Decision
    # Held by whoever took it first, of all threads that the context was carried to.
    taken: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def decided(decision: Decision) -> Iterator[None]:
    """Let the first call of a guarded function inside run on this decision; further ones ask, as ever."""
    token = _GIVEN.set(_Given(decision))
    try:
        yield
    finally:
        _GIVEN.reset(token)


def take_decided() -> Decision | None:
    """Return the decision of the surrounding `decided`, unless it was taken."""
    given = _GIVEN.get()
    if given is None or not given.taken.acquire(blocking=False):
        return None
    return given.decision


def check_decided(decision: Decision, question: Mapping[str, Any]) -> None:
    """Raise unless the question, as `evaluate` takes it, may be answered by the decision: once.

    Its arguments are text. Raises `ArgumentsChanged` for another action, `ReplayedAllow` for a second
    use, and what `Decision.require_allowed` raises.
    """
    decision.require_allowed()
    action: Action = question["action"]
    assert isinstance(action.arguments, bytes)
    try:
        check_binding(
            parse(decision.receipt),
            effect=decision.effect.value,
            session_id=session_id_of(question["session"]),
            tool_call_id=action.tool_call_id,
            decision_id=decision.decision_id,
            expires_at=whole_seconds(decision.expires_at),
            tool=action.tool,
            arguments=parsed_object(action.arguments, "action.arguments"),
            audience=question["audience"],
            secret_salt=decision.secret_salt,
        )
    except ReceiptError as exc:
        raise ArgumentsChanged(
            f"decision {decision.decision_id} is about another call: {exc}", decision=decision
        ) from exc
    if not decision.executed.begin(decision.decision_id):
        raise ReplayedAllow(
            f"decision {decision.decision_id} was acted on before, and may have run the tool",
            decision=decision,
        )
