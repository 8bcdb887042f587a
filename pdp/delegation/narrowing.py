"""Narrowing: whether one boundary lies within another. Pure.

Narrowing is proven from the two boundaries alone. What cannot be proven so does not lie within.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from pdp.model import AmountLimit, AttributeRule, Boundary, ResourceRule, ToolEffect, VelocityLimit


@lru_cache(maxsize=512)
def find_excess(child: Boundary, parent: Boundary) -> str | None:
    """Return the first part of `child` that is not proven to lie within `parent`; None: all of it does.

    A part is named like "tools[0]", "resources[2]", "amounts[EUR].total", "max_actions", "velocity".
    Which effect a tool has is not known here, so a tool must be named in `parent` as a tool, and an
    effect as an effect. The result is kept for equal boundaries: a chain is verified again with each
    of its actions.
    """
    return next(_excess(child, parent), None)


def _excess(child: Boundary, parent: Boundary) -> Iterator[str]:
    yield from _not_among("tools", child.tools, parent.tools)
    yield from _not_among("effects", child.effects, parent.effects)
    own, permitted = _Resources(child), _Resources(parent)
    for index, rule in enumerate(child.resources):
        if not permitted.covers(rule, own):
            yield f"resources[{index}]"
    for limit in child.amounts:
        yield from _amount_excess(limit, parent.amounts)
    if parent.max_actions is not None and (
        child.max_actions is None or child.max_actions > parent.max_actions
    ):
        yield "max_actions"
    if not all(any(_as_strict(own, limit) for own in child.velocity) for limit in parent.velocity):
        yield "velocity"
    if not set(child.after_completion) <= set(parent.after_completion):
        yield "after_completion"


def _not_among(member: str, child: tuple[str, ...], parent: tuple[str, ...]) -> Iterator[str]:
    permitted = set(parent)
    return (f"{member}[{index}]" for index, item in enumerate(child) if item not in permitted)


class _Resources:
    """What a boundary's resource rules permit, by type."""

    def __init__(self, boundary: Boundary) -> None:
        self._listed: dict[str, set[str]] = {}
        self._prefixes: dict[str, set[str]] = {}
        self._attributes: set[tuple[str, AttributeRule]] = set()
        for rule in boundary.resources:
            if rule.prefix is not None:
                self._prefixes.setdefault(rule.type, set()).add(rule.prefix)
            elif rule.attribute is not None:
                self._attributes.add((rule.type, rule.attribute))
            else:
                self._listed.setdefault(rule.type, set()).update(_listed(rule))

    def covers(self, rule: ResourceRule, of: _Resources) -> bool:
        """Return whether all is permitted here that `rule`, a rule of the boundary `of`, permits there."""
        if rule.prefix is not None:
            return self._prefixed(rule.type, rule.prefix)
        if rule.attribute is not None:
            # Either every id is permitted here, or the same rule stands here, and every entity that is listed
            # for it there is listed here too.
            kind = rule.attribute.of_type
            return self._prefixed(rule.type, "") or (
                (rule.type, rule.attribute) in self._attributes
                and of._listed.get(kind, set()) <= self._listed.get(kind, set())
            )
        ids = _listed(rule)
        listed = self._listed.get(rule.type, set())
        return bool(ids) and all(id in listed or self._prefixed(rule.type, id) for id in ids)

    def _prefixed(self, type: str, start: str) -> bool:
        return any(start.startswith(prefix) for prefix in self._prefixes.get(type, ()))


def _listed(rule: ResourceRule) -> tuple[str, ...]:
    """Return the ids that a rule names one by one."""
    return (rule.id,) if rule.id is not None else rule.ids or ()


def _amount_excess(limit: AmountLimit, parent: Iterable[AmountLimit]) -> Iterator[str]:
    at = f"amounts[{limit.currency}]"
    outer = next((other for other in parent if other.currency == limit.currency), None)
    if outer is None:
        yield at
        return
    if limit.per_action > outer.per_action:
        yield f"{at}.per_action"
    if outer.total is not None and (limit.total is None or limit.total > outer.total):
        yield f"{at}.total"
    if outer.per_counterparty is not None and (
        limit.per_counterparty is None or limit.per_counterparty > outer.per_counterparty
    ):
        yield f"{at}.per_counterparty"
    limited = outer.total is not None or outer.per_counterparty is not None
    if limited and not limit.on_exceed.as_strict_as(outer.on_exceed):
        yield f"{at}.on_exceed"


def _as_strict(limit: VelocityLimit, parent: VelocityLimit) -> bool:
    """Whether keeping `limit` implies keeping the parent's."""
    return (
        _effects(limit) >= _effects(parent)
        and limit.max <= parent.max
        and limit.window_seconds >= parent.window_seconds
        and limit.on_exceed.as_strict_as(parent.on_exceed)
    )


def _effects(limit: VelocityLimit) -> frozenset[ToolEffect]:
    return frozenset(limit.effects or ToolEffect)
