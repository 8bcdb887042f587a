"""The reasons that the PDP itself gives.

Policy's own reasons are worded by the bundle that gave them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from fnmatch import fnmatchcase

from pdp.model import Effect, Reason, Remedy

POLICY_UNAVAILABLE = Reason(
    code="pdp.policy_unavailable",
    effect=Effect.BLOCK,
    message="The policy engine gave no answer that can be used.",
    remediation="Ask again later.",
    remedy=Remedy.WAIT,
)
REVIEW_UNKNOWN = Reason(
    code="review.unknown",
    effect=Effect.BLOCK,
    message="The request names a review that does not exist.",
    at="review_id",
    remediation="Name no review.",
    remedy=Remedy.CHANGE_CALL,
)
SESSION_UNPROVEN = Reason(
    code="session.unproven",
    effect=Effect.BLOCK,
    message="The call shows neither the session's token nor a grant in it.",
    at="session_token",
    remediation="Whoever runs the agent has to give it the session's token, or its grants.",
    remedy=Remedy.ASK,
)
# These blocks may be lifted by asking again with the same call.
RETRYABLE = frozenset(
    {"pdp.policy_unavailable", "plan.not_whole", "review.prerequisite_pending", "velocity.payments"}
)
# Only some blocks by these lift with time: they are retryable where the answer says when.
TIMED = frozenset({"boundary.velocity", "limit.budget"})
# A block for nothing but these says that the question was asked before, wrongly or at a bad time, and so
# changes nothing of an earlier answer to a prerequisite. A block for any other reason, known or not, is an
# answer. `*` stands for any text.
KEEPS_ANSWER = (
    # asked before
    "*.duplicate",
    # asked wrongly
    "action.*",
    "amount.*",
    "registry.arguments_invalid",
    "chain.*",
    # asked at a bad time
    "session.*",
    "plan.*",
    "halt.*",
    "pdp.*",
    "review.*",
    # limits: what is left of them, not what the action is
    "boundary.counterparty_total",
    "boundary.max_actions",
    "boundary.total",
    "boundary.velocity",
    "limit.*",
    "payment.counterparty_total",
    "payment.order_used",
    "velocity.*",
)
# A person's no is an answer, though its name begins as that of others which are none.
_ANSWERS = frozenset({"review.rejected"})


def key_reused(original: str) -> Reason:
    """Return the reason for a call whose id belongs to another action, decided as `original`."""
    return Reason(
        code="action.key_reused",
        effect=Effect.BLOCK,
        message="This tool_call_id was used for another action.",
        at=f"decision:{original}",
        remediation="Send the action as a new call, under an id of its own.",
        remedy=Remedy.CHANGE_CALL,
    )


# An allow that was given before, and does not stand.
REPLAY_STALE = "action.replay_stale"


def replay_stale(original: str) -> Reason:
    """Return the reason for a call that was allowed before, as `original`, when that no longer holds."""
    return Reason(
        code=REPLAY_STALE,
        effect=Effect.BLOCK,
        message="This call was allowed before, and that answer no longer stands.",
        at=f"decision:{original}",
        remediation="Look up what became of the call; it may have been executed.",
        remedy=Remedy.NONE,
    )


def not_whole(item: int) -> Reason:
    """Return the reason for a plan that was to be allowed as a whole, when `item` is not allowed."""
    return Reason(
        code="plan.not_whole",
        effect=Effect.BLOCK,
        message="Not every action of the plan is allowed.",
        at=f"items[{item}]",
        remediation="Ask again for the plan without what is not allowed, or for its actions one by one.",
        remedy=Remedy.WAIT,
    )


def chain_refused(code: str, at: str) -> Reason:
    """Return the reason for a hop, `at`, with a problem that policy did not name."""
    return Reason(
        code=code,
        effect=Effect.BLOCK,
        message="The chain of delegation is not what it should be.",
        at=at,
        remediation="Have the work delegated again.",
        remedy=Remedy.ASK,
    )


def is_retryable(effect: Effect, reasons: Iterable[Reason], retry_after: timedelta | None) -> bool:
    """Return whether this is a block for which there is no lasting reason."""
    passing = RETRYABLE if retry_after is None else RETRYABLE | TIMED
    return effect is Effect.BLOCK and all(r.code in passing for r in reasons if r.effect is Effect.BLOCK)


def is_answer(effect: Effect, reasons: Iterable[Reason]) -> bool:
    """Return whether the decision is an answer to an action that others have as their prerequisite."""
    return effect is not Effect.BLOCK or any(
        _is_of_substance(reason.code) for reason in reasons if reason.effect is Effect.BLOCK
    )


def _is_of_substance(code: str) -> bool:
    return code in _ANSWERS or not any(fnmatchcase(code, kind) for kind in KEEPS_ANSWER)
