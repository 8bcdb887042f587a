"""What a report does to an allow and to what it holds. Pure.

| known so far | reported | the hold |
|---|---|---|
| nothing, unknown or voided | executed | committed |
| | failed, not executed; by a tool or an operator | released |
| | failed, not executed; by anybody else | unresolved; released if it had to be redeemed and was not |
| | unknown | unresolved |
| | voided | unresolved; released if it had to be redeemed and was not |
| executed, failed or not executed | the same | as it is; believed after another: as if first |
| | another of these | a conflict, which frees nothing; executed commits what was not released |
| | unknown or voided | as it is |
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pdp.model import EntryKind, HoldRecord, HoldState, Outcome

_TERMINAL = frozenset({Outcome.EXECUTED, Outcome.FAILED, Outcome.NOT_EXECUTED})


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What to record; `kind` tells whether the report agrees with the first."""

    kind: EntryKind
    hold: HoldRecord


def report(hold: HoldRecord, outcome: Outcome, *, believed: bool) -> Change | None:
    """Return what the report changes; None if it is a repeat, or says nothing new."""
    if hold.outcome in _TERMINAL:
        if outcome not in _TERMINAL:
            return None
        if outcome is not hold.outcome:
            return Change(kind=EntryKind.CONFLICT, hold=_contradicted(hold, outcome))
        if hold.believed or not believed:
            return None
    elif outcome is hold.outcome and (hold.believed or not believed):
        return None
    after = replace(hold, outcome=outcome, believed=believed, state=_state(hold, outcome, believed=believed))
    return Change(kind=EntryKind.OUTCOME, hold=after)


def redeem(hold: HoldRecord) -> HoldRecord | None:
    """Return the hold after its only redemption; None if it cannot be redeemed any more."""
    if hold.redeemed or hold.outcome is not None or hold.state is not HoldState.RESERVED:
        return None
    return replace(hold, redeemed=True)


def is_released(before: HoldRecord, after: HoldRecord) -> bool:
    """Whether the change gives back what was held."""
    return after.state is HoldState.RELEASED and before.state is not HoldState.RELEASED


def _state(hold: HoldRecord, outcome: Outcome, *, believed: bool) -> HoldState:
    if outcome is Outcome.EXECUTED:
        return HoldState.COMMITTED
    # Without its redemption the tool did nothing, and with an outcome it cannot be redeemed any more.
    impossible = hold.redeem_required and not hold.redeemed
    if outcome is not Outcome.UNKNOWN and impossible:
        return HoldState.RELEASED
    if outcome in (Outcome.FAILED, Outcome.NOT_EXECUTED) and believed:
        return HoldState.RELEASED
    return HoldState.UNRESOLVED


def _contradicted(hold: HoldRecord, outcome: Outcome) -> HoldRecord:
    if outcome is not Outcome.EXECUTED:
        return hold
    # What was given back may be taken by others already: a person has to look at the key again.
    return replace(hold, state=HoldState.UNRESOLVED if hold.believed else HoldState.COMMITTED)
