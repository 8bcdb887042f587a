"""What operators write: tenants, agents, tools and their history, signals, issuers' keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from decimal import Decimal
from typing import Any

from placet._calls.attribution import read_attribution
from placet._calls.call import Call, read_instant, reader
from placet._calls.fields import flag, instant, items, members, one_of, page_limit, revision, text, texts
from placet._calls.jsontext import json_text, object_text
from placet._calls.toolform import add_parts, tool_form
from placet._wire.numbers import AMOUNT_UNIT_NUMBERS, TOOL_EFFECT_NUMBERS
from placet.canonical import CanonicalError, parse_object, parse_value
from placet.errors import AnswerError, invalid
from placet.model import (
    Agent,
    AmountRole,
    Change,
    ControlKind,
    IssuerKeys,
    Replacement,
    SettingsVersion,
    Signal,
    Tool,
    ToolEffect,
    ToolFinding,
    ToolRevision,
)
from placet.v1 import admin_service_pb2 as messages

_AGENT = frozenset(field.name for field in fields(Agent))
_AMOUNT = frozenset(field.name for field in fields(AmountRole))
_SIGNAL = frozenset(field.name for field in fields(Signal))
_TOOL = frozenset(field.name for field in fields(Tool))
# What one registration may hold, with room for how it is written.
_MAX_VALUE = 4 * 1024 * 1024
_MAX_VALUE_DEPTH = 64
_KINDS = {
    ControlKind.SETTINGS: messages.CONTROL_KIND_SETTINGS,
    ControlKind.AGENTS: messages.CONTROL_KIND_AGENTS,
    ControlKind.TOOLS: messages.CONTROL_KIND_TOOLS,
    ControlKind.SIGNALS: messages.CONTROL_KIND_SIGNALS,
    ControlKind.ISSUERS: messages.CONTROL_KIND_ISSUERS,
}


def put_tenant(settings: Mapping[str, Any] | bytes, tenant: str, reason: str = "") -> Call[int]:
    """Return the call that sets a tenant's settings; an empty `tenant` is the caller's own."""
    return Call(
        request=messages.PutTenantRequest(
            tenant=text(tenant, "tenant"),
            settings=object_text(settings, "settings"),
            reason=text(reason, "reason"),
        ),
        read=reader(messages.PutTenantResponse, lambda answer: answer.settings_revision),
    )


def patch_tenant(patch: Mapping[str, Any] | bytes, reason: str) -> Call[tuple[int, Mapping[str, Any]]]:
    def read(answer: messages.PatchTenantResponse) -> tuple[int, Mapping[str, Any]]:
        return answer.settings_revision, _read_json(answer.settings, "settings")

    return Call(
        request=messages.PatchTenantRequest(
            settings=object_text(patch, "settings"), reason=text(reason, "reason")
        ),
        read=reader(messages.PatchTenantResponse, read),
    )


def get_change(kind: ControlKind | str, of: int, after: str) -> Call[tuple[Change, list[Replacement]]]:
    def read(answer: messages.GetChangeResponse) -> tuple[Change, list[Replacement]]:
        return _read_change(answer.change), [read_replacement(item) for item in answer.differences]

    return Call(
        request=messages.GetChangeRequest(
            kind=_KINDS[one_of(ControlKind, kind, "kind")],
            revision=revision(of, "revision"),
            after=text(after, "after"),
        ),
        read=reader(messages.GetChangeResponse, read),
    )


def get_settings(at_revision: int) -> Call[SettingsVersion]:
    return Call(
        request=messages.GetSettingsRequest(at_revision=revision(at_revision, "at_revision")),
        read=reader(messages.GetSettingsResponse, _read_settings),
    )


def list_agents(at_revision: int, after: str) -> Call[tuple[int, list[Agent]]]:
    def read(answer: messages.ListAgentsResponse) -> tuple[int, list[Agent]]:
        return answer.agents_revision, [_read_agent(agent) for agent in answer.agents]

    return Call(
        request=messages.ListAgentsRequest(
            at_revision=revision(at_revision, "at_revision"), after=text(after, "after")
        ),
        read=reader(messages.ListAgentsResponse, read),
    )


def list_signals(at_revision: int, after: str) -> Call[tuple[int, list[Signal]]]:
    def read(answer: messages.ListSignalsResponse) -> tuple[int, list[Signal]]:
        return answer.signals_revision, [_read_signal(signal) for signal in answer.signals]

    return Call(
        request=messages.ListSignalsRequest(
            at_revision=revision(at_revision, "at_revision"), after=text(after, "after")
        ),
        read=reader(messages.ListSignalsResponse, read),
    )


def list_changes(kind: ControlKind | str, before_revision: int, limit: int) -> Call[list[Change]]:
    return Call(
        request=messages.ListChangesRequest(
            kind=_KINDS[one_of(ControlKind, kind, "kind")],
            before_revision=revision(before_revision, "before_revision"),
            limit=page_limit(limit),
        ),
        read=reader(
            messages.ListChangesResponse,
            lambda answer: [_read_change(change) for change in answer.changes],
        ),
    )


def put_agents(agents: Iterable[Agent | Mapping[str, Any]], reason: str = "") -> Call[int]:
    return Call(
        request=messages.PutAgentsRequest(
            agents=[_agent_message(agent, path) for path, agent in items(agents, "agents")],
            reason=text(reason, "reason"),
        ),
        read=reader(messages.PutAgentsResponse, lambda answer: answer.agents_revision),
    )


def put_tools(
    tools: Iterable[Tool | Mapping[str, Any]],
    reason: str = "",
    on_warning: Callable[[ToolFinding], object] | None = None,
) -> Call[int]:
    def read(answer: messages.PutToolsResponse) -> int:
        return _tell(answer, on_warning)

    return Call(
        request=messages.PutToolsRequest(
            tools=[_tool_message(tool, path) for path, tool in items(tools, "tools")],
            reason=text(reason, "reason"),
        ),
        read=reader(messages.PutToolsResponse, read),
    )


def check_tools(tools: Iterable[Tool | Mapping[str, Any]]) -> Call[list[ToolFinding]]:
    return Call(
        request=messages.CheckToolsRequest(
            tools=[_tool_message(tool, path) for path, tool in items(tools, "tools")]
        ),
        read=reader(
            messages.CheckToolsResponse, lambda answer: [_read_finding(item) for item in answer.findings]
        ),
    )


def list_tools(at_revision: int, after: str) -> Call[tuple[int, list[dict[str, Any]]]]:
    def read(answer: messages.ListToolsResponse) -> tuple[int, list[dict[str, Any]]]:
        return answer.tools_revision, [tool_form(tool) for tool in answer.tools]

    return Call(
        request=messages.ListToolsRequest(
            at_revision=revision(at_revision, "at_revision"), after=text(after, "after")
        ),
        read=reader(messages.ListToolsResponse, read),
    )


def tool_history(before_revision: int, limit: int) -> Call[list[ToolRevision]]:
    return Call(
        request=messages.ListToolHistoryRequest(
            before_revision=revision(before_revision, "before_revision"), limit=page_limit(limit)
        ),
        read=reader(
            messages.ListToolHistoryResponse,
            lambda answer: [_read_change(change) for change in answer.revisions],
        ),
    )


def roll_back_tools(
    to_revision: int, reason: str = "", on_warning: Callable[[ToolFinding], object] | None = None
) -> Call[int]:
    def read(answer: messages.RollbackToolsResponse) -> int:
        return _tell(answer, on_warning)

    return Call(
        request=messages.RollbackToolsRequest(
            to_revision=revision(to_revision, "to_revision"), reason=text(reason, "reason")
        ),
        read=reader(messages.RollbackToolsResponse, read),
    )


def put_signals(signals: Iterable[Signal | Mapping[str, Any]], reason: str = "") -> Call[int]:
    return Call(
        request=messages.PutSignalsRequest(
            signals=[_signal_message(signal, path) for path, signal in items(signals, "signals")],
            reason=text(reason, "reason"),
        ),
        read=reader(messages.PutSignalsResponse, lambda answer: answer.signals_revision),
    )


def put_issuer_keys(issuer: str, jwks: Mapping[str, Any] | bytes, reason: str = "") -> Call[int]:
    return Call(
        request=messages.PutIssuerKeysRequest(
            issuer=text(issuer, "issuer"), jwks=object_text(jwks, "jwks"), reason=text(reason, "reason")
        ),
        read=reader(messages.PutIssuerKeysResponse, lambda answer: answer.issuers_revision),
    )


def list_issuer_keys() -> Call[list[IssuerKeys]]:
    return Call(
        request=messages.ListIssuerKeysRequest(),
        read=reader(
            messages.ListIssuerKeysResponse,
            lambda answer: [_read_issuer_keys(issuer) for issuer in answer.issuers],
        ),
    )


def _agent_message(value: Agent | Mapping[str, Any], path: str) -> messages.Agent:
    agent = value if isinstance(value, Agent) else Agent(**members(value, path, _AGENT, required=("agent",)))
    message = messages.Agent(
        agent=text(agent.agent, f"{path}.agent"),
        owner=text(agent.owner, f"{path}.owner"),
        trust_explanation=text(agent.trust_explanation, f"{path}.trust_explanation"),
        model=text(agent.model, f"{path}.model"),
        version=text(agent.version, f"{path}.version"),
    )
    if agent.trust is not None:
        message.trust = _score(agent.trust, f"{path}.trust")
    return message


def _score(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not 0 <= value <= 1:
        raise invalid(path, "must be a number from 0 to 1")
    if isinstance(value, Decimal) and Decimal(str(float(value))) != value:
        raise invalid(path, "has more digits than are sent, 17 at most")
    return float(value)


def _signal_message(value: Signal | Mapping[str, Any], path: str) -> messages.Signal:
    if isinstance(value, Signal):
        signal = value
    else:
        signal = Signal(**members(value, path, _SIGNAL, required=("name", "value")))
    message = messages.Signal(
        name=text(signal.name, f"{path}.name"), value=json_text(signal.value, f"{path}.value")
    )
    if signal.expires_at is not None:
        message.expires_at.CopyFrom(instant(signal.expires_at, f"{path}.expires_at"))
    return message


def _tool(value: Tool | Mapping[str, Any], path: str) -> Tool:
    if isinstance(value, Tool):
        return value
    given = members(value, path, _TOOL, required=("name", "effect"))
    amount = given.get("amount")
    if amount is not None and not isinstance(amount, AmountRole):
        given["amount"] = AmountRole(**members(amount, f"{path}.amount", _AMOUNT, required=("argument",)))
    return Tool(**given)


def _tool_message(value: Tool | Mapping[str, Any], path: str) -> messages.Tool:
    tool = _tool(value, path)
    message = messages.Tool(
        name=text(tool.name, f"{path}.name"),
        effect=TOOL_EFFECT_NUMBERS[one_of(ToolEffect, tool.effect, f"{path}.effect")],
        resource=text(tool.resource, f"{path}.resource"),
        secret_arguments=texts(tool.secret_arguments, f"{path}.secret_arguments"),
        description=text(tool.description, f"{path}.description"),
    )
    if tool.arguments_schema is not None:
        message.arguments_schema = object_text(tool.arguments_schema, f"{path}.arguments_schema")
    if tool.amount is not None:
        message.amount.CopyFrom(_amount_message(tool.amount, f"{path}.amount"))
    add_parts(
        message,
        path,
        reversible=tool.reversible,
        argument_roles=tool.argument_roles,
        normalise=tool.normalise,
        entities=tool.entities,
        business_key=tool.business_key,
        prerequisites=tool.prerequisites,
        output=tool.output,
        redeem=tool.redeem,
        glob=tool.glob,
        audience=tool.audience,
    )
    return message


def _amount_message(amount: AmountRole, path: str) -> messages.Amount:
    if not isinstance(amount.unit, str) or amount.unit not in AMOUNT_UNIT_NUMBERS:
        raise invalid(f"{path}.unit", "must be major or minor")
    message = messages.Amount(
        argument=text(amount.argument, f"{path}.argument"), unit=AMOUNT_UNIT_NUMBERS[amount.unit]
    )
    if amount.currency_argument is not None and amount.currency_code is not None:
        raise invalid(path, "has currency_argument and currency_code; give one")
    if amount.currency_argument is not None:
        message.currency_argument = text(amount.currency_argument, f"{path}.currency_argument")
    if amount.currency_code is not None:
        message.currency_code = text(amount.currency_code, f"{path}.currency_code")
    message.allow_zero = flag(amount.allow_zero, f"{path}.allow_zero")
    return message


def _read_change(message: messages.Change | messages.ToolRevision) -> Change:
    return Change(
        revision=message.revision,
        written_at=read_instant(message.written_at, "written_at"),
        written=tuple(message.written),
        removed=tuple(message.removed),
        by=read_attribution(message),
    )


def _tell(
    answer: messages.PutToolsResponse | messages.RollbackToolsResponse,
    on_warning: Callable[[ToolFinding], object] | None,
) -> int:
    """Return the revision that was written, once what is doubtful in it was told."""
    if on_warning is not None:
        for item in answer.warnings:
            on_warning(_read_finding(item))
    return answer.tools_revision


def _read_finding(message: messages.ToolFinding) -> ToolFinding:
    return ToolFinding(
        tool=message.tool,
        field=message.field,
        # A severity that this client does not know is no warning.
        is_error=message.severity != messages.FINDING_SEVERITY_WARNING,
        code=message.code,
        message=message.message,
    )


def read_replacement(message: messages.Difference) -> Replacement:
    """Return what a write said, or would say, of one thing, and what had been said before."""
    return Replacement(
        name=message.name,
        before=_read_json(message.before, "before") if message.HasField("before") else None,
        after=_read_json(message.after, "after") if message.HasField("after") else None,
    )


def _read_json(data: bytes, field: str) -> Any:
    """Return a value of JSON in an answer, whatever its size."""
    try:
        return parse_value(data, field=field, max_bytes=_MAX_VALUE, max_depth=_MAX_VALUE_DEPTH)
    except CanonicalError as exc:
        raise AnswerError(f"{field} cannot be read: {exc}") from exc


def _read_settings(message: messages.GetSettingsResponse) -> SettingsVersion:
    try:
        settings = parse_object(message.settings, field="settings")
    except CanonicalError as exc:
        raise AnswerError(f"the settings cannot be read: {exc}") from exc
    return SettingsVersion(
        settings=settings,
        revision=message.settings_revision,
        written_at=read_instant(message.written_at, "written_at"),
        by=read_attribution(message),
    )


def _read_agent(message: messages.Agent) -> Agent:
    return Agent(
        agent=message.agent,
        owner=message.owner,
        trust=message.trust if message.HasField("trust") else None,
        trust_explanation=message.trust_explanation,
        model=message.model,
        version=message.version,
    )


def _read_signal(message: messages.Signal) -> Signal:
    try:
        value = parse_value(message.value, field="value")
    except CanonicalError as exc:
        raise AnswerError(f"the signal {message.name} cannot be read: {exc}") from exc
    return Signal(
        name=message.name,
        value=value,
        expires_at=read_instant(message.expires_at, "expires_at") if message.HasField("expires_at") else None,
    )


def _read_issuer_keys(message: messages.IssuerKeys) -> IssuerKeys:
    try:
        jwks = parse_object(message.jwks, field="jwks")
    except CanonicalError as exc:
        raise AnswerError(f"the keys of an issuer cannot be read: {exc}") from exc
    return IssuerKeys(
        issuer=message.issuer,
        jwks=jwks,
        revision=message.revision,
        written_at=read_instant(message.written_at, "written_at"),
        by=read_attribution(message),
    )
