"""Delegation: what a grant hands on, and what a chain of grants proves. Pure.

A chain is verified anew for every action, and nothing in it is believed: not that a boundary
lies within the one above it, not the order of the hops, not who they say they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from pdp.authority.boundary import intern_boundary, parse_boundary
from pdp.errors import InvalidFieldError
from pdp.model import (
    MAX_CHAIN_DEPTH,
    AmountLimit,
    AttributeRule,
    Boundary,
    Caller,
    Chain,
    ChainProblem,
    Grant,
    GrantRow,
    Hop,
    ResourceRule,
    Session,
    ToolEffect,
    VelocityLimit,
    VerifiedHop,
    grant_hash,
)
from pdp.names import name, optional_name, text
from placet._wire.boundary import boundary_json
from placet.receipt import b64url_decode, b64url_encode

MAX_PURPOSE = 1024
_CLAIMS = frozenset(
    {
        "iss",
        "tenant",
        "jti",
        "sub",
        "session",
        "task",
        "depth",
        "boundary",
        "dlg",
        "purpose",
        "iat",
        "exp",
    }
)
_OPTIONAL = frozenset({"parent", "act"})


def grant_row(grant: Grant, compact: str) -> GrantRow:
    """What the server keeps of a grant that it has issued as `compact`."""
    return GrantRow(
        grant_hash=grant_hash(compact),
        session_id=grant.session_id,
        parent_hash=grant.parent,
        agent=grant.agent,
        delegated_by=grant.delegated_by,
        depth=grant.depth,
        purpose=grant.purpose,
        issued_at=grant.issued_at,
        expires_at=grant.expires_at,
    )


# --- claims ------------------------------------------------------------------


def grant_claims(grant: Grant) -> dict[str, Any]:
    """Return what is signed. `read_claims` is the inverse."""
    claims: dict[str, Any] = {
        "iss": grant.issuer,
        "tenant": grant.tenant,
        "jti": grant.grant_id,
        "sub": grant.agent,
        "session": grant.session_id,
        "task": grant.task_id,
        "depth": grant.depth,
        "boundary": boundary_json(grant.boundary),
        "dlg": grant.delegated_by,
        "purpose": grant.purpose,
        "iat": int(grant.issued_at.timestamp()),
        "exp": int(grant.expires_at.timestamp()),
    }
    if grant.parent is not None:
        claims["parent"] = b64url_encode(bytes.fromhex(grant.parent))
    if grant.actors:
        claims["act"] = _nested(grant.actors)
    return claims


def read_claims(claims: Mapping[str, Any]) -> Grant:
    """Return the grant. Raises ValueError for claims that `grant_claims` does not write."""
    if not _CLAIMS <= set(claims) <= _CLAIMS | _OPTIONAL:
        raise ValueError("a grant has other claims than this")
    parent = claims.get("parent")
    try:
        return Grant(
            issuer=optional_name(_text(claims["iss"]), "iss"),
            tenant=name(_text(claims["tenant"]), "tenant"),
            grant_id=name(_text(claims["jti"]), "jti"),
            agent=name(_text(claims["sub"]), "sub"),
            session_id=name(_text(claims["session"]), "session"),
            task_id=name(_text(claims["task"]), "task"),
            depth=_whole(claims["depth"], MAX_CHAIN_DEPTH),
            boundary=intern_boundary(parse_boundary(claims["boundary"], "boundary")),
            parent=None if parent is None else _hash(_text(parent)),
            actors=tuple(_actors(claims["act"])) if "act" in claims else (),
            delegated_by=optional_name(_text(claims["dlg"]), "dlg"),
            purpose=text(_text(claims["purpose"]), "purpose", MAX_PURPOSE),
            issued_at=_instant(claims["iat"]),
            expires_at=_instant(claims["exp"]),
        )
    except InvalidFieldError as exc:
        raise ValueError(str(exc)) from exc


def _nested(actors: tuple[str, ...]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for actor in reversed(actors):
        nested = {"sub": actor, "act": nested} if nested else {"sub": actor}
    return nested


def _actors(nested: Any) -> Iterator[str]:
    while nested is not None:
        if not isinstance(nested, Mapping) or not {"sub"} <= set(nested) <= {"sub", "act"}:
            raise ValueError("act must be {sub, act}")
        yield name(_text(nested["sub"]), "act.sub")
        if "act" in nested and nested["act"] is None:
            raise ValueError("act must be an object")
        nested = nested.get("act")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a claim must be text")
    return value


def _whole(value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"a claim must be a whole number from 0 to {most}")
    return value


def _instant(value: Any) -> datetime:
    return datetime.fromtimestamp(_whole(value, 2**33), UTC)


def _hash(parent: str) -> str:
    digest = b64url_decode(parent)
    if len(digest) != 32:
        raise ValueError("parent must be a SHA-256")
    return digest.hex()


# --- narrowing ---------------------------------------------------------------


@lru_cache(maxsize=512)
def exceeds(child: Boundary, parent: Boundary) -> str | None:
    """Return the first part of `child` that is not proven to lie within `parent`; None: all of it is.

    Such as "tools[0]", "resources[2]", "amounts[EUR].total", "max_actions", "velocity". Judged
    from the two boundaries alone: which effect a tool has is not known here, so a tool must be
    named in `parent` as a tool, and an effect as an effect. Kept for equal boundaries: a chain is
    verified again with each of its actions.
    """
    return next(_excess(child, parent), None)


def _excess(child: Boundary, parent: Boundary) -> Iterator[str]:
    yield from _not_among("tools", child.tools, parent.tools)
    yield from _not_among("effects", child.effects, parent.effects)
    own, permitted = _Resources(child), _Resources(parent)
    for index, rule in enumerate(child.resources):
        if not permitted.covers(rule, own):
            yield f"resources[{index}]"
    for limit in child.amounts:
        yield from _amount_excess(limit, parent.amounts)
    if parent.max_actions is not None and (
        child.max_actions is None or child.max_actions > parent.max_actions
    ):
        yield "max_actions"
    if not all(any(_as_strict(own, limit) for own in child.velocity) for limit in parent.velocity):
        yield "velocity"
    if not set(child.after_completion) <= set(parent.after_completion):
        yield "after_completion"


def _not_among(member: str, child: tuple[str, ...], parent: tuple[str, ...]) -> Iterator[str]:
    permitted = set(parent)
    return (f"{member}[{index}]" for index, item in enumerate(child) if item not in permitted)


class _Resources:
    """What a boundary's resource rules permit, by type."""

    def __init__(self, boundary: Boundary) -> None:
        self._listed: dict[str, set[str]] = {}
        self._prefixes: dict[str, set[str]] = {}
        self._attributes: set[tuple[str, AttributeRule]] = set()
        for rule in boundary.resources:
            if rule.prefix is not None:
                self._prefixes.setdefault(rule.type, set()).add(rule.prefix)
            elif rule.attribute is not None:
                self._attributes.add((rule.type, rule.attribute))
            else:
                self._listed.setdefault(rule.type, set()).update(_listed(rule))

    def covers(self, rule: ResourceRule, of: _Resources) -> bool:
        """Whether everything is permitted here that `rule` permits among those of `of`."""
        if rule.prefix is not None:
            return self._prefixed(rule.type, rule.prefix)
        if rule.attribute is not None:
            # Of every id there is, or the same attribute of entities that are listed here one by one.
            kind = rule.attribute.of_type
            return self._prefixed(rule.type, "") or (
                (rule.type, rule.attribute) in self._attributes
                and of._listed.get(kind, set()) <= self._listed.get(kind, set())
            )
        ids = _listed(rule)
        listed = self._listed.get(rule.type, set())
        return bool(ids) and all(id in listed or self._prefixed(rule.type, id) for id in ids)

    def _prefixed(self, type: str, start: str) -> bool:
        return any(start.startswith(prefix) for prefix in self._prefixes.get(type, ()))


