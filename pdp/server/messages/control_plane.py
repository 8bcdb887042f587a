"""Tenants: their settings, agents, signals and issuers of task tokens, as operators write them."""

from __future__ import annotations

import math
from decimal import Decimal

from pdp.authority.settings import parse_settings
from pdp.errors import InvalidFieldError
from pdp.model import Agent, IssuerKeys, Signal
from pdp.names import name, optional_name, text, unique
from pdp.server.messages.attribution import attribution_message
from pdp.server.messages.fields import MAX_TEXT, check_count, instant_of, timestamp
from placet.canonical import CanonicalError, canonical_json, parse_value
from placet.v1 import admin_service_pb2 as admin

MAX_SIGNAL = 4 * 1024


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
            trust = Decimal(str(round(agent.trust, 4)))
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


def issuer_keys_message(issuer: IssuerKeys) -> admin.IssuerKeys:
    return admin.IssuerKeys(
        issuer=issuer.issuer,
        jwks=canonical_json({"keys": [dict(key) for key in issuer.keys]}),
        revision=issuer.revision,
        written_at=None if issuer.written_at is None else timestamp(issuer.written_at),
        by=attribution_message(issuer.by),
    )
