"""A tenant's settings: checked by name, amounts exact."""

from __future__ import annotations

import pytest

from pdp.authority.settings import allow_ttl, max_chain_depth, parse_settings, policy_settings
from pdp.errors import InvalidFieldError


def test_amounts_become_minor_units() -> None:
    settings = parse_settings(b'{"large_amount": {"EUR": "2000.50", "JPY": 300000}}')
    assert policy_settings(settings) == {"large_amount": {"EUR": {"minor": 200050}, "JPY": {"minor": 300000}}}


def test_what_is_paid_beyond_an_order_may_be_blocked() -> None:
    settings = parse_settings(b'{"order_used": {"on_exceed": "block"}}')
    assert policy_settings(settings) == {"order_used": {"on_exceed": "block"}}


def test_absent_settings_stay_absent() -> None:
    assert policy_settings(parse_settings(b"{}")) == {}
    assert allow_ttl({}) == 60
    assert max_chain_depth({}) == 4


def test_chains_are_bounded_as_the_tenant_says() -> None:
    settings = parse_settings(b'{"max_chain_depth": 16, "distinct_runtimes": true}')
    assert max_chain_depth(settings) == 16
    assert policy_settings(settings) == {"distinct_runtimes": True}


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (b'{"nonsense": 1}', "settings.nonsense"),
        (b"[]", "settings"),
        (b'{"trust_floor": 1}', "settings.trust_floor"),
        (b'{"trust_floor": {"fly": 1}}', "settings.trust_floor.fly"),
        (b'{"trust_floor": {"pay": 1.1}}', "settings.trust_floor.pay"),
        (b'{"trust_floor": {"pay": true}}', "settings.trust_floor.pay"),
        (b'{"trust_floor": {"pay": 0.5000000000000000001}}', "settings.trust_floor.pay"),
        (b'{"po_tolerance": 0.0000011}', "settings.po_tolerance"),
        # Twenty-eight digits of it are a whole number of millionths.
        (b'{"po_tolerance": 0.02000000000000000000000000000000001}', "settings.po_tolerance"),
        (
            b'{"variance_block_factor": 2.00000000000000000000000000000001}',
            "settings.variance_block_factor",
        ),
        (
            b'{"budgets": [{"name": "d", "scope": [], "currency": "EUR", "max": "9", "on_exceed": "block"}]}',
            "settings.budgets[0].scope",
        ),
        (b'{"large_amount": {"EURO": 1}}', "settings.large_amount.EURO"),
        (b'{"large_amount": {"EUR": -1}}', "settings.large_amount.EUR"),
        (b'{"large_amount": {"EUR": "1.005"}}', "settings.large_amount.EUR"),
        (b'{"large_amount": {"EUR": null}}', "settings.large_amount.EUR"),
        (b'{"order_used": "block"}', "settings.order_used"),
        (b'{"order_used": {}}', "settings.order_used"),
        (b'{"order_used": {"on_exceed": "allow"}}', "settings.order_used.on_exceed"),
        (b'{"velocity": {"other": {}}}', "settings.velocity.other"),
        (b'{"velocity": {"payments": {"max": 1}}}', "settings.velocity.payments"),
        (
            b'{"velocity": {"payments": {"max": 1, "window_seconds": 0, "on_exceed": "block"}}}',
            "settings.velocity.payments.window_seconds",
        ),
        (
            b'{"velocity": {"payments": {"max": 1, "window_seconds": 60, "on_exceed": "allow"}}}',
            "settings.velocity.payments.on_exceed",
        ),
        (b'{"allow_ttl_seconds": 0}', "settings.allow_ttl_seconds"),
        (b'{"max_chain_depth": 0}', "settings.max_chain_depth"),
        (b'{"max_chain_depth": 17}', "settings.max_chain_depth"),
        (b'{"max_chain_depth": true}', "settings.max_chain_depth"),
        (b'{"distinct_runtimes": 1}', "settings.distinct_runtimes"),
        (b'{"allow_ttl_seconds": 60.5}', "settings.allow_ttl_seconds"),
    ],
)
def test_fault_is_named_by_its_path(text: bytes, field: str) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        parse_settings(text)
    assert caught.value.field == field
