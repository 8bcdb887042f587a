"""Proof of part in a session, outside of an evaluation."""

from __future__ import annotations

from pdp.delegation.chain import ChainContext, Chains
from pdp.errors import SessionUnprovenError
from pdp.model import Caller, Role, Session, SessionProof, VerifiedHop

# What ends a grant, and leaves no doubt of whose it was.
_ENDED = frozenset({"chain.expired", "chain.revoked"})


class Proofs:
    """Has agents prove that they have part in a session."""

    def __init__(self, chains: Chains) -> None:
        self._chains = chains

    async def require(
        self, caller: Caller, session: Session, proof: SessionProof, *, deadline: float, ended: bool = False
    ) -> None:
        """Raise `SessionUnprovenError` unless what the caller shows proves its part in the session.

        It does as in an evaluation; with `ended` also by a chain whose grants have expired or were
        revoked, unless all proofs of the session were. `deadline` is an instant of `time.monotonic()`.
        Raises `StoreUnavailableError`, `DeadlineExceededError`.
        """
        known = await self._chains.read_context(caller, session.session_id, proof, deadline=deadline)
        _require(known, proof, ended=ended)

    async def held(
        self, caller: Caller, session_id: str, proof: SessionProof, *, deadline: float
    ) -> tuple[VerifiedHop, ...]:
        """Return the chain by which the caller holds a grant in the session, root first; empty without one.

        Raises `SessionUnprovenError` for an agent of the session whose chain proves nothing (any more), and
        as `require`.
        """
        if Role.AGENT not in caller.roles or not any(hop.grant for hop in proof.hops):
            return ()
        known = await self._chains.read_context(caller, session_id, proof, deadline=deadline)
        if known.unproven:
            raise SessionUnprovenError
        return () if known.session is None else known.chain.hops

    async def require_of_speakers(
        self, caller: Caller, session_id: str, proof: SessionProof, *, deadline: float, ended: bool = False
    ) -> None:
        """Do as `require`, but only for those who speak for an agent of the session."""
        known = await self._chains.read_context(caller, session_id, proof, deadline=deadline)
        if known.unproven:
            _require(known, proof, ended=ended)


def _require(known: ChainContext, proof: SessionProof, *, ended: bool) -> None:
    if known.session is not None:
        return
    problems = {problem.code for problem in known.chain.problems}
    if not ended or not problems or not problems <= _ENDED or _was_proof_revoked(known, proof):
        raise SessionUnprovenError


def _was_proof_revoked(known: ChainContext, proof: SessionProof) -> bool:
    """Whether the root of the chain was issued before all proofs of the session were revoked.

    Whatever was issued before is revoked at that instant at the latest.
    """
    session, root = known.facts.session, known.facts.grants.get(proof.hops[0].grant_hash)
    if session is None or root is None:
        return True
    since, ended = session.proofs_revoked_at, root.revoked_at
    return since is not None and ended is not None and ended <= since
