"""Every enum of the API and its numbers agree with the proto, whichever side reads them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import pytest

from placet._wire import numbers
from placet.model import Effect, HoldState, OnExceed, Outcome, SessionState, ToolEffect
from placet.v1 import admin_service_pb2 as admin
from placet.v1 import decision_pb2 as nouns
from placet.v1 import decision_service_pb2 as decisions
from placet.v1 import session_service_pb2 as sessions

TABLES: list[tuple[type[StrEnum], Any, Mapping[Any, int], Mapping[int, Any]]] = [
    (Effect, nouns.Effect, numbers.EFFECT_NUMBERS, numbers.EFFECTS),
    (ToolEffect, sessions.ToolEffect, numbers.TOOL_EFFECT_NUMBERS, numbers.TOOL_EFFECTS),
    (OnExceed, sessions.OnExceed, numbers.ON_EXCEED_NUMBERS, numbers.ON_EXCEED),
    (SessionState, sessions.SessionState, numbers.SESSION_STATE_NUMBERS, numbers.SESSION_STATES),
    (HoldState, decisions.HoldState, numbers.HOLD_STATE_NUMBERS, numbers.HOLD_STATES),
    (Outcome, decisions.Outcome, numbers.OUTCOME_NUMBERS, numbers.OUTCOMES),
]


@pytest.mark.parametrize(("kind", "proto", "to_number", "from_number"), TABLES)
def test_a_table_has_all_of_its_enum_and_nothing_unspecified(
    kind: type[StrEnum], proto: Any, to_number: Mapping[Any, int], from_number: Mapping[int, Any]
) -> None:
    assert set(to_number) == set(kind)
    assert set(from_number) == set(proto.values()) - {0}
    for member, number in to_number.items():
        assert proto.Name(number).endswith(f"_{member.name}")
        assert from_number[number] is member


def test_that_an_allow_lapsed_cannot_be_reported() -> None:
    assert set(numbers.REPORTABLE_OUTCOMES.values()) == set(Outcome) - {Outcome.LAPSED, Outcome.UNREDEEMED}


def test_a_unit_that_is_left_out_is_the_unspecified_one() -> None:
    assert {unit: admin.AmountUnit.Name(n) for unit, n in numbers.AMOUNT_UNIT_NUMBERS.items()} == {
        "": "AMOUNT_UNIT_UNSPECIFIED",
        "major": "AMOUNT_UNIT_MAJOR",
        "minor": "AMOUNT_UNIT_MINOR",
    }
