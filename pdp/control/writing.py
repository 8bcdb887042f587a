"""What every write of an operator has: an author, and a line in the log."""

from __future__ import annotations

import structlog

from pdp.model import Attribution, Caller
from pdp.overload.rate import Rate

_LOG = structlog.get_logger("pdp.control")


def attribution(caller: Caller, reason: str) -> Attribution:
    """Return who the caller is, as a history names it, with the reason that it gave."""
    return Attribution(subject=caller.subject, issuer=caller.issuer, reason=reason)


def log_write(caller: Caller, what: str, revision: int, *, by: Attribution, count: int = 1) -> None:
    """Say in the log that a write has committed. What was written is for the history alone: it may be secret.

    `what` names the kind, `count` says how many of it were named.
    """
    _LOG.info(
        "operator_wrote",
        tenant=caller.tenant,
        what=what,
        revision=revision,
        count=count,
        subject=by.subject,
        issuer=by.issuer,
        reason=by.reason,
    )


def log_nothing(caller: Caller, what: str, revision: int, *, by: Attribution, count: int = 1) -> None:
    """Say nothing, in the place of `log_write`, of a write that is undone."""


def new_preview_rate() -> Rate:
    """Return how often a caller may ask what a write would change, which holds up decisions as it does."""
    return Rate(name="previews", what="previews of writes", burst=20, per_second=5)
