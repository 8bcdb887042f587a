"""The numbers that the members of the API's enums have in messages.

`EFFECT_NUMBERS` has the number of each `Effect`, `EFFECTS` the effect of each number, and so for the other
enums. Numbers that are unspecified or unknown are in no table: a reader refuses them, or says what the
absence means.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from placet.model import Effect, HoldState, OnExceed, Outcome, Remedy, SessionState, ToolEffect
from placet.v1 import admin_service_pb2 as admin
from placet.v1 import decision_pb2 as nouns
from placet.v1 import decision_service_pb2 as decisions
from placet.v1 import session_service_pb2 as sessions

E = TypeVar("E", bound=StrEnum)


def _by_number(numbers: Mapping[E, int]) -> Mapping[int, E]:
    return {number: member for member, number in numbers.items()}


EFFECT_NUMBERS: Mapping[Effect, nouns.Effect.ValueType] = {
    Effect.ALLOW: nouns.EFFECT_ALLOW,
    Effect.BLOCK: nouns.EFFECT_BLOCK,
    Effect.ESCALATE: nouns.EFFECT_ESCALATE,
}
EFFECTS = _by_number(EFFECT_NUMBERS)

REMEDY_NUMBERS: Mapping[Remedy, nouns.Remedy.ValueType] = {
    Remedy.CHANGE_CALL: nouns.REMEDY_CHANGE_CALL,
    Remedy.FIRST: nouns.REMEDY_FIRST,
    Remedy.WAIT: nouns.REMEDY_WAIT,
    Remedy.ASK: nouns.REMEDY_ASK,
    Remedy.NONE: nouns.REMEDY_NONE,
}
REMEDIES = _by_number(REMEDY_NUMBERS)

TOOL_EFFECT_NUMBERS: Mapping[ToolEffect, sessions.ToolEffect.ValueType] = {
    ToolEffect.READ: sessions.TOOL_EFFECT_READ,
    ToolEffect.WRITE: sessions.TOOL_EFFECT_WRITE,
    ToolEffect.SEND: sessions.TOOL_EFFECT_SEND,
    ToolEffect.PAY: sessions.TOOL_EFFECT_PAY,
    ToolEffect.DELETE: sessions.TOOL_EFFECT_DELETE,
    ToolEffect.SHARE: sessions.TOOL_EFFECT_SHARE,
    ToolEffect.CREDENTIAL: sessions.TOOL_EFFECT_CREDENTIAL,
}
TOOL_EFFECTS = _by_number(TOOL_EFFECT_NUMBERS)

ON_EXCEED_NUMBERS: Mapping[OnExceed, sessions.OnExceed.ValueType] = {
    OnExceed.BLOCK: sessions.ON_EXCEED_BLOCK,
    OnExceed.ESCALATE: sessions.ON_EXCEED_ESCALATE,
}
ON_EXCEED = _by_number(ON_EXCEED_NUMBERS)

SESSION_STATE_NUMBERS: Mapping[SessionState, sessions.SessionState.ValueType] = {
    SessionState.OPEN: sessions.SESSION_STATE_OPEN,
    SessionState.COMPLETED: sessions.SESSION_STATE_COMPLETED,
    SessionState.CLOSED: sessions.SESSION_STATE_CLOSED,
    SessionState.EXPIRED: sessions.SESSION_STATE_EXPIRED,
    SessionState.HALTED: sessions.SESSION_STATE_HALTED,
}
SESSION_STATES = _by_number(SESSION_STATE_NUMBERS)

HOLD_STATE_NUMBERS: Mapping[HoldState, decisions.HoldState.ValueType] = {
    HoldState.RESERVED: decisions.HOLD_STATE_RESERVED,
    HoldState.COMMITTED: decisions.HOLD_STATE_COMMITTED,
    HoldState.UNRESOLVED: decisions.HOLD_STATE_UNRESOLVED,
    HoldState.RELEASED: decisions.HOLD_STATE_RELEASED,
}
HOLD_STATES = _by_number(HOLD_STATE_NUMBERS)

OUTCOME_NUMBERS: Mapping[Outcome, decisions.Outcome.ValueType] = {
    Outcome.EXECUTED: decisions.OUTCOME_EXECUTED,
    Outcome.FAILED: decisions.OUTCOME_FAILED,
    Outcome.NOT_EXECUTED: decisions.OUTCOME_NOT_EXECUTED,
    Outcome.UNKNOWN: decisions.OUTCOME_UNKNOWN,
    Outcome.VOIDED: decisions.OUTCOME_VOIDED,
    Outcome.LAPSED: decisions.OUTCOME_LAPSED,
    Outcome.UNREDEEMED: decisions.OUTCOME_UNREDEEMED,
}
OUTCOMES = _by_number(OUTCOME_NUMBERS)
# That an allow was never redeemed is the server's own finding; a caller can report every other outcome.
REPORTABLE_OUTCOMES = {
    number: outcome
    for number, outcome in OUTCOMES.items()
    if outcome not in (Outcome.UNREDEEMED, Outcome.LAPSED)
}

# The empty unit is the one that a registration leaves out.
AMOUNT_UNIT_NUMBERS: Mapping[str, admin.AmountUnit.ValueType] = {
    "": admin.AMOUNT_UNIT_UNSPECIFIED,
    "major": admin.AMOUNT_UNIT_MAJOR,
    "minor": admin.AMOUNT_UNIT_MINOR,
}
