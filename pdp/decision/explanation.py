"""What a decision says of its reasons beyond their codes: where to look, and what was measured. Pure.

Nothing is told of what the caller may not see:

- A caller that is nobody in the session is told of its chain and of its request alone.
- Of a limit that others outside of the session count for as well (a budget), nobody is told what they used.
- An agent to whom something was delegated is told the figures of its own grant. Of those above it, it is
  told whose they are, and what its call adds.

Operators and auditors find all of it in the document that policy judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

from pdp.action.entities import find_unmatched
from pdp.action.templates import TemplateError, identifier, read_template
from pdp.authority.limits import room_after
from pdp.authority.shown import number_text, visible_figures
from pdp.decision.resolved_action import ActionContext
from pdp.model import (
    ACTIONS,
    Derived,
    Effect,
    EntityRole,
    Facts,
    Figures,
    MeasuredLimit,
    Reason,
    Tool,
)

# What reasons of these say is about what the caller sent.
_OF_REQUEST = ("action.", "chain.", "plan.", "review.", "session.")
# What an operator has to mend.
_TOOL_PROBLEMS = frozenset({"amount.unit_missing", "registry.unknown_tool", "registry.incomplete"})


def explain(
    reasons: Sequence[Reason], context: ActionContext, limits: Sequence[MeasuredLimit]
) -> tuple[Reason, ...]:
    """Return the reasons with what the caller may know of them. `limits` are those that the action meets."""
    if all(reason.effect is Effect.ALLOW for reason in reasons):
        return tuple(reasons)
    if context.session is None:
        # Policy's figures and places are about the session or about what its tools are measured by.
        return tuple(_for_stranger(reason) for reason in reasons)
    return tuple(_explained(reason, context, limits) for reason in reasons)


def _for_stranger(reason: Reason) -> Reason:
    at = reason.at if reason.code.startswith(_OF_REQUEST) else ""
    return replace(reason, at=at or _of_request(reason.code), figures=())


def _explained(reason: Reason, context: ActionContext, limits: Sequence[MeasuredLimit]) -> Reason:
    if reason.effect is Effect.ALLOW:
        return reason
    exceeded = [m for m in limits if m.limit.code == reason.code and m.exceeded]
    derived = context.action.derived
    figures = (*reason.figures, *(_figures(measured, context.facts) for measured in exceeded))
    at = reason.at or next((item.at or item.of for item in figures), "")
    at = at or _of_request(reason.code) or _of_call(reason.code, context.facts, derived)
    shared, hops = _shared(limits), len(context.chain.hops)
    figures = tuple(visible_figures(item, hops=hops, shared=item.of in shared) for item in figures)
    if reason.code != "registry.arguments_invalid":
        return replace(reason, at=at, figures=figures)
    return replace(
        reason,
        at=at,
        figures=figures,
        violations=derived.violations,
        more_violations=derived.more_violations,
    )


def _figures(measured: MeasuredLimit, facts: Facts) -> Figures:
    """Return what is known of a limit that has no room for the action."""
    limit, now = measured.limit, int(facts.now.timestamp())
    unit = limit.currency if limit.adds_amount else ACTIONS
    delay = None
    if limit.window_seconds is not None:
        delay = room_after(measured, limit.window_seconds, facts.counters, now)
    return Figures(
        of=limit.of,
        at=limit.at,
        unit=unit,
        used=number_text(measured.used, unit),
        added=number_text(measured.add, unit),
        limit=number_text(limit.maximum, unit),
        window=None if limit.window_seconds is None else timedelta(seconds=limit.window_seconds),
        retry_after=None if delay is None else timedelta(seconds=delay),
    )


def _shared(limits: Iterable[MeasuredLimit]) -> frozenset[str]:
    return frozenset(measured.limit.of for measured in limits if measured.limit.shared)


def _of_request(code: str) -> str:
    """Return the field of the request that a reason is about; empty if it is about none."""
    if code.startswith("session."):
        return "session_id"
    return {
        "action.audience": "audience",
        "action.resource_mismatch": "action.resource",
        "registry.unknown_tool": "action.tool",
    }.get(code, "")


def _of_call(code: str, facts: Facts, derived: Derived) -> str:
    """Return the argument or the entity of the call that a reason is about; empty if it is about none."""
    tool, (category, _, name) = facts.tool, code.partition(".")
    if tool is None or code in _TOOL_PROBLEMS:
        return ""
    if code == "registry.arguments_invalid":
        return derived.violations[0].at if derived.violations else "arguments"
    if code == "registry.resource_underivable":
        return _argument(_first_missing(tool, derived))
    if category == "counterparty":
        return _counterparty(code, tool, facts)
    if name in ("record_unknown", "order_unknown"):
        role = EntityRole.RECORD if name == "record_unknown" else EntityRole.ORDER
        ref = tool.entity_of(role)
        return "" if ref is None else f"entities.{ref.name}"
    if name in ("duplicate", "probable_duplicate", "unresolved") and tool.business_key is not None:
        return _argument(next(iter(tool.business_key.arguments), None))
    if category in ("amount", "payment") and tool.amount is not None:
        of_currency = name in ("currency_invalid", "currency_mismatch")
        return _argument(tool.amount.currency_argument if of_currency else tool.amount.argument)
    return ""


def _first_missing(tool: Tool, derived: Derived) -> str | None:
    """Return the first argument of the resource's template that makes no part of an id, or its first one."""
    try:
        names = read_template(tool.resource.partition(":")[2]).names
    except TemplateError:
        return None
    missing = (name for name in names if identifier(derived.arguments.get(name)) is None)
    return next(missing, next(iter(names), None))


def _counterparty(code: str, tool: Tool, facts: Facts) -> str:
    """Return the entity that a reason about a counterparty is about."""
    if code == "counterparty.mismatch":
        return next((f"entities.{name}" for name in find_unmatched(tool, facts.entities)), "")
    ref = tool.entity_of(EntityRole.COUNTERPARTY)
    return "" if ref is None else f"entities.{ref.name}"


def _argument(name: str | None) -> str:
    return "" if name is None else f"arguments.{name}"
