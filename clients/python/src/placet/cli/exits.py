"""Exit codes, and the error that carries one."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from placet.errors import (
    AlreadyExistsError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    PlacetError,
    PreconditionError,
    UnauthenticatedError,
)
from placet.model import Decision, Effect

_REFUSED = (
    AlreadyExistsError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)


class Exit(IntEnum):
    OK = 0
    BLOCK = 1
    USAGE = 2
    ESCALATE = 3
    # Some of what was asked for is done, and what is not is named.
    PARTIAL = 3
    UNAVAILABLE = 4
    REPLAYED = 5
    UNVERIFIED = 6


HELP = """\
\b
Exit codes:
  0  allow; the receipt is verified; done
  1  block; the receipt is not valid
  2  the command line, a file or the request is wrong, or the server refuses it
  3  escalate; or done in part, and what is left out is named
  4  no usable answer: unreachable, late, malformed; treat it as a block
  5  an allow that was given before, to another attempt: do not act on it again
  6  the receipt is in order as far as can be seen without keys
"""


class CommandError(Exception):
    """The command cannot go on. `details` are members of what `--json` prints."""

    def __init__(self, message: str, exit_code: Exit = Exit.USAGE, **details: Any) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.details = details


def exit_of_error(error: PlacetError) -> Exit:
    return Exit.USAGE if isinstance(error, _REFUSED) else Exit.UNAVAILABLE


def exit_of(decision: Decision) -> Exit:
    """Return the exit code for the answer to an evaluation."""
    if decision.failure is not None:
        cause = decision.failure.__cause__
        return exit_of_error(cause) if isinstance(cause, PlacetError) else Exit.UNAVAILABLE
    if decision.effect is Effect.ESCALATE:
        return Exit.ESCALATE
    if decision.effect is Effect.ALLOW:
        return Exit.OK if decision.allowed else Exit.REPLAYED
    return Exit.BLOCK
