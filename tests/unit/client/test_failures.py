"""Every way in which an answer can fail to be one becomes a block that says why."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

import grpc
import pytest

from placet import Blocked, Client, Decision, DevIdentity, Effect, Obligation, PdpUnavailable
from placet._transport.channel import MAX_ANSWER_BYTES
from placet.testing import FakePdp, Verdict
from placet.v1 import decision_service_pb2 as decisions
from tests.unit.client.misbehaving import IDENTITY, answering

Answer = decisions.EvaluateResponse


def ask(pdp: Client, session: object = "s-1", call: str = "c-1", **options: object) -> Decision:
    action = {"tool": "invoices.get", "arguments": {"invoice": "INV-1"}, "tool_call_id": call}
    return pdp.evaluate(action, session=session, **options)  # type: ignore[arg-type]


def assert_blocked(decision: Decision, code: str) -> PdpUnavailable:
    """It is a block in every respect, for this reason; return the failure."""
    assert decision.effect is Effect.BLOCK
    assert not decision.allowed
    assert decision.reasons[0].code == code
    assert decision.reasons[0].effect is Effect.BLOCK
    assert f"reason_code={code}" in decision.model_text
    assert "The tool was not executed." in decision.model_text
    assert isinstance(decision.failure, PdpUnavailable)
    with pytest.raises(PdpUnavailable) as raised:
        decision.require_allowed()
    assert isinstance(raised.value, Blocked)
    assert raised.value.decision == decision
    assert raised.value.model_text == decision.model_text
    return raised.value


@contextmanager
def altered(fake: FakePdp, change: Callable[[Answer], None]) -> Iterator[tuple[Client, str]]:
    """A client whose otherwise allowing PDP sends answers that were changed."""
    fake.allow("invoices.get")
    fake.alter = change
    with fake.client() as pdp:
        pdp.put_tenant({"session_proof": "id"})
        yield pdp, fake.session().session_id


def test_unaltered_answer_is_allowed(fake_pdp: FakePdp) -> None:
    with altered(fake_pdp, lambda answer: None) as (pdp, session):
        decision = ask(pdp, session)
    assert decision.allowed
    assert decision.failure is None
    assert decision.receipt_status == "unverified"
    decision.require_allowed()


def test_closed_port_blocks() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        pdp = Client(f"127.0.0.1:{taken.getsockname()[1]}", identity=IDENTITY, timeout=30)
        decision = ask(pdp)
        pdp.close()
    failure = assert_blocked(decision, "client.unreachable")
    assert failure.code is grpc.StatusCode.UNAVAILABLE
    assert decision.retryable


def test_server_that_hangs_blocks_at_the_deadline(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    with fake_pdp.client() as pdp, fake_pdp.hung():
        failure = assert_blocked(ask(pdp, timeout=0.2), "client.deadline")
    assert failure.code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_port_that_accepts_and_says_nothing_blocks_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        pdp = Client(f"127.0.0.1:{silent.getsockname()[1]}", identity=IDENTITY, timeout=0.3)
        assert_blocked(ask(pdp), "client.deadline")
        pdp.close()


@pytest.mark.parametrize("left", [0, -1, -0.5])
def test_no_time_left_blocks_without_asking(fake_pdp: FakePdp, left: float) -> None:
    with fake_pdp.client() as pdp:
        assert_blocked(ask(pdp, timeout=left), "client.deadline")
    assert fake_pdp.received == []


@pytest.mark.parametrize("timeout", [math.nan, math.inf, 1e9, "1", True])
def test_timeout_that_is_none_is_refused(fake_pdp: FakePdp, timeout: object) -> None:
    with fake_pdp.client() as pdp:
        failure = assert_blocked(ask(pdp, timeout=timeout), "client.refused")
        assert failure.field == "timeout"
        with pytest.raises(ValueError, match="timeout"):
            fake_pdp.client(timeout=timeout)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, "client.unreachable"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "client.deadline"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "client.overloaded"),
        (grpc.StatusCode.ABORTED, "client.contended"),
        (grpc.StatusCode.INVALID_ARGUMENT, "client.refused"),
        (grpc.StatusCode.UNAUTHENTICATED, "client.refused"),
        (grpc.StatusCode.PERMISSION_DENIED, "client.refused"),
        (grpc.StatusCode.NOT_FOUND, "client.refused"),
        (grpc.StatusCode.FAILED_PRECONDITION, "client.refused"),
        (grpc.StatusCode.INTERNAL, "client.failed"),
        (grpc.StatusCode.UNKNOWN, "client.failed"),
        (grpc.StatusCode.UNIMPLEMENTED, "client.failed"),
        (grpc.StatusCode.DATA_LOSS, "client.failed"),
        (grpc.StatusCode.CANCELLED, "client.failed"),
    ],
)
def test_every_status_blocks(fake_pdp: FakePdp, code: grpc.StatusCode, reason: str) -> None:
    fake_pdp.allow()
    fake_pdp.fail(code, times=10)
    with fake_pdp.client() as pdp:
        failure = assert_blocked(ask(pdp, fake_pdp.session()), reason)
    assert failure.code is code
    assert failure.reason == "SCRIPTED"
    assert failure.request_id == "fake"


@pytest.mark.parametrize("number", [0, 4, 99, -1])
def test_unknown_effect_blocks(fake_pdp: FakePdp, number: int) -> None:
    def change(answer: Answer) -> None:
        answer.decision.effect = number  # type: ignore[assignment]

    with altered(fake_pdp, change) as (pdp, session):
        assert_blocked(ask(pdp, session), "client.unknown_effect")


def test_effect_of_a_reason_must_be_known_too(fake_pdp: FakePdp) -> None:
    def change(answer: Answer) -> None:
        answer.decision.reasons[0].effect = 77  # type: ignore[assignment]

    with altered(fake_pdp, change) as (pdp, session):
        assert_blocked(ask(pdp, session), "client.unknown_effect")


def test_block_that_is_turned_into_an_allow_on_the_way_blocks(fake_pdp: FakePdp) -> None:
    fake_pdp.block("invoices.get")

    def change(answer: Answer) -> None:
        answer.decision.effect = 1  # type: ignore[assignment]

    fake_pdp.alter = change
    with fake_pdp.client() as pdp:
        decision = ask(pdp, fake_pdp.session())
    assert_blocked(decision, "client.receipt_mismatch")
    assert "effect" in str(decision.failure)


@pytest.mark.parametrize("effect", ["allow", "escalate"])
def test_unknown_obligation_blocks(fake_pdp: FakePdp, effect: str) -> None:
    obligation = Obligation(id="notify", properties={"who": "anna"})
    fake_pdp.script(
        "invoices.get",
        lambda _: Verdict(effect=Effect(effect), code="x.y", obligations=(obligation,)),
    )
    with fake_pdp.client() as pdp:
        decision = ask(pdp, fake_pdp.session())
    assert_blocked(decision, "client.unknown_obligation")
    # What the PDP said stays readable.
    assert decision.obligations == (obligation,)
    assert decision.reasons[1].code == "x.y"
    assert decision.decision_id


def test_obligation_that_is_understood_does_not_block(fake_pdp: FakePdp) -> None:
    fake_pdp.allow("invoices.get", obligations=[Obligation(id="notify")])
    with fake_pdp.client(understands=["notify"]) as pdp:
        assert ask(pdp, fake_pdp.session()).allowed


def _clear_receipt(answer: Answer) -> None:
    answer.decision.ClearField("receipt")


def _garbage_receipt(answer: Answer) -> None:
    answer.decision.receipt.token = b"\xff\x00garbage"


def _cut_receipt(answer: Answer) -> None:
    answer.decision.receipt.token = answer.decision.receipt.token[:-1]


def _no_disclosures(answer: Answer) -> None:
    answer.decision.receipt.token = answer.decision.receipt.token.split(b"~")[0] + b"~"


def _huge_receipt(answer: Answer) -> None:
    answer.decision.receipt.token = b"a" * (512 * 1024)


@pytest.mark.parametrize(
    "change", [_clear_receipt, _garbage_receipt, _cut_receipt, _no_disclosures, _huge_receipt]
)
def test_receipt_that_is_missing_or_unreadable_blocks(
    fake_pdp: FakePdp, change: Callable[[Answer], None]
) -> None:
    with altered(fake_pdp, change) as (pdp, session):
        assert_blocked(ask(pdp, session), "client.receipt_mismatch")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("decision_id", "another"),
        ("session_id", "another"),
        ("tool_call_id", "another"),
        ("attempt_id", "another"),
        ("attempt_id", ""),
    ],
)
def test_answer_about_something_else_blocks(fake_pdp: FakePdp, name: str, value: str) -> None:
    with altered(fake_pdp, lambda answer: setattr(answer.decision, name, value)) as (pdp, session):
        assert_blocked(ask(pdp, session), "client.receipt_mismatch")


@pytest.mark.parametrize("salt", [None, b"", b"another salt of 32 bytes, or so.."])
def test_secrets_are_compared_by_the_salt_of_the_answer(fake_pdp: FakePdp, salt: bytes | None) -> None:
    def change(answer: Answer) -> None:
        if salt is not None:
            answer.decision.secret_salt = salt

    tool = {"name": "invoices.get", "effect": "read", "resource": "invoice:{invoice}"}
    with altered(fake_pdp, change) as (pdp, session):
        pdp.put_tools([tool | {"secret_arguments": ["invoice"]}])
        decision = ask(pdp, session)
    if salt is None:
        assert decision.allowed
    else:
        assert_blocked(decision, "client.receipt_mismatch")
        assert "act.secrets" in str(decision.failure)


@pytest.mark.parametrize("seconds", [1, -1, 3600])
def test_expiry_that_differs_from_the_receipt_blocks(fake_pdp: FakePdp, seconds: int) -> None:
    def change(answer: Answer) -> None:
        answer.decision.expires_at.seconds += seconds

    with altered(fake_pdp, change) as (pdp, session):
        decision = ask(pdp, session)
    assert_blocked(decision, "client.receipt_mismatch")
    assert "exp" in str(decision.failure)


def test_obligation_that_is_taken_out_on_the_way_blocks(fake_pdp: FakePdp) -> None:
    fake_pdp.allow("invoices.get", obligations=[Obligation(id="notify")])
    fake_pdp.alter = lambda answer: answer.decision.ClearField("obligations")
    with fake_pdp.client() as pdp:
        assert_blocked(ask(pdp, fake_pdp.session()), "client.receipt_mismatch")


@pytest.mark.parametrize("other", ["arguments", "tool", "session", "call", "audience", "tenant"])
def test_receipt_of_another_action_blocks(fake_pdp: FakePdp, other: str) -> None:
    """A whole allow, receipt included, is not the answer to anything but its own call."""
    fake_pdp.allow()
    fake_pdp.put("settings", "rival")
    with fake_pdp.client() as operator:
        operator.put_tenant({"session_proof": "id"})
    session = fake_pdp.session().session_id
    action: dict[str, Any] = {
        "tool": "invoices.get",
        "arguments": {"invoice": "INV-1"},
        "tool_call_id": "c-1",
    }
    asked: dict[str, Any] = {"action": action, "session": session, "attempt_id": "a-1", "audience": "erp"}
    stolen_with = (
        asked
        | {
            "arguments": {"action": action | {"arguments": {"invoice": "INV-2"}}},
            "tool": {"action": action | {"tool": "invoices.list"}},
            "session": {"session": fake_pdp.session()},
            "call": {"action": action | {"tool_call_id": "c-9"}},
            "audience": {"audience": "bank"},
            "tenant": {},
        }[other]
    )
    stolen: list[Answer] = []
    fake_pdp.alter = lambda answer: stolen.append(Answer.FromString(answer.SerializeToString()))
    with fake_pdp.client() as thief:
        assert thief.evaluate(**stolen_with).allowed

    def swap(answer: Answer) -> None:
        answer.decision.CopyFrom(stolen[0].decision)
        answer.decision.session_id = session
        answer.decision.tool_call_id = "c-1"

    fake_pdp.alter = swap
    with fake_pdp.client(**({"identity": _rival()} if other == "tenant" else {})) as pdp:
        assert_blocked(pdp.evaluate(**asked), "client.receipt_mismatch")


def _rival() -> DevIdentity:
    return DevIdentity(tenant="rival", subject="test", roles=["agent"], agents=["agent:test"])


def test_allow_for_another_attempt_that_is_not_marked_as_replayed_blocks(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()

    def hide(answer: Answer) -> None:
        answer.decision.replayed = False

    session = fake_pdp.session()
    with fake_pdp.client() as pdp:
        assert ask(pdp, session).allowed
        fake_pdp.alter = hide
        decision = ask(pdp, session)
    assert_blocked(decision, "client.receipt_mismatch")
    assert "attempt_id" in str(decision.failure)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xff\xff\xff",
        b"not a protobuf",
        Answer().SerializeToString(),
        Answer(decision={}).SerializeToString(),
        Answer(decision={"decision_id": "d", "effect": 1}).SerializeToString(),
    ],
    ids=["empty", "bytes", "text", "no decision", "empty decision", "no reasons"],
)
def test_bytes_that_are_no_decision_block(data: bytes) -> None:
    with answering(data) as pdp:
        assert_blocked(ask(pdp), "client.malformed")


def test_answer_that_is_too_large_blocks() -> None:
    with answering(bytes(MAX_ANSWER_BYTES + 1)) as pdp:
        assert_blocked(ask(pdp), "client.malformed")


def test_instants_that_are_none_block(fake_pdp: FakePdp) -> None:
    def change(answer: Answer) -> None:
        answer.decision.expires_at.seconds = 2**62

    with altered(fake_pdp, change) as (pdp, session):
        assert_blocked(ask(pdp, session), "client.malformed")


def test_closed_client_blocks(fake_pdp: FakePdp) -> None:
    pdp = fake_pdp.client()
    pdp.close()
    assert_blocked(ask(pdp), "client.unreachable")


# --- what is refused before it is sent ------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"a": math.nan}, "action.arguments.a"),
        ({"a": [1, {"b": math.inf}]}, "action.arguments.a[1].b"),
        ({"a": Decimal("NaN")}, "action.arguments.a"),
        ({"a": object()}, "action.arguments.a"),
        ({"a": b"bytes"}, "action.arguments.a"),
        ({1: 2}, "action.arguments"),
        ({"é": 2}, "action.arguments"),
        ({"a": "\ud800"}, "action.arguments"),
        (b'{"a": 1, "a": 2}', "action.arguments"),
        (b"[1]", "action.arguments"),
        (b"{", "action.arguments"),
        (b'{"a": NaN}', "action.arguments"),
        ({"a": "x" * 70_000}, "action.arguments"),
        ({"a": 10**5000}, "action.arguments.a"),
        ("text", "action.arguments"),
        (None, "action.arguments"),
    ],
)
def test_arguments_that_are_no_json_are_refused(fake_pdp: FakePdp, arguments: object, field: str) -> None:
    action = {"tool": "t", "arguments": arguments, "tool_call_id": "c"}
    with fake_pdp.client() as pdp:
        failure = assert_blocked(pdp.evaluate(action, session="s"), "client.refused")
    assert failure.field == field
    assert fake_pdp.received == []


def test_arguments_that_contain_themselves_are_refused(fake_pdp: FakePdp) -> None:
    endless: dict[str, object] = {}
    endless["again"] = endless
    with fake_pdp.client() as pdp:
        action = {"tool": "t", "arguments": endless, "tool_call_id": "c"}
        assert_blocked(pdp.evaluate(action, session="s"), "client.refused")


@pytest.mark.parametrize(
    ("action", "field"),
    [
        ({"tool": "t", "arguments": {}}, "action.tool_call_id"),
        ({"tool": "t", "tool_call_id": "c"}, "action.arguments"),
        ({"tool": 1, "arguments": {}, "tool_call_id": "c"}, "action.tool"),
        ({"tool": "t", "arguments": {}, "tool_call_id": "c", "args": {}}, "action"),
        ("text", "action"),
    ],
)
def test_action_that_is_none_is_refused(fake_pdp: FakePdp, action: object, field: str) -> None:
    with fake_pdp.client() as pdp:
        decision = pdp.evaluate(action, session="s")  # type: ignore[arg-type]
    assert assert_blocked(decision, "client.refused").field == field
    assert decision.reasons[0].at == field


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tool": ""}, "action.tool"),
        ({"tool_call_id": ""}, "action.tool_call_id"),
        ({"tool_call_id": "a\nb"}, "action.tool_call_id"),
        ({"tool": "x" * 300}, "action.tool"),
    ],
)
def test_request_that_the_server_refuses_names_the_field(
    fake_pdp: FakePdp, changes: dict[str, str], field: str
) -> None:
    action = {"tool": "t", "arguments": {}, "tool_call_id": "c"} | changes
    with fake_pdp.client() as pdp:
        failure = assert_blocked(pdp.evaluate(action, session="s"), "client.refused")
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.reason == "INVALID_FIELD"
    assert failure.field == field
    assert failure.violations[0].description


def test_retry_hint_of_a_block_is_kept(fake_pdp: FakePdp) -> None:
    wait = timedelta(seconds=7)
    fake_pdp.block("invoices.get", code="velocity.payments", retryable=True, retry_after=wait)
    with fake_pdp.client() as pdp:
        decision = ask(pdp, fake_pdp.session())
    assert decision.failure is None
    assert decision.retryable
    assert decision.retry_after == wait
    with pytest.raises(Blocked) as raised:
        decision.require_allowed()
    assert not isinstance(raised.value, PdpUnavailable)
    assert raised.value.retry_after == wait
