"""Documents of operators and issuers with any JSON at any place: read, or refused by the name of a field."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pdp.action.lint import lint_registrations, refuse_errors
from pdp.authority.boundary import parse_boundary
from pdp.authority.settings import parse_settings
from pdp.config.callers import CallerMapping, JwtConfig
from pdp.errors import InvalidFieldError
from pdp.server.messages import control_plane
from pdp.server.messages import tools as tool_messages
from pdp.sessions.task_tokens import issuer_keys
from placet._calls.registry import put_agents, put_signals, put_tools
from placet._wire.boundary import boundary_json
from placet.canonical import CanonicalError, parse_value
from placet.errors import InvalidRequestError
from tests.support import builders, every_field

APPROVAL = replace(builders.tool("bills.approve"), arguments_schema='{"properties": {"invoice": {}}}')
BOUNDARY = boundary_json(every_field.BOUNDARY)
SETTINGS: dict[str, Any] = {
    "trust_floor": {"pay": 0.5},
    "large_amount": {"EUR": "1000"},
    "dual_control_amount": {"EUR": "5000"},
    "po_tolerance": 0.02,
    "variance_block_factor": 2,
    "velocity": {"payments": {"max": 3, "window_seconds": 60, "on_exceed": "block"}},
    "allow_ttl_seconds": 60,
    "boundary_template": BOUNDARY,
    "budgets": [
        {
            "name": "day",
            "scope": "tenant",
            "currency": "EUR",
            "max": "9",
            "on_exceed": "block",
            "window_seconds": 60,
        }
    ],
    "counterparty_session_total": {"EUR": {"max": "9", "on_exceed": "block"}},
    "max_chain_depth": 4,
    "distinct_runtimes": True,
    "session_proof": "id",
    "order_used": {"on_exceed": "block"},
}
TOOL: dict[str, Any] = {
    "name": "bills.settle",
    "effect": "pay",
    "reversible": True,
    "resource": "bill:{invoice}",
    "description": "Settle",
    "arguments_schema": {
        "type": "object",
        "properties": {
            "invoice": {"type": "string", "pattern": "^B-"},
            "amount": {"type": ["number", "string"]},
            "pin": {"$ref": "#/$defs/pin"},
            "headers": {"additionalProperties": {"type": "string"}},
            "items": {"items": {"anyOf": [{"properties": {"token": {}}}]}},
        },
        "$defs": {"pin": {"type": "string", "enum": ["a"], "if": {}, "then": {}}},
        "patternProperties": {"^x": {"allOf": [{}]}},
        "required": ["invoice"],
        "additionalProperties": False,
    },
    "amount": {"argument": "amount", "unit": "major", "currency_code": "EUR", "allow_zero": True},
    "secret_arguments": ["pin", "headers.Authorization", "items[].token"],
    "argument_roles": {"invoice": "selector"},
    "normalise": {"invoice": ["trim", "path"]},
    "entities": [
        {
            "name": "invoice",
            "type": "bill",
            "id": "{invoice}",
            "role": "record",
            "currency_attribute": "money",
            "status_attribute": "state",
            "total_attribute": "total",
            "open_attribute": "open",
            "measure": "net",
            "posted": "linked",
        },
        {
            "name": "vendor",
            "type": "vendor",
            "via": {"entity": "invoice", "attribute": "vendor"},
            "role": "counterparty",
        },
    ],
    "business_key": {"name": "settled", "arguments": ["invoice"]},
    "prerequisites": [{"tool": "bills.approve", "same": ["invoice"], "required": True, "consumed": True}],
    "output": {"format": "json", "fields": {"id": "record"}, "author_field": "from"},
    "redeem": "required",
    "glob": True,
    "audience": "erp",
}
AGENT: dict[str, Any] = {
    "agent": "agent:a",
    "owner": "o",
    "trust": 0.5,
    "trust_explanation": "x",
    "model": "m",
    "version": "v",
}
SIGNAL: dict[str, Any] = {"name": "n", "value": {"x": [1]}, "expires_at": "2027-01-01T00:00:00Z"}
KEYS: dict[str, Any] = {
    "keys": [
        {
            "kty": "OKP",
            "crv": "Ed25519",
            "kid": "k",
            "use": "sig",
            "alg": "EdDSA",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        }
    ]
}
CALLER: dict[str, Any] = {
    "match": {"issuer": "i", "claim": {"name": "a", "value": "b"}},
    "tenant": "t",
    "subject": "s",
    "roles": ["tool"],
    "tools": ["bills.*"],
    "audiences": ["erp"],
    "asks_as": "x",
}
JWT: dict[str, Any] = {
    "issuer": "i",
    "audience": "a",
    "principal_audience": "p",
    "jwks_url": "https://id.example.org/keys",
    "algorithms": ["ES256"],
    "leeway_seconds": 30,
    "jwks_max_age_seconds": 3600,
    "tenant_claim": "t",
    "claims": ["c"],
    "subject_prefix": "x:",
}


def read_settings(document: Any) -> None:
    parse_settings(json.dumps(document).encode())


def read_boundary(document: Any) -> None:
    parse_boundary(parse_value(json.dumps(document).encode(), field="boundary"), "boundary")


def read_tool(document: Any) -> None:
    tools = tool_messages.tools(put_tools([document]).request)
    for found in lint_registrations(tools, registered=[APPROVAL]):
        refuse_errors(found)


def read_agent(document: Any) -> None:
    control_plane.agents(put_agents([document]).request)


def read_signal(document: Any) -> None:
    control_plane.signals(put_signals([document]).request)


def read_keys(document: Any) -> None:
    issuer_keys(json.dumps(document).encode())


def read_caller(document: Any) -> None:
    CallerMapping.model_validate(document)


def read_jwt(document: Any) -> None:
    JwtConfig.model_validate(document)


READERS: list[tuple[Callable[[Any], None], Any]] = [
    (read_settings, SETTINGS),
    (read_boundary, BOUNDARY),
    (read_tool, TOOL),
    (read_agent, AGENT),
    (read_signal, SIGNAL),
    (read_keys, KEYS),
    (read_caller, CALLER),
    (read_jwt, JWT),
]
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "x", " ", "\0", "{", "{a}", "*", "EUR", "1e9", "9" * 50, "a" * 600, "é", "[].a"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["", "x", "EUR", "type", "$ref", "é"]), inner, max_size=2)
    ),
    max_leaves=4,
)


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(document, dict | list):
        for key, value in document.items() if isinstance(document, dict) else enumerate(document):
            yield from places(value, (*path, key))


def placed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = deepcopy(document)
    at = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return changed


@pytest.mark.parametrize(("read", "document"), READERS, ids=lambda value: getattr(value, "__name__", ""))
def test_document_is_read(read: Callable[[Any], None], document: Any) -> None:
    read(document)


@pytest.mark.parametrize(("read", "document"), READERS, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("odd", [None, [], {}, [[]], {"x": {}}, True, 0, -1, 10**40, 0.1, "", "x", "é" * 600])
def test_odd_value_at_each_place(read: Callable[[Any], None], document: Any, odd: Any) -> None:
    for path in places(document):
        read_or_refused(read, placed(document, path, odd))


@settings(max_examples=300)
@given(data=st.data())
def test_any_value_at_any_place(data: st.DataObject) -> None:
    read, document = data.draw(st.sampled_from(READERS))
    path = data.draw(st.sampled_from(list(places(document))))
    read_or_refused(read, placed(document, path, data.draw(ODD)))


def read_or_refused(read: Callable[[Any], None], document: Any) -> None:
    fields: list[str] = []
    try:
        read(document)
    except (InvalidFieldError, CanonicalError) as exc:
        fields = [exc.field]
    except InvalidRequestError as exc:
        fields = [violation.field for violation in exc.violations]
    except ValidationError as exc:
        fields = [str(error["loc"]) for error in exc.errors()]
    except Exception as exc:
        raise AssertionError(f"{type(exc).__name__}: {exc} for {json.dumps(document)}") from exc
    else:
        return
    assert fields
    assert all(fields)
