"""Who made a change, and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Attribution:
    """Who made a change, and why. Subject and issuer together name a person."""

    # The name that the author's credential proved.
    subject: str
    # Who issued the token that proved it; empty where a certificate did. None: nobody kept it.
    issuer: str | None = ""
    # The author's own words; may be empty.
    reason: str = ""
