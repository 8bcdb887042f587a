"""What of a call's arguments a path of secrets names."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placet.secret_paths import EVERYTHING, SECRET, argument_names, hide

CALL: dict[str, Any] = {
    "pin": "1234",
    "headers": {"Authorization": "Bearer x", "Accept": "text/html"},
    "items": [{"token": "a", "id": 1}, {"id": 2}, {"token": "b"}],
}


@pytest.mark.parametrize(
    ("paths", "found", "shown"),
    [
        ((), (), {}),
        (("pin",), ("pin",), {"pin": SECRET}),
        (("PIN",), ("PIN",), {"pin": SECRET}),
        (
            ("headers.authorization",),
            ("headers.authorization",),
            {"headers": {"Authorization": SECRET, "Accept": "text/html"}},
        ),
        (("headers",), ("headers",), {"headers": SECRET}),
        (
            ("items[].token",),
            ("items[].token",),
            {"items": [{"token": SECRET, "id": 1}, {"id": 2}, {"token": SECRET}]},
        ),
        (("items[]", "pin"), ("items[]", "pin"), {"pin": SECRET, "items": [SECRET] * 3}),
        # Paths that lead to nothing are not named.
        (("headers.Cookie", "pinn"), (), {}),
        # A value of another shape than the path supposes is secret.
        (("pin.code", "items.token"), ("items.token", "pin.code"), {"pin": SECRET, "items": SECRET}),
        (("headers[].value",), ("headers[].value",), {"headers": SECRET}),
    ],
)
def test_what_a_path_names_is_hidden(paths: tuple[str, ...], found: Any, shown: dict[str, Any]) -> None:
    hidden = hide(CALL, paths)
    assert hidden.paths == found
    assert hidden.shown == CALL | shown


def test_what_is_hidden_is_left_out() -> None:
    assert hide(CALL, ("pin", "headers.Authorization", "items[].token")).rest == {
        "headers": {"Accept": "text/html"},
        "items": [{"id": 1}, {"id": 2}, {}],
    }
    assert hide({"tokens": ["a", "b"], "n": None}, ("tokens[]", "n.x")).rest == {"tokens": [], "n": None}


def test_empty_path_is_everything() -> None:
    hidden = hide(CALL, ("pin", EVERYTHING))
    assert (hidden.paths, hidden.rest, hidden.shown) == (("",), {}, {})


def test_names_may_hold_dots_and_brackets() -> None:
    call = {"api.key": "1", "api": {"key": "2", "id": "3"}, "z[]": "4", "z": ["5"]}
    assert hide(call, ("api.key", "z[]")).shown == {
        "api.key": SECRET,
        "api": {"key": SECRET, "id": "3"},
        "z[]": SECRET,
        "z": [SECRET],
    }


def test_only_ascii_letters_are_the_same_in_both_cases() -> None:
    assert hide({"\u212aey": 1, "KEY": 2}, ("key",)).rest == {"\u212aey": 1}


def test_values_are_not_shown_by_what_holds_them() -> None:
    assert "1234" not in repr(hide({"pin": "1234"}, ("pin",)))


def test_arguments_that_may_hold_a_secret_are_named() -> None:
    assert argument_names(("Pin", "headers.Authorization", "items[].token")) >= {"pin", "headers", "items"}


NAMES = st.sampled_from(["a", "b", "A", "a.b", "b[]", "a.b[]"])
VALUES = st.recursive(
    st.none() | st.integers(0, 3),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(NAMES, inside, max_size=3),
    max_leaves=12,
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(".".join)


@given(call=st.dictionaries(NAMES, VALUES, max_size=4), paths=st.lists(PATHS, max_size=4))
def test_paths_that_were_found_leave_out_what_all_of_them_did(call: Any, paths: list[str]) -> None:
    """So whoever knows only what a receipt names finds the same."""
    whole = hide(call, paths)
    again = hide(call, whole.paths)
    assert (again.rest, again.shown, again.paths) == (whole.rest, whole.shown, whole.paths)
    assert (whole.paths == ()) == (whole.rest == call)
    for path in paths:
        # One path more never shows what was hidden.
        assert len(str(hide(call, [path]).rest)) >= len(str(whole.rest))


def test_long_paths_and_large_calls_take_no_time_worth_naming() -> None:
    call: Any = 1
    for _ in range(31):
        call = {"a": call, "a.a": call} if isinstance(call, int) else {"a": call}
    hide({"a": call, "l": [{"a": number} for number in range(5_000)]}, [".".join(["a"] * 100), "l[].a"] * 32)
