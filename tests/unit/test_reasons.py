"""The reasons that the PDP itself gives."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from pdp.model import Effect, Reason
from pdp.reasons import (
    POLICY_UNAVAILABLE,
    REVIEW_UNKNOWN,
    is_retryable,
    key_reused,
    model_text,
    not_whole,
    replay_stale,
)

DOCS = (Path(__file__).parent.parent.parent / "docs" / "policies.md").read_text()
OWN = [POLICY_UNAVAILABLE, REVIEW_UNKNOWN, key_reused("d"), replay_stale("d"), not_whole(0)]
WAIT = Reason(code="velocity.payments", effect=Effect.BLOCK)


@pytest.mark.parametrize("reason", OWN, ids=lambda reason: reason.code)
def test_reason_is_documented_as_it_is_worded(reason: Reason) -> None:
    assert f"| `{reason.code}` | block | {reason.message} |" in DOCS


def test_block_is_retryable_only_if_every_reason_passes() -> None:
    assert is_retryable(Effect.BLOCK, [POLICY_UNAVAILABLE, WAIT], None)
    assert not is_retryable(Effect.BLOCK, [POLICY_UNAVAILABLE, key_reused("d")], None)
    assert not is_retryable(Effect.ESCALATE, [WAIT], None)
    assert not is_retryable(Effect.ALLOW, [], None)


def test_used_up_limit_is_retryable_where_the_answer_says_when() -> None:
    budget = Reason(code="limit.budget", effect=Effect.BLOCK)
    assert is_retryable(Effect.BLOCK, [budget, WAIT], timedelta(seconds=4))
    assert not is_retryable(Effect.BLOCK, [budget], None)


@pytest.mark.parametrize("effect", list(Effect))
def test_text_for_the_model_holds_ids_and_codes_only(effect: Effect) -> None:
    reasons = (Reason(code="a.b", effect=effect, message="INV-1001 of Anna", at="arguments.iban"),)
    text = model_text(effect, "d-1", reasons, retryable=False)
    assert "d-1" in text
    assert "Anna" not in text
    assert "iban" not in text
    if effect is not Effect.ALLOW:
        assert "The tool was not executed." in text
        assert "a.b" in text


def test_escalation_says_that_nobody_can_resolve_it() -> None:
    text = model_text(Effect.ESCALATE, "d", (Reason(code="a.b", effect=Effect.ESCALATE),), retryable=False)
    assert "nobody can resolve it yet" in text
