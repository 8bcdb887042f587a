"""Every limit that holds in a session, with what is used and left of it.

Limits are found as for an action (`pdp.authority.limits`), for one of each effect and currency that can meet
any. What only an action can say, such as whom it pays, is not known here: such a limit says how much it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

from pdp.authority.counters import count_used
from pdp.authority.limits import find_limits
from pdp.authority.settings import budgets, counterparty_session_total, policy_settings
from pdp.authority.shown import number_text, visible_figures
from pdp.errors import NotFoundError
from pdp.model import (
    ACTIONS,
    JSON,
    Amount,
    Boundary,
    Caller,
    Counter,
    CounterKey,
    DecisionKey,
    Derived,
    Effect,
    Facts,
    FactsRequest,
    Figures,
    Limit,
    LimitStatus,
    Role,
    Session,
    StoredGrant,
    Tool,
    ToolEffect,
    VerifiedHop,
)
from pdp.money import major_to_minor, minor_digits
from pdp.ports import GrantStore, InformationPoint

# Grants of a session whose limits are shown, those nearest to its own agent first.
MAX_GRANTS = 20
_MAX_COUNTERS = 512


class _Held(NamedTuple):
    """A grant in force: its name, its agent, and what it permits."""

    grant_hash: str
    agent: str
    boundary: Boundary


class SessionLimits:
    """Reads the limits of sessions, for those who may see the session."""

    def __init__(self, *, information: InformationPoint, grants: GrantStore) -> None:
        self._information = information
        self._grants = grants

    async def read(
        self, caller: Caller, session: Session, *, held: Sequence[VerifiedHop] = (), deadline: float
    ) -> tuple[LimitStatus, ...]:
        """Return every limit of the session, of its template, of its grants, and of the tenant's settings.

        `deadline` is an instant of `time.monotonic()`. Operators are told of budgets what others used.
        Who only holds a grant, by the chain `held`, is told of no grant beside that chain, and of the limits
        above its own grant only whose they are.
        Raises `NotFoundError` if the session is there no more, and as `InformationPoint.gather`.
        """
        tenant = caller.tenant
        facts = await self._gather(tenant, session, (), deadline)
        if held:
            paths = [tuple(_Held(hop.grant_hash, hop.agent, hop.boundary) for hop in held[1:])]
        else:
            paths = grant_paths(
                await self._grants.session_grants(tenant, session.session_id, limit=MAX_GRANTS)
            )
        own = held[-1].grant_hash if held else ""
        limits = find_session_limits(session, facts.settings, paths)
        keys = tuple(dict.fromkeys(limit.key for limit in limits if limit.key is not None))[:_MAX_COUNTERS]
        facts = await self._gather(tenant, session, keys, deadline)
        if facts.session is None:
            raise NotFoundError(f"no session {session.session_id} of yours")
        per_action = [] if held else [_per_action("session", "", session.boundary)]
        if session.template is not None and not held:
            per_action.append(_per_action("template", "", session.template))
        per_action += [_per_action("grant", path[-1].grant_hash, path[-1].boundary) for path in paths]
        statuses = [status for found in per_action for status in found]
        statuses += [_status(limit, facts, known=limit.key is None or limit.key in keys) for limit in limits]
        statuses += _payments(facts)
        sees_all = Role.OPERATOR in caller.roles
        shared = frozenset(limit.of for limit in limits if limit.shared)
        return tuple(status if sees_all else _visible(status, shared, own) for status in statuses)

    async def _gather(
        self, tenant: str, session: Session, counters: tuple[CounterKey, ...], deadline: float
    ) -> Facts:
        return await self._information.gather(
            FactsRequest(
                key=DecisionKey(
                    tenant=tenant, session_id=session.session_id, caller="", leaf_grant="", tool_call_id=""
                ),
                tool="",
                agents=(),
                deadline=deadline,
                counters=counters,
            )
        )


def grant_paths(stored: Iterable[StoredGrant]) -> list[tuple[_Held, ...]]:
    """Return for each delegated grant the grants from the session's agent to it, without the root's own."""
    by_hash = {grant.row.grant_hash: grant for grant in stored}
    paths = []
    for grant in by_hash.values():
        path: list[_Held] = []
        at: StoredGrant | None = grant
        while at is not None and at.row.depth > 0 and at.boundary is not None:
            path.append(_Held(at.row.grant_hash, at.row.agent, at.boundary))
            at = by_hash.get(at.row.parent_hash or "")
        # One above that is revoked or expired ends those below it.
        if path and at is not None and at.row.depth == 0:
            paths.append(tuple(reversed(path)))
    return paths


def find_session_limits(
    session: Session, settings: Mapping[str, JSON], paths: Sequence[Sequence[_Held]] = ()
) -> list[Limit]:
    """Return every limit that an action in the session can meet, each once; that of a grant names it."""
    found: dict[Limit, None] = {}
    for path in ((), *paths):
        for effect in ToolEffect:
            for amount in _amounts(session, settings, path) if effect is ToolEffect.PAY else (None,):
                limits = find_limits(
                    session.scope,
                    settings,
                    Tool(name="", effect=effect, resource=""),
                    Derived(amount=amount),
                    agents=[session.agent, *(held.agent for held in path)],
                    grants=[(held.grant_hash, held.boundary) for held in path],
                )
                for limit in limits.met:
                    if limit.at:
                        depth = int(limit.at.removeprefix("chain[").removesuffix("]"))
                        found.setdefault(limit._replace(at=path[depth - 1].grant_hash))
                    else:
                        found.setdefault(limit)
    return list(found)


def _amounts(
    session: Session, settings: Mapping[str, JSON], path: Sequence[_Held]
) -> Iterable[Amount | None]:
    boundaries = [session.boundary, *([session.template] if session.template else [])]
    boundaries += [held.boundary for held in path]
    currencies = [rule.currency for boundary in boundaries for rule in boundary.amounts]
    currencies += [budget.currency for budget in budgets(settings)]
    currencies += counterparty_session_total(settings) or ()
    return [Amount(minor=0, currency=currency) for currency in dict.fromkeys(currencies)] or [None]


def _status(limit: Limit, facts: Facts, *, known: bool) -> LimitStatus:
    session, now = facts.session, int(facts.now.timestamp())
    unit = ACTIONS
    used: int | None = None
    if limit.key is not None and known:
        used = count_used(facts.counters.get(limit.key, Counter()), limit.window_seconds, now)
    elif limit.key is None and not limit.adds_amount and session is not None:
        used = session.aggregates.allow
    if limit.adds_amount:
        unit = limit.currency
    return LimitStatus(
        code=limit.code,
        figures=Figures(
            of=limit.of,
            at=limit.at,
            unit=unit,
            used=number_text(used, unit),
            limit=number_text(limit.maximum, unit),
            window=None if limit.window_seconds is None else timedelta(seconds=limit.window_seconds),
        ),
        left=number_text(None if used is None or limit.maximum is None else limit.maximum - used, unit),
        on_exceed=Effect(limit.on_exceed.value),
    )


def _per_action(of: str, at: str, boundary: Boundary) -> list[LimitStatus]:
    """Return what one action may come to in each currency."""
    return [
        LimitStatus(
            code="boundary.amount",
            figures=Figures(
                of=of,
                at=at,
                unit=rule.currency,
                limit=number_text(
                    major_to_minor(rule.per_action, minor_digits(rule.currency) or 0), rule.currency
                ),
            ),
            on_exceed=Effect.BLOCK,
        )
        for rule in boundary.amounts
    ]


def _payments(facts: Facts) -> list[LimitStatus]:
    """Return the tenant's own window of payments. Without one that of the bundle's defaults holds."""
    window = policy_settings(facts.settings).get("velocity", {}).get("payments", {})
    if facts.session is None or not {"max", "window_seconds"} <= window.keys():
        return []
    seconds, most = window["window_seconds"], window["max"]
    paid = Counter(buckets=facts.session.aggregates.pay)
    used = count_used(paid, seconds, int(facts.now.timestamp()))
    return [
        LimitStatus(
            code="velocity.payments",
            figures=Figures(
                of="settings",
                unit=ACTIONS,
                used=str(used),
                limit=str(most),
                window=timedelta(seconds=seconds),
            ),
            left=str(most - used),
            on_exceed=Effect(window["on_exceed"]) if "on_exceed" in window else None,
        )
    ]


def _visible(status: LimitStatus, shared: frozenset[str], own: str) -> LimitStatus:
    """Return what may be seen of a limit. `own` is the grant by which it is seen; empty without one."""
    if own and status.figures.at == own:
        return status
    # As in a decision on a chain: what is above the last grant is another's.
    figures = visible_figures(status.figures, hops=2 if own else 1, shared=status.figures.of in shared)
    return status if figures == status.figures else replace(status, figures=figures, left="")
