"""Limits: which ones an action meets, on which counters, and what is left of them. Pure.

Only payments count for totals, budgets and what one counterparty gets. Where something cannot be
derived (a counterparty, say) a limit lacks a number, and rules restrict that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from pdp.authority.counters import count_used, retry_after
from pdp.authority.settings import budgets, counterparty_session_total
from pdp.model import (
    ACTIONS,
    JSON,
    Amount,
    AmountLimit,
    Boundary,
    Budget,
    BudgetScope,
    Ceiling,
    Counter,
    CounterKey,
    Derived,
    EntityName,
    EntityRole,
    Guard,
    KnownEntity,
    Limit,
    MeasuredLimit,
    OnExceed,
    SessionScope,
    Tool,
    ToolEffect,
    VelocityLimit,
)
from pdp.money import major_to_minor, minor_digits

_LONGEST_SCOPE = 1024
_NONE = Counter()

N = TypeVar("N", int, Decimal)


class Limits(NamedTuple):
    """The limits that an action meets, and the counters that have to be read for them."""

    met: tuple[Limit, ...] = ()
    counters: tuple[CounterKey, ...] = ()


def find_limits(
    scope: SessionScope | None,
    settings: Mapping[str, JSON],
    tool: Tool | None,
    derived: Derived,
    *,
    agents: Sequence[str],
    grants: Sequence[tuple[str, Boundary]] = (),
    counterparty: EntityName | None = None,
) -> Limits:
    """Return every limit that the action meets, whatever is used of it and whatever its amount is.

    `scope` is that of the caller's own session; `agents` are all on the chain; `grants` the hash and
    boundary of each grant on the path; `counterparty` the one that another entity names, if that is
    how the tool knows it (`linked_counterparty`).
    """
    if scope is None or tool is None:
        return Limits()
    places = [_Place("session", "", "session", scope.session_id, scope.boundary)]
    if scope.template is not None:
        places.append(_Place("template", "", "session", scope.session_id, scope.template))
    places += [
        _Place("grant", f"chain[{depth}]", "grant", grant, boundary)
        for depth, (grant, boundary) in enumerate(grants, start=1)
    ]
    payment = None
    if tool.effect is ToolEffect.PAY and derived.amount is not None:
        currency = derived.amount.currency
        payment = _Payment(
            currency=currency,
            party=_counterparty(tool, derived, counterparty),
            session_total=_session_total(settings, currency),
            budgets=budgets(settings),
            members=(scope.principal, scope.task_id, *agents),
        )
    return _limits(tuple(places), tool.effect, payment)


class _Place(NamedTuple):
    """A boundary on the path from the session to the agent."""

    # Whose it is: "session", "template", "grant"; and the hop of a grant.
    of: str
    at: str
    # The kind and name of the counters that go with it.
    kind: str
    name: str
    boundary: Boundary


class _Payment(NamedTuple):
    """What matters of a payment, whatever its amount is."""

    currency: str
    party: EntityName | None
    session_total: tuple[Ceiling | None, ...]
    budgets: tuple[Budget, ...]
    # Principal, task and agents.
    members: tuple[str, ...]


# The same for most actions of a session: it does not depend on what a payment comes to.
@lru_cache(maxsize=4096)
def _limits(places: tuple[_Place, ...], effect: ToolEffect, payment: _Payment | None) -> Limits:
    """Return the limits of the boundaries on the path from the session to the agent, and of a payment."""
    own = drop_implied_limits(tuple(place.boundary for place in places))
    found: list[Limit] = []
    for place, boundary in zip(places, own, strict=True):
        of, at, kind, name, _ = place
        if boundary.max_actions is not None:
            # The session's own history counts what is allowed in it.
            key = None if kind == "session" else _key(kind, name, unit=ACTIONS)
            found.append(
                Limit(
                    code="boundary.max_actions",
                    of=of,
                    on_exceed=OnExceed.BLOCK,
                    adds_amount=False,
                    maximum=boundary.max_actions,
                    key=key,
                    at=at,
                )
            )
        for rule in boundary.velocity:
            if not rule.effects or effect in rule.effects:
                unit = f"{ACTIONS}:{','.join(sorted(rule.effects))}"
                found.append(
                    Limit(
                        code="boundary.velocity",
                        of=of,
                        on_exceed=rule.on_exceed,
                        adds_amount=False,
                        maximum=rule.max,
                        key=_key(kind, name, "window", unit=unit),
                        window_seconds=rule.window_seconds,
                        at=at,
                    )
                )
        if payment is not None:
            found += _totals(place, boundary.amounts, payment)
    if payment is not None:
        session_id = places[0].name
        found += [_counterparty_total(session_id, ceiling, payment) for ceiling in payment.session_total]
        for budget in payment.budgets:
            found += _budget(budget, payment)
    keys = dict.fromkeys(limit.key for limit in found if limit.key is not None)
    return Limits(met=tuple(found), counters=tuple(keys))


@lru_cache(maxsize=1024)
def drop_implied_limits(boundaries: tuple[Boundary, ...]) -> tuple[Boundary, ...]:
    """Return the boundaries of a path, the session's first, without limits that an earlier one implies.

    Whatever counts for a boundary counts for all before it, so a limit that is no tighter is never the
    first to be exceeded, and needs no counter. Which limits these are follows from the path alone, which
    never changes: a counter that is not kept will not be missed later.
    """
    return tuple(
        replace(
            boundary,
            max_actions=_tighter(boundary.max_actions, [above.max_actions for above in boundaries[:index]]),
            velocity=tuple(
                rule
                for rule in boundary.velocity
                if not any(_implies(outer, rule) for above in boundaries[:index] for outer in above.velocity)
            ),
            amounts=tuple(
                _own_amount(rule, [outer for above in boundaries[:index] for outer in above.amounts])
                for rule in boundary.amounts
            ),
        )
        for index, boundary in enumerate(boundaries)
    )


def linked_counterparty(tool: Tool, entities: Mapping[str, KnownEntity]) -> EntityName | None:
    """Return whom a call deals with, if an attribute of another entity says so.

    None if the call's arguments say it, or if it is not known. `entities` are the call's, as read.
    """
    ref = tool.entity_of(EntityRole.COUNTERPARTY)
    found = None if ref is None or ref.via is None else entities.get(ref.name)
    return None if found is None else found.name


def measure_limits(
    limits: Limits, counters: Mapping[CounterKey, Counter], now: int, *, allowed: int, amount: Amount | None
) -> tuple[MeasuredLimit, ...]:
    """Return the limits with what is used of them at `now` (Unix seconds), and what the action adds.

    `allowed`: the actions that the session's history counts; `amount`: the payment's.
    """
    minor = None if amount is None else amount.minor
    return tuple(
        MeasuredLimit(limit, minor if limit.adds_amount else 1, _used(limit, counters, now, allowed))
        for limit in limits.met
    )


def _used(limit: Limit, counters: Mapping[CounterKey, Counter], now: int, allowed: int) -> int | None:
    if limit.key is not None:
        return count_used(counters.get(limit.key, _NONE), limit.window_seconds, now)
    # The session's own history counts actions; what an unknown counterparty was paid, nobody knows.
    return None if limit.adds_amount else allowed


def describe_limits(
    limits: Sequence[MeasuredLimit], counters: Mapping[CounterKey, Counter], now: int
) -> list[dict[str, Any]]:
    """Return the limits as rules see them; what is not known is absent."""
    return [_describe(measured, counters, now) for measured in limits]


def make_guards(limits: Sequence[MeasuredLimit]) -> tuple[Guard, ...]:
    """Return what an allow of the action adds to which counters, and under which conditions."""
    return tuple(
        Guard(
            key=limit.key,
            add=measured.add,
            ceiling=None if measured.exceeded else limit.maximum,
            window_seconds=limit.window_seconds,
        )
        for measured in limits
        if (limit := measured.limit).key is not None and measured.add is not None
    )


def _describe(measured: MeasuredLimit, counters: Mapping[CounterKey, Counter], now: int) -> dict[str, Any]:
    limit, left = measured.limit, measured.left
    result: dict[str, Any] = {"code": limit.code, "of": limit.of, "on_exceed": limit.on_exceed}
    if limit.at:
        result["at"] = limit.at
    if limit.adds_amount and limit.key is not None:
        result["currency"] = limit.key.unit
    numbers = (("used", measured.used), ("add", measured.add), ("max", limit.maximum), ("left", left))
    result |= {name: number for name, number in numbers if number is not None}
    if limit.window_seconds is not None:
        result["window_seconds"] = limit.window_seconds
        delay = room_after(measured, limit.window_seconds, counters, now)
        if delay is not None:
            result["retry_after_seconds"] = delay
    return result


def room_after(
    measured: MeasuredLimit, window: int, counters: Mapping[CounterKey, Counter], now: int
) -> int | None:
    """Return after how many seconds the window has room for the action; None if that is not known."""
    limit, left = measured.limit, measured.left
    if limit.key is None or limit.maximum is None or measured.add is None or left is None or left >= 0:
        return None
    # How many actions the window can come to hold. Where people may approve more, nobody can tell, and
    # amounts say nothing about it.
    known = not limit.adds_amount and limit.on_exceed is OnExceed.BLOCK
    return retry_after(
        counters.get(limit.key, _NONE),
        window,
        now,
        limit.maximum - measured.add,
        limit.maximum if known else None,
    )


def _implies(outer: VelocityLimit, rule: VelocityLimit) -> bool:
    return (
        (outer.effects, outer.window_seconds) == (rule.effects, rule.window_seconds)
        and outer.max <= rule.max
        and outer.on_exceed.as_strict_as(rule.on_exceed)
    )


def _own_amount(rule: AmountLimit, above: Sequence[AmountLimit]) -> AmountLimit:
    """Return the limits without implied totals. What one action may come to stays: it counts nothing."""
    outer = [o for o in above if o.currency == rule.currency and o.on_exceed.as_strict_as(rule.on_exceed)]
    return replace(
        rule,
        total=_tighter(rule.total, [o.total for o in outer]),
        per_counterparty=_tighter(rule.per_counterparty, [o.per_counterparty for o in outer]),
    )


def _tighter(limit: N | None, above: Sequence[N | None]) -> N | None:
    """Return the limit, or None if one above implies it."""
    return None if any(o is not None and limit is not None and o <= limit for o in above) else limit


def _totals(place: _Place, rules: Sequence[AmountLimit], payment: _Payment) -> list[Limit]:
    """Return a boundary's limits on what is paid in all.

    There are none for a currency that it does not list: `boundary.amount` blocks that already.
    """
    found = []
    for rule in rules:
        if rule.currency != payment.currency:
            continue
        digits = minor_digits(rule.currency) or 0
        if rule.total is not None:
            found.append(
                Limit(
                    code="boundary.total",
                    of=place.of,
                    on_exceed=rule.on_exceed,
                    adds_amount=True,
                    maximum=major_to_minor(rule.total, digits),
                    key=_key(place.kind, place.name, unit=rule.currency),
                    at=place.at,
                    currency=rule.currency,
                )
            )
        if rule.per_counterparty is not None:
            found.append(
                Limit(
                    code="boundary.counterparty_total",
                    of=place.of,
                    on_exceed=rule.on_exceed,
                    adds_amount=True,
                    maximum=major_to_minor(rule.per_counterparty, digits),
                    key=_party_key(place.kind, place.name, payment),
                    at=place.at,
                    currency=rule.currency,
                )
            )
    return found


def _session_total(settings: Mapping[str, JSON], currency: str) -> tuple[Ceiling | None, ...]:
    """Return the ceiling on what a session pays to one counterparty: the one of the currency, or None.

    Empty where the tenant limits nothing.
    """
    totals = counterparty_session_total(settings)
    return () if totals is None else (totals.get(currency),)


def _counterparty_total(session_id: str, ceiling: Ceiling | None, payment: _Payment) -> Limit:
    return Limit(
        code="payment.counterparty_total",
        of="session",
        # A currency that is not listed has no maximum, and a person decides.
        on_exceed=OnExceed.ESCALATE if ceiling is None else ceiling.on_exceed,
        adds_amount=True,
        maximum=None if ceiling is None else ceiling.maximum,
        key=_party_key("session", session_id, payment),
        currency=payment.currency,
    )


def _budget(budget: Budget, payment: _Payment) -> list[Limit]:
    if budget.currency != payment.currency:
        return []
    principal, task_id, *agents = payment.members
    members: list[tuple[str, ...] | None]
    match budget.scope:
        case BudgetScope.TENANT:
            members = [()]
        case BudgetScope.PRINCIPAL:
            members = [(principal,)]
        case BudgetScope.AGENT:
            members = [(agent,) for agent in dict.fromkeys(agents)]
        case BudgetScope.TASK:
            members = [(task_id,)]
        case BudgetScope.COUNTERPARTY:
            members = [None if payment.party is None else (payment.party.type, payment.party.id)]
    return [
        Limit(
            code="limit.budget",
            of=f"budget:{budget.name}",
            on_exceed=budget.on_exceed,
            adds_amount=True,
            maximum=budget.maximum,
            key=None
            if member is None
            else _key("budget", budget.name, budget.scope, *member, unit=budget.currency),
            window_seconds=budget.window_seconds,
            # A task has one session.
            shared=budget.scope is not BudgetScope.TASK,
            currency=budget.currency,
        )
        for member in members
    ]


def _counterparty(tool: Tool, derived: Derived, linked: EntityName | None) -> EntityName | None:
    """Return whom the action deals with; None if that is not known."""
    ref = tool.entity_of(EntityRole.COUNTERPARTY)
    if ref is None or ref.via is not None:
        return linked
    return next((EntityName(type=q.type, id=q.id) for q in derived.entities if q.name == ref.name), None)


def _party_key(kind: str, name: str, payment: _Payment) -> CounterKey | None:
    if payment.party is None:
        return None
    return _key(kind, name, "counterparty", payment.party.type, payment.party.id, unit=payment.currency)


def _key(*parts: str, unit: str) -> CounterKey:
    """Return the counter of a scope. No two scopes share a name, whatever their parts hold."""
    scope = json.dumps(parts, separators=(",", ":"))
    if len(scope) > _LONGEST_SCOPE:
        scope = "sha256:" + hashlib.sha256(scope.encode()).hexdigest()
    return CounterKey(scope=scope, unit=unit)
