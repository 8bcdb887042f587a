"""A judge of payments on one order, written from the promise alone: no code of the server is used."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction


@dataclass
class Allow:
    """A payment that was allowed, as the judge remembers it."""

    amount: int
    released: bool = False
    posted: int = 0


@dataclass
class Judge:
    """What the promise says, in its own words and its own arithmetic.

    S sums the unreleased allows. An allow of a needs a ≤ min(T − S, open); with `open` alone, T is `open` at
    the first of the allows in force, until an operator writes a total. Linked, the unposted part U of all
    unreleased allows counts, and a + U ≤ open. The tolerance is granted once, on the sum.
    """

    linked: bool
    tolerance: Fraction
    open: int
    total: int | None
    first_open: int = 0
    allows: list[Allow] = field(default_factory=list)

    def permits(self, amount: int) -> bool:
        in_force = [allow for allow in self.allows if not allow.released]
        spent = sum(allow.amount for allow in in_force)
        at_first = self.first_open if spent else self.open
        ordered = at_first if self.total is None else self.total
        waiting = sum(max(0, allow.amount - allow.posted) for allow in in_force) if self.linked else 0
        more = 1 + self.tolerance
        return spent + amount <= ordered * more and waiting + amount <= self.open * more

    def allow(self, amount: int) -> None:
        if not any(allow.amount and not allow.released for allow in self.allows):
            self.first_open = self.open
        self.allows.append(Allow(amount))
