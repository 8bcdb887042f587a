"""Tenants: their settings, agents, signals and issuers of task tokens, as operators write them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal

import orjson

from pdp.authority.settings import parse_settings, score
from pdp.errors import InvalidFieldError
from pdp.jsontext import exact_number
from pdp.model import Agent, ControlKind, ControlRevision, Difference, IssuerKeys, SettingsVersion, Signal
from pdp.names import name, optional_name, text, unique
from pdp.server.messages.attribution import attribution_message
from pdp.server.messages.fields import MAX_TEXT, check_count, instant_of, timestamp
from placet.canonical import CanonicalError, canonical_json, parse_value
from placet.v1 import admin_service_pb2 as admin

MAX_SIGNAL = 4 * 1024
_KINDS = {
    admin.CONTROL_KIND_SETTINGS: ControlKind.SETTINGS,
    admin.CONTROL_KIND_AGENTS: ControlKind.AGENTS,
    admin.CONTROL_KIND_TOOLS: ControlKind.TOOLS,
    admin.CONTROL_KIND_SIGNALS: ControlKind.SIGNALS,
    admin.CONTROL_KIND_ISSUERS: ControlKind.ISSUERS,
}

# Bytes of what a write would change, in one answer.
MAX_PREVIEW = 1024 * 1024


def tenant(message: admin.PutTenantRequest) -> str:
    """Return the tenant that is named; empty if none is."""
    return optional_name(message.tenant, "tenant")


def settings(message: admin.PutTenantRequest) -> bytes:
    """Return the settings (a JSON object) as they were sent, checked; no settings are an empty object."""
    given = message.settings or b"{}"
    parse_settings(given)
    return given


def agents(message: admin.PutAgentsRequest) -> list[Agent]:
    check_count(message.agents, "agents", least=1)
    result = []
    for index, agent in enumerate(message.agents):
        path = f"agents[{index}]"
        trust = None
        if agent.HasField("trust"):
            if math.isnan(agent.trust) or not 0 <= agent.trust <= 1:
                raise InvalidFieldError(f"{path}.trust", "must be a number from 0 to 1")
            trust = score(Decimal(str(agent.trust)), f"{path}.trust")
        result.append(
            Agent(
                agent=name(agent.agent, f"{path}.agent"),
                owner=optional_name(agent.owner, f"{path}.owner"),
                trust=trust,
                trust_explanation=text(agent.trust_explanation, f"{path}.trust_explanation", MAX_TEXT),
                model=optional_name(agent.model, f"{path}.model"),
                version=optional_name(agent.version, f"{path}.version"),
            )
        )
    unique([agent.agent for agent in result], "agents", "agent")
    return result


def signals(message: admin.PutSignalsRequest) -> list[Signal]:
    check_count(message.signals, "signals", least=1)
    result = []
    for index, signal in enumerate(message.signals):
        path = f"signals[{index}]"
        try:
            value = parse_value(signal.value, field=f"{path}.value", max_bytes=MAX_SIGNAL)
        except CanonicalError as exc:
            raise InvalidFieldError(exc.field, exc.reason) from exc
        result.append(
            Signal(
                name=name(signal.name, f"{path}.name"),
                value=value,
                expires_at=instant_of(signal.expires_at, f"{path}.expires_at")
                if signal.HasField("expires_at")
                else None,
            )
        )
    unique([signal.name for signal in result], "signals", "name")
    return result


def kind(message: admin.ListChangesRequest | admin.GetChangeRequest) -> ControlKind:
    """Return the kind that is asked for, which is required."""
    if message.kind not in _KINDS:
        raise InvalidFieldError("kind", "must be one of the known kinds")
    return _KINDS[message.kind]


def settings_message(version: SettingsVersion) -> admin.GetSettingsResponse:
    return admin.GetSettingsResponse(
        settings=version.settings,
        settings_revision=version.revision,
        written_at=timestamp(version.written_at),
        by=attribution_message(version.by),
    )


def agent_message(agent: Agent) -> admin.Agent:
    return admin.Agent(
        agent=agent.agent,
        owner=agent.owner,
        trust=None if agent.trust is None else float(agent.trust),
        trust_explanation=agent.trust_explanation,
        model=agent.model,
        version=agent.version,
    )


def signal_message(signal: Signal) -> admin.Signal:
    return admin.Signal(
        name=signal.name,
        value=orjson.dumps(signal.value, default=exact_number),
        expires_at=None if signal.expires_at is None else timestamp(signal.expires_at),
    )


def change_message(change: ControlRevision) -> admin.Change:
    return admin.Change(
        revision=change.revision,
        written_at=timestamp(change.written_at),
        written=change.written,
        removed=change.removed,
        by=attribution_message(change.by),
    )


def difference_message(difference: Difference) -> admin.Difference:
    return admin.Difference(
        name=difference.name,
        before=None if difference.before is None else difference.before.encode(),
        after=None if difference.after is None else difference.after.encode(),
    )


def preview_message(differences: Sequence[Difference]) -> admin.PreviewWriteResponse:
    """Return as many differences as fit, and how many do not."""
    message = admin.PreviewWriteResponse()
    size = 0
    for count, difference in enumerate(differences):
        item = difference_message(difference)
        size += item.ByteSize()
        if message.differences and size > MAX_PREVIEW:
            message.more = len(differences) - count
            break
        message.differences.append(item)
    return message


def tool_revision_message(change: ControlRevision) -> admin.ToolRevision:
    return admin.ToolRevision(
        revision=change.revision,
        written_at=timestamp(change.written_at),
        written=change.written,
        removed=change.removed,
        by=attribution_message(change.by),
    )


def issuer_keys_message(issuer: IssuerKeys) -> admin.IssuerKeys:
    return admin.IssuerKeys(
        issuer=issuer.issuer,
        jwks=canonical_json({"keys": [dict(key) for key in issuer.keys]}),
        revision=issuer.revision,
        written_at=None if issuer.written_at is None else timestamp(issuer.written_at),
        by=attribution_message(issuer.by),
    )
