"""The model's values in the forms that the tables hold, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import orjson

from pdp.action.registration import read_details, registration
from pdp.authority.boundary import intern_boundary, read_boundary
from pdp.model import (
    JSON,
    Aggregates,
    AmountRole,
    AmountUnit,
    Boundary,
    Bucket,
    CounterKey,
    GrantRow,
    Outcome,
    Session,
    SessionState,
    Task,
    Tool,
    ToolEffect,
)
from placet._wire.boundary import boundary_json

# Columns that `session_from_row`, `grant_from_row` and `tool_from_row` read.
SESSION_WIDTH = 20
GRANT_WIDTH = 12
TOOL_WIDTH = 12


def json_text(value: JSON) -> str:
    """Return `value` as JSON text; a Decimal is a number, digit for digit. ValueError if not finite."""
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError("JSON has no such number")
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(k)}:{json_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(json_text(item) for item in value) + "]"
    if isinstance(value, float):
        raise TypeError("a float is not a JSON value here")
    return json.dumps(value)


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def json_value(text: str | bytes) -> Any:
    """Return JSON text as a value; numbers are int or Decimal. Raises ValueError."""
    return json.loads(text, parse_float=Decimal, parse_constant=_no_constant)


def boundary_text(boundary: Boundary) -> str:
    """Return the boundary as JSON text, decimals as strings."""
    return json.dumps(boundary_json(boundary), separators=(",", ":"))


@lru_cache(maxsize=1024)
def boundary_from(text: str) -> Boundary:
    """Inverse of `boundary_text`. The cache is of the parsing alone: equal text, equal boundary."""
    return intern_boundary(read_boundary(json.loads(text)))


@lru_cache(maxsize=512)
def buckets_text(buckets: tuple[Bucket, ...]) -> str:
    """What most decisions do not change is written once."""
    return orjson.dumps([tuple(bucket) for bucket in buckets]).decode()


@lru_cache(maxsize=512)
def buckets_from(text: str) -> tuple[Bucket, ...]:
    """Equal text, equal buckets: what most decisions do not change is read once."""
    return () if text == "[]" else tuple(map(Bucket._make, orjson.loads(text)))


def totals_text(totals: Sequence[tuple[CounterKey, int]]) -> str:
    return json.dumps([[key.scope, key.unit, add] for key, add in totals], separators=(",", ":"))


def totals_from(text: str) -> tuple[tuple[CounterKey, int], ...]:
    return tuple((CounterKey(scope=scope, unit=unit), add) for scope, unit, add in json.loads(text))


def conflicts_text(conflicts: Sequence[tuple[Outcome, bool]]) -> str:
    return json.dumps(conflicts, separators=(",", ":"))


def conflicts_from(text: str) -> tuple[tuple[Outcome, bool], ...]:
    return tuple((Outcome(outcome), believed) for outcome, believed in json.loads(text))


def session_from_row(row: Sequence[Any]) -> Session:
    """Read session_id, task_id, task_description, task_prompt, principal, agent, issuer, boundary, state,
    version, opened_at, expires_at, closed_at, allowed, blocked, escalated, pay, last_receipt, completed_at,
    template."""
    return Session(
        session_id=row[0],
        task=Task(id=row[1], description=row[2], prompt=row[3]),
        principal=row[4],
        agent=row[5],
        issuer=row[6],
        boundary=boundary_from(row[7]),
        state=SessionState(row[8]),
        version=row[9],
        opened_at=row[10],
        expires_at=row[11],
        closed_at=row[12],
        aggregates=Aggregates(allow=row[13], block=row[14], escalate=row[15], pay=buckets_from(row[16])),
        last_receipt=row[17],
        completed_at=row[18],
        template=None if row[19] is None else boundary_from(row[19]),
    )


def grant_from_row(row: Iterable[Any]) -> GrantRow:
    """Read grant_hash, session_id, parent_hash, agent, delegated_by, depth, purpose, issued_at, expires_at,
    revoked_at, revoked_by, revoke_reason."""
    return GrantRow._make(row)


def tool_from_row(row: Sequence[Any]) -> Tool:
    """Read what `_tool` says. The cache is of the parsing alone: equal rows, the same object."""
    return _tool(*row[:8], tuple(row[8]), *row[9:])


@lru_cache(maxsize=4096)
def _tool(*row: Any) -> Tool:
    """Read name, effect, resource, arguments_schema, amount_argument, amount_unit,
    amount_currency_argument, amount_currency_code, secret_arguments, description, revision, details."""
    amount = None
    if row[4] is not None:
        amount = AmountRole(
            argument=row[4],
            unit=AmountUnit(row[5]) if row[5] is not None else None,
            currency_argument=row[6],
            currency_code=row[7],
        )
    return Tool(
        name=row[0],
        effect=ToolEffect(row[1]),
        resource=row[2],
        arguments_schema=row[3],
        amount=amount,
        secret_arguments=row[8],
        description=row[9],
        revision=row[10],
        **read_details(json.loads(row[11])),
    )


def tool_text(tool: Tool) -> str:
    """Return what a tool's revision said, as JSON text."""
    return json_text(registration(tool))


def instant_text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
