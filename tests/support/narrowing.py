"""Random boundaries and actions, and a judge of one by the other that shares no code with the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from decimal import Decimal
from random import Random
from typing import Any

from pdp.model import AmountLimit, Boundary, OnExceed, ResourceRule, ToolEffect, VelocityLimit

READ, PAY = ToolEffect.READ, ToolEffect.PAY
BLOCK, ESCALATE = OnExceed.BLOCK, OnExceed.ESCALATE
# Few names, so that boundaries and actions often meet.
IDS = ["1", "12", "2"]


def some_boundary(chance: Random) -> Boundary:
    def some(items: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(item for item in items if chance.random() < 0.5)

    def perhaps(least: int, most: int) -> int | None:
        return chance.randint(least, most) if chance.random() < 0.4 else None

    def money(number: int | None) -> Decimal | None:
        return None if number is None else Decimal(number)

    kinds = [
        {"id": chance.choice(IDS)},
        {"prefix": chance.choice(["", "1", "12"])},
        {"ids": (chance.choice(IDS), chance.choice(IDS))},
    ]
    return Boundary(
        tools=some("ab"),
        effects=some([READ, PAY]),
        resources=tuple(
            ResourceRule(type=chance.choice("iv"), **chance.choice(kinds))
            for _ in range(chance.randint(0, 3))
        ),
        amounts=tuple(
            AmountLimit(
                currency=currency,
                per_action=Decimal(chance.randint(0, 3)),
                total=money(perhaps(0, 5)),
                per_counterparty=money(perhaps(0, 5)),
                on_exceed=chance.choice([*OnExceed]),
            )
            for currency in some(["EUR", "USD"])
        ),
        after_completion=some("ab"),
        max_actions=perhaps(0, 3),
        velocity=tuple(
            VelocityLimit(
                effects=some([READ, PAY]),
                max=chance.randint(0, 2),
                window_seconds=chance.choice([5, 10]),
                on_exceed=chance.choice([*OnExceed]),
            )
            for _ in range(chance.randint(0, 2))
        ),
    )


def vary(boundary: Boundary, chance: Random) -> Boundary:
    """Return the boundary with one member changed, or one part of one of its limits or rules."""
    member = chance.choice([member.name for member in fields(Boundary) if member.init])
    items, others = getattr(boundary, member), getattr(some_boundary(chance), member)
    if member in ("amounts", "velocity", "resources") and items and others and chance.random() < 0.7:
        at = chance.randrange(len(items))
        part = chance.choice([part.name for part in fields(items[at]) if part.name != "currency"])
        one = others[0] if member == "resources" else replace(items[at], **{part: getattr(others[0], part)})
        others = (*items[:at], one, *items[at + 1 :])
    return replace(boundary, **{member: others})


def situation(chance: Random) -> dict[str, Any]:
    """Return an action together with the history that it is judged on."""
    return {
        "tool": chance.choice("ab"),
        "effect": chance.choice([READ, PAY]),
        "completed": chance.random() < 0.2,
        "type": chance.choice("iv"),
        "id": chance.choice(IDS),
        "currency": chance.choice(["EUR", "USD"]),
        "amount": chance.randint(0, 3),
        "spent": chance.randint(0, 3),
        "spent_on_party": chance.randint(0, 3),
        # How many seconds ago each allowed action was, and its effect.
        "earlier": [(chance.randint(0, 12), chance.choice([READ, PAY])) for _ in range(chance.randint(0, 3))],
    }


def judge(boundary: Boundary, what: dict[str, Any]) -> int:
    """Return how a boundary judges an action: 2 allows, 1 escalates, 0 blocks.

    This follows what docs/delegation.md says of each member, and neither the rules nor `exceeds`.
    """
    permitted = 2
    if what["completed"]:
        named = what["tool"] in boundary.after_completion
    else:
        named = what["tool"] in boundary.tools or what["effect"] in boundary.effects
    touched = [
        rule
        for rule in boundary.resources
        if rule.type == what["type"]
        and (
            what["id"] in (rule.ids or ())
            or what["id"] == rule.id
            or (rule.prefix is not None and what["id"].startswith(rule.prefix))
        )
    ]
    if not named or not touched:
        return 0
    if what["effect"] is PAY:
        limits = {limit.currency: limit for limit in boundary.amounts}
        if what["currency"] not in limits or what["amount"] > limits[what["currency"]].per_action:
            return 0
        limit = limits[what["currency"]]
        for most, spent in ((limit.total, what["spent"]), (limit.per_counterparty, what["spent_on_party"])):
            if most is not None and spent + what["amount"] > most:
                permitted = min(permitted, 1 if limit.on_exceed is ESCALATE else 0)
    if boundary.max_actions is not None and len(what["earlier"]) >= boundary.max_actions:
        return 0
    for often in boundary.velocity:
        counted = {*often.effects} or {*ToolEffect}
        within = [e for age, e in what["earlier"] if age < often.window_seconds and e in counted]
        if what["effect"] in counted and len(within) >= often.max:
            permitted = min(permitted, 1 if often.on_exceed is ESCALATE else 0)
    return permitted
