"""What the registry says of tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from pdp.model.boundary import ToolEffect
from placet.normalise import NormalisationStep


class AmountUnit(StrEnum):
    """The unit of a currency in which a tool counts amounts: 12.50 in MAJOR is 1250 in MINOR, in EUR.

    How many minor units make a major one is the currency's own (ISO 4217).
    """

    MAJOR = "major"
    MINOR = "minor"


@dataclass(frozen=True, kw_only=True, slots=True)
class AmountRole:
    """How a call's amount is read."""

    argument: str
    # None: nobody said, and every amount is a problem.
    unit: AmountUnit | None
    # The argument that names the currency, or the one currency (ISO 4217) that all amounts are in.
    currency_argument: str | None = None
    currency_code: str | None = None
    # Whether an amount of zero is one; without it such a call is a problem.
    allow_zero: bool = False


class ArgumentRole(StrEnum):
    """What an argument is for. Only SECRET changes anything: it is shown to nobody."""

    DESTINATION = "destination"
    SELECTOR = "selector"
    CONTENT = "content"
    ATTACHMENT = "attachment"
    SECRET = "secret"
    PROFILE = "profile"
    OTHER = "other"


class EntityRole(StrEnum):
    """What an entity is to a call: the record that it is about, whom it deals with, what was ordered."""

    RECORD = "record"
    COUNTERPARTY = "counterparty"
    ORDER = "order"
    OTHER = "other"


class OutputFormat(StrEnum):
    """How a tool's output is written."""

    JSON = "json"
    YAML = "yaml"
    PYTHON_LITERAL = "python-literal"
    TEXT = "text"


class FieldTrust(StrEnum):
    """How far a field of a tool's output can be relied on."""

    RECORD = "record"
    FREE_TEXT = "free-text"
    TRUSTED = "trusted"


@dataclass(frozen=True, kw_only=True, slots=True)
class Normalisation:
    """How one argument is spelt before anything is derived from it."""

    argument: str
    steps: tuple[NormalisationStep, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class EntityAttribute:
    """An attribute of the entity that the tool's reference `entity` names."""

    entity: str
    attribute: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EntityRef:
    """An entity that a tool's calls are about. Exactly one of `id` and `via` is set."""

    name: str
    type: str
    # Template over normalised arguments: "{vendor}".
    id: str | None = None
    # The id stands in an attribute of an entity that has an `id`.
    via: EntityAttribute | None = None
    role: EntityRole = EntityRole.OTHER
    # What a record comes to, or what of an order is open: the attribute that releases before knew alone.
    amount_attribute: str = ""
    currency_attribute: str = ""
    status_attribute: str = "status"
    # This entity's id must equal that attribute of another entity.
    must_match: EntityAttribute | None = None
    # What a record or an order comes to in all, whatever is paid of it.
    total_attribute: str = ""
    # What of it is not paid yet.
    open_attribute: str = ""
    # Payments by the same measure of an entity add up.
    measure: str = ""
    # Writes of the entity name the decisions that its figures contain.
    posted_linked: bool = False

    @property
    def total_named(self) -> str:
        """The attribute that holds what a record or an order comes to in all; empty if none does."""
        of_record = self.amount_attribute if self.role is EntityRole.RECORD else ""
        return self.total_attribute or of_record

    @property
    def open_named(self) -> str:
        """The attribute that holds what of a record or an order is not paid yet; empty if none does."""
        of_order = self.amount_attribute if self.role is EntityRole.ORDER else ""
        return self.open_attribute or of_order


@dataclass(frozen=True, kw_only=True, slots=True)
class BusinessKeyRule:
    """Calls of tools with one `name` and equal `arguments` are the same piece of business."""

    name: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Prerequisite:
    """An action of another tool that comes before this one, if it is asked for, or must."""

    tool: str
    # The names of the arguments that both have in common.
    same: tuple[str, ...]
    # True: without it this action is not allowed.
    required: bool = False
    # True: one allow of it carries one action.
    consumed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputField:
    """One field of a tool's output."""

    name: str
    trust: FieldTrust


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """How a tool's output is read. A field that is not listed is free text."""

    format: OutputFormat = OutputFormat.TEXT
    fields: tuple[OutputField, ...] = ()
    author_field: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """What the registry says of a tool. `revision` identifies this very content."""

    name: str
    effect: ToolEffect
    # Template over arguments: "invoice:{invoice}".
    resource: str
    # JSON text of the schema of the arguments; empty: no arguments.
    arguments_schema: str = ""
    amount: AmountRole | None = None
    # Paths (`placet.secret_paths`), among them every argument whose role is SECRET.
    secret_arguments: tuple[str, ...] = ()
    description: str = ""
    reversible: bool = False
    argument_roles: Mapping[str, ArgumentRole] = field(default_factory=dict)
    normalise: tuple[Normalisation, ...] = ()
    entities: tuple[EntityRef, ...] = ()
    business_key: BusinessKeyRule | None = None
    prerequisites: tuple[Prerequisite, ...] = ()
    output: Output | None = None
    # The tool itself redeems each decision before it acts.
    redeem_required: bool = False
    # Paths among the arguments may be patterns of the shell; the resource is the folder that they match in.
    glob: bool = False
    # Whom receipts for the tool are meant for; empty: for nobody, and nobody redeems them.
    audience: str = ""
    revision: int = 0

    def entity_of(self, role: EntityRole) -> EntityRef | None:
        """Return the tool's entity of a role; None: it has none.

        A tool has at most one entity of each role but OTHER, and of those this is the first.
        """
        return next((ref for ref in self.entities if ref.role is role), None)

    def pays_from(self, ref: EntityRef) -> bool:
        """Return whether the tool's calls are paid from that record or order, and so count there."""
        return (
            self.effect is ToolEffect.PAY
            and self.amount is not None
            and ref.role in (EntityRole.RECORD, EntityRole.ORDER)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolOutline:
    """What can be said of all calls of a tool together, whatever their arguments."""

    name: str
    effect: ToolEffect
    # Template over arguments: "invoice:{invoice}".
    resource: str
    amount: AmountRole | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryOutline:
    """What a tenant has registered that a session's terms may name."""

    # Whether the session's agent is registered.
    agent_known: bool
    # Every tool, in no order.
    tools: Sequence[ToolOutline]


class ToolPage(NamedTuple):
    """Some of a tenant's tools, by name, as they stood at a revision."""

    revision: int
    tools: Sequence[Tool]
