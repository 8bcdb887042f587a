"""What operators write for a tenant, as it is read back: how it stood, and who changed it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from pdp.model.attribution import Attribution
from pdp.model.facts import Agent, Signal


class ControlKind(StrEnum):
    """A kind of what operators write; each has revisions of its own."""

    SETTINGS = "settings"
    AGENTS = "agents"
    TOOLS = "tools"
    SIGNALS = "signals"
    ISSUERS = "issuers"


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlRevision:
    """One change of one kind: names of what it wrote and removed. Settings have no names."""

    revision: int
    written_at: datetime
    written: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    # None: an earlier release wrote it, which kept no author.
    by: Attribution | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingsVersion:
    """A tenant's settings as one revision said them: the JSON text, as it was written."""

    revision: int
    settings: bytes
    written_at: datetime
    # None: an earlier release wrote it, which kept no author.
    by: Attribution | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """What a revision said of one thing, and what had been said before: JSON texts of the history."""

    # Empty for settings.
    name: str
    # None: it was not there before.
    before: str | None
    # None: the revision removed it.
    after: str | None


class AgentPage(NamedTuple):
    """Some of a tenant's agents, by name, as they stood at a revision."""

    revision: int
    agents: Sequence[Agent]


class SignalPage(NamedTuple):
    """Some of a tenant's signals, by name, as they stood at a revision; also those that have ended."""

    revision: int
    signals: Sequence[Signal]
