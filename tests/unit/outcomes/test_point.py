"""Reports and redemptions on fakes: whose, of what, and what moves meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from pdp.decision.fingerprint import Fingerprints
from pdp.decision.redemption import RedemptionCheck
from pdp.errors import NotFoundError, NotRedeemableError, SessionContendedError
from pdp.model import (
    Caller,
    DecisionStatus,
    Effect,
    Entry,
    EntryKind,
    HoldState,
    Outcome,
    Position,
    Role,
)
from pdp.outcomes.point import OutcomePoint
from placet.receipt import b64url_decode
from tests.fakes.store.ledger import FakeLedger
from tests.fakes.store.state import StoreState
from tests.support import builders
from tests.support.builders import TENANT
from tests.unit.decision.test_point import Bench, bench

__all__ = ["bench"]
ARGUMENTS, AUDIENCE = builders.action().arguments, "erp"
SERVED: dict[str, Any] = {"tools": frozenset({"payments.create"}), "audiences": frozenset({AUDIENCE})}
TOOL = builders.caller(subject="svc-erp", roles=frozenset({Role.TOOL}), agents=frozenset(), **SERVED)


class Between(FakeLedger):
    """Runs something between what is read and what is recorded, once."""

    def __init__(
        self, state: StoreState, meanwhile: Callable[[], Awaitable[object]], *, always: bool = False
    ):
        super().__init__(state)
        self.meanwhile: Callable[[], Awaitable[object]] | None = meanwhile
        self.always = always

    async def status(self, tenant: str, **of: Any) -> DecisionStatus | None:
        found = await super().status(tenant, **of)
        if self.meanwhile is not None:
            run, self.meanwhile = self.meanwhile, self.meanwhile if self.always else None
            await run()
        return found


def point(
    bench: Bench,
    ledger: FakeLedger | None = None,
    reported: Callable[[Outcome, bool], None] = lambda *said: None,
) -> OutcomePoint:
    return OutcomePoint(
        ledger=ledger or bench.store.ledger,
        signer=bench.signer,
        proofs=bench.proofs(),
        check=RedemptionCheck(
            information=bench.store.information_point,
            engine=bench.engine,
            history=bench.store.ledger,
            grants=bench.store.grants,
            fingerprints=Fingerprints(b"k" * 32),
        ),
        fingerprints=Fingerprints(b"k" * 32),
        reported=reported,
        issuer="test",
    )


async def allowed(bench: Bench, *, required: bool = True, attempt: str = "a-1") -> str:
    tool = replace(builders.tool(), redeem_required=required, audience=AUDIENCE)
    await bench.store.control_plane.put_tools(TENANT, [tool], by=builders.AUTHOR)
    decision, _ = await bench.point().evaluate(
        builders.evaluation(bench.session.session_id, attempt_id=attempt)
    )
    return decision.decision_id


async def redeem(
    bench: Bench, decision_id: str, ledger: FakeLedger | None = None, by: Caller = TOOL, **change: Any
) -> None:
    asked: dict[str, Any] = {"tool": "payments.create", "arguments": ARGUMENTS, "audience": AUDIENCE} | change
    await point(bench, ledger).redeem(by, decision_id, deadline=builders.deadline(), **asked)


async def report(bench: Bench, caller: Caller, decision_id: str, outcome: Outcome, **more: Any) -> HoldState:
    recorded = await point(bench).report(
        caller, outcome, decision_id=decision_id, deadline=builders.deadline(), **more
    )
    return recorded.hold.state


@pytest.mark.parametrize("role", [Role.TOOL, Role.OPERATOR])
@pytest.mark.parametrize(
    ("subject", "agents", "state"),
    [
        ("svc-erp", frozenset(), HoldState.RELEASED),
        ("svc-erp", frozenset({"agent:other"}), HoldState.RELEASED),
        # Another credential of the agent that acted, and the one that asked.
        ("svc-erp", frozenset({builders.AGENT}), HoldState.UNRESOLVED),
        (builders.caller().subject, frozenset(), HoldState.UNRESOLVED),
    ],
)
async def test_who_would_gain_by_a_release_is_not_believed(
    bench: Bench, role: Role, subject: str, agents: frozenset[str], state: HoldState
) -> None:
    decision_id = await allowed(bench, required=False)
    reporter = builders.caller(subject=subject, roles=frozenset({role}), agents=agents, **SERVED)
    assert await report(bench, reporter, decision_id, Outcome.NOT_EXECUTED) is state


async def test_settings_that_change_meanwhile_have_it_looked_at_again(bench: Bench) -> None:
    decision_id = await allowed(bench)
    between = Between(
        bench.store.state, lambda: bench.store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    )
    await redeem(bench, decision_id, between)
    assert [entry.kind for entry in bench.store.entries] == [EntryKind.REDEMPTION]


@pytest.mark.parametrize("end", ["close", "complete"])
async def test_session_that_ends_meanwhile_has_nothing_redeemed(bench: Bench, end: str) -> None:
    decision_id = await allowed(bench)
    await bench.store.clock.advance(1)
    ending = getattr(bench.store.sessions, end)
    between = Between(bench.store.state, lambda: ending(TENANT, bench.session.session_id, "over"))
    with pytest.raises(NotRedeemableError, match="session is over"):
        await redeem(bench, decision_id, between)
    assert bench.store.entries == []


async def test_void_that_comes_meanwhile_wins(bench: Bench) -> None:
    decision_id = await allowed(bench)
    caller = builders.caller()
    between = Between(bench.store.state, lambda: report(bench, caller, decision_id, Outcome.VOIDED))
    with pytest.raises(NotRedeemableError):
        await redeem(bench, decision_id, between)
    assert [entry.kind for entry in bench.store.entries] == [EntryKind.OUTCOME]


async def test_second_redemption_that_comes_meanwhile_loses(bench: Bench) -> None:
    decision_id = await allowed(bench)
    between = Between(bench.store.state, lambda: redeem(bench, decision_id))
    with pytest.raises(NotRedeemableError):
        await redeem(bench, decision_id, between)
    assert len(bench.store.entries) == 1


async def test_what_never_stands_still_is_given_up(bench: Bench) -> None:
    class Restless(FakeLedger):
        async def record_entry(self, entry: Entry) -> Position:
            await bench.store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
            return await super().record_entry(entry)

    decision_id = await allowed(bench)
    with pytest.raises(SessionContendedError):
        await redeem(bench, decision_id, Restless(bench.store.state))
    assert bench.store.entries == []


async def test_tool_that_serves_another_tool_says_nothing_of_this_one(bench: Bench) -> None:
    decision_id = await allowed(bench)
    for served in ({"tools": frozenset({"mail.send"})}, {"audiences": frozenset({"mail"})}):
        other = replace(TOOL, **served)
        for outcome in (Outcome.EXECUTED, Outcome.FAILED, Outcome.UNKNOWN, Outcome.VOIDED):
            with pytest.raises(NotFoundError):
                await report(bench, other, decision_id, outcome)
        with pytest.raises(NotFoundError):
            await redeem(bench, decision_id, by=other)
    assert bench.store.entries == []


async def test_word_on_a_receipt_for_nobody_is_that_of_whoever_serves_its_tool(bench: Bench) -> None:
    await bench.store.control_plane.put_tools(TENANT, [builders.tool()], by=builders.AUTHOR)
    decision, _ = await bench.point().evaluate(builders.evaluation(bench.session.session_id))
    other = replace(TOOL, audiences=frozenset())
    assert await report(bench, other, decision.decision_id, Outcome.FAILED) is HoldState.RELEASED


async def test_whoever_asked_redeems_only_where_its_credentials_are_paired(bench: Bench) -> None:
    decision_id = await allowed(bench)
    asking = builders.caller()
    sides = {
        "the same": replace(TOOL, subject=asking.subject),
        "speaks for the agent": replace(TOOL, agents=asking.agents),
        "paired with another": replace(TOOL, agents=asking.agents, asks_as="svc-other"),
    }
    for name, by in sides.items():
        with pytest.raises(NotRedeemableError, match="asks_as"):
            await redeem(bench, decision_id, by=by)
        assert bench.store.entries == [], name
    paired = replace(TOOL, asks_as=asking.subject, asks_for=asking.agents)
    await redeem(bench, decision_id, by=paired)
    assert await report(bench, paired, decision_id, Outcome.FAILED) is HoldState.UNRESOLVED
    assert await report(bench, TOOL, decision_id, Outcome.FAILED) is HoldState.RELEASED


async def test_gateway_is_not_believed_where_its_agent_is_on_the_chain(bench: Bench) -> None:
    decision_id = await allowed(bench)
    gateway = replace(TOOL, asks_as="svc-other", asks_for=builders.caller().agents)
    with pytest.raises(NotRedeemableError, match="asks_as"):
        await redeem(bench, decision_id, by=gateway)
    assert await report(bench, gateway, decision_id, Outcome.EXECUTED) is HoldState.COMMITTED


@pytest.mark.parametrize("audience", ["", "erp"])
async def test_receipt_for_nobody_is_redeemed_by_nobody(bench: Bench, audience: str) -> None:
    await bench.store.control_plane.put_tools(
        TENANT, [replace(builders.tool(), redeem_required=True)], by=builders.AUTHOR
    )
    decision, _ = await bench.point().evaluate(builders.evaluation(bench.session.session_id))
    assert decision.effect is Effect.ALLOW
    with pytest.raises(NotRedeemableError, match="no audience"):
        await redeem(bench, decision.decision_id, audience=audience)


async def test_expired_allow_is_not_redeemed(bench: Bench) -> None:
    decision_id = await allowed(bench)
    await bench.store.clock.advance(60)
    with pytest.raises(NotRedeemableError, match="expired"):
        await redeem(bench, decision_id)


async def test_contradiction_is_recorded_and_counted_once(bench: Bench) -> None:
    decision_id = await allowed(bench, required=False)
    said: list[tuple[Outcome, bool]] = []
    outcomes = point(bench, reported=lambda outcome, conflict: said.append((outcome, conflict)))
    answers = [
        await outcomes.report(TOOL, outcome, decision_id=decision_id, deadline=builders.deadline())
        for outcome in (Outcome.FAILED, Outcome.EXECUTED, Outcome.EXECUTED, Outcome.FAILED)
    ]
    assert [answer.conflict for answer in answers] == [False, True, True, False]
    assert said == [(Outcome.FAILED, False), (Outcome.EXECUTED, True)]
    assert [entry.kind for entry in bench.store.entries] == [EntryKind.OUTCOME, EntryKind.CONFLICT]


async def test_nobody_believes_who_asked_whatever_its_roles(bench: Bench) -> None:
    decision_id = await allowed(bench, required=False)
    both = builders.caller(roles=frozenset({Role.AGENT, Role.TOOL}), **SERVED)
    assert await report(bench, both, decision_id, Outcome.FAILED) is HoldState.UNRESOLVED
    assert await report(bench, TOOL, decision_id, Outcome.FAILED) is HoldState.RELEASED


async def test_report_about_another_attempt_is_about_nothing(bench: Bench) -> None:
    decision_id = await allowed(bench, required=False)
    caller = builders.caller()
    with pytest.raises(NotFoundError):
        await report(bench, caller, decision_id, Outcome.VOIDED, attempt_id="a-2")
    assert bench.store.entries == []
    assert await report(bench, caller, decision_id, Outcome.VOIDED, attempt_id="a-1") is HoldState.UNRESOLVED


async def test_call_of_another_caller_under_the_same_id_hides_nothing(bench: Bench) -> None:
    mine, other = builders.caller(), builders.caller(subject="svc-other")
    action = builders.action(tool_call_id="call-1")
    ids = []
    for caller in (mine, other):
        decision, _ = await bench.point().evaluate(
            builders.evaluation(bench.session.session_id, by=caller, what=action)
        )
        ids.append(decision.decision_id)
    recorded = await point(bench).report(
        mine,
        Outcome.VOIDED,
        session_id=bench.session.session_id,
        tool_call_id="call-1",
        deadline=builders.deadline(),
    )
    assert recorded.decision_id == ids[0]


async def test_what_lapsed_is_a_signed_entry_of_the_server_itself(bench: Bench) -> None:
    decision_id = await allowed(bench)
    outcomes = point(bench)
    assert await outcomes.release_lapsed(limit=9, seconds=30) == 0
    await bench.store.clock.advance(60)
    assert await outcomes.release_lapsed(limit=9, seconds=30) == 1
    assert await outcomes.release_lapsed(limit=9, seconds=30) == 0
    (entry,) = bench.store.entries
    assert (entry.kind, entry.about.decision_id, entry.caller) == (EntryKind.OUTCOME, decision_id, "test")
    claims = b64url_decode(entry.token.split(b".")[1].decode())
    assert b'"outcome":"unredeemed"' in claims
    assert b'"roles":[]' in claims
    with pytest.raises(NotRedeemableError):
        await redeem(bench, decision_id)


async def test_report_that_comes_while_it_lapses_wins(bench: Bench) -> None:
    decision_id = await allowed(bench)
    await bench.store.clock.advance(60)
    between = Between(bench.store.state, lambda: report(bench, TOOL, decision_id, Outcome.UNKNOWN))
    assert await point(bench, between).release_lapsed(limit=9, seconds=30) == 0
    assert [entry.hold.outcome for entry in bench.store.entries] == [Outcome.UNKNOWN]
