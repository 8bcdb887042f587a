"""What `placet decision show` prints."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from placet import Blocked, Decision, Figures, LimitStatus, Remedy, SchemaViolation
from placet.cli.decisions import record_json, record_of, show_record
from placet.cli.output import show_decision
from placet.model import Effect
from placet.testing import FakePdp


def recorded(fake: FakePdp) -> Decision:
    with fake.client() as pdp:
        return pdp.evaluate(
            {
                "tool": "payments.create",
                "arguments": {"invoice": "INV-1", "memo": "a\x1b[2Jb"},
                "tool_call_id": "c",
            },
            session=fake.session(),
        )


def test_decision_is_told_with_all_that_its_receipt_says(capsys: pytest.CaptureFixture[str]) -> None:
    with FakePdp() as fake:
        fake.block(
            "payments.create",
            code="boundary.total",
            remedy=Remedy.ASK,
            remediation="Ask for what is left.",
            figures=[Figures(of="session", unit="EUR", used="900.00", added="200.00", limit="1000.00")],
        )
        decision = recorded(fake)
    show_record(decision)
    said = capsys.readouterr().out
    for words in (
        "BLOCK",
        "boundary.total",
        "session: 900.00 used + 200.00 of 1000.00 EUR",
        "Ask for what is left.",
        "payments.create",
        '"INV-1"',
    ):
        assert words in said
    assert "\x1b[2J" not in said
    told = json.loads(json.dumps(record_json(decision)))
    assert told["record"]["tool"] == "payments.create"
    assert told["record"]["arguments"]["invoice"] == "INV-1"
    assert told["reasons"][0]["figures"][0]["limit"] == "1000.00"
    assert told["reasons"][0]["remedy"] == "ask"


def test_limits_are_told_with_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    figures = Figures(
        of="grant", at="chain[1]", unit="actions", used="4", added="1", limit="9", window=timedelta(hours=1)
    )
    limits = (
        LimitStatus(code="boundary.velocity", figures=figures, left="4", on_exceed=Effect.BLOCK),
        LimitStatus(code="limit.budget", figures=Figures(of="budget:monthly", unit="EUR", limit="300.00")),
    )
    show_record(
        Decision(effect=Effect.ALLOW, reasons=(), model_text="", limits=limits, amount="1.00", currency="EUR")
    )
    said = capsys.readouterr().out
    assert (
        "boundary.velocity  grant at chain[1]: 4 used + 1 of 9 actions in 3600 s, 4 left (else block)" in said
    )
    assert "limit.budget  budget:monthly: of 300.00 EUR" in said
    assert "1.00 EUR" in said


def test_violations_are_told_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    with FakePdp() as fake:
        fake.block(
            "payments.create",
            code="registry.arguments_invalid",
            remedy=Remedy.CHANGE_CALL,
            violations=[
                SchemaViolation(at="arguments.amount", rule="required"),
                SchemaViolation(at="arguments.currency", rule="enum", demanded='"EUR"'),
            ],
        )
        decision = recorded(fake)
    show_decision(decision)
    said = capsys.readouterr().out
    assert "arguments.amount is missing: send it" in said
    assert 'arguments.currency must be one of "EUR"' in said
    assert "arguments.amount is missing: send it" in decision.model_text
    assert decision.remedy is Remedy.CHANGE_CALL
    with pytest.raises(Blocked, match="is missing"):
        decision.require_allowed()


def test_decision_without_a_receipt_is_told_as_far_as_it_is_known() -> None:
    assert record_of(Decision(effect=Effect.BLOCK, reasons=(), model_text="")) == {}
