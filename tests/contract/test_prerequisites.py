"""What every ledger promises of answers to prerequisites, and of what consumes them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from pdp.action.prerequisites import MAX_ALLOWS
from pdp.errors import SessionMovedError
from pdp.model import (
    Amount,
    Effect,
    Outcome,
    Position,
    Prerequisite,
    PrerequisiteAllow,
    PrerequisiteKey,
    PrerequisiteUse,
    PriorAnswer,
    Recording,
    Reservation,
    Session,
)
from tests.contract.conftest import Store
from tests.contract.test_entries import lapsing, redemption, say, status_of
from tests.contract.test_limits import facts, session
from tests.support import builders
from tests.support.builders import TENANT

__all__ = ["session"]
ALLOW, BLOCK, ESCALATE = Effect.ALLOW, Effect.BLOCK, Effect.ESCALATE
OWN = PrerequisiteKey(tool="invoices.approve", arguments="a1")
ONE, MORE = Amount(minor=100, currency="EUR"), Amount(minor=250_000, currency="EUR")


async def latest(store: Store, where: Session, key: PrerequisiteKey = OWN) -> PriorAnswer | None:
    request = builders.facts_request(builders.key(where.session_id))
    asked = replace(request, prerequisites=(key,))
    return (await store.information_point.gather(asked)).prerequisites.get(key)


async def now_of(store: Store, session: Session) -> Session:
    found = await store.sessions.get(TENANT, session.session_id)
    assert found is not None
    return found[0]


async def made(
    store: Store,
    session: Session,
    effect: Effect = ALLOW,
    *,
    amount: Amount | None = None,
    own_keys: tuple[PrerequisiteKey, ...] = (OWN,),
    kept: Reservation | None = None,
    moves: Session | None = None,
) -> Recording:
    """Return a decision that is ready to be recorded."""
    return builders.recording(
        builders.key(session.session_id),
        epoch=(await facts(store, session)).epoch,
        effect=effect,
        own_keys=tuple(replace(own, amount=amount) for own in own_keys),
        reservation=kept,
        moves=moves,
        decided_at=await store.clock.now(),
    )


async def answered(store: Store, session: Session, **change: object) -> Recording:
    recording = await made(store, session, kept=Reservation(), **change)  # type: ignore[arg-type]
    await store.ledger.record(recording)
    return recording


async def free(store: Store, session: Session, number: int = -1) -> PrerequisiteAllow:
    """Return an allow of the prerequisite as it is now, by its place."""
    answer = await latest(store, session)
    assert answer is not None
    return answer.allows[number]


async def consume(
    store: Store, session: Session, allow: PrerequisiteAllow, *, required: bool = False
) -> Recording:
    kept = Reservation(consumes=(allow,), redeem_required=required)
    recording = await made(store, session, own_keys=(), kept=kept, moves=await now_of(store, session))
    await store.ledger.record(recording)
    return recording


async def test_latest_answer_to_a_prerequisite_counts_in_its_session(store: Store, session: Session) -> None:
    moment = await store.clock.now()
    elsewhere = (await store.sessions.open(TENANT, builders.session(now=moment))).session
    assert await latest(store, session) is None
    allowed = await answered(store, session)
    found = await latest(store, session)
    assert found == PriorAnswer(ALLOW, allows=(PrerequisiteAllow(allowed.decision.decision_id),))
    await store.ledger.record(await made(store, session, ESCALATE))
    assert await latest(store, session) == PriorAnswer(ESCALATE, waited=True)
    assert await latest(store, elsewhere) is None
    assert await latest(store, session, replace(OWN, arguments="a2")) is None


@pytest.mark.parametrize("together", [True, False], ids=["together", "apart"])
async def test_answers_follow_each_other(store: Store, session: Session, together: bool) -> None:
    """Each case: what was answered, then the effect, whether anything waited, and which allows count."""
    cases: dict[tuple[tuple[Effect, Amount | None], ...], tuple[Effect, bool, list[int]]] = {
        ((BLOCK, None),): (BLOCK, False, []),
        ((ALLOW, ONE),): (ALLOW, False, [0]),
        ((ALLOW, None), (BLOCK, None)): (BLOCK, False, []),
        ((ALLOW, MORE), (ALLOW, ONE)): (ALLOW, False, [0, 1]),
        ((ALLOW, MORE), (BLOCK, ONE), (ALLOW, ONE)): (ALLOW, False, [2]),
        ((BLOCK, ONE), (ALLOW, ONE), (ALLOW, None)): (ALLOW, False, [1, 2]),
        # A block ends no waiting for a person, and counts after anything else.
        ((ESCALATE, None), (BLOCK, None)): (ESCALATE, True, []),
        ((ESCALATE, None), (BLOCK, None), (BLOCK, None)): (ESCALATE, True, []),
        ((ESCALATE, None), (ALLOW, ONE), (BLOCK, None)): (BLOCK, True, []),
        ((ESCALATE, None), (BLOCK, None), (ALLOW, ONE)): (ALLOW, True, [2]),
        ((ALLOW, ONE), (ESCALATE, None), (BLOCK, None)): (ESCALATE, True, []),
        ((ALLOW, ONE), (ESCALATE, MORE), (ALLOW, MORE), (ALLOW, ONE)): (ALLOW, True, [2, 3]),
        ((ESCALATE, MORE), (ALLOW, None)): (ALLOW, True, [1]),
    }
    for number, (answers, expected) in enumerate(cases.items()):
        own = replace(OWN, arguments=f"b{number}")
        recordings = [
            await made(store, session, effect, amount=amount, own_keys=(own,)) for effect, amount in answers
        ]
        for group in [recordings] if together else [[each] for each in recordings]:
            await store.ledger.record_together(group)
        effect, waited, places = expected
        allows = tuple(
            PrerequisiteAllow(recordings[place].decision.decision_id, answers[place][1]) for place in places
        )
        assert await latest(store, session, own) == PriorAnswer(effect, waited, allows), answers


@pytest.mark.parametrize("together", [True, False], ids=["together", "apart"])
async def test_only_so_many_allows_are_kept(store: Store, session: Session, together: bool) -> None:
    recordings = [await made(store, session) for _ in range(MAX_ALLOWS + 2)]
    for group in [recordings] if together else [[each] for each in recordings]:
        await store.ledger.record_together(group)
    found = await latest(store, session)
    assert found is not None
    assert [allow.decision_id for allow in found.allows] == [
        recording.decision.decision_id for recording in recordings[2:]
    ]


async def test_answer_says_whether_its_action_was_executed(store: Store, session: Session) -> None:
    first, second = [await answered(store, session) for _ in range(2)]

    async def executed() -> Sequence[bool]:
        answer = await latest(store, session)
        assert answer is not None
        return [allow.executed for allow in answer.allows]

    assert await executed() == [False, False]
    await say(store, first, Outcome.EXECUTED, believed=False)
    assert await executed() == [True, False]
    await store.ledger.record_entry(redemption(await status_of(store, second)))
    assert await executed() == [True, True]
    await say(store, first, Outcome.FAILED)
    assert await executed() == [False, True]


async def test_allow_is_consumed_by_the_recording_of_another(store: Store, session: Session) -> None:
    await answered(store, session)
    paid = await consume(store, session, await free(store, session))
    taken = await free(store, session)
    assert taken.uses == (PrerequisiteUse(paid.decision.decision_id, 1, True),)
    assert not taken.is_free


@pytest.mark.parametrize(
    ("outcome", "believed", "required", "is_free"),
    [
        (Outcome.FAILED, True, False, True),
        (Outcome.NOT_EXECUTED, True, False, True),
        (Outcome.FAILED, False, False, False),
        (Outcome.NOT_EXECUTED, False, False, False),
        (Outcome.UNKNOWN, True, False, False),
        (Outcome.VOIDED, False, False, False),
        (Outcome.EXECUTED, False, False, False),
        # It had to be redeemed, and was not: nothing can have happened.
        (Outcome.VOIDED, False, True, True),
        (Outcome.FAILED, False, True, True),
    ],
)
async def test_only_a_release_gives_it_back(
    store: Store, session: Session, outcome: Outcome, believed: bool, required: bool, is_free: bool
) -> None:
    await answered(store, session)
    paid = await consume(store, session, await free(store, session), required=required)
    await say(store, paid, outcome, believed=believed)
    assert (await free(store, session)).is_free is is_free


async def test_what_nobody_redeemed_in_time_gives_it_back(store: Store, session: Session) -> None:
    await answered(store, session)
    paid = await consume(store, session, await free(store, session), required=True)
    await store.clock.advance(61)
    assert (await free(store, session)).is_free
    await store.ledger.record_entry(lapsing(await status_of(store, paid)))
    assert (await free(store, session)).is_free
    # Said to be executed after all: it carried that action.
    await say(store, paid, Outcome.EXECUTED)
    assert not (await free(store, session)).is_free


async def test_silence_gives_nothing_back(store: Store, session: Session) -> None:
    await answered(store, session)
    await consume(store, session, await free(store, session))
    await store.clock.advance(3000)
    assert not (await free(store, session)).is_free


async def test_allow_that_was_given_back_carries_one_more(store: Store, session: Session) -> None:
    await answered(store, session)
    paid = await consume(store, session, await free(store, session))
    await say(store, paid, Outcome.FAILED)
    await consume(store, session, await free(store, session))
    assert not (await free(store, session)).is_free


async def test_consumed_allow_is_not_consumed_again(store: Store, session: Session) -> None:
    await answered(store, session)
    judged = await free(store, session)
    await consume(store, session, judged)
    with pytest.raises(SessionMovedError):
        await consume(store, session, judged)


async def test_allow_is_free_only_while_its_release_stands(store: Store, session: Session) -> None:
    await answered(store, session)
    paid = await consume(store, session, await free(store, session))
    await say(store, paid, Outcome.FAILED)
    judged = await free(store, session)
    await say(store, paid, Outcome.EXECUTED)
    with pytest.raises(SessionMovedError):
        await consume(store, session, judged)
    assert not (await free(store, session)).is_free


async def test_of_16_at_once_one_consumes_it(store: Store, session: Session) -> None:
    await answered(store, session)
    judged = await free(store, session)
    outcomes = await asyncio.gather(
        *(consume(store, session, judged) for _ in range(16)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Recording) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, SessionMovedError) for outcome in outcomes) == 15


async def test_plan_consumes_an_allow_once_and_may_consume_its_own(store: Store, session: Session) -> None:
    before = await now_of(store, session)
    approved = await made(store, session, moves=before)
    allow = PrerequisiteAllow(approved.decision.decision_id)

    async def paying(number: int) -> Recording:
        moved = replace(before, version=before.version + number)
        kept = Reservation(consumes=(allow,))
        return await made(store, session, own_keys=(), kept=kept, moves=moved)

    with pytest.raises(SessionMovedError):
        await store.ledger.record_together([approved, await paying(1), await paying(2)])
    assert await latest(store, session) is None
    positions = await store.ledger.record_together([approved, await paying(1)])
    assert all(isinstance(position, Position) for position in positions)
    assert not (await free(store, session)).is_free


async def test_tool_knows_by_which_arguments_others_name_it(store: Store, session: Session) -> None:
    asks = replace(
        builders.tool(),
        prerequisites=(Prerequisite(tool="invoices.approve", same=("vendor", "invoice")),),
    )
    await store.control_plane.put_tools(TENANT, [asks, builders.tool("invoices.approve")], by=builders.AUTHOR)
    request = builders.facts_request(builders.key(session.session_id), tool="invoices.approve")
    assert (await store.information_point.gather(request)).prerequisite_of == (("invoice", "vendor"),)