def _listed(rule: ResourceRule) -> tuple[str, ...]:
    """The ids that a rule names one by one."""
    return (rule.id,) if rule.id is not None else rule.ids or ()


def _amount_excess(limit: AmountLimit, parent: Iterable[AmountLimit]) -> Iterator[str]:
    at = f"amounts[{limit.currency}]"
    outer = next((other for other in parent if other.currency == limit.currency), None)
    if outer is None:
        yield at
        return
    if limit.per_action > outer.per_action:
        yield f"{at}.per_action"
    if outer.total is not None and (limit.total is None or limit.total > outer.total):
        yield f"{at}.total"
    if outer.per_counterparty is not None and (
        limit.per_counterparty is None or limit.per_counterparty > outer.per_counterparty
    ):
        yield f"{at}.per_counterparty"
    limited = outer.total is not None or outer.per_counterparty is not None
    if limited and not limit.on_exceed.as_strict_as(outer.on_exceed):
        yield f"{at}.on_exceed"


def _as_strict(limit: VelocityLimit, parent: VelocityLimit) -> bool:
    """Whether keeping `limit` implies keeping the parent's."""
    return (
        _effects(limit) >= _effects(parent)
        and limit.max <= parent.max
        and limit.window_seconds >= parent.window_seconds
        and limit.on_exceed.as_strict_as(parent.on_exceed)
    )


def _effects(limit: VelocityLimit) -> frozenset[ToolEffect]:
    return frozenset(limit.effects or ToolEffect)


# --- chains ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Link:
    """A hop as it was sent, with what is known of its grant."""

    hop: Hop
    hash: str
    grant: Grant | None
    row: GrantRow | None


