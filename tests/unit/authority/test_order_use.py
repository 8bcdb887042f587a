"""What is paid on records and orders adds up, and is given back only by what can be believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdp.action.derivation import derive
from pdp.action.entities import read_figures
from pdp.authority.counters import add_to_counter, apply_recount, fits, group_by_counter
from pdp.authority.order_use import (
    OrderUse,
    add_uses,
    describe_use,
    entity_scope,
    guard_use,
    measure_use,
)
from pdp.model import (
    JSON,
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
    ToolEffect,
)
from tests.support import builders
from tests.support.orders import Allow, Judge

ORDER, INVOICE = EntityName(type="po", id="PO-77"), EntityName(type="invoice", id="INV-1001")
PAID = CounterKey(entity_scope(ORDER), "paid:")
POSTED = CounterKey(entity_scope(ORDER), "posted:")
OLD = builders.payment_tool()
NOW = 1_795_514_400


def tool(**changes: object) -> Tool:
    """The payment tool with other words on its order, which the call itself names."""
    order = replace(OLD.entities[2], id="{po}", via=None, currency_attribute="currency", **changes)  # type: ignore[arg-type]
    return replace(OLD, entities=(*OLD.entities[:2], order))


BOTH = tool(amount_attribute="", total_attribute="total", open_attribute="open")
LINKED = tool(amount_attribute="", total_attribute="total", open_attribute="open", posted_linked=True)
OPEN = tool(amount_attribute="open")


def order(**attributes: JSON) -> dict[str, KnownEntity]:
    attributes.setdefault("currency", "EUR")
    return {"order": KnownEntity(name=ORDER, revision=1, attributes=attributes)}


def payment(tool: Tool, amount: int) -> Derived:
    arguments: dict[str, JSON] = {"invoice": "INV-1001", "vendor": "V-1", "po": "PO-77", "currency": "EUR"}
    return derive(builders.action(arguments=arguments | {"amount": Decimal(amount).scaleb(-2)}), tool)


def use(
    tool: Tool, amount: int, counters: Mapping[CounterKey, Counter] | None = None, **attributes: JSON
) -> OrderUse:
    (found,) = measure_use(tool, payment(tool, amount), order(**attributes), counters or {})
    return found


def paid(total: int, terms: Terms | None = None) -> dict[CounterKey, Counter]:
    return {PAID: Counter(total=total, terms=terms or Terms("EUR", 120_000))}


def test_payment_counts_on_its_record_and_on_its_order() -> None:
    known = {
        "invoice": KnownEntity(name=INVOICE, revision=1, attributes={"amount": "1200", "currency": "EUR"}),
        "order": KnownEntity(name=ORDER, revision=1, attributes={"open": "9000"}),
    }
    found = measure_use(OLD, payment(OLD, 60_000), known, {})
    assert [(each.role, each.key) for each in found] == [
        (EntityRole.RECORD, CounterKey(entity_scope(INVOICE), "paid:")),
        (EntityRole.ORDER, PAID),
    ]
    # The attribute of old registrations is the total of a record, and what is open of an order.
    assert [(each.total, each.open) for each in found] == [(120_000, None), (900_000, 900_000)]


@pytest.mark.parametrize("effect", [effect for effect in ToolEffect if effect is not ToolEffect.PAY])
def test_what_is_no_payment_counts_nowhere(effect: ToolEffect) -> None:
    other = replace(BOTH, effect=effect)
    derived = payment(other, 60_000)
    assert measure_use(other, derived, order(total="1200", open="1200"), paid(120_000)) == ()
    assert all(query.measure is None for query in derived.entities)


def test_payment_without_an_amount_or_a_tool_counts_nowhere() -> None:
    assert measure_use(None, payment(BOTH, 1), order(total="1"), {}) == ()
    assert measure_use(BOTH, replace(payment(BOTH, 1), amount=None), order(total="1"), {}) == ()


def test_entity_that_does_not_exist_has_no_use() -> None:
    gone = {"order": KnownEntity(name=ORDER, revision=3, attributes=None)}
    assert measure_use(BOTH, payment(BOTH, 1), gone, paid(5)) == ()
    assert measure_use(BOTH, payment(BOTH, 1), {}, paid(5)) == ()


def test_third_payment_of_600_on_an_order_of_1200_is_beyond() -> None:
    found = [use(BOTH, 60_000, paid(used), total="1200", open="1200") for used in (0, 60_000, 120_000)]
    assert [each.excess_ppm for each in found] == [-500_000, 0, 500_000]


def test_open_amount_bounds_too_where_it_was_lowered() -> None:
    found = use(BOTH, 60_000, paid(60_000), total="1200", open="500")
    assert (found.used, found.total, found.open, found.excess_ppm) == (60_000, 120_000, 50_000, 200_000)


def test_with_open_alone_the_first_payment_fixes_the_total() -> None:
    first = use(OPEN, 60_000, open="1200")
    assert (first.total, first.terms) == (120_000, Terms("EUR", 120_000))
    late, posted = use(OPEN, 60_000, paid(60_000), open="1200"), use(OPEN, 60_000, paid(60_000), open="600")
    assert (late.total, late.excess_ppm) == (posted.total, posted.excess_ppm) == (120_000, 0)
    assert use(OPEN, 1, paid(120_000), open="1200").excess_ppm == 9
    # Nothing of it is in force any more, so what is open now is the total again.
    assert use(OPEN, 1, {PAID: Counter(0, (), Terms("EUR", 120_000))}, open="900").total == 90_000


def test_total_that_an_operator_writes_replaces_what_was_open_first() -> None:
    assert use(BOTH, 60_000, paid(120_000), open="1200").total == 120_000
    assert use(BOTH, 60_000, paid(120_000), open="1200", total="1800").excess_ppm == 0


def test_total_is_what_is_open_where_the_first_payment_knew_no_figure() -> None:
    assert use(OPEN, 1, paid(100, Terms("EUR", None)), open="5").total == 500
    assert use(tool(amount_attribute="", total_attribute="total"), 1, total="7").terms == Terms("EUR", 700)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"total": "1200"},
        {"total": "all", "open": "1200"},
        {"total": "1200", "open": None},
        {"total": "-1", "open": "1200"},
        {"total": "1200", "open": "1200", "currency": "XXX"},
    ],
)
def test_figures_that_cannot_be_read_are_no_figures(attributes: dict[str, JSON]) -> None:
    assert EntityRole.ORDER not in read_figures(BOTH, order(**attributes))
    found = use(BOTH, 100, paid(60_000, Terms("EUR", None)), **attributes)
    assert (found.used, found.total, found.open, found.excess_ppm) == (60_000, None, None, None)
    # It counts all the same.
    (guard,) = guard_use([found])
    assert (guard.add, guard.ceiling) == (100, None)
    # What the first payment fixed bounds those after it.
    bound = use(BOTH, 60_001, paid(60_000), **attributes)
    assert (bound.total, bound.open, bound.excess_ppm) == (120_000, None, 9)
    (guard,) = guard_use([use(BOTH, 100, paid(60_000), **attributes)])
    assert (guard.add, guard.ceiling) == (100, 120_000)


def test_where_more_was_paid_than_there_was_nothing_is_open() -> None:
    counters = paid(105_000, Terms("EUR", 100_000)) | {POSTED: Counter(105_000)}
    found = use(LINKED, 1, counters, open="-50")
    assert (found.total, found.open, found.unposted, found.excess_ppm) == (100_000, 0, 0, 2**53 - 1)


def test_what_was_fixed_measures_a_record_that_holds_no_figure_now() -> None:
    without = {
        "invoice": KnownEntity(name=INVOICE, revision=2, attributes={"currency": "EUR"}),
        "order": KnownEntity(name=ORDER, revision=1, attributes={"open": "9000"}),
    }
    key = CounterKey(entity_scope(INVOICE), "paid:")

    def reference(counter: Counter) -> dict[str, Any]:
        derived = payment(OLD, 60_000)
        found: dict[str, Any] = {"order": {"minor": 900_000}, "measures": 1}
        add_uses(found, measure_use(OLD, derived, without, {key: counter}), derived.amount)
        return found

    fixed = reference(Counter(100_000, (), Terms("EUR", 100_000)))
    assert fixed["measures"] == 2
    assert fixed["record"] == {
        "currency": "EUR",
        "excess_ppm": -400_000,
        "paid": {
            "used": 100_000,
            "add": 60_000,
            "currency": "EUR",
            "total": 100_000,
            "excess_ppm": 600_000,
        },
    }
    assert fixed["order"]["paid"]["add"] == 60_000
    # Where nothing was fixed, only the currency can differ.
    nothing = reference(Counter(100_000, (), Terms("EUR", None)))
    assert "record" not in nothing
    assert nothing["measures"] == 1
    other = reference(Counter(100_000, (), Terms("USD", None)))
    assert other["record"] == {
        "currency": "USD",
        "paid": {"used": 100_000, "add": 60_000, "currency": "USD"},
    }
    assert other["measures"] == 2
    # Nothing is in force any more.
    assert "record" not in reference(Counter(0, (), Terms("EUR", 100_000)))


def test_measures_add_up_apart() -> None:
    freight = tool(amount_attribute="open", measure="freight")
    assert use(freight, 100, paid(120_000), open="1200").used == 0
    assert use(freight, 100, open="1200").key == CounterKey(entity_scope(ORDER), "paid:freight")
    assert payment(freight, 100).entities[-1].measure == "freight"


def test_scopes_of_entities_are_apart() -> None:
    names = [EntityName(type=t, id=i) for t, i in (("po", "a:b"), ("po", "a"), ("sha256", "a"), ("p", "o:a"))]
    assert len({entity_scope(name) for name in names}) == 4
    assert all(entity_scope(name).startswith("measured:") for name in names)


def test_only_what_the_figures_do_not_contain_counts_against_what_is_open() -> None:
    counters = paid(90_000) | {POSTED: Counter(60_000)}
    found = use(LINKED, 30_000, counters, total="1500", open="600")
    assert (found.unposted, found.excess_ppm) == (30_000, 0)
    assert use(LINKED, 30_001, counters, total="1500", open="600").excess_ppm == 17
    # Nobody says what an order's figures contain that is not linked.
    assert use(BOTH, 60_000, counters, total="1500", open="600").unposted is None


def test_rules_see_what_was_measured() -> None:
    counters = paid(90_000) | {POSTED: Counter(60_000)}
    assert describe_use(use(LINKED, 30_000, counters, total="1500", open="600")) == {
        "used": 90_000,
        "add": 30_000,
        "currency": "EUR",
        "total": 150_000,
        "open": 60_000,
        "unposted": 30_000,
        "excess_ppm": 0,
    }
    assert describe_use(use(BOTH, 1)) == {"used": 0, "add": 1, "currency": "EUR"}
    dollars = {PAID: Counter(5, (), Terms("USD", 120_000))}
    assert describe_use(use(BOTH, 1, dollars, total="1", open="1"))["currency"] == "USD"


def test_guard_leaves_room_for_what_was_paid_meanwhile_and_no_more() -> None:
    (guard,) = guard_use([use(BOTH, 60_000, total="1200", open="1200")])
    first = add_to_counter(Counter(), [guard], NOW)
    assert first == Counter(60_000, (), Terms("EUR", 120_000))
    assert fits(guard, first, NOW)
    assert not fits(guard, add_to_counter(first, [guard], NOW), NOW)


def test_guard_holds_what_rules_tolerated_to_what_they_saw() -> None:
    (guard,) = guard_use([use(BOTH, 65_000, paid(60_000), total="1200", open="1200")])
    assert fits(guard, paid(60_000)[PAID], NOW)
    assert not fits(guard, paid(60_001)[PAID], NOW)


def test_guard_refuses_terms_that_others_fixed_otherwise() -> None:
    (guard,) = guard_use([use(OPEN, 100, open="1200")])
    assert not fits(guard, Counter(1, (), Terms("USD", 120_000)), NOW)
    assert not fits(guard, Counter(1, (), Terms("EUR", 90_000)), NOW)
    assert fits(guard, Counter(1, (), Terms("EUR", 120_000)), NOW)
    # Terms of payments that were all given back bind nobody.
    assert fits(guard, Counter(0, (), Terms("USD", 1)), NOW)
    assert add_to_counter(Counter(0, (), Terms("USD", 1)), [guard], NOW).terms == Terms("EUR", 120_000)


def test_payment_after_others_is_judged_again_once_these_are_given_back() -> None:
    (guard,) = guard_use([use(OPEN, 500, paid(60_000), open="9")])
    assert guard.terms == Terms("EUR", 120_000)
    assert fits(guard, paid(1)[PAID], NOW)
    assert not fits(guard, Counter(0, (), Terms("EUR", 120_000)), NOW)


def test_guard_of_a_linked_order_needs_what_its_figures_contained() -> None:
    counters = paid(90_000) | {POSTED: Counter(60_000)}
    guards = guard_use([use(LINKED, 30_000, counters, total="1500", open="600")])
    posted, kept = guards
    assert (posted.key, posted.add, posted.least) == (POSTED, 0, 60_000)
    assert fits(posted, Counter(60_000), NOW)
    assert not fits(posted, Counter(59_999), NOW)
    assert kept.ceiling == 120_000
    assert len(guard_use([use(LINKED, 1, paid(1), total="1500", open="600")])) == 1


def test_given_back_is_what_was_added() -> None:
    counter = apply_recount(Counter(60_000, (), Terms("EUR", 120_000)), -60_000, NOW)
    assert counter.total == 0
    assert apply_recount(counter, 60_000, NOW) == Counter(60_000, (), Terms("EUR", 120_000))


# --- histories ----------------------------------------------------------------------


@dataclass
class Books:
    """Counters as recordings, reports and postings leave them."""

    counters: dict[CounterKey, Counter] = field(default_factory=dict)
    # By the number of the allow, what a release of it gives back.
    totals: dict[int, dict[CounterKey, int]] = field(default_factory=dict)

    def record(self, number: int, guards: tuple[Guard, ...]) -> bool:
        grouped = group_by_counter(guards)
        if not all(fits(guard, self.counters.get(guard.key, Counter()), NOW) for guard in guards):
            return False
        for key, of_key in grouped.items():
            self.counters[key] = add_to_counter(self.counters.get(key, Counter()), of_key, NOW)
        self.totals[number] = {key: of_key[0].add for key, of_key in grouped.items() if of_key[0].add}
        return True

    def move(self, key: CounterKey, add: int) -> None:
        self.counters[key] = apply_recount(self.counters.get(key, Counter()), add, NOW)

    def release(self, number: int) -> None:
        for key, add in self.totals[number].items():
            self.move(key, -add)

    def post(self, number: int, amount: int, *, released: bool) -> None:
        contained = min(amount, self.totals[number].get(PAID, 0))
        before = self.totals[number].get(POSTED, 0)
        self.totals[number][POSTED] = contained
        if not released:
            self.move(POSTED, contained - before)


AMOUNTS = st.integers(0, 900)
STEPS = st.one_of(
    st.tuples(st.just("pay"), AMOUNTS),
    st.tuples(st.just("release"), st.integers(0, 20)),
    st.tuples(st.just("post"), st.integers(0, 20), AMOUNTS),
    st.tuples(st.just("open"), st.integers(0, 1500)),
    st.tuples(st.just("total"), st.none() | st.integers(0, 1500)),
)


@settings(max_examples=400, deadline=None)
@given(
    st.booleans(),
    st.sampled_from([0, 50_000, 333_333]),
    st.integers(0, 1500),
    st.none() | st.integers(0, 1500),
    st.lists(STEPS, max_size=25),
)
def test_every_history_comes_out_as_the_judge_says(
    linked: bool, ppm: int, opened: int, total: int | None, steps: list[tuple[str, int, int]]
) -> None:
    """Postings that are late, partial, doubled or amended, figures that are amended, and releases."""
    assert LINKED.amount is not None
    spoken = replace(LINKED if linked else BOTH, amount=replace(LINKED.amount, allow_zero=True))
    judge = Judge(linked=linked, tolerance=Fraction(ppm, 1_000_000), open=opened, total=total)
    books = Books()
    for kind, *values in steps:
        if kind == "pay":
            (amount,) = values
            attributes: dict[str, JSON] = {"open": str(Decimal(judge.open).scaleb(-2))}
            if judge.total is not None:
                attributes["total"] = str(Decimal(judge.total).scaleb(-2))
            found = use(spoken, amount, books.counters, **attributes)
            excess = found.excess_ppm
            assert excess is not None
            # The first payment is for the rules on one amount, which measure the same then.
            assert (excess <= ppm) is judge.permits(amount), (found, judge)
            if excess <= ppm:
                assert books.record(len(judge.allows), guard_use([found]))
                judge.allow(amount)
        elif kind == "release" and values[0] < len(judge.allows) and not judge.allows[values[0]].released:
            judge.allows[values[0]].released = True
            books.release(values[0])
        elif kind == "post" and values[0] < len(judge.allows):
            allow = judge.allows[values[0]]
            # What the figures contain of it is said anew each time: said twice, it is contained once.
            for _ in range(2):
                books.post(values[0], values[1], released=allow.released)
            allow.posted = min(values[1], allow.amount)
        elif kind == "open":
            judge.open = values[0]
        elif kind == "total":
            judge.total = values[0]


WORLD = st.one_of(
    st.tuples(st.just("pay"), st.integers(1, 900)),
    st.tuples(st.just("other"), st.integers(1, 300)),
    st.tuples(st.just("fails"), st.integers(0, 20)),
    st.tuples(st.just("booked"), st.integers(0, 20)),
    st.tuples(st.just("amended"), st.integers(-200, 400)),
)


@settings(max_examples=400, deadline=None)
@given(st.integers(1, 1500), st.lists(WORLD, max_size=25))
def test_linked_order_is_never_overpaid_and_nothing_is_refused_that_was_left(
    ordered: int, steps: list[tuple[str, int]]
) -> None:
    """Others pay too and are booked at once; our payments are booked late, in any order, or fail."""
    books, allows = Books(), list[Allow]()
    others = 0
    for kind, value in steps:
        booked = others + sum(allow.posted for allow in allows)
        spent = others + sum(allow.amount for allow in allows if not allow.released)
        if kind == "pay":
            figures: dict[str, JSON] = {
                "open": str(Decimal(ordered - booked).scaleb(-2)),
                "total": str(Decimal(ordered).scaleb(-2)),
            }
            found = use(LINKED, value, books.counters, **figures)
            assert found.excess_ppm is not None
            allowed = found.excess_ppm <= 0
            assert allowed is (spent + value <= ordered)
            if allowed:
                assert books.record(len(allows), guard_use([found]))
                allows.append(Allow(value))
        elif kind == "other" and spent + value <= ordered:
            others += value
        elif kind == "fails" and value < len(allows) and not (allows[value].released or allows[value].posted):
            allows[value].released = True
            books.release(value)
        elif kind == "booked" and value < len(allows) and not allows[value].released:
            allows[value].posted = allows[value].amount
            books.post(value, allows[value].amount, released=False)
        elif kind == "amended" and ordered + value >= spent:
            ordered += value
        spent = others + sum(allow.amount for allow in allows if not allow.released)
        assert spent <= ordered


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 700)), min_size=2, max_size=12))
def test_payments_that_were_judged_together_never_overpay(asked: list[tuple[int, int]]) -> None:
    """Each is judged on counters that others have moved since, as on several replicas."""
    books, seen = Books(), [dict[CounterKey, Counter]()]
    for back, amount in asked:
        stale = seen[max(0, len(seen) - 1 - back)]
        found = use(BOTH, amount, stale, total="12", open="12")
        if found.excess_ppm is not None and found.excess_ppm <= 0:
            books.record(len(books.totals), guard_use([found]))
        seen.append(dict(books.counters))
        assert books.counters.get(PAID, Counter()).total <= 1_200


def test_amounts_are_exact_in_every_currency() -> None:
    yen = replace(payment(BOTH, 100), amount=Amount(minor=1200, currency="JPY"))
    (found,) = measure_use(BOTH, yen, order(total="1200", open="1200", currency="JPY"), {})
    assert (found.total, found.excess_ppm) == (1200, 0)
