"""The outcome point: reports and redemptions. Each is read, judged, signed and recorded.

It is judged again when what it rests on has moved until it is recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pdp.authority.transitions import contradicts, find_recounts, lapse, redeem, report, was_executed
from pdp.decision.fingerprint import Fingerprints
from pdp.decision.idempotency import is_unchanged_since
from pdp.decision.plan import AFTER
from pdp.decision.redemption import CurrentGround, RedemptionCheck
from pdp.errors import (
    NotFoundError,
    NotRedeemableError,
    OutcomeRefusedError,
    SessionContendedError,
    SessionMovedError,
    StoreUnavailableError,
)
from pdp.model import (
    JSON,
    Caller,
    DecisionStatus,
    Effect,
    Entry,
    EntryKind,
    HoldRecord,
    OpenDecision,
    Outcome,
    Role,
    SessionProof,
)
from pdp.overload.settling import Settling
from pdp.ports import EntryLedger, Signer
from pdp.proof.entries import sign_entry
from pdp.proof.receipts import read_decision
from pdp.sessions.ownership import may_close, needs_proof
from pdp.sessions.proof import Proofs
from pdp.uuid7 import uuid7
from placet.receipt import ReceiptError, check_action, parse

_ATTEMPTS = 16
_NO_PROOF = SessionProof()
_NOTHING_SERVED = "no such decision for a tool and an audience that this credential serves"
# Who finds decisions of others by session and call.
_SEES_ALL = frozenset({Role.TOOL, Role.OPERATOR})


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedReport:
    """What a report left behind."""

    decision_id: str
    # What the decision holds now.
    hold: HoldRecord
    # The report contradicts an earlier one.
    conflict: bool


class OutcomePoint:
    """Learns what became of decisions."""

    def __init__(
        self,
        *,
        ledger: EntryLedger,
        signer: Signer,
        check: RedemptionCheck,
        proofs: Proofs,
        fingerprints: Fingerprints,
        settling: Settling | None = None,
        reported: Callable[[Outcome, bool], None],
        issuer: str,
    ) -> None:
        """`fingerprints` derives the salts of secrets. `reported` is told of every report that was recorded,
        and whether it conflicts."""
        self._ledger = ledger
        self._signer = signer
        self._redemption_check = check
        self._proofs = proofs
        self._fingerprints = fingerprints
        self._settling = settling or Settling()
        self._reported = reported
        self._issuer = issuer

    async def report(
        self,
        caller: Caller,
        outcome: Outcome,
        *,
        decision_id: str = "",
        session_id: str = "",
        tool_call_id: str = "",
        output: bytes = b"",
        attempt_id: str = "",
        proof: SessionProof = _NO_PROOF,
        deadline: float,
    ) -> RecordedReport:
        """Record what became of an allow. `deadline` is an instant of `time.monotonic()`.

        A repeat records nothing. Raises `NotFoundError` for a decision that is neither the caller's, nor
        of a session of its, nor on a tool that it serves (operators: of another tenant), or answered
        another attempt than `attempt_id`; `OutcomeRefusedError` for one that allowed nothing;
        `SessionUnprovenError` for an agent that does not prove by `proof` its part in the decision's session.
        """
        for _ in range(_ATTEMPTS):
            try:
                status = await self._find_status(
                    caller, decision_id, session_id, tool_call_id, proof.token_hash
                )
            except NotFoundError:
                # Which calls there are, only those learn who have part in the session.
                if not decision_id:
                    await self._proofs.require_of_speakers(
                        caller, session_id, proof, deadline=deadline, ended=True
                    )
                raise
            # Before it learns anything else of the decision.
            await self._require_proof(caller, status, proof, deadline)
            if attempt_id and _attempt(status) != attempt_id:
                raise NotFoundError("no decision on this attempt")
            known = Role.OPERATOR in caller.roles or _serves(caller, status)
            believed = known and not _has_a_stake(caller, status)
            if status.effect is not Effect.ALLOW:
                raise OutcomeRefusedError("only an allow has an outcome")
            change = report(status.hold, outcome, believed=believed)
            if change is None:
                return RecordedReport(
                    decision_id=status.decision_id,
                    hold=status.hold,
                    conflict=contradicts(status.hold, outcome),
                )
            try:
                await self._record(caller, status, change.kind, change.hold, deadline, outcome, output)
            except SessionMovedError:
                continue
            conflict = change.kind is EntryKind.CONFLICT
            self._reported(outcome, conflict)
            return RecordedReport(decision_id=status.decision_id, hold=change.hold, conflict=conflict)
        raise SessionContendedError(retry_after=1.0)

    async def redeem(
        self,
        caller: Caller,
        decision_id: str,
        *,
        tool: str,
        arguments: Mapping[str, JSON],
        audience: str,
        deadline: float,
    ) -> DecisionStatus:
        """Use an allow, once and for this very action; return what it was before.

        `audience` is who redeems it, as the receipt names it; the caller serves it, and the tool. What the
        allow rests on may have moved since; then it is judged again, and used only if it would be allowed
        now. `deadline` is an instant of `time.monotonic()`. Raises `NotFoundError`, `NotRedeemableError`;
        `PolicyUnavailableError`, `StoreUnavailableError`, and `DeadlineExceededError` or
        `SessionContendedError` where what it rests on never stood still, all with nothing used up.
        """

        async def redeem_on_ground_of_now() -> DecisionStatus:
            status = await self._find_redeemable(caller, decision_id, tool, arguments, audience)
            after = redeem(status.hold)
            if after is None:
                raise NotRedeemableError("it was redeemed, reported or voided before")
            ground = await self._redemption_check.find_ground(
                status, tool=tool, arguments=arguments, audience=audience, deadline=deadline
            )
            # It is recorded on the ground that it was found to stand on, or not at all.
            about = replace(status, epoch=ground.epoch)
            await self._record(
                caller, about, EntryKind.REDEMPTION, after, deadline, None, b"", audience, ground
            )
            return status

        return await self._settling.settle(redeem_on_ground_of_now, tenant=caller.tenant, deadline=deadline)

    async def _find_redeemable(
        self, caller: Caller, decision_id: str, tool: str, arguments: Mapping[str, JSON], audience: str
    ) -> DecisionStatus:
        """Return the decision, if the caller may redeem it for this action. Raises as `redeem` does."""
        status = await self._ledger.status(caller.tenant, decision_id=decision_id)
        if status is None:
            raise NotFoundError(_NOTHING_SERVED)
        if not _serves(caller, status):
            # What it does not serve does not exist for it.
            raise NotFoundError(_NOTHING_SERVED)
        if _has_a_stake(caller, status) and status.key.caller != caller.asks_as:
            raise NotRedeemableError(
                "whoever asks does not redeem, unless its two credentials are paired (asks_as)"
            )
        salt = self._fingerprints.secret_salt(caller.tenant, decision_id)
        _check(status, tool, arguments, audience, secret_salt=salt)
        await self._check_order(status)
        return status

    async def open_decisions(self, caller: Caller, *, after: str, limit: int) -> Sequence[OpenDecision]:
        """Return the tenant's expired allows without an outcome, oldest first, from after the id `after`."""
        return await self._ledger.open_decisions(caller.tenant, after=after, limit=limit)

    async def count_open(self, *, limit: int) -> int:
        """Return how many expired allows of all tenants have no outcome; at most `limit`."""
        return await self._ledger.count_open(limit=limit)

    async def release_lapsed(self, *, limit: int, seconds: float) -> int:
        """Release what expired allows hold that had to be redeemed and were not; return how many.

        Each is recorded once, even if other replicas try the same. At most `limit` are released, and
        recording one may take `seconds`.
        """
        released = 0
        for tenant, decision_id in await self._ledger.lapsed(limit=limit):
            status = await self._ledger.status(tenant, decision_id=decision_id)
            after = None if status is None else lapse(status.hold, status.now)
            if status is None or after is None:
                continue
            itself = Caller(tenant=tenant, subject=self._issuer, roles=frozenset(), agents=frozenset())
            deadline = time.monotonic() + seconds
            try:
                await self._record(
                    itself, status, EntryKind.OUTCOME, after, deadline, Outcome.UNREDEEMED, b""
                )
            except SessionMovedError:
                continue  # another replica, or a report, was faster
            self._reported(Outcome.UNREDEEMED, False)
            released += 1
        return released

    async def _check_order(self, status: DecisionStatus) -> None:
        """Raise `NotRedeemableError` unless all that the decision comes after was executed."""
        for obligation in read_decision(status.token).obligations:
            if obligation.id != AFTER:
                continue
            earlier = str(obligation.properties.get("decision_id", ""))
            before = await self._ledger.status(status.key.tenant, decision_id=earlier)
            if before is None or not was_executed(before.hold):
                raise NotRedeemableError(f"it comes after decision {earlier}, which was not executed")

    async def _require_proof(
        self, caller: Caller, status: DecisionStatus, proof: SessionProof, deadline: float
    ) -> None:
        """Raise `SessionUnprovenError` for an agent that does not prove its part in the session."""
        session = status.session
        if session is None or _serves(caller, status) or not read_decision(status.token).session_version:
            # A stranger's decision is the stranger's own: it moved no session.
            return
        if status.token_lives and session.agent in caller.agents:
            return
        if needs_proof(caller, session):
            # Whoever acted on a chain says what became of it when the chain has ended, too.
            await self._proofs.require(caller, session, proof, deadline=deadline, ended=True)

    async def _find_status(
        self,
        caller: Caller,
        decision_id: str,
        session_id: str,
        tool_call_id: str,
        session_token_hash: str = "",
    ) -> DecisionStatus:
        sees_all = bool(caller.roles & _SEES_ALL)
        status = None
        # Where others made the same call, the caller's own decision is meant.
        for subject in (None,) if decision_id or sees_all else (caller.subject, None):
            status = await self._ledger.status(
                caller.tenant,
                decision_id=decision_id,
                session_id=session_id,
                tool_call_id=tool_call_id,
                caller=subject,
                session_token_hash=session_token_hash,
            )
            if status is not None:
                break
        if status is None or not (
            Role.OPERATOR in caller.roles
            or _serves(caller, status)
            or status.key.caller == caller.subject
            or (status.session is not None and may_close(caller, status.session))
        ):
            several = "" if decision_id else ", or several of this call: name one by its decision_id"
            raise NotFoundError(f"no such decision of yours{several}")
        return status

    async def _record(
        self,
        caller: Caller,
        status: DecisionStatus,
        kind: EntryKind,
        hold: HoldRecord,
        deadline: float,
        outcome: Outcome | None,
        output: bytes,
        audience: str = "",
        ground: CurrentGround | None = None,
    ) -> None:
        entry_id = uuid7(status.now)
        token = await sign_entry(
            self._signer,
            issuer=self._issuer,
            entry_id=entry_id,
            kind=kind,
            about=status.decision_id,
            receipt=status.token.split(b"~", 1)[0],
            by=caller,
            now=status.now,
            state=hold.state,
            outcome=outcome,
            output=output,
            audience=audience,
            policy=None if ground is None else ground.policy,
            data_revisions=None if ground is None else ground.data_revisions,
        )
        await self._ledger.record_entry(
            Entry(
                entry_id=entry_id,
                kind=kind,
                token=token,
                caller=caller.subject,
                about=status,
                hold=hold,
                recounts=find_recounts(status.hold, hold),
                deadline=deadline,
                entities={} if ground is None else ground.entities,
            )
        )


