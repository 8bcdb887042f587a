"""What counts as the answer to a prerequisite. Pure."""

from __future__ import annotations

from pdp.model import Effect


def latest(before: Effect | None, answer: Effect) -> Effect:
    """Return what counts after one more answer.

    What waits for a person goes on waiting when it is asked for again and blocked: else an agent
    could end the waiting by asking for what cannot be allowed.
    """
    if before is Effect.ESCALATE and answer is Effect.BLOCK:
        return before
    return answer
