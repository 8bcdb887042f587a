"""Who made a change, and why: the reason as it is given, and what the history keeps."""

from __future__ import annotations

from typing import Protocol

from pdp.model import Attribution
from pdp.names import text
from placet.v1 import attribution_pb2 as messages

# Characters.
MAX_REASON = 1_024


class _Write(Protocol):
    """A request of an operator that changes something."""

    @property
    def reason(self) -> str: ...


def reason(message: _Write) -> str:
    """Return the reason that the request gives, which may be empty."""
    return text(message.reason, "reason", MAX_REASON)


def attribution_message(by: Attribution | None) -> messages.Attribution | None:
    """Return the message; None, which leaves a field unset, where nobody knows who wrote."""
    if by is None:
        return None
    return messages.Attribution(subject=by.subject, issuer=by.issuer, reason=by.reason)
