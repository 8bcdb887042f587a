"""Postings: what the figures of a record or an order contain of decisions that paid on it. Pure.

A posting is stated, never added: said twice it is contained once, and said otherwise it is amended. It
counts no more than the decision paid. It changes what a release gives back, and so the version of the
decision's hold.
"""

from __future__ import annotations

from typing import NamedTuple

from pdp.authority.order_use import PAID, POSTED, entity_scope
from pdp.errors import InvalidFieldError
from pdp.model import CounterKey, EntityName, HoldState, Posting, Terms
from pdp.money import AmountError, major_to_minor, minor_digits

Totals = tuple[tuple[CounterKey, int], ...]


class Payment(NamedTuple):
    """What an allow paid on an entity."""

    paid: CounterKey
    amount: int

    @property
    def posted(self) -> CounterKey:
        """The counter of what of such payments the entity's figures contain."""
        return CounterKey(self.paid.scope, POSTED + self.paid.unit.removeprefix(PAID))


class PostingChange(NamedTuple):
    """What a posting changes."""

    # What a release of the decision gives back afterwards.
    totals: Totals
    # What is added to the counter of what is posted.
    add: int


def find_payment(name: EntityName, totals: Totals) -> Payment | None:
    """Return what of an allow's reservation was paid on the entity; None: nothing."""
    scope = entity_scope(name)
    return next(
        (Payment(key, add) for key, add in totals if key.scope == scope and key.unit.startswith(f"{PAID}:")),
        None,
    )


def posted_minor(posting: Posting, terms: Terms | None) -> int:
    """Return the amount in minor units of the currency that was paid in.

    Raises `InvalidFieldError`, which names the posting's field.
    """
    digits = None if terms is None else minor_digits(terms.currency)
    try:
        if digits is not None:
            return major_to_minor(posting.amount, digits)
    except AmountError as exc:
        raise InvalidFieldError(
            f"{posting.field}.amount", f"is no amount of {digits} decimals at most"
        ) from exc
    raise InvalidFieldError(f"{posting.field}.decision_id", "paid in no currency that is known")


def post(totals: Totals, payment: Payment, minor: int, state: HoldState) -> PostingChange:
    """Return what it changes that the entity's figures contain `minor` of the payment.

    What was given back is counted nowhere, and a posting of it only when it turns out to have been done.
    """
    contained = min(minor, payment.amount)
    kept = {key: add for key, add in totals if key != payment.posted}
    before = dict(totals).get(payment.posted, 0)
    if contained:
        kept[payment.posted] = contained
    return PostingChange(tuple(kept.items()), 0 if state is HoldState.RELEASED else contained - before)


def not_paid(posting: Posting) -> InvalidFieldError:
    """Return the error for a decision that paid nothing on the entity, or that does not exist."""
    return InvalidFieldError(f"{posting.field}.decision_id", "is no allow that paid on this entity")
