"""What was paid on a record or an order, and what a payment makes of it. Pure.

Payments on one record or order add up by its id and the registry's `measure`, whoever makes them and whatever
becomes of the entity, until somebody who can be believed says that they did not happen. The counters are
those of limits, and move as these do (docs/limits.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pdp.action.entities import EntityFigures, excess_ppm, read_figures
from pdp.authority.counters import terms_in_force
from pdp.model import (
    Amount,
    Counter,
    CounterKey,
    Derived,
    EntityName,
    EntityRole,
    Guard,
    KnownEntity,
    Terms,
    Tool,
)

# What a counter of an entity counts, before the name of the measure.
PAID = "paid"
POSTED = "posted"
_NONE = Counter()


class OrderUse(NamedTuple):
    """What was paid on a record or an order before a payment, in minor units."""

    role: EntityRole
    key: CounterKey
    # What all unreleased allows come to.
    used: int
    # What the payment adds.
    add: int
    # What the payments in force have fixed, or this one fixes as their first.
    terms: Terms
    # What it may come to in all; None: there is no figure.
    total: int | None
    # What of it is not paid yet, as the entity says; None: it says nothing.
    open: int | None
    # What of `used` the entity's figures do not contain yet; None: nobody links them.
    unposted: int | None = None
    posted_key: CounterKey | None = None
    posted: int = 0

    @property
    def excess_ppm(self) -> int | None:
        """By how many millionths the payment, with those before it, lies above what there is, rounded up.

        None if nothing says what there is. It is the greater of two: all payments against the total, and
        those that the open amount does not contain against the open amount.
        """
        found = []
        if self.total is not None:
            found.append(excess_ppm(self.used + self.add, self.total))
        if self.open is not None:
            found.append(excess_ppm((self.unposted or 0) + self.add, self.open))
        return max(found, default=None)


def entity_scope(name: EntityName) -> str:
    """Return the scope of an entity's counters. SQL makes the same (`pdp.postgres.facts.statement`)."""
    return f"measured:{name.type}:{name.id}"


def measure_use(
    tool: Tool | None,
    derived: Derived,
    known: Mapping[str, KnownEntity],
    counters: Mapping[CounterKey, Counter],
) -> tuple[OrderUse, ...]:
    """Return what was paid on the record and on the order of a payment; nothing for any other action.

    `known` are the call's entities as they were read. One that does not exist has no use.
    """
    if tool is None or derived.amount is None:
        return ()
    found = []
    figures: dict[EntityRole, EntityFigures] | None = None
    for ref in tool.entities:
        if not tool.pays_from(ref):
            continue
        entity = known.get(ref.name)
        if entity is None or entity.attributes is None:
            continue
        if figures is None:
            figures = read_figures(tool, known)
        scope = entity_scope(entity.name)
        paid, posted = (
            CounterKey(scope, f"{PAID}:{ref.measure}"),
            CounterKey(scope, f"{POSTED}:{ref.measure}"),
        )
        counter = counters.get(paid, _NONE)
        of = figures.get(ref.role)
        fixed = terms_in_force(counter)
        terms = fixed or Terms(derived.amount.currency, _first_total(of))
        contained = counters.get(posted, _NONE).total if ref.posted_linked else 0
        found.append(
            OrderUse(
                role=ref.role,
                key=paid,
                used=counter.total,
                add=derived.amount.minor,
                terms=terms,
                total=_total(of, terms),
                open=None if of is None else of.open,
                unposted=max(0, counter.total - contained) if ref.posted_linked else None,
                posted_key=posted if ref.posted_linked else None,
                posted=contained,
            )
        )
    return tuple(found)


def describe_use(use: OrderUse) -> dict[str, Any]:
    """Return the use as rules see it; what is not known is absent."""
    figures = (
        ("total", use.total),
        ("open", use.open),
        ("unposted", use.unposted),
        ("excess_ppm", use.excess_ppm),
    )
    return {"used": use.used, "add": use.add, "currency": use.terms.currency} | {
        name: figure for name, figure in figures if figure is not None
    }


def add_uses(reference: dict[str, Any], uses: Sequence[OrderUse], amount: Amount | None) -> None:
    """Add to what a call is measured against what was paid on it.

    A record that holds no figure now is measured by what its payments fixed, and so it is where they are in
    another currency. It has no `minor` then: nobody says what it comes to.
    """
    for use in uses:
        measure = reference.get(use.role.value)
        if measure is None:
            if amount is None or (use.total is None and use.terms.currency == amount.currency):
                # Nothing was fixed that the payment could be beyond of; it counts all the same.
                continue
            measure = reference[use.role.value] = {"currency": use.terms.currency}
            reference["measures"] += 1
            if use.total is not None:
                measure["excess_ppm"] = excess_ppm(amount.minor, use.total)
        measure["paid"] = describe_use(use)


def guard_use(uses: Sequence[OrderUse]) -> tuple[Guard, ...]:
    """Return what an allow of the payment adds, and under which conditions.

    More may have been paid meanwhile, as long as there is room without any tolerance: how much of that there
    is, rules say. What rules permitted may be recorded as long as no more was paid than they saw.
    """
    guards = []
    for use in uses:
        bounds = [] if use.total is None else [use.total]
        if use.posted_key is not None and use.open is not None:
            bounds.append(use.open + use.posted)
            if use.posted:
                # Given back with a decision that is contained, it leaves less room than was seen.
                guards.append(
                    Guard(key=use.posted_key, add=0, ceiling=None, window_seconds=None, least=use.posted)
                )
        ceiling = max(min(bounds), use.used + use.add) if bounds else None
        guards.append(
            Guard(
                key=use.key,
                add=use.add,
                ceiling=ceiling,
                window_seconds=None,
                terms=use.terms,
                # Once all was given back, the next payment is the first, and fixes terms of its own.
                least=min(1, use.used),
            )
        )
    return tuple(guards)


def _first_total(figures: EntityFigures | None) -> int | None:
    """Return what the first payment fixes: what is open then, or else the total."""
    if figures is None:
        return None
    return figures.total if figures.open is None else figures.open


def _total(figures: EntityFigures | None, terms: Terms) -> int | None:
    """Return what an entity may come to in all: as it says, else what the first payment fixed."""
    if figures is None:
        return terms.total
    if figures.total is not None:
        return figures.total
    return figures.open if terms.total is None else terms.total
