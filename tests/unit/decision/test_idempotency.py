"""Repeats: each row of the table in `pdp.decision.idempotency`."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from pdp.decision.idempotency import NewCall, StoredAnswer, judge_repeat
from pdp.model import (
    Boundary,
    Chain,
    Effect,
    Position,
    PriorDecision,
    Session,
    SessionState,
    VerifiedHop,
)
from tests.support import builders

SAME, OTHER = b"same", b"other"
NOW = builders.NOW
MINUTE = timedelta(minutes=1)
SESSION = builders.session()
COMPLETED = replace(SESSION, state=SessionState.COMPLETED, completed_at=NOW)
PROVEN = Chain(
    hops=(
        VerifiedHop(
            agent=builders.AGENT,
            grant_hash="",
            depth=0,
            delegated_by=builders.ISSUER,
            boundary=Boundary(),
            same_runtime=False,
            own_runtime=True,
            verified=True,
        ),
    )
)


def prior(
    effect: Effect = Effect.ALLOW, *, retryable: bool = False, has_outcome: bool = False
) -> PriorDecision:
    return PriorDecision(
        decision_id="d-1",
        effect=effect,
        action_fingerprint=SAME,
        recorded_at=NOW,
        expires_at=NOW + MINUTE,
        retryable=retryable,
        token=b"",
        position=Position(writer="w", seq=1),
        has_outcome=has_outcome,
    )


def repeat(
    earlier: PriorDecision | None,
    *,
    fingerprint: bytes = SAME,
    session: Session | None = SESSION,
    chain: Chain = PROVEN,
    after: timedelta = timedelta(),
) -> NewCall | StoredAnswer:
    return judge_repeat(earlier, fingerprint=fingerprint, session=session, chain=chain, now=NOW + after)


def test_first_call_is_judged() -> None:
    assert repeat(None) == NewCall(fingerprint=SAME)


def test_key_of_another_action_blocks_and_stays_with_that_action() -> None:
    call = repeat(prior(), fingerprint=OTHER)
    assert isinstance(call, NewCall)
    assert ([reason.code for reason in call.reasons], call.claims_key) == (["action.key_reused"], False)


def test_block_stands_unless_asking_again_may_lift_it() -> None:
    lasting, passing = prior(Effect.BLOCK), prior(Effect.BLOCK, retryable=True)
    # There is no end to it.
    assert repeat(lasting, after=10 * MINUTE) == StoredAnswer(prior=lasting)
    assert repeat(passing) == NewCall(fingerprint=SAME)


@pytest.mark.parametrize("effect", [Effect.ALLOW, Effect.ESCALATE])
def test_answer_stands_while_all_that_led_to_it_does(effect: Effect) -> None:
    earlier = prior(effect)
    assert repeat(earlier, after=0.9 * MINUTE) == StoredAnswer(prior=earlier)
    after_completion = replace(earlier, recorded_at=NOW + 0.1 * MINUTE)
    stands = repeat(after_completion, session=COMPLETED, after=0.9 * MINUTE)
    assert stands == StoredAnswer(prior=after_completion)


@pytest.mark.parametrize(("session", "chain"), [(None, PROVEN), (SESSION, Chain()), (None, Chain())])
@pytest.mark.parametrize("effect", Effect)
def test_who_proves_no_part_in_the_session_neither_reads_nor_takes_a_key(
    effect: Effect, session: Session | None, chain: Chain
) -> None:
    for earlier in (None, prior(effect)):
        unproven = NewCall(fingerprint=SAME, claims_key=False)
        assert repeat(earlier, session=session, chain=chain) == unproven


STALE: dict[str, tuple[bool, Session | None, Chain, timedelta]] = {
    "expired": (False, SESSION, PROVEN, MINUTE),
    "an outcome": (True, SESSION, PROVEN, timedelta()),
    "closed": (False, replace(SESSION, state=SessionState.CLOSED), PROVEN, timedelta()),
    "completed since": (False, replace(COMPLETED, completed_at=NOW + 0.1 * MINUTE), PROVEN, 0.2 * MINUTE),
}


@pytest.mark.parametrize(("has_outcome", "session", "chain", "after"), STALE.values(), ids=STALE)
def test_answer_that_no_longer_stands_is_judged_anew(
    has_outcome: bool, session: Session | None, chain: Chain, after: timedelta
) -> None:
    codes = {}
    for effect in (Effect.ALLOW, Effect.ESCALATE):
        earlier = prior(effect, has_outcome=has_outcome)
        call = repeat(earlier, session=session, chain=chain, after=after)
        assert isinstance(call, NewCall)
        assert call.claims_key
        codes[effect] = [reason.code for reason in call.reasons]
    # What was allowed once is not allowed twice under one key; what was not may be.
    assert codes == {Effect.ALLOW: ["action.replay_stale"], Effect.ESCALATE: []}
