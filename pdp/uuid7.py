"""UUIDv7 (RFC 9562 §5.7): time-ordered ids with 74 random bits."""

from __future__ import annotations

import secrets
from datetime import datetime
from uuid import UUID


def uuid7(now: datetime) -> str:
    """Return a new id of the instant `now`, as text."""
    milliseconds = int(now.timestamp() * 1000)
    random = secrets.randbits(74)
    value = milliseconds << 80 | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & (2**62 - 1)
    return str(UUID(int=value))
