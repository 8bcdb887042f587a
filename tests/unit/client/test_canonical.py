"""Canonical JSON: one form for one value, on a stricter profile than RFC 8785."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from placet.canonical import CanonicalError, action_digest, canonical_json, canonical_number, parse_object

ASCII_KEYS = st.text(st.characters(max_codepoint=126), max_size=8)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
EXACT = st.integers(min_value=-(2**53) + 1, max_value=2**53 - 1)
INSIDE_THE_PROFILE = st.recursive(
    st.none() | st.booleans() | EXACT | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ASCII_KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(INSIDE_THE_PROFILE)
def test_inside_the_profile_it_is_rfc_8785(value: Any) -> None:
    assert canonical_json(value) == rfc8785.dumps(value)


@given(st.dictionaries(ASCII_KEYS, INSIDE_THE_PROFILE, max_size=4))
def test_canonical_bytes_parse_to_the_value_they_were_made_of(value: dict[str, Any]) -> None:
    assert parse_object(canonical_json(value), field="x") == value


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**9), max_value=10**9))
def test_spelling_of_a_number_does_not_matter(number: Decimal) -> None:
    spellings = {format(number, "f"), f"{number:E}", format(number, "f") + "000"}
    forms = {canonical_number(parse_object(f'{{"n":{s}}}'.encode(), field="x")["n"]) for s in spellings}
    assert len(forms) == 1
    assert Decimal(str(forms.pop())) == number


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("1200", 1200),
        ("1200.0", 1200),
        ("1200.00", 1200),
        ("1.2e3", 1200),
        ("0.10", "0.1"),
        ("-0.0", 0),
        ("-0", 0),
        ("9007199254740991", 9007199254740991),
        ("9007199254740992", "9007199254740992"),
        ("0.1", "0.1"),
        ("1e-7", "0.0000001"),
        ("1e33", "1" + "0" * 33),
    ],
)
def test_written_form_of_numbers(text: str, form: int | str) -> None:
    assert canonical_number(parse_object(f'{{"n":{text}}}'.encode(), field="x")["n"]) == form


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"a":NaN}', "NaN is not a JSON number"),
        (b'{"a":-Infinity}', "-Infinity is not a JSON number"),
        (b'{"a":1,"a":1}', "duplicate key"),
        (b'{"a":{"b":1,"\\u0062":2}}', "duplicate key"),
        (b'{"a":"\\ud800"}', "lone surrogate"),
        (b'{"\xc3\xa9":1}', "not ASCII"),
        (b'{"a":"\xff"}', "not UTF-8"),
        (b'\xef\xbb\xbf{"a":1}', "not JSON"),
        (b'{"a":1e400}', "outside"),
        (b'{"a":1e-400}', "outside"),
        (b'{"a":1e999999999999}', "outside"),
        (b'{"a":1e99999999999999999999}', "outside"),
        (b'{"a":-1E-99999999999999999999}', "outside"),
        (b'{"a":0e10000000000000000000000}', "outside"),
        (b'{"a":' + b"9" * 35 + b"}", "significant digits"),
        (b'{"a":' + b"9" * 5000 + b"}", "characters"),
        (b'{"a":0.' + b"1" * 35 + b"}", "significant digits"),
        (b"[1]", "must be a JSON object"),
        (b"{", "not JSON"),
        (b'{"a":"\x01"}', "not JSON"),
        (b'{"a":01}', "not JSON"),
        (b'{"a":+1}', "not JSON"),
        (b'{"a":1} x', "not JSON"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "nested"),
        (b"[" * 60000, "nested"),
        (b'{"a":"' + b"x" * 65536 + b'"}', "bytes long"),
    ],
)
def test_what_has_no_canonical_form_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(CanonicalError, match=reason) as caught:
        parse_object(text, field="action.arguments")
    assert caught.value.field.startswith("action.arguments")


def test_limits_are_met_exactly() -> None:
    assert parse_object(b'{"a":' * 32 + b"1" + b"}" * 32, field="x")
    assert parse_object(b'{"a":"' + b"x" * (65536 - 8) + b'"}', field="x")


@pytest.mark.parametrize("value", [1.5, {"a": object()}, {1: "a"}, {"é": 1}, "\ud800", Decimal("NaN"), b"x"])
def test_values_outside_the_profile_are_refused(value: Any) -> None:
    with pytest.raises(CanonicalError):
        canonical_json(value)


def test_digest_depends_on_every_part() -> None:
    base: dict[str, Any] = {"tool": "pay", "resource": "invoice:1", "arguments": {"n": 1}, "salt": b"s" * 16}
    digests = {
        action_digest(**{**base, **change})
        for change in ({}, {"tool": "p"}, {"resource": ""}, {"arguments": {"n": 2}}, {"salt": b"t" * 16})
    }
    assert len(digests) == 5
    assert action_digest(**{**base, "arguments": {"n": Decimal("1.0")}}) == action_digest(**base)


def test_strings_are_left_alone() -> None:
    assert canonical_json({"version": "1.10"}) != canonical_json({"version": "1.1"})
    assert json.loads(canonical_json({"version": "1.10"})) == {"version": "1.10"}
