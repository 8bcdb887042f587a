"""Who changed what operators write, and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Attribution:
    """Who made a change, and why, as its history keeps it. Subject and issuer together name a person."""

    # The name that the author's credential proved.
    subject: str
    # Who issued the token that proved it; empty where a certificate did, and with insecure-dev. None: an
    # earlier release wrote this, which did not keep it.
    issuer: str | None = ""
    # The author's own words; may be empty.
    reason: str = ""