def _serves(caller: Caller, status: DecisionStatus) -> bool:
    """Return whether the caller is the side of the tool, and of the audience, that the decision is for.

    A receipt for nobody is the word of any who serves its tool, and nobody redeems it.
    """
    if Role.TOOL not in caller.roles:
        return False
    try:
        payload: Any = parse(status.token).payload
        audience = payload.get("aud", "")
        return caller.serves(payload["act"]["tool"]) and (not audience or audience in caller.audiences)
    except (ReceiptError, KeyError, TypeError) as exc:
        raise StoreUnavailableError("a stored receipt cannot be read") from exc


def _has_a_stake(caller: Caller, status: DecisionStatus) -> bool:
    """Return whether the caller would gain by a release: it asked, or speaks for an agent of the chain.

    A gateway's two credentials are one here.
    """
    agents = caller.agents | caller.asks_for
    return status.key.caller in (caller.subject, caller.asks_as) or any(
        hop.agent in agents for hop in read_decision(status.token).chain
    )


def _attempt(status: DecisionStatus) -> str:
    try:
        return str(parse(status.token).payload.get("attempt", ""))
    except ReceiptError as exc:
        raise StoreUnavailableError("a stored receipt cannot be read") from exc


def _check(
    status: DecisionStatus, tool: str, arguments: Mapping[str, JSON], audience: str, *, secret_salt: bytes
) -> None:
    """Raise `NotRedeemableError` unless the decision still allows this very action, for this audience.

    `secret_salt` is the salt of its secrets' digest, if it has one.
    """
    if status.effect is not Effect.ALLOW:
        raise NotRedeemableError("it is no allow")
    if status.now >= status.hold.expires_at:
        raise NotRedeemableError("it has expired")
    if status.session is None or not is_unchanged_since(
        status.session, recorded_at=status.recorded_at, now=status.now
    ):
        raise NotRedeemableError("its session is over, or its proofs were revoked since")
    if status.revoked:
        raise NotRedeemableError("a grant that it rests on was revoked")
    try:
        receipt = parse(status.token)
    except ReceiptError as exc:
        raise NotRedeemableError("what it allowed was erased") from exc
    claims: Any = receipt.claims
    if not isinstance(claims.get("ad_salt"), str):
        raise NotRedeemableError("what it allowed was erased")
    if not claims.get("aud"):
        raise NotRedeemableError("it is for no audience: its tool was registered without one")
    if claims["aud"] != audience:
        raise NotRedeemableError("it is for another audience")
    try:
        check_action(receipt, tool=tool, arguments=arguments, secret_salt=secret_salt)
    except ReceiptError as exc:
        raise NotRedeemableError("it allowed another action") from exc
