"""guard: the function runs on ALLOW only, once, with the arguments that were judged."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import itertools
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import grpc
import pytest

from placet import (
    ArgumentsChanged,
    AsyncClient,
    Blocked,
    Client,
    Decision,
    Effect,
    Escalated,
    ExpiredAllow,
    Obligation,
    OutOfOrder,
    PdpUnavailable,
    ReplayedAllow,
    decided,
    tool_call,
)
from placet.testing import FakePdp
from placet.v1 import decision_service_pb2 as decisions
from tests.unit.client.misbehaving import IDENTITY


class Bank:
    """Counts what was really done."""

    def __init__(self) -> None:
        self.paid: list[tuple[Any, ...]] = []


@contextmanager
def guarded(fake: FakePdp, **options: Any) -> Iterator[tuple[Any, Bank]]:
    """A guarded payment, and the bank that sees the payments that ran."""
    bank = Bank()
    settings: dict[str, Any] = {"session": fake.session(), "tool": "payments.create"} | options
    with fake.client() as pdp:

        @pdp.guard(**settings)
        def pay(invoice: str, amount: Decimal, currency: str = "EUR") -> str:
            bank.paid.append((invoice, amount, currency))
            return f"paid {amount}"

        yield pay, bank


def test_allowed_function_runs_with_what_was_judged(fake_pdp: FakePdp) -> None:
    fake_pdp.allow("payments.create")
    with guarded(fake_pdp, intent="pay the invoice", resource="invoice:INV-1", audience="bank") as (
        pay,
        bank,
    ):
        assert pay("INV-1", amount=Decimal("1200.00")) == "paid 1200.00"
    assert bank.paid == [("INV-1", Decimal("1200.00"), "EUR")]
    (asked,) = fake_pdp.received
    assert asked.action.tool == "payments.create"
    assert asked.action.arguments == {"invoice": "INV-1", "amount": Decimal("1200.00"), "currency": "EUR"}
    assert asked.action.intent == "pay the invoice"
    assert asked.action.resource == "invoice:INV-1"
    assert asked.audience == "bank"
    assert asked.attempt_id


def test_signature_and_name_are_kept(fake_pdp: FakePdp) -> None:
    with guarded(fake_pdp) as (pay, _):
        assert pay.__name__ == "pay"
        assert list(inspect.signature(pay).parameters) == ["invoice", "amount", "currency"]


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (lambda fake: fake.block("payments.create"), Blocked),
        (lambda fake: fake.escalate("payments.create"), Escalated),
        (lambda fake: None, Blocked),
        (lambda fake: fake.allow("payments.create", obligations=[Obligation(id="notify")]), PdpUnavailable),
        (lambda fake: fake.fail(grpc.StatusCode.INTERNAL), PdpUnavailable),
        (lambda fake: fake.fail(grpc.StatusCode.UNAVAILABLE, times=9), PdpUnavailable),
        (lambda fake: fake.stop(), PdpUnavailable),
    ],
)
def test_nothing_else_runs_it(fake_pdp: FakePdp, script: Any, kind: type[Blocked]) -> None:
    with guarded(fake_pdp) as (pay, bank):
        script(fake_pdp)
        with pytest.raises(kind) as raised:
            pay("INV-1", 1)
    assert bank.paid == []
    assert isinstance(raised.value, Blocked)
    assert raised.value.decision is not None
    assert "not executed" in raised.value.model_text
    assert "decision_id=" in raised.value.model_text


def test_escalation_says_that_nobody_can_resolve_it_yet(fake_pdp: FakePdp) -> None:
    fake_pdp.escalate("payments.create", code="payment.large")
    with guarded(fake_pdp) as (pay, _), pytest.raises(Escalated, match="nobody can resolve it yet") as raised:
        pay("INV-1", 3000)
    assert "reason_code=payment.large" in raised.value.model_text
    assert "nobody can resolve it yet" in raised.value.model_text


def test_arguments_that_cannot_be_judged_block(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    with guarded(fake_pdp) as (pay, bank), pytest.raises(PdpUnavailable) as raised:
        pay("INV-1", float("nan"))
    assert bank.paid == []
    assert raised.value.field == "action.arguments.amount"


def test_wrong_call_is_a_type_error_and_asks_nobody(fake_pdp: FakePdp) -> None:
    with guarded(fake_pdp) as (pay, _), pytest.raises(TypeError, match="amount"):
        pay("INV-1")
    assert fake_pdp.received == []


# --- once -------------------------------------------------------------------------


def test_hook_that_is_run_again_on_resume_executes_once(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    with guarded(fake_pdp) as (pay, bank):
        with tool_call("call-7"):
            pay("INV-1", 1)
        for _ in range(3):
            with tool_call("call-7"), pytest.raises(ReplayedAllow):
                pay("INV-1", 1)
    assert len(bank.paid) == 1


def test_resume_in_another_client_executes_once(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    session = fake_pdp.session()
    with guarded(fake_pdp, session=session) as (pay, bank), tool_call("call-7"):
        pay("INV-1", 1)
    with (
        guarded(fake_pdp, session=session) as (again, other_bank),
        tool_call("call-7"),
        pytest.raises(ReplayedAllow),
    ):
        again("INV-1", 1)
    assert (len(bank.paid), len(other_bank.paid)) == (1, 0)


async def test_async_hook_that_is_run_again_on_resume_executes_once(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    ran = 0
    async with fake_pdp.async_client() as pdp:

        @pdp.guard(session=fake_pdp.session(), tool="payments.create")
        async def pay(invoice: str) -> str:
            nonlocal ran
            ran += 1
            await asyncio.sleep(0)
            return invoice

        with tool_call("call-7"):
            assert await pay("INV-1") == "INV-1"
            with pytest.raises(ReplayedAllow):
                await pay("INV-1")
        results = await asyncio.gather(
            *(pay("INV-2", tool_call_id="call-8") for _ in range(8)), return_exceptions=True
        )  # type: ignore[call-arg]
    assert ran == 2
    assert sum(isinstance(result, ReplayedAllow) for result in results) == 7


def test_same_id_for_another_action_is_blocked(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    with guarded(fake_pdp) as (pay, bank), tool_call("call-7"):
        pay("INV-1", 1)
        with pytest.raises(Blocked, match=r"action\.key_reused"):
            pay("INV-1", 2)
    assert len(bank.paid) == 1


def test_each_call_without_an_id_is_a_call_of_its_own(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    with guarded(fake_pdp) as (pay, bank):
        pay("INV-1", 1)
        pay("INV-1", 1)
    assert len(bank.paid) == 2
    first, second = fake_pdp.received
    assert first.action.tool_call_id != second.action.tool_call_id
    assert first.attempt_id != second.attempt_id


def test_id_comes_from_keyword_then_context_then_callable(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    with guarded(fake_pdp, tool_call_id=lambda: "from-callable") as (pay, _):
        pay("INV-1", 1)
        with tool_call("from-context"):
            pay("INV-1", 1)
            pay("INV-1", 1, tool_call_id="from-keyword")
    ids = [received.action.tool_call_id for received in fake_pdp.received]
    assert ids == ["from-callable", "from-context", "from-keyword"]
    assert all("tool_call_id" not in received.action.arguments for received in fake_pdp.received)


def test_function_with_such_a_parameter_is_given_the_id(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    with fake_pdp.client() as pdp:

        @pdp.guard(session=fake_pdp.session(), tool="t")
        def tool(x: int, tool_call_id: str = "") -> str:
            return tool_call_id

        assert tool(1, tool_call_id="call-9") == "call-9"
        assert tool(1, "call-10") == "call-10"
    assert [received.action.tool_call_id for received in fake_pdp.received] == ["call-9", "call-10"]
    assert fake_pdp.received[0].action.arguments == {"x": 1}


# --- right before running -----------------------------------------------------------


def test_allow_that_has_expired_does_not_run(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    now = [0.0]

    def slow(answer: decisions.EvaluateResponse) -> None:
        now[0] += 60.0

    fake_pdp.alter = slow
    ran: list[int] = []
    with fake_pdp.client(clock=lambda: now[0]) as pdp:
        pay = pdp.guard(session=fake_pdp.session(), tool="t")(lambda x: ran.append(x))
        with pytest.raises(ExpiredAllow):
            pay(1)
    assert ran == []


@pytest.mark.parametrize("change", [lambda lines: lines.append(9), lambda lines: lines.append(object())])
def test_arguments_that_change_while_they_are_judged_do_not_run(fake_pdp: FakePdp, change: Any) -> None:
    fake_pdp.allow()
    lines = [1, 2]
    fake_pdp.alter = lambda answer: change(lines)
    ran: list[Any] = []
    with fake_pdp.client() as pdp:
        pay = pdp.guard(session=fake_pdp.session(), tool="t")(lambda lines: ran.append(lines))
        with pytest.raises(ArgumentsChanged) as raised:
            pay(lines)
    assert ran == []
    assert "client.arguments_changed" in raised.value.model_text


# --- what can be guarded ------------------------------------------------------------


def test_arguments_of_every_kind_are_judged_by_name(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    with fake_pdp.client() as pdp:

        @pdp.guard(session=fake_pdp.session(), tool="t", exclude=["db"])
        def tool(a: int, /, b: int, *rest: int, db: object, c: int = 3, **more: int) -> int:
            return a + b + sum(rest) + c + sum(more.values())

        assert tool(1, 2, 3, 4, db=object(), d=5) == 18
        with pytest.raises(TypeError, match="'a'"):
            tool(1, 2, db=None, a=7)
    assert fake_pdp.received[0].action.arguments == {"a": 1, "b": 2, "rest": [3, 4], "c": 3, "d": 5}


def test_method_is_guarded_without_its_object(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    with fake_pdp.client() as pdp:

        class Tools:
            @pdp.guard(session=fake_pdp.session(), tool="t")
            def double(self, x: int) -> int:
                return 2 * x

        assert Tools().double(4) == 8
    assert fake_pdp.received[0].action.arguments == {"x": 4}


def test_values_may_come_from_callables(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    session = fake_pdp.session()
    with guarded(fake_pdp, session=lambda: session, intent=lambda: "why", chain=lambda: ["agent:test"]) as (
        pay,
        _,
    ):
        pay("INV-1", 1)
    (asked,) = fake_pdp.received
    assert (asked.session_id, asked.action.intent) == (session.session_id, "why")
    assert [hop.agent for hop in asked.hops] == ["agent:test"]


async def test_sync_client_guards_a_coroutine_function_without_blocking_the_loop(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    with fake_pdp.client() as pdp:

        @pdp.guard(session=fake_pdp.session(), tool="t")
        async def tool(x: int) -> int:
            return x

        assert inspect.iscoroutinefunction(tool)
        with tool_call("call-1"):
            assert await tool(1) == 1
    assert fake_pdp.received[0].action.tool_call_id == "call-1"


async def test_async_block_raises_before_the_function_runs(fake_pdp: FakePdp) -> None:
    ran: list[int] = []
    async with fake_pdp.async_client() as pdp:

        @pdp.guard(session=fake_pdp.session(), tool="t")
        async def tool(x: int) -> None:
            ran.append(x)

        with pytest.raises(Blocked, match=r"pdp\.no_applicable_rule"):
            await tool(1)
        with pytest.raises(TypeError, match="use a Client"):
            pdp.guard(session="s", tool="t")(lambda: None)
    assert ran == []


def test_what_would_run_later_cannot_be_guarded(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()

    def generator() -> Iterator[int]:
        yield 1

    async def later(x: int) -> int:
        return x

    with fake_pdp.client() as pdp:
        guard = pdp.guard(session=fake_pdp.session(), tool="t")
        with pytest.raises(TypeError, match="generator"):
            guard(generator)
        hidden = guard(lambda x: later(x))
        with pytest.raises(TypeError, match="returns a coroutine"):
            hidden(1)


def test_partial_is_guarded_with_all_its_arguments(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    with fake_pdp.client() as pdp:
        tool = pdp.guard(session=fake_pdp.session(), tool="t")(functools.partial(lambda a, b: a + b, b=2))
        assert tool(1) == 3
    assert fake_pdp.received[0].action.arguments == {"a": 1, "b": 2}


def test_exclude_is_a_list(fake_pdp: FakePdp) -> None:
    with Client(fake_pdp.target, identity=IDENTITY) as pdp, pytest.raises(TypeError, match="exclude"):
        pdp.guard(session="s", tool="t", exclude="db")(lambda db: None)


# --- decisions of a plan --------------------------------------------------------------


def planned(invoice: str, call: str, amount: str = "10") -> dict[str, Any]:
    arguments = {"invoice": invoice, "amount": amount, "currency": "EUR"}
    return {"tool": "payments.create", "arguments": arguments, "tool_call_id": call}


def test_guarded_functions_run_on_the_decisions_of_a_plan_each_once(fake_pdp: FakePdp) -> None:
    fake_pdp.allow("payments.create")
    session = fake_pdp.session()
    with guarded(fake_pdp, session=session) as (pay, bank), fake_pdp.client() as pdp:
        decisions = pdp.evaluate_plan([planned("INV-1", "a"), planned("INV-2", "b")], session=session)
        for decision, invoice in zip(decisions, ("INV-1", "INV-2"), strict=True):
            with decided(decision):
                pay(invoice, "10")
            with decided(decision), pytest.raises(ReplayedAllow):
                pay(invoice, "10")
    assert [paid[0] for paid in bank.paid] == ["INV-1", "INV-2"]
    assert len(fake_pdp.received) == 2
    assert sorted(fake_pdp.outcomes) == sorted((d.decision_id, "executed") for d in decisions)


@pytest.mark.parametrize(
    "options", [{}, {"audience": "bank"}, {"tool": "payments.refund"}, {"session": "another"}], ids=str
)
def test_decision_of_a_plan_is_for_its_own_call_only(fake_pdp: FakePdp, options: dict[str, Any]) -> None:
    fake_pdp.allow()
    session = fake_pdp.session()
    with guarded(fake_pdp, **({"session": session} | options)) as (pay, bank), fake_pdp.client() as pdp:
        (decision,) = pdp.evaluate_plan([planned("INV-1", "a")], session=session)
        with decided(decision), pytest.raises(ArgumentsChanged):
            pay("INV-1", "10" if options else "11")
        # It was not used up.
        assert decision.allowed
    assert bank.paid == []
    assert fake_pdp.outcomes == []


def test_call_inside_a_guarded_function_asks_for_itself(fake_pdp: FakePdp) -> None:
    fake_pdp.allow("payments.create")
    fake_pdp.block("payments.check")
    session = fake_pdp.session()
    with fake_pdp.client() as pdp:

        @pdp.guard(session=session, tool="payments.check")
        def check(invoice: str) -> None:
            raise AssertionError("it is blocked")

        @pdp.guard(session=session, tool="payments.create")
        def pay(invoice: str) -> None:
            check(invoice)

        action = {"tool": "payments.create", "arguments": {"invoice": "INV-1"}, "tool_call_id": "a"}
        (decision,) = pdp.evaluate_plan([action], session=session)
        with decided(decision), pytest.raises(Blocked) as blocked:
            pay("INV-1")
    assert blocked.value.decision is not None
    assert blocked.value.decision.decision_id != decision.decision_id


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("given", [False, True], ids=["asked for", "given"])
def test_guard_asks_whether_another_process_executed_what_comes_before(
    fake_pdp: FakePdp, asynchronous: bool, given: bool
) -> None:
    fake_pdp.allow("payments.approve")
    session = fake_pdp.session()
    action: dict[str, Any] = {"tool": "payments.create", "arguments": {"invoice": "INV-1"}}
    ran: list[str] = []
    calls = map("p-{}".format, itertools.count())

    async def pay_with(client: AsyncClient) -> None:
        @client.guard(session=session, tool="payments.create")
        async def pay(invoice: str) -> None:
            ran.append(invoice)

        with contextlib.ExitStack() as stack:
            if given:
                asked = action | {"tool_call_id": next(calls)}
                stack.enter_context(decided(await client.evaluate(asked, session=session)))
            await pay("INV-1")

    def pay_once() -> None:
        if asynchronous:

            async def run() -> None:
                async with fake_pdp.async_client() as client:
                    await pay_with(client)

            asyncio.run(run())
            return
        with fake_pdp.client() as client:

            @client.guard(session=session, tool="payments.create")
            def pay(invoice: str) -> None:
                ran.append(invoice)

            with contextlib.ExitStack() as stack:
                if given:
                    asked = action | {"tool_call_id": next(calls)}
                    stack.enter_context(decided(client.evaluate(asked, session=session)))
                pay("INV-1")

    with fake_pdp.client() as other:
        approve = action | {"tool": "payments.approve", "tool_call_id": "a"}
        first = other.evaluate(approve, session=session)
        after = Obligation(id="after", properties={"decision_id": first.decision_id})
        fake_pdp.allow("payments.create", obligations=[after])
        with pytest.raises(OutOfOrder):
            pay_once()
        other.report_outcome(first.decision_id, "failed", session=session)
        with pytest.raises(OutOfOrder):
            pay_once()
        second = other.evaluate(approve | {"tool_call_id": "b"}, session=session)
        after = Obligation(id="after", properties={"decision_id": second.decision_id})
        fake_pdp.allow("payments.create", obligations=[after])
        other.report_outcome(second.decision_id, "executed", session=session)
        pay_once()
    assert ran == ["INV-1"]


def test_action_of_a_plan_waits_for_the_one_it_comes_after(fake_pdp: FakePdp) -> None:
    fake_pdp.allow("payments.approve")
    session = fake_pdp.session()
    ran: list[str] = []
    with fake_pdp.client() as pdp:

        @pdp.guard(session=session, tool="payments.approve")
        def approve(invoice: str) -> None:
            ran.append("approve")
            if len(ran) == 1:
                raise ValueError("the network is down")

        @pdp.guard(session=session, tool="payments.create")
        def pay(invoice: str) -> None:
            ran.append("pay")

        def ask(number: int) -> tuple[Decision, Decision]:
            actions = [
                {"tool": tool, "arguments": {"invoice": "INV-1"}, "tool_call_id": f"{tool}-{number}"}
                for tool in ("payments.approve", "payments.create")
            ]
            (first,) = pdp.evaluate_plan(actions[:1], session=session)
            after = Obligation(id="after", properties={"decision_id": first.decision_id})
            fake_pdp.allow("payments.create", obligations=[after])
            (second,) = pdp.evaluate_plan(actions[1:], session=session)
            return first, second

        first, second = ask(1)
        with decided(second), pytest.raises(OutOfOrder):
            pay("INV-1")
        with decided(first), pytest.raises(ValueError, match="down"):
            approve("INV-1")
        # Whether it had an effect nobody knows.
        with decided(second), pytest.raises(OutOfOrder) as refused:
            pay("INV-1")
        assert "POLICY_BLOCKED" in refused.value.model_text
        first, second = ask(2)
        with decided(first):
            approve("INV-1")
        with decided(second):
            pay("INV-1")
    assert ran == ["approve", "approve", "pay"]


def test_copy_of_a_decision_from_elsewhere_knows_of_nothing_executed(fake_pdp: FakePdp) -> None:
    fake_pdp.allow("payments.create")
    session = fake_pdp.session()
    with fake_pdp.client() as pdp:
        (first,) = pdp.evaluate_plan([planned("INV-1", "a")], session=session)
        after = Obligation(id="after", properties={"decision_id": first.decision_id})
        fake_pdp.allow("payments.create", obligations=[after])
        (decision,) = pdp.evaluate_plan([planned("INV-2", "b")], session=session)
        assert not decision.allowed
        pdp.report_outcome(first.decision_id, "executed")
        assert decision.allowed
        copy = pickle.loads(pickle.dumps(decision))
    assert copy == decision
    assert not copy.allowed
    with pytest.raises(ReplayedAllow):
        copy.require_allowed()


# --- values that somebody converts ------------------------------------------------------


def converting(function: Any) -> Any:
    """What a validator does: the function gets other values than it was called with."""

    @functools.wraps(function)
    def validated(invoice: Any, amount: Any) -> Any:
        return function(invoice.strip().upper(), Decimal(amount))

    return validated


def test_guard_below_a_validator_has_judged_what_the_function_gets(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    with fake_pdp.client() as pdp:

        @converting
        @pdp.guard(session=fake_pdp.session(), tool="payments.create")
        def pay(invoice: str, amount: Decimal) -> tuple[str, Decimal]:
            return invoice, amount

        assert pay(" inv-1 ", "1200.00") == ("INV-1", Decimal("1200.00"))
    (asked,) = fake_pdp.received
    assert asked.action.arguments == {"invoice": "INV-1", "amount": Decimal("1200.00")}


def test_guard_above_a_validator_judges_what_was_said_and_the_function_gets_another_value(
    fake_pdp: FakePdp,
) -> None:
    fake_pdp.allow()
    with fake_pdp.client() as pdp:

        @pdp.guard(session=fake_pdp.session(), tool="payments.create")
        @converting
        def pay(invoice: str, amount: Decimal) -> tuple[str, Decimal]:
            return invoice, amount

        assert pay(" inv-1 ", "1200.00") == ("INV-1", Decimal("1200.00"))
    (asked,) = fake_pdp.received
    assert asked.action.arguments == {"invoice": " inv-1 ", "amount": "1200.00"}


# --- limits that are met before anybody is asked ------------------------------------------


def test_parameter_that_could_never_be_sent_is_named_at_once(fake_pdp: FakePdp) -> None:
    def pay(größe: int, **möglich: int) -> None:
        pass

    with fake_pdp.client() as pdp:
        with pytest.raises(TypeError, match=r"pay has the parameter 'größe': names of arguments are ASCII"):
            pdp.guard(session="s", tool="t")(pay)
        pdp.guard(session="s", tool="t", exclude=["größe"])(pay)


def test_key_that_is_not_ascii_is_named(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    action = {"tool": "t", "arguments": {"item": {"größe": 1}}, "tool_call_id": "c"}
    with fake_pdp.client() as pdp:
        decision = pdp.evaluate(action, session=fake_pdp.session())
    assert decision.reasons[0].code == "client.refused"
    said = r"action.arguments.item: an object has the key 'gr\xf6\xdfe', which is not ASCII"
    assert said in str(decision.failure)


# --- exceptions ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Blocked, Escalated, PdpUnavailable, ReplayedAllow])
def test_exception_without_a_decision_has_a_block(kind: type[Blocked]) -> None:
    made = pickle.loads(pickle.dumps(kind("said by somebody")))
    assert made.decision.effect is Effect.BLOCK
    assert not made.decision.allowed
    assert made.decision.reasons[0].code == "client.failed"
    assert "POLICY_BLOCKED decision_id=none" in made.model_text
