"""The reasons that the PDP itself gives."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from pdp.model import Effect, Reason, Remedy
from pdp.reasons import (
    KEEPS_ANSWER,
    POLICY_UNAVAILABLE,
    RETRYABLE,
    REVIEW_UNKNOWN,
    SESSION_UNPROVEN,
    TIMED,
    chain_refused,
    is_answer,
    is_retryable,
    key_reused,
    not_whole,
    replay_stale,
)

ROOT = Path(__file__).parent.parent.parent
DOCS = (ROOT / "docs" / "policies.md").read_text()
OWN = [POLICY_UNAVAILABLE, REVIEW_UNKNOWN, key_reused("d"), replay_stale("d"), not_whole(0)]
WAIT = Reason(code="velocity.payments", effect=Effect.BLOCK)
# Blocks for these say what is wrong with the action itself: they are answers to a prerequisite.
OF_SUBSTANCE = {
    "boundary.amount",
    "boundary.resource",
    "boundary.tool",
    "counterparty.mismatch",
    "counterparty.not_active",
    "payment.amount_over_order",
    "payment.currency_mismatch",
    "payment.order_unknown",
    "payment.record_unknown",
    "registry.incomplete",
    "registry.resource_underivable",
    "registry.unknown_problem",
    "registry.unknown_tool",
}
# Blocks for nothing but these say that the question was asked before, wrongly or at a bad time.
OF_NONE = {
    "action.audience",
    "action.key_reused",
    "action.replay_stale",
    "action.resource_mismatch",
    "amount.currency_invalid",
    "amount.invalid",
    "amount.missing",
    "amount.out_of_range",
    "amount.precision",
    "amount.unit_missing",
    "amount.zero",
    "boundary.counterparty_total",
    "boundary.max_actions",
    "boundary.total",
    "boundary.velocity",
    "chain.cycle",
    "chain.exceeds_parent",
    "chain.expired",
    "chain.foreign",
    "chain.invalid",
    "chain.not_holder",
    "chain.revoked",
    "chain.same_runtime",
    "chain.too_deep",
    "chain.unproven",
    "limit.budget",
    "limit.unknown",
    "payment.counterparty_total",
    "payment.duplicate",
    "payment.order_used",
    "pdp.no_applicable_rule",
    "pdp.policy_unavailable",
    "plan.not_whole",
    "registry.arguments_invalid",
    "review.prerequisite_consumed",
    "review.prerequisite_missing",
    "review.prerequisite_pending",
    "review.prerequisite_rejected",
    "review.unknown",
    "session.closed",
    "session.completed",
    "session.expired",
    "session.halted",
    "session.unknown",
    "session.unproven",
    "velocity.payments",
}


def blocked(*codes: str) -> list[Reason]:
    return [Reason(code=code, effect=Effect.BLOCK) for code in codes]


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


def test_each_reason_to_block_says_whether_it_is_an_answer_to_a_prerequisite() -> None:
    """A new code fails here until somebody has chosen: it is in neither set."""
    rows = [line.split("|")[1:3] for line in DOCS.splitlines() if line.startswith("| `")]
    blocks = {code.strip().strip("`") for code, effect in rows if "block" in effect}
    assert blocks == OF_SUBSTANCE | OF_NONE
    assert not OF_SUBSTANCE & OF_NONE
    for code in blocks:
        assert is_answer(Effect.BLOCK, blocked(code)) is (code in OF_SUBSTANCE), code


def test_block_is_an_answer_for_any_reason_of_substance_and_by_an_unknown_one() -> None:
    assert not is_answer(Effect.BLOCK, blocked("payment.duplicate", "velocity.payments"))
    assert is_answer(Effect.BLOCK, blocked("payment.duplicate", "counterparty.not_active"))
    assert is_answer(Effect.BLOCK, blocked("acme.not_on_fridays"))
    assert is_answer(Effect.BLOCK, blocked("orders.duplicated", "actions.late"))
    assert not is_answer(Effect.BLOCK, blocked("orders.duplicate"))
    # What would have escalated beside it is not what it says.
    assert not is_answer(
        Effect.BLOCK, [*blocked("payment.duplicate"), Reason(code="payment.large", effect=Effect.ESCALATE)]
    )


def test_persons_no_is_an_answer_and_what_else_becomes_of_a_review_is_none() -> None:
    assert is_answer(Effect.BLOCK, blocked("review.rejected"))
    assert not is_answer(Effect.BLOCK, blocked("review.expired", "halt.tenant"))


@pytest.mark.parametrize("effect", [Effect.ALLOW, Effect.ESCALATE])
def test_every_allow_and_every_escalation_is_an_answer(effect: Effect) -> None:
    assert is_answer(effect, [Reason(code="plan.not_whole", effect=effect)])


def test_documents_say_which_blocks_are_no_answer() -> None:
    text = (ROOT / "docs" / "limits.md").read_text()
    page = text.split("### Blocks that are no answer", 1)[1].split("\n###", 1)[0]
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    said = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert said == {*KEEPS_ANSWER, "review.rejected"}


RULES = Path(__file__).parent.parent.parent / "rego" / "placet" / "rules"
REMEDY = re.compile(r"^#   remedy: (\w+)$", re.MULTILINE)
SAID = {
    f"{file.parent.name}.{file.stem}": (REMEDY.findall(text), "#   remediation: " in text)
    for file in sorted(RULES.rglob("*.rego"))
    if not file.name.endswith("_test.rego") and re.search("^(block|escalate)", text := file.read_text(), re.M)
}


@pytest.mark.parametrize("code", SAID)
def test_every_rule_says_what_can_help(code: str) -> None:
    remedies, advised = SAID[code]
    assert len(remedies) == 1
    assert remedies[0] in {remedy.value for remedy in Remedy}
    assert advised


@pytest.mark.parametrize("reason", [*OWN, SESSION_UNPROVEN, chain_refused("chain.x", "")])
def test_every_reason_of_the_server_says_what_can_help(reason: Reason) -> None:
    assert reason.remedy is not None
    assert reason.remediation


def test_what_may_be_asked_again_is_what_time_helps() -> None:
    waits = {code for code, (remedies, _) in SAID.items() if remedies == ["wait"]}
    own = {reason.code for reason in OWN if reason.remedy is Remedy.WAIT}
    assert waits | own >= RETRYABLE | TIMED
