"""Proof of part in a session, outside of an evaluation."""

from __future__ import annotations

from pdp.delegation.chain import Chains
from pdp.errors import SessionUnprovenError
from pdp.model import Caller, Session, SessionProof

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
        revoked. `deadline` is an instant of `time.monotonic()`. Raises `StoreUnavailableError`,
        `DeadlineExceededError`.
        """
        known = await self._chains.read_context(caller, session.session_id, proof, deadline=deadline)
        if known.session is not None:
            return
        problems = {problem.code for problem in known.chain.problems}
        if not ended or not problems or not problems <= _ENDED:
            raise SessionUnprovenError
