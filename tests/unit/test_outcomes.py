"""What a report does to an allow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdp.model import EntryKind, HoldRecord, HoldState, Outcome
from pdp.outcomes import is_released, redeem, report
from tests.builders import NOW

REPORTS = st.lists(st.tuples(st.sampled_from(Outcome), st.booleans()), max_size=6)
FRESH = HoldRecord(state=HoldState.RESERVED, expires_at=NOW)


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


@given(REPORTS, st.tuples(st.sampled_from(Outcome), st.booleans()))
def test_repeat_changes_nothing(reports: list[tuple[Outcome, bool]], last: tuple[Outcome, bool]) -> None:
    once = after(FRESH, *reports, last)
    assert after(once, last) == once


def test_contradiction_is_a_conflict_that_frees_nothing() -> None:
    committed = after(FRESH, (Outcome.EXECUTED, True))
    change = report(committed, Outcome.FAILED, believed=True)
    assert change is not None
    assert (change.kind, change.hold) == (EntryKind.CONFLICT, committed)
    assert not is_released(committed, change.hold)


def test_executed_after_a_release_has_a_person_look_at_the_key() -> None:
    released = after(FRESH, (Outcome.FAILED, True))
    assert after(released, (Outcome.EXECUTED, False)).state is HoldState.UNRESOLVED


def test_what_had_to_be_redeemed_and_was_not_is_freed_by_its_void() -> None:
    kept = HoldRecord(state=HoldState.RESERVED, expires_at=NOW, redeem_required=True)
    assert after(kept, (Outcome.VOIDED, False)).state is HoldState.RELEASED
    redeemed = redeem(kept)
    assert redeemed is not None
    assert after(redeemed, (Outcome.VOIDED, False)).state is HoldState.UNRESOLVED


@pytest.mark.parametrize("outcome", list(Outcome))
def test_nothing_with_an_outcome_is_redeemed(outcome: Outcome) -> None:
    assert redeem(after(FRESH, (outcome, False))) is None


def test_redeeming_works_once() -> None:
    redeemed = redeem(FRESH)
    assert redeemed is not None
    assert redeem(redeemed) is None
