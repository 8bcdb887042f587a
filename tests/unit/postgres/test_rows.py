"""Every form that a table holds has a way back."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdp.authority.counters import MAX_TOTAL
from pdp.model import JSON, AmountLimit, Boundary, Bucket, ResourceRule, ToolEffect
from pdp.postgres.rows import boundary_from, boundary_text, buckets_from, buckets_text, json_text, json_value

decimals = st.decimals(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | decimals | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)
boundaries = st.builds(
    Boundary,
    tools=st.lists(st.text(), max_size=3).map(tuple),
    effects=st.lists(st.sampled_from(ToolEffect), max_size=3).map(tuple),
    resources=st.lists(
        st.builds(ResourceRule, type=st.text(), id=st.text())
        | st.builds(ResourceRule, type=st.text(), prefix=st.text()),
        max_size=3,
    ).map(tuple),
    amounts=st.lists(st.builds(AmountLimit, currency=st.text(), per_action=decimals), max_size=3).map(tuple),
)
_whole = st.integers(0, MAX_TOTAL)
buckets = st.builds(Bucket, start=_whole, width=_whole, number=_whole)


@given(values)
def test_json_comes_back_equal(value: JSON) -> None:
    assert json_value(json_text(value)) == value


@given(boundaries)
def test_boundary_comes_back_equal(boundary: Boundary) -> None:
    assert boundary_from(boundary_text(boundary)) == boundary


@given(st.lists(buckets).map(tuple))
def test_buckets_come_back_equal(pay: tuple[Bucket, ...]) -> None:
    assert buckets_from(buckets_text(pay)) == pay


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("Infinity"), 1.5])
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        json_text(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "", "{", "1 2"])
def test_text_that_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        json_value(text)
