"""Values as JSON has them: the same names as in Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from placet.model import AmountLimit, Decision, Figures, Simulation

_HIDDEN = frozenset(
    {
        "failure",
        "valid_until",
        "clock",
        "executed",
        "retry_after",
        "receipt",
        "input_document",
        "secret_salt",
    }
)
_SPANS = ("window", "retry_after")
# The members that `decision_json` always has.
DECISION_NAMES = frozenset(item.name for item in fields(Decision)) - _HIDDEN | {
    "allowed",
    "receipt",
    "retry_after_seconds",
}


def decision_json(decision: Decision) -> dict[str, Any]:
    """Return a decision as JSON, with its receipt as text and with what went wrong."""
    result = {
        item.name: getattr(decision, item.name) for item in fields(decision) if item.name not in _HIDDEN
    }
    result["allowed"] = decision.allowed
    result["receipt"] = decision.receipt.decode("ascii", "replace")
    result["retry_after_seconds"] = _seconds(decision.retry_after)
    if decision.input_document:
        result["input_document"] = decision.input_document.decode("utf-8", "replace")
    if decision.failure is not None:
        result["failure"] = {"message": str(decision.failure)} | error_json(decision.failure)
    found: dict[str, Any] = plain(result)
    return found


def simulation_json(simulation: Simulation) -> dict[str, Any]:
    """Return a simulation as JSON."""
    names = [item.name for item in fields(simulation) if item.name not in ("retry_after", "input_document")]
    result: dict[str, Any] = plain({name: getattr(simulation, name) for name in names})
    result["retry_after_seconds"] = _seconds(simulation.retry_after)
    result["input_document"] = simulation.input_document.decode("utf-8", "replace")
    return result


def error_json(error: Any) -> dict[str, Any]:
    """Return what is known of a `PlacetError` as JSON."""
    return {
        "code": None if error.code is None else error.code.name,
        "reason": error.reason,
        "violations": [{"field": item.field, "description": item.description} for item in error.violations],
        "retry_after_seconds": _seconds(error.retry_after),
        "request_id": error.request_id,
    }


def plain(value: Any) -> Any:
    """Return a value in types of JSON; instants are text in UTC."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g} s"
    if isinstance(value, AmountLimit):
        # As text: readers of JSON make a binary float of a number.
        return {"currency": value.currency, "per_action": format(value.per_action, "f")}
    if isinstance(value, Figures):
        numbers = {item.name: getattr(value, item.name) for item in fields(value) if item.name not in _SPANS}
        return numbers | {f"{name}_seconds": _seconds(getattr(value, name)) for name in _SPANS}
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()
