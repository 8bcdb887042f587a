"""What a report does to an allow and to what it holds. Pure.

| known so far | reported | the hold |
|---|---|---|
| nothing, unknown or voided | executed | committed; a conflict if it was released |
| | failed, not executed; by a tool or an operator | released |
| | failed, not executed; by anybody else | unresolved; released if it had to be redeemed and was not |
| | unknown or voided | unresolved; released if it had to be redeemed and was not |
| | unknown, by a tool or an operator | unresolved |
| executed, failed or not executed | the same | as it is; believed after another: as if first |
| | another of these | a conflict, which frees nothing |
| | unknown or voided | as it is |
| unredeemed: it had to be redeemed, was not, and expired | executed | a conflict |
| | anything else | as it is |

A conflict that says *executed* commits what is unresolved; what was released is counted again, and
its key stays unresolved, for a person to look at. The same conflict is recorded once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from pdp.model import CounterKey, EntryKind, HoldRecord, HoldState, Outcome

_TERMINAL = frozenset({Outcome.EXECUTED, Outcome.FAILED, Outcome.NOT_EXECUTED})
# Earlier releases recorded the first as the second.
_UNREDEEMED = frozenset({Outcome.UNREDEEMED, Outcome.LAPSED})


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What a report changes."""

    # Whether the report agrees with the first one that counts.
    kind: EntryKind
    # The hold afterwards.
    hold: HoldRecord


def report(hold: HoldRecord, outcome: Outcome, *, believed: bool) -> Change | None:
    """Return what the report changes; None if it is a repeat, or says nothing new."""
    if contradicts(hold, outcome):
        if any(seen is outcome and (was or not believed) for seen, was in hold.conflicts):
            return None
        return Change(kind=EntryKind.CONFLICT, hold=_disputed(hold, outcome, believed=believed))
    if hold.outcome in _UNREDEEMED or (hold.outcome in _TERMINAL and outcome not in _TERMINAL):
        return None
    if outcome is hold.outcome and (hold.believed or not believed):
        return None
    after = replace(hold, outcome=outcome, believed=believed, state=_state(hold, outcome, believed=believed))
    return Change(kind=EntryKind.OUTCOME, hold=after)


def contradicts(hold: HoldRecord, outcome: Outcome) -> bool:
    """Return whether the report says something else than is known for good."""
    if outcome is Outcome.EXECUTED and (hold.outcome in _UNREDEEMED or hold.state is HoldState.RELEASED):
        return True
    return hold.outcome in _TERMINAL and outcome in _TERMINAL and outcome is not hold.outcome


def redeem(hold: HoldRecord) -> HoldRecord | None:
    """Return the hold after its only redemption; None if it cannot be redeemed any more."""
    if hold.redeemed or hold.outcome is not None or hold.state is not HoldState.RESERVED:
        return None
    return replace(hold, redeemed=True)


def lapse(hold: HoldRecord, now: datetime) -> HoldRecord | None:
    """Return the hold of an allow that can no longer be redeemed, and so never ran; else None."""
    if not hold.redeem_required or redeem(hold) is None or now < hold.expires_at:
        return None
    return replace(hold, outcome=Outcome.UNREDEEMED, believed=True, state=HoldState.RELEASED)


def void(hold: HoldRecord) -> HoldRecord | None:
    """Return the hold of an allow that stands no more; None if it is known what became of it.

    What had to be redeemed and was not is given back; anything else may have been executed, and counts.
    """
    if hold.outcome is not None:
        return None
    change = report(hold, Outcome.VOIDED, believed=False)
    return None if change is None else change.hold


def was_executed(hold: HoldRecord) -> bool:
    """Return whether the action counts as done, so that what comes after it may be done.

    It was redeemed, or reported to be executed, and nobody said otherwise. Where a redemption is
    required and there was none, an agent's own word is not enough.
    """
    return counts_as_executed(
        redeemed=hold.redeemed,
        outcome=hold.outcome,
        believed=hold.believed,
        redeem_required=hold.redeem_required,
        disputed=bool(hold.conflicts),
    )


def counts_as_executed(
    *, redeemed: bool, outcome: Outcome | None, believed: bool, redeem_required: bool, disputed: bool
) -> bool:
    """Return what `was_executed` does, of a hold of which only this is known.

    `disputed`: there are conflicts about it.
    """
    if disputed or outcome is None:
        return redeemed and not disputed
    return outcome is Outcome.EXECUTED and (redeemed or believed or not redeem_required)


def find_recounts(before: HoldRecord, after: HoldRecord) -> tuple[tuple[CounterKey, int], ...]:
    """Return what the change adds to counters: less than 0 where it gives back what was held."""
    was_released = before.state is HoldState.RELEASED
    is_released = after.state is HoldState.RELEASED
    if was_released is is_released:
        return ()
    if is_released:
        return tuple((key, -add) for key, add in before.totals)
    return before.totals


def _state(hold: HoldRecord, outcome: Outcome, *, believed: bool) -> HoldState:
    if outcome is Outcome.EXECUTED:
        return HoldState.COMMITTED
    # Without its redemption the tool did nothing, and with an outcome it cannot be redeemed any more.
    # A tool that does not know what it did may not have asked.
    impossible = hold.redeem_required and not hold.redeemed
    if impossible and not (outcome is Outcome.UNKNOWN and believed):
        return HoldState.RELEASED
    if outcome in (Outcome.FAILED, Outcome.NOT_EXECUTED) and believed:
        return HoldState.RELEASED
    return HoldState.UNRESOLVED


def _disputed(hold: HoldRecord, outcome: Outcome, *, believed: bool) -> HoldRecord:
    state = hold.state
    if outcome is Outcome.EXECUTED:
        # What was given back may be taken by others already: a person has to look at the key again.
        given_back = hold.believed or state is HoldState.RELEASED
        state = HoldState.UNRESOLVED if given_back else HoldState.COMMITTED
    if hold.outcome in (Outcome.UNKNOWN, Outcome.VOIDED):
        # The first report that says what happened.
        return replace(hold, state=state, outcome=outcome, believed=believed)
    return replace(hold, state=state, conflicts=(*hold.conflicts, (outcome, believed)))
