"""What became of allows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Outcome(StrEnum):
    """What became of an allow."""

    EXECUTED = "executed"
    # It was tried, and had no effect.
    FAILED = "failed"
    # It was never tried.
    NOT_EXECUTED = "not_executed"
    UNKNOWN = "unknown"
    # The answer came too late or never; the caller will not act on it.
    VOIDED = "voided"
    # It had to be redeemed before it expired, and was not. The server's own finding, never a report.
    UNREDEEMED = "unredeemed"
    # What earlier releases recorded for UNREDEEMED.
    LAPSED = "lapsed"


class HoldState(StrEnum):
    """What an allow still holds of its limits and its business key."""

    RESERVED = "reserved"
    COMMITTED = "committed"
    UNRESOLVED = "unresolved"
    RELEASED = "released"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reported:
    """What an allow holds after a report, and whether that report differs from the one that counts."""

    decision_id: str
    hold: HoldState
    conflict: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenDecision:
    """An expired allow whose outcome nobody reported."""

    decision_id: str
    session_id: str
    tool_call_id: str
    hold: HoldState
    redeemed: bool
    expires_at: datetime
