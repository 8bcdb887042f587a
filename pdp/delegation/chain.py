"""The chain of a request: what it presents, and what of that is proven.

A chain is verified in one place, on the same facts as everything else that is judged: whose
session it is, whether a stored answer still stands, which limits count, what a receipt says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pdp.authority.settings import max_chain_depth, takes_id_as_proof
from pdp.delegation.tokens import GrantTokens
from pdp.delegation.verification import verify_chain
from pdp.errors import DeadlineExceededError
from pdp.model import (
    Caller,
    Chain,
    DecisionKey,
    Facts,
    FactsRequest,
    Grant,
    Hop,
    Session,
    SessionProof,
    StoredGrant,
)
from pdp.ports import InformationPoint


@dataclass(frozen=True, kw_only=True, slots=True)
class PresentedChain:
    """A chain as a request presents it, with what its grants say. Nothing of it is proven yet."""

    hops: tuple[Hop, ...]
    # By hash; None for a grant that no replica of ours signed.
    grants: Mapping[str, Grant | None]

    @property
    def hashes(self) -> tuple[str, ...]:
        """The hashes of all grants that are presented."""
        return tuple(self.grants)

    def verify(self, caller: Caller, facts: Facts, *, proof_supposed: bool = False) -> Chain:
        """Return the chain as far as it is proven, by what is known now.

        `proof_supposed`: without grants, the caller is supposed to show a session token.
        """
        return verify_chain(
            self.hops,
            grants=self.grants,
            rows=facts.grants,
            session=facts.session,
            tenant=caller.tenant,
            caller=caller,
            now=facts.now,
            max_depth=max_chain_depth(facts.settings),
            root_proven=proof_supposed or _is_root_proven(facts),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainContext:
    """What is known of a session and the chain that somebody presents in it."""

    facts: Facts
    chain: Chain
    # The caller's own session; None if it is unknown, somebody else's, or not proven to be the caller's.
    session: Session | None
    # The caller speaks for an agent of the session, and does not prove its part in it.
    unproven: bool


async def read_chain(hops: tuple[Hop, ...], grants: GrantTokens, *, deadline: float) -> PresentedChain:
    """Read the grants of a chain. `deadline` is an instant of `time.monotonic()`.

    Raises `StoreUnavailableError` if a key cannot be looked up, `DeadlineExceededError`.
    """
    held = [hop for hop in hops if hop.grant]
    known = {hop.grant_hash: grants.known(hop.grant) for hop in held}
    if None not in known.values():
        return PresentedChain(hops=hops, grants=known)
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            return PresentedChain(
                hops=hops, grants={hop.grant_hash: await grants.read(hop.grant) for hop in held}
            )
    except TimeoutError as exc:
        raise DeadlineExceededError("the keys of the chain's grants did not come in time") from exc


def read_stored_chain(path: Sequence[StoredGrant], session: Session, tenant: str) -> PresentedChain | None:
    """Return the chain of grants that were issued, root first, as if it were presented again.

    Who acted on it had it proven then: its signatures are not at hand, all else is verified anew. None where
    the boundary of a grant is not known.
    """
    hops: list[Hop] = []
    grants: dict[str, Grant | None] = {}
    for row, boundary in path:
        if boundary is None:
            return None
        grants[row.grant_hash] = Grant(
            issuer="",
            tenant=tenant,
            grant_id="",
            agent=row.agent,
            session_id=row.session_id,
            task_id=session.task.id,
            depth=row.depth,
            boundary=boundary,
            parent=row.parent_hash,
            actors=tuple(hop.agent for hop in reversed(hops)),
            delegated_by=row.delegated_by,
            purpose=row.purpose,
            issued_at=row.issued_at,
            expires_at=row.expires_at,
        )
        hops.append(Hop(agent=row.agent, grant_hash=row.grant_hash))
    return PresentedChain(hops=tuple(hops), grants=grants)


def own_session(
    caller: Caller, facts: Facts, chain: Chain, *, proof_supposed: bool = False
) -> Session | None:
    """Return the session, if the caller has proven part in it.

    It has by a chain, if it speaks for the last agent of it, and by the session token, if it speaks for
    the session's own agent. To anybody else the session does not exist, and this is None.
    """
    session = facts.session
    if session is None:
        return None
    leaf = chain.leaf
    if leaf is not None and leaf.agent in caller.agents:
        return session
    if session.agent in caller.agents and (proof_supposed or _is_root_proven(facts)):
        return session
    return None


def speaks_in_session(caller: Caller, facts: Facts) -> bool:
    """Return whether the caller speaks for an agent of the session: its own, or that of a grant in it.

    Only such a caller may learn that it is the proof which is missing.
    """
    session = facts.session
    return session is not None and (
        session.agent in caller.agents
        or any(
            row.session_id == session.session_id and row.agent in caller.agents
            for row in facts.grants.values()
        )
    )


def _is_root_proven(facts: Facts) -> bool:
    """Return whether who speaks for the session's own agent needs no grant to act in the session."""
    session = facts.session
    if session is None or session.proofs_ended:
        return False
    return facts.token_lives or not session.token_required or takes_id_as_proof(facts.settings)


class Chains:
    """Verifies chains outside of an evaluation, exactly as an evaluation would."""

    def __init__(self, information: InformationPoint, grants: GrantTokens) -> None:
        self._information = information
        self._grants = grants

    async def read_context(
        self, caller: Caller, session_id: str, proof: SessionProof, *, deadline: float
    ) -> ChainContext:
        """Return what is known now of the session, and of what the caller shows to prove its part in it.

        `deadline` is an instant of `time.monotonic()`.

        Raises `TenantUnknownError`, `StoreUnavailableError`, `DeadlineExceededError`.
        """
        presented = await read_chain(proof.hops, self._grants, deadline=deadline)
        facts = await self._information.gather(
            FactsRequest(
                # This key is no call's: only session, settings and grants are read.
                key=DecisionKey(
                    tenant=caller.tenant,
                    session_id=session_id,
                    caller=caller.subject,
                    leaf_grant="",
                    tool_call_id="",
                ),
                tool="",
                agents=(),
                deadline=deadline,
                grants=presented.hashes,
                session_token_hash=proof.token_hash,
            )
        )
        chain = presented.verify(caller, facts)
        session = own_session(caller, facts, chain)
        return ChainContext(
            facts=facts,
            chain=chain,
            session=session,
            unproven=session is None and speaks_in_session(caller, facts),
        )
