"""Limits, and the counters that they are kept with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from pdp.model.boundary import OnExceed

# The unit of counters of actions; those of money have their currency.
ACTIONS = "actions"


# A decision makes dozens of these, of limits and of guards: tuples are made four times as fast.
class CounterKey(NamedTuple):
    """Names one counter of a tenant. `unit` is a currency, or what is counted."""

    scope: str
    unit: str


class Counter(NamedTuple):
    """What was allowed so far: in all, and in a window's buckets, oldest first."""

    total: int = 0
    buckets: tuple[Bucket, ...] = ()


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
    """`maximum` in minor units."""

    maximum: int
    on_exceed: OnExceed


class Limit(NamedTuple):
    """A limit that an action meets. What is None could not be derived, and restricts.

    `key` None with `used` given: the session's own history counts, under its version.
    """

    # The reason for exceeding it.
    code: str
    # Whose limit it is, for people.
    of: str
    on_exceed: OnExceed
    add: int | None
    maximum: int | None
    key: CounterKey | None = None
    window_seconds: int | None = None
    used: int | None = None


class Guard(NamedTuple):
    """What an allow adds to a counter, and what must still hold when it is recorded.

    `ceiling` None: the limit was exceeded with an approval, and the counter only moves.
    `window_seconds` None: the limit is on the total.
    """

    key: CounterKey
    add: int
    ceiling: int | None
    window_seconds: int | None


class Bucket(NamedTuple):
    """`number` actions, or minor units, in the `width` seconds from `start` (Unix seconds)."""

    start: int
    width: int
    number: int
