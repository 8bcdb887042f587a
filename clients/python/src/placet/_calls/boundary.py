"""Boundaries as callers give them and as answers have them; `placet._wire.boundary` has the written forms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import timedelta
from decimal import InvalidOperation
from typing import Any

from placet._calls.fields import count, decimal, items, members, one_of, span, text, texts
from placet._wire import boundary as written
from placet.errors import AnswerError, invalid
from placet.model import (
    AmountLimit,
    AttributeRule,
    Boundary,
    OnExceed,
    ResourceRule,
    ToolEffect,
    VelocityLimit,
)
from placet.v1 import session_service_pb2 as sessions

_MEMBERS = frozenset(field.name for field in fields(Boundary))


def boundary_message(value: Boundary | Mapping[str, Any]) -> sessions.Boundary:
    """Return the message of what a caller gave.

    Raises `InvalidRequestError` with the path of what is wrong.
    """
    return written.boundary_message(checked_boundary(value))


def read_boundary(message: sessions.Boundary) -> Boundary:
    """Return the boundary of an answer. Raises `AnswerError` for what is not whole or not known."""
    try:
        form = written.message_json(message)
        if any(rule.get("ids") == [] for rule in form["resources"]):
            raise AnswerError("the boundary has a rule that permits nothing known")
        return written.read_boundary(form)
    except written.BoundaryError as exc:
        raise AnswerError(f"the boundary cannot be read: {exc}") from exc
    except InvalidOperation as exc:
        raise AnswerError("the boundary has an amount that is no decimal number") from exc
    except OverflowError as exc:
        raise AnswerError("the boundary has a window that is no duration") from exc


def checked_boundary(value: Boundary | Mapping[str, Any]) -> Boundary:
    """Return a boundary each part of which is of the type that it should be."""
    given = value if isinstance(value, Boundary) else Boundary(**members(value, "boundary", _MEMBERS))
    return Boundary(
        tools=tuple(texts(given.tools, "boundary.tools")),
        effects=_effects(given.effects, "boundary.effects"),
        resources=tuple(
            _resource_rule(rule, path) for path, rule in items(given.resources, "boundary.resources")
        ),
        amounts=tuple(_amount_limits(given.amounts, "boundary.amounts")),
        after_completion=tuple(texts(given.after_completion, "boundary.after_completion")),
        max_actions=None
        if given.max_actions is None
        else count(given.max_actions, "boundary.max_actions", most=2**64 - 1),
        velocity=tuple(
            _velocity_limit(limit, path) for path, limit in items(given.velocity, "boundary.velocity")
        ),
    )


def _effects(value: Any, path: str) -> tuple[ToolEffect, ...]:
    return tuple(one_of(ToolEffect, effect, place) for place, effect in items(value, path))


def _resource_rule(value: Any, path: str) -> ResourceRule:
    """Read a rule, or its text: "invoice:INV-1" is one resource, "vendor:ACME-*" are those that start so."""
    if isinstance(value, ResourceRule):
        rule = value
    elif isinstance(value, str):
        kind, colon, name = value.partition(":")
        if not kind or not colon or not name:
            raise invalid(path, f"{value!r} is not type:id or type:prefix*")
        prefix = name.endswith("*")
        rule = ResourceRule(type=kind, prefix=name[:-1]) if prefix else ResourceRule(type=kind, id=name)
    else:
        known = {"type", "id", "prefix", "ids", "attribute"}
        rule = ResourceRule(**members(value, path, known, required={"type"}))
    if [rule.id, rule.prefix, rule.ids, rule.attribute].count(None) != 3:
        raise invalid(path, "needs exactly one of id, prefix, ids and attribute")
    return ResourceRule(
        type=text(rule.type, f"{path}.type"),
        id=None if rule.id is None else text(rule.id, f"{path}.id"),
        prefix=None if rule.prefix is None else text(rule.prefix, f"{path}.prefix"),
        ids=None if rule.ids is None else tuple(texts(rule.ids, f"{path}.ids")),
        attribute=None if rule.attribute is None else _attribute_rule(rule.attribute, f"{path}.attribute"),
    )


def _attribute_rule(value: Any, path: str) -> AttributeRule:
    names = ("of_type", "attribute")
    rule = (
        value
        if isinstance(value, AttributeRule)
        else AttributeRule(**members(value, path, names, required=names))
    )
    return AttributeRule(
        of_type=text(rule.of_type, f"{path}.of_type"), attribute=text(rule.attribute, f"{path}.attribute")
    )


def _amount_limits(value: Any, path: str) -> Iterable[AmountLimit]:
    """Read a list of limits, or {"EUR": "5000.00"}: that much per action."""
    if isinstance(value, Mapping):
        for currency, most in value.items():
            yield AmountLimit(currency=text(currency, path), per_action=decimal(most, f"{path}.{currency}"))
        return
    for place, item in items(value, path):
        yield _amount_limit(item, place)


def _amount_limit(value: Any, path: str) -> AmountLimit:
    if isinstance(value, AmountLimit):
        limit = value
    else:
        known = {"currency", "per_action", "total", "per_counterparty", "on_exceed"}
        given = members(value, path, known, required=("currency", "per_action"))
        # An explicit null is refused: it might have been meant as anything but "no limit".
        for name in {"total", "per_counterparty"} & set(given):
            given[name] = decimal(given[name], f"{path}.{name}")
        limit = AmountLimit(**given)
    return AmountLimit(
        currency=text(limit.currency, f"{path}.currency"),
        per_action=decimal(limit.per_action, f"{path}.per_action"),
        total=None if limit.total is None else decimal(limit.total, f"{path}.total"),
        per_counterparty=None
        if limit.per_counterparty is None
        else decimal(limit.per_counterparty, f"{path}.per_counterparty"),
        on_exceed=one_of(OnExceed, limit.on_exceed, f"{path}.on_exceed"),
    )


def _velocity_limit(value: Any, path: str) -> VelocityLimit:
    """Read a limit, or {"max": 5, "window": 60} with `effects` and `on_exceed` where it matters.

    The window may also be called `window_seconds`, as it is in settings and tokens.
    """
    name = "window"
    if isinstance(value, VelocityLimit):
        limit = value
    else:
        if isinstance(value, Mapping) and "window_seconds" in value:
            name = "window_seconds"
        given = members(value, path, {"max", name, "effects", "on_exceed"}, required=("max", name))
        limit = VelocityLimit(window=given.pop(name), **given)
    window = span(limit.window, f"{path}.{name}")
    if window % timedelta(seconds=1):
        raise invalid(f"{path}.{name}", "must be whole seconds")
    return VelocityLimit(
        effects=_effects(limit.effects, f"{path}.effects"),
        max=count(limit.max, f"{path}.max", most=2**32 - 1),
        window=window,
        on_exceed=one_of(OnExceed, limit.on_exceed, f"{path}.on_exceed"),
    )
