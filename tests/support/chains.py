"""Chains of real grants, signed with a key in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pdp.delegation.grant import grant_row
from pdp.delegation.tokens import GrantTokens
from pdp.delegation.verification import verify_chain
from pdp.model import Boundary, Caller, Chain, Grant, GrantRow, Hop, Session, grant_hash
from pdp.ports import KeyDirectory
from pdp.signing import RotatingSigner
from tests.fakes.store import FakeStore
from tests.support import builders


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A hop with everything that is known of its grant."""

    hop: Hop
    grant: Grant
    row: GrantRow


async def new_grants(directory: KeyDirectory | None = None) -> GrantTokens:
    """Return an issuer and reader of grants that has a key of its own, published in `directory`."""
    directory = directory or FakeStore().keys
    signer = RotatingSigner(directory, replica="r")
    await signer.rotate()
    return GrantTokens(signer, directory)


def grant_of(
    session: Session,
    over: Sequence[Link] = (),
    *,
    agent: str,
    boundary: Boundary | None = None,
    delegated_by: str | None = None,
    expires_at: datetime | None = None,
) -> Grant:
    """Return the grant that comes after those of `over`, as wide as can be unless said otherwise."""
    above = over[-1].grant if over else None
    return Grant(
        issuer="https://pdp.test",
        tenant=builders.TENANT,
        grant_id=builders.unique("grant"),
        agent=agent,
        session_id=session.session_id,
        task_id=session.task.id,
        depth=len(over),
        boundary=boundary or (session.boundary if above is None else above.boundary),
        parent=over[-1].row.grant_hash if over else None,
        actors=tuple(link.grant.agent for link in reversed(over)),
        delegated_by=delegated_by or (f"svc-{above.agent}" if above is not None else session.issuer),
        purpose="check the invoice" if over else "",
        issued_at=builders.NOW,
        expires_at=expires_at or (session.expires_at if above is None else above.expires_at),
    )


async def link(grants: GrantTokens, grant: Grant) -> Link:
    """Sign the grant, and store it in no table but the link's own row."""
    compact = await grants.issue(grant)
    return Link(hop=Hop(agent=grant.agent, grant=compact), grant=grant, row=grant_row(grant, compact))


async def chain_of(grants: GrantTokens, session: Session, *agents: str) -> tuple[Link, ...]:
    """Return links from the session's own agent through `agents`, each handing on all that it has."""
    links: list[Link] = []
    for agent in (session.agent, *agents):
        links.append(await link(grants, grant_of(session, links, agent=agent)))
    return tuple(links)


def revoke_link(link: Link) -> Link:
    """Return the link with its grant revoked a second ago."""
    return replace(link, row=link.row._replace(revoked_at=builders.NOW - timedelta(seconds=1)))


async def prove(
    grants: GrantTokens,
    session: Session | None,
    links: Iterable[Link],
    *,
    hops: Sequence[Hop] | None = None,
    by: Caller | None = None,
    now: datetime = builders.NOW,
    max_depth: int = 4,
) -> Chain:
    """Return what a chain proves in a session.

    `links` are the grants that the table knows, `hops` those that are sent, by default the same ones;
    `by` is the caller, by default the last agent's own.
    """
    links = tuple(links)
    sent = tuple(link.hop for link in links) if hops is None else tuple(hops)
    read: Mapping[str, Grant | None] = {
        grant_hash(hop.grant): await grants.read(hop.grant) for hop in sent if hop.grant
    }
    return verify_chain(
        sent,
        grants=read,
        rows={link.row.grant_hash: link.row for link in links},
        session=session,
        tenant=builders.TENANT,
        caller=by or speaker(links[-1].grant.agent),
        now=now,
        max_depth=max_depth,
        root_proven=True,
    )


def speaker(agent: str) -> Caller:
    """Return a caller that speaks for this agent and no other."""
    return builders.caller(subject=f"svc-{agent}", agents=frozenset({agent}))
