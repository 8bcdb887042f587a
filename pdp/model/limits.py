"""Limits, and the counters that they are kept with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from pdp.model.boundary import OnExceed

# The unit of counters of actions; those of money have their currency.
ACTIONS = "actions"


# A decision makes dozens of these, of limits and of guards, and tuples are made four times as fast as
# dataclasses.
class CounterKey(NamedTuple):
    """Names one counter of a tenant. `unit` is a currency, or what is counted."""

    scope: str
    unit: str


class Terms(NamedTuple):
    """What the first payment that counts on a record or an order fixes for those after it."""

    currency: str
    # What was open then, in minor units; None: there was no figure.
    total: int | None


class Counter(NamedTuple):
    """What was allowed so far: in all, and in a window's buckets, oldest first."""

    total: int = 0
    buckets: tuple[Bucket, ...] = ()
    # What the payments on a record or an order have fixed; it is in force while the total is above 0. None:
    # the counter is another limit's.
    terms: Terms | None = None


class BudgetScope(StrEnum):
    """Whose payments a budget adds up."""

    TENANT = "tenant"
    PRINCIPAL = "principal"
    AGENT = "agent"
    TASK = "task"
    COUNTERPARTY = "counterparty"


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """A tenant's limit on payments in one currency, counted from when it is set.

    `maximum` is in minor units; `window_seconds` None: for good.
    """

    name: str
    scope: BudgetScope
    currency: str
    maximum: int
    window_seconds: int | None
    on_exceed: OnExceed


@dataclass(frozen=True, kw_only=True, slots=True)
class Ceiling:
    """What a session may pay to one counterparty in a currency. `maximum` is in minor units."""

    maximum: int
    on_exceed: OnExceed


class Limit(NamedTuple):
    """A limit that an action meets, whatever is used of it and whatever the action's amount is."""

    # The reason code for exceeding it.
    code: str
    # Whose limit it is, for people: "session", "template", "grant", "budget:<name>".
    of: str
    on_exceed: OnExceed
    # True: a payment counts with its amount, in minor units. False: an action counts as one.
    adds_amount: bool
    # None: there is no number that would permit the action.
    maximum: int | None
    # The counter of what was used. None where the session's own history counts actions, and where
    # nobody knows whose counter an amount belongs to.
    key: CounterKey | None = None
    # None: everything counts, for good.
    window_seconds: int | None = None
    # The hop whose grant it stands in, "chain[1]"; empty for any other.
    at: str = ""
    # What others do outside of the session counts for it as well.
    shared: bool = False
    # The currency of amounts (ISO 4217); empty where actions are counted.
    currency: str = ""


class MeasuredLimit(NamedTuple):
    """A limit with what counts against it now. What is None could not be derived, and restricts."""

    limit: Limit
    # What the action adds: 1, or its amount in minor units.
    add: int | None
    # What counts before the action.
    used: int | None

    @property
    def left(self) -> int | None:
        """What the action leaves; less than 0 if it exceeds the limit, None if that is not known."""
        if self.used is None or self.add is None or self.limit.maximum is None:
            return None
        return self.limit.maximum - self.used - self.add

    @property
    def exceeded(self) -> bool:
        """Whether the action exceeds the limit, or is not known to keep it."""
        return self.left is None or self.left < 0


class Guard(NamedTuple):
    """What an allow adds to a counter, and what must still hold when it is recorded.

    Otherwise the action is judged again (docs/decisions/0008-holds-and-guards.md).
    """

    key: CounterKey
    add: int
    # What the counter may come to. None: the limit was exceeded with an approval, and nothing must hold.
    ceiling: int | None
    # None: the limit is on the counter's total.
    window_seconds: int | None
    # The terms that the payment was judged on; None: the counter has none.
    terms: Terms | None = None
    # What the counter must still come to, without what the allow adds.
    least: int = 0


class Bucket(NamedTuple):
    """`number` actions, or minor units, in the `width` seconds from `start` (Unix seconds)."""

    start: int
    width: int
    number: int
