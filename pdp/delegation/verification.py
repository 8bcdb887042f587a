"""Verification: what a chain of grants proves. Pure.

A chain is verified anew for every action, and nothing in it is believed: not that a boundary
lies within the one above it, not the order of the hops, not who they say they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from pdp.delegation.narrowing import find_excess
from pdp.model import (
    MAX_CHAIN_DEPTH,
    Boundary,
    Caller,
    Chain,
    ChainProblem,
    Grant,
    GrantRow,
    Hop,
    Session,
    VerifiedHop,
)


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
    root_proven: bool,
) -> Chain:
    """Return what the hops, root first, prove. Without a grant the session's own agent acts, if
    `root_proven`: then who speaks for it has shown that it has part in the session.

    `grants` are those that are signed as they should be, by hash; `rows` what the table knows of
    them, by hash; `session` the one that the request names, None if there is none. A caller who
    is nobody in the session learns nothing of it: what it sends is judged as if there were none.
    """
    if not hops or (len(hops) == 1 and not hops[0].grant_hash):
        return _own_agent(hops, session, caller, root_proven)
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
    return Chain(hops=tuple(_verify_hops(links, problems, caller)), problems=tuple(problems))


def _own_agent(hops: tuple[Hop, ...], session: Session | None, caller: Caller, root_proven: bool) -> Chain:
    """Return the chain of a caller without a grant: one hop, which the request may leave out."""
    if (
        session is None
        or session.agent not in caller.agents
        or any(hop.agent != session.agent for hop in hops)
    ):
        return Chain(
            hops=tuple(_unproven_hop(hop.agent, "", 0) for hop in hops),
            problems=tuple(ChainProblem(code="chain.invalid", at="chain[0]") for _ in hops),
        )
    if not root_proven:
        # Nothing is wrong with the chain: what is missing is any proof of the caller's part in the session.
        return Chain(hops=tuple(_unproven_hop(hop.agent, "", 0) for hop in hops))
    own = VerifiedHop(
        agent=session.agent,
        grant_hash="",
        depth=0,
        delegated_by=session.issuer,
        boundary=session.boundary,
        same_runtime=False,
        own_runtime=True,
        verified=True,
    )
    return Chain(hops=(own,))


def _link(hop: Hop, grants: Mapping[str, Grant | None], rows: Mapping[str, GrantRow]) -> _Link:
    if not hop.grant_hash:
        return _Link(hop, "", None, None)
    return _Link(hop, hop.grant_hash, grants.get(hop.grant_hash), rows.get(hop.grant_hash))


def _problems(
    links: tuple[_Link, ...], index: int, session: Session | None, tenant: str, now: datetime
) -> Iterator[str]:
    """Return the codes of what is wrong with one hop.

    A hop that is not a valid grant of this session, at this place of the chain, gets exactly one code.
    """
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
        or grant.parent != row.parent_hash
        or grant.parent != (None if above is None else above.hash)
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
    if grant.expires_at > until or find_excess(grant.boundary, outer) is not None:
        yield "chain.exceeds_parent"
    if now >= grant.expires_at:
        yield "chain.expired"
    if row.revoked_at is not None:
        yield "chain.revoked"
    if grant.agent in over:
        yield "chain.cycle"


def _verify_hops(
    links: tuple[_Link, ...], problems: list[ChainProblem], caller: Caller
) -> Iterator[VerifiedHop]:
    """Return each hop, verified as long as nothing is wrong with it or with one above it."""
    broken = {problem.at for problem in problems}
    # Who acted for each hop: whoever delegated from it, and the caller for the last.
    credentials = [None if link.grant is None else link.grant.delegated_by for link in links[1:]]
    credentials.append(caller.subject)
    proven = True
    for index, link in enumerate(links):
        proven = proven and f"chain[{index}]" not in broken
        if link.grant is None or not proven:
            yield _unproven_hop(link.hop.agent, link.hash, index)
            continue
        yield VerifiedHop(
            agent=link.grant.agent,
            grant_hash=link.hash,
            depth=index,
            delegated_by=link.grant.delegated_by,
            boundary=link.grant.boundary,
            same_runtime=index > 0 and credentials[index] == credentials[index - 1],
            own_runtime=credentials[index] not in credentials[:index],
            verified=True,
        )


def _unproven_hop(agent: str, hash: str, depth: int) -> VerifiedHop:
    return VerifiedHop(
        agent=agent,
        grant_hash=hash,
        depth=depth,
        delegated_by="",
        boundary=Boundary(),
        same_runtime=False,
        own_runtime=False,
        verified=False,
    )
