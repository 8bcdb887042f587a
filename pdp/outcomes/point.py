"""Reports and redemptions: read, judge, sign, record; judged again when what they rest on moved."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pdp.decision.idempotency import is_unchanged_since
from pdp.decision.plan import AFTER
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
)
from pdp.outcomes.transitions import contradicts, find_recounts, lapse, redeem, report, was_executed
from pdp.ports import EntryLedger, Signer
from pdp.proof.entries import sign_entry
from pdp.proof.receipts import read_decision
from pdp.sessions.ownership import may_see
from pdp.uuid7 import uuid7
from placet.canonical import action_digest
from placet.receipt import ReceiptError, b64url_decode, b64url_encode, parse

_ATTEMPTS = 16
_BELIEVED = frozenset({Role.TOOL, Role.OPERATOR})


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
        reported: Callable[[Outcome, bool], None],
        issuer: str,
    ) -> None:
        """`reported` is told of every report that was recorded, and whether it conflicts."""
        self._ledger = ledger
        self._signer = signer
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
        deadline: float,
    ) -> RecordedReport:
        """Record what became of an allow. `deadline` is an instant of `time.monotonic()`.

        A repeat records nothing. Raises `NotFoundError` for a decision that is neither the caller's nor
        of a session of its (tools and operators: their tenant's), or answered another attempt than
        `attempt_id`; `OutcomeRefusedError` for one that allowed nothing.
        """
        for _ in range(_ATTEMPTS):
            standing = await self._standing(caller, decision_id, session_id, tool_call_id)
            if attempt_id and _attempt(standing) != attempt_id:
                raise NotFoundError("no decision on this attempt")
            believed = bool(caller.roles & _BELIEVED) and not _has_a_stake(caller, standing)
            if standing.effect is not Effect.ALLOW:
                raise OutcomeRefusedError("only an allow has an outcome")
            change = report(standing.hold, outcome, believed=believed)
            if change is None:
                return RecordedReport(
                    decision_id=standing.decision_id,
                    hold=standing.hold,
                    conflict=contradicts(standing.hold, outcome),
                )
            try:
                await self._record(caller, standing, change.kind, change.hold, deadline, outcome, output)
            except SessionMovedError:
                continue
            conflict = change.kind is EntryKind.CONFLICT
            self._reported(outcome, conflict)
            return RecordedReport(decision_id=standing.decision_id, hold=change.hold, conflict=conflict)
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
        """Use an allow, once and for this very action. Raises `NotRedeemableError`."""
        for _ in range(_ATTEMPTS):
            standing = await self._standing(caller, decision_id, "", "")
            _check(standing, tool, arguments, audience)
            await self._check_order(standing)
            after = redeem(standing.hold)
            if after is None:
                raise NotRedeemableError("it was redeemed, reported or voided before")
            try:
                await self._record(
                    caller, standing, EntryKind.REDEMPTION, after, deadline, None, b"", audience
                )
            except SessionMovedError:
                continue
            return standing
        raise SessionContendedError(retry_after=1.0)

    async def open_decisions(self, caller: Caller, *, after: str, limit: int) -> Sequence[OpenDecision]:
        """Return expired allows without an outcome, oldest first."""
        return await self._ledger.open_decisions(caller.tenant, after=after, limit=limit)

    async def count_open(self, *, limit: int) -> int:
        """Return how many expired allows of all tenants have no outcome; at most `limit`."""
        return await self._ledger.count_open(limit=limit)

    async def release_lapsed(self, *, limit: int, seconds: float) -> int:
        """Release what expired allows hold that had to be redeemed and were not; return how many.

        Each is recorded once, whoever else does the same. At most `limit`, `seconds` for each.
        """
        released = 0
        for tenant, decision_id in await self._ledger.lapsed(limit=limit):
            standing = await self._ledger.standing(tenant, decision_id=decision_id)
            after = None if standing is None else lapse(standing.hold, standing.now)
            if standing is None or after is None:
                continue
            itself = Caller(tenant=tenant, subject=self._issuer, roles=frozenset(), agents=frozenset())
            deadline = time.monotonic() + seconds
            try:
                await self._record(itself, standing, EntryKind.OUTCOME, after, deadline, Outcome.LAPSED, b"")
            except SessionMovedError:
                continue  # another replica, or a report, was faster
            self._reported(Outcome.LAPSED, False)
            released += 1
        return released

    async def _check_order(self, standing: DecisionStatus) -> None:
        """Raise unless what the decision comes after was executed."""
        for obligation in read_decision(standing.token).obligations:
            if obligation.id != AFTER:
                continue
            earlier = str(obligation.properties.get("decision_id", ""))
            before = await self._ledger.standing(standing.key.tenant, decision_id=earlier)
            if before is None or not was_executed(before.hold):
                raise NotRedeemableError(f"it comes after decision {earlier}, which was not executed")

    async def _standing(
        self, caller: Caller, decision_id: str, session_id: str, tool_call_id: str
    ) -> DecisionStatus:
        sees_all = bool(caller.roles & _BELIEVED)
        standing = None
        # Of a call, the caller's own decision comes first.
        for subject in (None,) if decision_id or sees_all else (caller.subject, None):
            standing = await self._ledger.standing(
                caller.tenant,
                decision_id=decision_id,
                session_id=session_id,
                tool_call_id=tool_call_id,
                caller=subject,
            )
            if standing is not None:
                break
        if standing is None or not (
            sees_all
            or standing.key.caller == caller.subject
            or (standing.session is not None and may_see(caller, standing.session))
        ):
            several = "" if decision_id else ", or several of this call: name one by its decision_id"
            raise NotFoundError(f"no such decision of yours{several}")
        return standing

    async def _record(
        self,
        caller: Caller,
        standing: DecisionStatus,
        kind: EntryKind,
        hold: HoldRecord,
        deadline: float,
        outcome: Outcome | None,
        output: bytes,
        audience: str = "",
    ) -> None:
        entry_id = uuid7(standing.now)
        token = await sign_entry(
            self._signer,
            issuer=self._issuer,
            entry_id=entry_id,
            kind=kind,
            about=standing.decision_id,
            receipt=standing.token.split(b"~", 1)[0],
            by=caller,
            now=standing.now,
            state=hold.state,
            outcome=outcome,
            output=output,
            audience=audience,
        )
        await self._ledger.record_entry(
            Entry(
                entry_id=entry_id,
                kind=kind,
                token=token,
                caller=caller.subject,
                about=standing,
                hold=hold,
                recounts=find_recounts(standing.hold, hold),
                deadline=deadline,
            )
        )


def _has_a_stake(caller: Caller, standing: DecisionStatus) -> bool:
    """Whether it would gain by a release: it asked, or speaks for an agent that the action is of."""
    return standing.key.caller == caller.subject or any(
        hop.agent in caller.agents for hop in read_decision(standing.token).chain
    )


def _attempt(standing: DecisionStatus) -> str:
    try:
        return str(parse(standing.token).payload.get("attempt", ""))
    except ReceiptError as exc:
        raise StoreUnavailableError("a stored receipt cannot be read") from exc


def _check(standing: DecisionStatus, tool: str, arguments: Mapping[str, JSON], audience: str) -> None:
    """Raise unless the decision allows this very action, for this audience, still."""
    if standing.effect is not Effect.ALLOW:
        raise NotRedeemableError("it is no allow")
    if standing.now >= standing.hold.expires_at:
        raise NotRedeemableError("it has expired")
    if standing.session is None or not is_unchanged_since(
        standing.session, recorded_at=standing.recorded_at, now=standing.now
    ):
        raise NotRedeemableError("its session is over")
    if standing.revoked:
        raise NotRedeemableError("a grant that it rests on was revoked")
    try:
        claims: Any = parse(standing.token).claims
        salt = b64url_decode(claims["ad_salt"])
    except (ReceiptError, KeyError, TypeError, ValueError) as exc:
        raise NotRedeemableError("what it allowed was erased") from exc
    if claims.get("aud", "") != audience:
        raise NotRedeemableError("it is for another audience")
    act = claims["act"]
    digest = b64url_encode(action_digest(tool=tool, resource=act["resource"], arguments=arguments, salt=salt))
    if act["tool"] != tool or act["ad"] != digest:
        raise NotRedeemableError("it allowed another action")
