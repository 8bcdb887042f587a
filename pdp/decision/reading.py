"""Decisions that were recorded, as those may see them whom they concern."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pdp.authority.shown import amount_of_document, limits_of_document
from pdp.errors import NotFoundError
from pdp.model import (
    Amount,
    Caller,
    ChainHop,
    Decision,
    DecisionEffect,
    GrantRow,
    LimitStatus,
    Outcome,
    Receipt,
    RecordedDecision,
    Role,
    Session,
    SessionProof,
)
from pdp.ports import GrantStore, Ledger, SessionStore
from pdp.proof.receipts import read_decision
from pdp.sessions.ownership import may_see_chains, needs_proof
from pdp.sessions.proof import Proofs

# Decisions that are shown of each hop.
MAX_TAKEN = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownDecision:
    """A recorded decision, with what became of it as far as anybody said."""

    decision: Decision
    receipt: Receipt
    # The document that policy judged (JSON); empty for who may not see it.
    input_document: bytes
    # None: nobody reported one.
    outcome: Outcome | None
    redeemed: bool
    # None: it had none that could be read.
    amount: Amount | None = None
    # The limits that the action met, as they stood then, as far as the reader may see them.
    limits: tuple[LimitStatus, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownHop:
    """A hop of a decision's chain, with what is known of its grant and was decided on it."""

    hop: ChainHop
    # None: the hop acted without a grant, or with none that was ever issued.
    grant: GrantRow | None
    # What was decided on its calls, latest first; `MAX_TAKEN` at most.
    decisions: Sequence[DecisionEffect]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownChain:
    """On whose behalf a decision was asked for, root first."""

    decision: Decision
    # None: the decision names a session that does not exist.
    session: Session | None
    hops: tuple[ShownHop, ...]


class DecisionReader:
    """Reads recorded decisions. One that the caller may not see does not exist for it.

    Every method raises `StoreUnavailableError` when the database does not answer.
    """

    def __init__(self, *, ledger: Ledger, sessions: SessionStore, grants: GrantStore, proofs: Proofs) -> None:
        self._proofs = proofs
        self._ledger = ledger
        self._sessions = sessions
        self._grants = grants

    async def decision(
        self, caller: Caller, decision_id: str, proof: SessionProof, *, deadline: float
    ) -> ShownDecision:
        """Return a decision to who asked for it; operators and auditors see all of their tenant's.

        Only they see the document that was judged. `deadline` is an instant of `time.monotonic()`.
        Raises `NotFoundError`, and `SessionUnprovenError` for an agent that does not prove its part in
        the decision's session.
        """
        recorded = await self._ledger.decision(caller.tenant, decision_id)
        sees_all = bool(caller.roles & {Role.OPERATOR, Role.AUDITOR})
        if recorded is None or not (sees_all or recorded.key.caller == caller.subject):
            raise NotFoundError(f"no decision {decision_id} of yours")
        decision = read_decision(recorded.token)
        # A stranger's decision is the stranger's own: it moved no session.
        if not sees_all and decision.session_version:
            await self._require_proof(caller, await self._session_of(recorded), proof, deadline)
        document = recorded.input_document or b""
        return ShownDecision(
            decision=decision,
            receipt=Receipt(token=recorded.token, position=recorded.position),
            input_document=document if sees_all else b"",
            outcome=recorded.outcome,
            redeemed=recorded.redeemed,
            amount=amount_of_document(document) if document else None,
            limits=limits_of_document(document, hops=len(decision.chain), sees_all=sees_all)
            if document
            else (),
        )

    async def chain(
        self, caller: Caller, decision_id: str, proof: SessionProof, *, deadline: float
    ) -> ShownChain:
        """Return a decision's chain to who may see its session, and to auditors.

        `deadline` is an instant of `time.monotonic()`. Raises as `decision`.
        """
        recorded = await self._ledger.decision(caller.tenant, decision_id)
        session = None if recorded is None else await self._session_of(recorded)
        if recorded is None or not may_see_chains(caller, session):
            raise NotFoundError(f"no decision {decision_id} in a session of yours")
        await self._require_proof(caller, session, proof, deadline)
        decision = read_decision(recorded.token)
        named = [hop.grant_hash for hop in decision.chain if hop.grant_hash]
        path = await self._grants.grant_path(caller.tenant, named[-1]) if named else ()
        rows = {row.grant_hash: row for row in path}
        taken = await self._grants.grant_decisions(
            caller.tenant, recorded.key.session_id, [*named, ""], limit=MAX_TAKEN
        )
        hops = tuple(
            ShownHop(hop=hop, grant=rows.get(hop.grant_hash), decisions=_decided_on(hop, taken))
            for hop in decision.chain
        )
        return ShownChain(decision=decision, session=session, hops=hops)

    async def _require_proof(
        self, caller: Caller, session: Session | None, proof: SessionProof, deadline: float
    ) -> None:
        if session is not None and needs_proof(caller, session):
            await self._proofs.require(caller, session, proof, deadline=deadline)

    async def _session_of(self, recorded: RecordedDecision) -> Session | None:
        found = await self._sessions.get(recorded.key.tenant, recorded.key.session_id)
        return None if found is None else found.session


def _decided_on(hop: ChainHop, taken: Mapping[str, Sequence[DecisionEffect]]) -> Sequence[DecisionEffect]:
    """Return what was decided on a hop's calls. `taken` has it by grant; the root acts without one, too."""
    if hop.unverified:
        return ()
    grants = {hop.grant_hash} if hop.depth else {hop.grant_hash, ""}
    found = [decision for grant in grants for decision in taken.get(grant, ())]
    return sorted(found, reverse=True)[:MAX_TAKEN]
