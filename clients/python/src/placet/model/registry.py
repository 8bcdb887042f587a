"""What operators write: agents, tools, signals, entities and the keys of issuers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from placet.model.attribution import Attribution
from placet.model.boundary import ToolEffect
from placet.model.json import JSON


@dataclass(frozen=True, kw_only=True, slots=True)
class Agent:
    """Who acts. `trust` is from 0 to 1; without it no effect is permitted that has a trust floor."""

    agent: str
    owner: str = ""
    trust: float | None = None
    trust_explanation: str = ""
    model: str = ""
    version: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class AmountRole:
    """How a call's amount is read. `unit`: "major" or "minor"; at most one currency_… is set."""

    argument: str
    unit: str = ""
    currency_argument: str | None = None
    currency_code: str | None = None
    # Whether an amount of zero is one; without it a call with such an amount is blocked.
    allow_zero: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """A tool as operators register it. docs/tools.md has the form of its parts, which are plain values."""

    name: str
    effect: ToolEffect
    # Template over the arguments of what a call is about: "invoice:{invoice}".
    resource: str = ""
    # JSON Schema (2020-12) of the arguments; None: no arguments.
    arguments_schema: Mapping[str, Any] | bytes | None = None
    amount: AmountRole | None = None
    secret_arguments: tuple[str, ...] = ()
    description: str = ""
    reversible: bool = False
    argument_roles: Mapping[str, str] = field(default_factory=dict)
    normalise: Mapping[str, Sequence[str]] = field(default_factory=dict)
    entities: Sequence[Mapping[str, Any]] = ()
    business_key: Mapping[str, Any] | None = None
    prerequisites: Sequence[Mapping[str, Any]] = ()
    output: Mapping[str, Any] | None = None
    # "required": an allow must be redeemed before the tool runs. Or empty.
    redeem: str = ""
    # Paths among the arguments may be patterns of the shell: the resource is the folder that they match in.
    glob: bool = False
    # Whom receipts for the tool are meant for: what the tool's server calls itself. Empty: for nobody.
    audience: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolFinding:
    """One thing that is wrong or doubtful in a tool's registration. docs/tools.md lists the codes."""

    tool: str
    # The path in the list of tools that was asked about: "tools[0].amount.unit".
    field: str
    # True: a tool that is so is not registered. False: it is a warning.
    is_error: bool
    code: str
    message: str


class ControlKind(StrEnum):
    """A kind of what operators write; each has revisions of its own."""

    SETTINGS = "settings"
    AGENTS = "agents"
    TOOLS = "tools"
    SIGNALS = "signals"
    ISSUERS = "issuers"


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One revision of a kind: names of what it wrote and removed; settings have none."""

    revision: int
    written_at: datetime
    written: tuple[str, ...]
    removed: tuple[str, ...]
    # None: an earlier release of the server wrote it, which kept no author.
    by: Attribution | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Replacement:
    """What a revision said of one thing, and what had been said before: values of JSON."""

    # Empty for settings.
    name: str
    # None: it was not there before.
    before: JSON
    # None: the revision removed it.
    after: JSON


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """What a write would change, by name; an entity's name is "type:id"."""

    replacements: tuple[Replacement, ...]
    # How many further ones did not fit into the answer.
    more: int


# A change of the registry.
ToolRevision = Change


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingsVersion:
    """A tenant's settings as one revision said them."""

    settings: Mapping[str, Any]
    revision: int
    written_at: datetime
    # None: an earlier release of the server wrote them, which kept no author.
    by: Attribution | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Signal:
    """A value that rules read under its name, until it expires."""

    name: str
    value: JSON
    expires_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Entity:
    """Something that actions are about, at one revision of the tenant's entities."""

    type: str
    id: str
    # None: it was deleted.
    attributes: Mapping[str, Any] | None
    revision: int
    written_by: str
    written_at: datetime
    # Names the same author as `written_by`, and why; None where the server does not say.
    by: Attribution | None = None
    # What the write said that the figures of a record or an order contain: by decision, in major units.
    posted: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class IssuerKeys:
    """The public keys of an issuer of task tokens; a set without keys: all are revoked."""

    issuer: str
    # A JWK Set (RFC 7517 §5).
    jwks: Mapping[str, Any]
    revision: int
    written_at: datetime
    # None: an earlier release of the server wrote them, which kept no author.
    by: Attribution | None = None
