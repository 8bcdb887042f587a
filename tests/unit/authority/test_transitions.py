"""What a report does to an allow."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdp.authority.transitions import contradicts, find_recounts, lapse, redeem, report, was_executed
from pdp.model import CounterKey, EntryKind, HoldRecord, HoldState, Outcome
from tests.support.builders import NOW

REPORTED = sorted(set(Outcome) - {Outcome.LAPSED, Outcome.UNREDEEMED})
REPORTS = st.lists(st.tuples(st.sampled_from(REPORTED), st.booleans()), max_size=6)
FRESH = HoldRecord(state=HoldState.RESERVED, expires_at=NOW)
EUROS = CounterKey(scope='["session","s"]', unit="EUR")
KEPT = replace(FRESH, totals=((EUROS, 70),))


def after(hold: HoldRecord, *reports: tuple[Outcome, bool]) -> HoldRecord:
    for outcome, believed in reports:
        change = report(hold, outcome, believed=believed)
        hold = hold if change is None else change.hold
    return hold


@pytest.mark.parametrize("believed", [True, False])
def test_executed_commits_whoever_says_so(believed: bool) -> None:
    assert after(FRESH, (Outcome.EXECUTED, believed)).state is HoldState.COMMITTED


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.NOT_EXECUTED])
def test_failure_releases_only_if_it_can_be_believed(outcome: Outcome) -> None:
    assert after(FRESH, (outcome, True)).state is HoldState.RELEASED
    assert after(FRESH, (outcome, False)).state is HoldState.UNRESOLVED
    assert after(FRESH, (outcome, False), (outcome, True)).state is HoldState.RELEASED


@given(REPORTS)
def test_nobody_but_the_believed_ever_frees_anything(reports: list[tuple[Outcome, bool]]) -> None:
    hold = after(FRESH, *((outcome, False) for outcome, _ in reports))
    assert hold.state is not HoldState.RELEASED


@given(REPORTS)
def test_what_was_executed_is_never_freed(reports: list[tuple[Outcome, bool]]) -> None:
    hold = after(FRESH, (Outcome.EXECUTED, False), *reports)
    assert hold.state is HoldState.COMMITTED


@given(REPORTS, st.sampled_from([Outcome.EXECUTED, Outcome.FAILED, Outcome.NOT_EXECUTED]))
def test_first_terminal_report_stays(reports: list[tuple[Outcome, bool]], first: Outcome) -> None:
    assert after(FRESH, (first, True), *reports).outcome is first


@given(REPORTS, st.tuples(st.sampled_from(REPORTED), st.booleans()))
def test_repeat_changes_nothing(reports: list[tuple[Outcome, bool]], last: tuple[Outcome, bool]) -> None:
    once = after(FRESH, *reports, last)
    assert after(once, last) == once


def test_contradiction_is_a_conflict_that_frees_nothing() -> None:
    committed = after(FRESH, (Outcome.EXECUTED, True))
    change = report(committed, Outcome.FAILED, believed=True)
    assert change is not None
    assert change.kind is EntryKind.CONFLICT
    assert change.hold == replace(committed, conflicts=((Outcome.FAILED, True),))
    assert find_recounts(committed, change.hold) == ()


def test_executed_after_a_release_counts_again_and_has_a_person_look_at_the_key() -> None:
    released = after(KEPT, (Outcome.FAILED, True))
    assert find_recounts(KEPT, released) == ((EUROS, -70),)
    disputed = after(released, (Outcome.EXECUTED, False))
    assert disputed.state is HoldState.UNRESOLVED
    assert find_recounts(released, disputed) == ((EUROS, 70),)


@pytest.mark.parametrize("first", [Outcome.FAILED, Outcome.EXECUTED])
def test_conflict_is_recorded_once_and_once_more_by_whoever_can_be_believed(first: Outcome) -> None:
    other = Outcome.NOT_EXECUTED
    hold = after(FRESH, (first, True), (other, False))
    assert report(hold, other, believed=False) is None
    assert contradicts(hold, other)
    hold = after(hold, (other, True))
    assert hold.conflicts == ((other, False), (other, True))
    assert report(hold, other, believed=True) is None
    assert report(hold, other, believed=False) is None


@given(REPORTS)
def test_what_is_given_back_and_what_is_counted_again_add_up(reports: list[tuple[Outcome, bool]]) -> None:
    hold, counted = KEPT, 70
    for outcome, believed in reports:
        change = report(hold, outcome, believed=believed)
        if change is not None:
            counted += sum(add for _, add in find_recounts(hold, change.hold))
            hold = change.hold
        assert counted == (0 if hold.state is HoldState.RELEASED else 70)


def test_allow_that_had_to_be_redeemed_lapses_at_its_expiry() -> None:
    kept = replace(KEPT, redeem_required=True)
    assert lapse(kept, NOW - timedelta(seconds=1)) is None
    assert lapse(KEPT, NOW) is None
    redeemed = redeem(kept)
    assert redeemed is not None
    assert lapse(redeemed, NOW) is None
    assert lapse(after(kept, (Outcome.UNKNOWN, True)), NOW) is None
    lapsed = lapse(kept, NOW)
    assert lapsed is not None
    assert (lapsed.state, lapsed.outcome) == (HoldState.RELEASED, Outcome.UNREDEEMED)
    assert find_recounts(kept, lapsed) == ((EUROS, -70),)
    assert lapse(lapsed, NOW) is None


@pytest.mark.parametrize("recorded", [Outcome.UNREDEEMED, Outcome.LAPSED])
@pytest.mark.parametrize("outcome", sorted(set(REPORTED) - {Outcome.EXECUTED}))
def test_unredeemed_agrees_with_everything_but_executed(outcome: Outcome, recorded: Outcome) -> None:
    found = lapse(replace(KEPT, redeem_required=True), NOW)
    assert found is not None
    # Earlier releases recorded it by another name.
    lapsed = replace(found, outcome=recorded)
    assert report(lapsed, outcome, believed=True) is None
    change = report(lapsed, Outcome.EXECUTED, believed=False)
    assert change is not None
    assert (change.kind, change.hold.state) == (EntryKind.CONFLICT, HoldState.UNRESOLVED)


@pytest.mark.parametrize("first", [Outcome.VOIDED, Outcome.UNKNOWN])
def test_executed_after_what_cannot_have_run_is_a_conflict(first: Outcome) -> None:
    given_up = after(replace(KEPT, redeem_required=True), (first, False))
    change = report(given_up, Outcome.EXECUTED, believed=False)
    assert change is not None
    assert (change.kind, change.hold.outcome) == (EntryKind.CONFLICT, Outcome.EXECUTED)
    assert change.hold.state is HoldState.UNRESOLVED


@pytest.mark.parametrize("outcome", sorted(set(REPORTED) - {Outcome.EXECUTED}))
def test_what_had_to_be_redeemed_and_was_not_is_freed_by_whoever_gives_it_up(outcome: Outcome) -> None:
    kept = HoldRecord(state=HoldState.RESERVED, expires_at=NOW, redeem_required=True)
    given_up = after(kept, (outcome, False))
    assert given_up.state is HoldState.RELEASED
    assert redeem(given_up) is None
    redeemed = redeem(kept)
    assert redeemed is not None
    assert after(redeemed, (outcome, False)).state is HoldState.UNRESOLVED


def test_tool_that_does_not_know_what_it_did_frees_nothing() -> None:
    kept = HoldRecord(state=HoldState.RESERVED, expires_at=NOW, redeem_required=True)
    assert after(kept, (Outcome.UNKNOWN, True)).state is HoldState.UNRESOLVED
    assert after(kept, (Outcome.UNKNOWN, False), (Outcome.UNKNOWN, True)).state is HoldState.UNRESOLVED


@pytest.mark.parametrize("outcome", REPORTED)
def test_nothing_with_an_outcome_is_redeemed(outcome: Outcome) -> None:
    assert redeem(after(FRESH, (outcome, False))) is None


def test_redeeming_works_once() -> None:
    redeemed = redeem(FRESH)
    assert redeemed is not None
    assert redeem(redeemed) is None


def test_what_comes_after_an_action_waits_until_it_was_executed() -> None:
    required = replace(FRESH, redeem_required=True)
    executed, unknown = Outcome.EXECUTED, Outcome.UNKNOWN
    for hold, reports, done in (
        (FRESH, [], False),
        (FRESH, [(executed, False)], True),
        (FRESH, [(unknown, True)], False),
        # Somebody said otherwise, before or after.
        (FRESH, [(Outcome.FAILED, False)], False),
        (FRESH, [(executed, True), (Outcome.FAILED, False)], False),
        (FRESH, [(Outcome.FAILED, True), (executed, True)], False),
        (replace(FRESH, redeemed=True), [], True),
        (replace(FRESH, redeemed=True), [(unknown, False)], False),
        (replace(FRESH, redeemed=True), [(Outcome.VOIDED, False)], False),
        # Without its redemption the tool did nothing, whatever an agent says.
        (required, [(executed, False)], False),
        (required, [(executed, True)], True),
        (replace(required, redeemed=True), [(executed, False)], True),
    ):
        assert was_executed(after(hold, *reports)) is done, (hold, reports)