def verify_chain(
    hops: tuple[Hop, ...],
    *,
    grants: Mapping[str, Grant | None],
    rows: Mapping[str, GrantRow],
    session: Session | None,
    tenant: str,
    caller: Caller,
    now: datetime,
    max_depth: int,
) -> Chain:
    """Return what the hops, root first, prove. Without hops the session's own agent acts.

    `grants` are those that are signed as they should be, by hash; `rows` what the table knows of
    them, by hash; `session` the one that the request names, None if there is none. A caller who
    is nobody in the session learns nothing of it: what it sends is judged as if there were none.
    """
    if not hops or (len(hops) == 1 and not hops[0].grant):
        return _own_agent(hops, session, caller)
    links = tuple(_link(hop, grants, rows) for hop in hops)
    deepest = min(max_depth, MAX_CHAIN_DEPTH)
    problems: list[ChainProblem] = []
    for index, link in enumerate(links):
        codes = list(_problems(links, index, session, tenant, now))
        if index > deepest:
            codes.append("chain.too_deep")
        if index == len(links) - 1 and link.grant is not None and link.hop.agent not in caller.agents:
            codes.append("chain.not_holder")
        problems += [ChainProblem(code=code, at=f"chain[{index}]") for code in codes]
    return Chain(hops=tuple(_verified(links, problems, caller)), problems=tuple(problems))


def _own_agent(hops: tuple[Hop, ...], session: Session | None, caller: Caller) -> Chain:
    """The chain without grants: one hop, which may be left out."""
    if (
        session is None
        or session.agent not in caller.agents
        or any(hop.agent != session.agent for hop in hops)
    ):
        return Chain(
            hops=tuple(_claimed(hop.agent, "", 0) for hop in hops),
            problems=tuple(ChainProblem(code="chain.invalid", at="chain[0]") for _ in hops),
        )
    own = VerifiedHop(
        agent=session.agent,
        grant_hash="",
        depth=0,
        delegated_by=session.issuer,
        boundary=session.boundary,
        same_runtime=False,
        verified=True,
    )
    return Chain(hops=(own,))


def _link(hop: Hop, grants: Mapping[str, Grant | None], rows: Mapping[str, GrantRow]) -> _Link:
    if not hop.grant:
        return _Link(hop, "", None, None)
    return _Link(hop, hop.grant_hash, grants.get(hop.grant_hash), rows.get(hop.grant_hash))


def _problems(
    links: tuple[_Link, ...], index: int, session: Session | None, tenant: str, now: datetime
) -> Iterator[str]:
    """The codes of what is wrong with one hop. What is no grant of this place has one only."""
    grant, row = links[index].grant, links[index].row
    above = links[index - 1] if index > 0 else None
    over = tuple(link.hop.agent for link in reversed(links[:index]))
    if grant is None or grant.agent != links[index].hop.agent:
        yield "chain.invalid"
        return
    if session is None or (grant.tenant, grant.session_id) != (tenant, session.session_id):
        yield "chain.foreign"
        return
    if (
        row is None
        or (row.session_id, row.agent, row.depth) != (grant.session_id, grant.agent, grant.depth)
        or not grant.parent == row.parent_hash == (above and above.hash)
        or grant.depth != index
        or grant.task_id != session.task.id
        or grant.actors != over
        or (index == 0 and (grant.agent, grant.boundary) != (session.agent, session.boundary))
    ):
        yield "chain.invalid"
        return
    if above is not None and above.grant is not None:
        outer, until = above.grant.boundary, above.grant.expires_at
    else:
        outer, until = session.boundary, session.expires_at
    if grant.expires_at > until or exceeds(grant.boundary, outer) is not None:
        yield "chain.exceeds_parent"
    if now >= grant.expires_at:
        yield "chain.expired"
    if row.revoked_at is not None:
        yield "chain.revoked"
    if grant.agent in over:
        yield "chain.cycle"


def _verified(
    links: tuple[_Link, ...], problems: list[ChainProblem], caller: Caller
) -> Iterator[VerifiedHop]:
    """Each hop, verified as long as nothing is wrong with it or with one above it."""
    broken = {problem.at for problem in problems}
    # Who acted for each hop: whoever delegated from it, and the caller for the last.
    credentials = [None if link.grant is None else link.grant.delegated_by for link in links[1:]]
    credentials.append(caller.subject)
    proven = True
    for index, link in enumerate(links):
        proven = proven and f"chain[{index}]" not in broken
        if link.grant is None or not proven:
            yield _claimed(link.hop.agent, link.hash, index)
            continue
        yield VerifiedHop(
            agent=link.grant.agent,
            grant_hash=link.hash,
            depth=index,
            delegated_by=link.grant.delegated_by,
            boundary=link.grant.boundary,
            same_runtime=index > 0 and credentials[index] == credentials[index - 1],
            verified=True,
        )


def _claimed(agent: str, hash: str, depth: int) -> VerifiedHop:
    return VerifiedHop(
        agent=agent,
        grant_hash=hash,
        depth=depth,
        delegated_by="",
        boundary=Boundary(),
        same_runtime=False,
        verified=False,
    )
