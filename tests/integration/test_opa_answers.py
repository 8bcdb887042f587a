"""What is not a verdict in every part is no answer: the engine against a server of garbage."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from pdp.errors import PolicyUnavailableError
from pdp.model import Effect, Figures, Remedy, Verdict
from pdp.opa import EngineCall, OpaPolicyEngine
from pdp.opa.verdict import single_verdict
from tests.support.documents import encode, payment_document
from tests.support.fake_opa import ALLOWED, PROVENANCE, Query, allow_all, answer, fake_opa, http

DOCUMENT = encode(payment_document())
REASON = ALLOWED["reasons"][0]  # type: ignore[index]


def with_(**changes: Any) -> Any:
    return {**ALLOWED, **changes}


def without(key: str) -> Any:
    return {name: value for name, value in ALLOWED.items() if name != key}


def reason(**changes: Any) -> Any:
    return with_(reasons=[{**REASON, **changes}])


def soon(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


def always(said: bytes | None) -> Callable[[Query], Awaitable[bytes | None]]:
    async def script(_: Query) -> bytes | None:
        return said

    return script


VERDICTS: dict[str, tuple[Any, str]] = {
    "null": (None, "malformed"),
    "a list": ([], "malformed"),
    "a text": ("allow", "malformed"),
    "true": (True, "malformed"),
    "an empty object": ({}, "unknown_effect"),
    "an unknown member": (with_(permit=True), "malformed"),
    "no effect": (without("effect"), "unknown_effect"),
    "an unknown effect": (with_(effect="permit"), "unknown_effect"),
    "an effect in capitals": (with_(effect="ALLOW"), "unknown_effect"),
    "an effect that is a list": (with_(effect=["allow"]), "unknown_effect"),
    "no reasons member": (without("reasons"), "malformed"),
    "empty reasons": (with_(reasons=[]), "no_reasons"),
    "reasons that are an object": (with_(reasons={"a": REASON}), "malformed"),
    "a reason that is a text": (with_(reasons=["task.within_boundary"]), "malformed"),
    "a reason without code": (reason(code=""), "malformed"),
    "a reason with an odd code": (reason(code="Task within\n"), "malformed"),
    "a reason with an endless code": (reason(code="a." + "b" * 200), "malformed"),
    "a reason with an unknown effect": (reason(effect="maybe"), "unknown_effect"),
    "a reason with an odd message": (reason(message=1), "malformed"),
    "a reason with an endless message": (reason(message="x" * 5000), "malformed"),
    "a reason with an unknown member": (reason(arguments={}), "malformed"),
    "a reason with an odd remediation": (reason(remediation=["x"]), "malformed"),
    "a reason with a remedy that is none": (reason(remedy="retry"), "malformed"),
    "a reason with an odd remedy": (reason(remedy=[]), "malformed"),
    "findings that are an object": (reason(findings={}), "malformed"),
    "too many findings": (reason(findings=[{"code": "a.b"}] * 65), "malformed"),
    "a finding that is a text": (reason(findings=["a.b"]), "malformed"),
    "a finding with an unknown member": (reason(findings=[{"argument": "x"}]), "malformed"),
    "a finding with half an amount": (reason(findings=[{"used": 1.5}]), "malformed"),
    "a finding with a text for a number": (reason(findings=[{"limit": "1"}]), "malformed"),
    "a finding at a hop that is none": (reason(findings=[{"hop": -1}]), "malformed"),
    "a finding with an odd window": (reason(findings=[{"window_seconds": "60"}]), "malformed"),
    "an allow for a block": (reason(effect="block"), "malformed"),
    "an allow with a block beside": (
        with_(reasons=[REASON, {"code": "a.b", "effect": "block", "message": ""}]),
        "malformed",
    ),
    "an allow with an escalation beside": (
        with_(reasons=[REASON, {"code": "a.b", "effect": "escalate", "message": ""}]),
        "malformed",
    ),
    "a block for an allow": (with_(effect="block"), "malformed"),
    "no obligations": (without("obligations"), "malformed"),
    "obligations that are an object": (with_(obligations={}), "malformed"),
    "an obligation without id": (with_(obligations=[{"properties": {}}]), "malformed"),
    "an obligation with odd properties": (with_(obligations=[{"id": "x", "properties": []}]), "malformed"),
    "an allow to be waited for": (with_(retry_after_seconds=1), "malformed"),
}


def block_with_retry(value: Any) -> Any:
    return {
        "effect": "block",
        "reasons": [{"code": "velocity.payments", "effect": "block", "message": ""}],
        "obligations": [],
        "retry_after_seconds": value,
    }


VERDICTS |= {
    f"retry_after {value!r}": (block_with_retry(value), "malformed")
    for value in (-1, "1", None, True, [1], 1e300, 10**12)
}

ANSWERS: dict[str, tuple[bytes | None, str]] = {
    "no result": (http(json.dumps({"provenance": PROVENANCE}).encode()), "no_result"),
    "an empty object": (http(b"{}"), "no_result"),
    "no revision": (http(json.dumps({"result": ALLOWED}).encode()), "no_revision"),
    "an empty revision": (
        answer(ALLOWED, provenance={"bundles": {"placet": {"revision": ""}}}),
        "no_revision",
    ),
    "a revision of another bundle": (
        answer(ALLOWED, provenance={"bundles": {"other": {"revision": "r"}}}),
        "no_revision",
    ),
    "an odd revision": (answer(ALLOWED, provenance={"bundles": {"placet": {"revision": 7}}}), "no_revision"),
    "an odd provenance": (answer(ALLOWED, provenance=["placet"]), "no_revision"),
    "a list": (http(b"[]"), "malformed"),
    "no JSON": (http(b"<html>"), "malformed"),
    "nothing": (http(b""), "malformed"),
    "NaN": (
        http(json.dumps({"result": block_with_retry(float("nan")), "provenance": PROVENANCE}).encode()),
        "malformed",
    ),
    "half of the JSON": (http(json.dumps({"result": ALLOWED}).encode()[:-9]), "malformed"),
    "a 500 with a verdict": (
        http(json.dumps({"result": ALLOWED, "provenance": PROVENANCE}).encode(), "500 Internal Server Error"),
        "status",
    ),
    "a 500 with garbage": (http(b"\x00\xff", "500 Internal Server Error"), "status"),
    "a 401": (http(b"{}", "401 Unauthorized"), "status"),
    "a 204": (b"HTTP/1.1 204 No Content\r\n\r\n", "status"),
    "a redirect": (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "status"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n", "malformed"),
    "a huge answer": (http(b'"' + b"x" * (2 * 1024 * 1024) + b'"'), "malformed"),
    "two answers": (answer(ALLOWED) + answer(ALLOWED), "malformed"),
    "no answer": (None, "connection"),
}


@pytest.mark.parametrize(("result", "cause"), VERDICTS.values(), ids=list(VERDICTS))
async def test_odd_verdict_is_no_answer(result: Any, cause: str) -> None:
    async def script(query: Query) -> bytes:
        return answer(dict.fromkeys(query.documents, result) if query.batch else result)

    await assert_fails(script, cause)


@pytest.mark.parametrize(("said", "cause"), ANSWERS.values(), ids=list(ANSWERS))
async def test_odd_answer_is_no_answer(said: bytes | None, cause: str) -> None:
    await assert_fails(always(said), cause)


async def assert_fails(script: Callable[[Query], Awaitable[bytes | None]], cause: str) -> None:
    """Alone and in a crowd: the cause, in time."""
    async with fake_opa(script) as server:
        engine = OpaPolicyEngine(server.socket_path)
        for count in (1, 12):
            deadline = soon()
            outcomes = await asyncio.gather(
                *(engine.decide(DOCUMENT, deadline=deadline) for _ in range(count)), return_exceptions=True
            )
            assert time.monotonic() < deadline
            assert [getattr(o, "cause", o) for o in outcomes] == [cause] * count
            assert all(isinstance(o, PolicyUnavailableError) for o in outcomes)
        await engine.aclose()


async def test_truncated_answer_is_no_answer() -> None:
    """The connection is closed within the answer."""
    asked = asyncio.Event()

    async def script(_: Query) -> bytes | None:
        asked.set()
        return allow_all(Query(batch=False, documents={"": {}}))[:-20]

    async with fake_opa(script) as server:
        engine = OpaPolicyEngine(server.socket_path)
        call = asyncio.ensure_future(engine.decide(DOCUMENT, deadline=soon()))
        await asked.wait()
        await asyncio.sleep(0)
        server.close_connections()
        with pytest.raises(PolicyUnavailableError) as caught:
            await call
        assert caught.value.cause == "connection"
        await engine.aclose()


async def test_slow_answer_is_a_time_out_before_the_deadline() -> None:
    never = asyncio.Event()

    async def script(_: Query) -> bytes | None:
        await never.wait()
        return None

    async with fake_opa(script) as server:
        engine = OpaPolicyEngine(server.socket_path)
        deadline = soon(0.3)
        outcomes = await asyncio.gather(
            *(engine.decide(DOCUMENT, deadline=deadline) for _ in range(10)), return_exceptions=True
        )
        assert time.monotonic() < deadline + 0.1
        assert [getattr(o, "cause", o) for o in outcomes] == ["timeout"] * 10
        await engine.aclose()
        never.set()


async def test_late_answer_never_reaches_another_call() -> None:
    """The first call times out; its answer, an allow, comes while the second waits for its own."""
    blocked = {
        "effect": "block",
        "reasons": [{"code": "a.b", "effect": "block", "message": ""}],
        "obligations": [],
    }
    go = asyncio.Event()

    async def script(query: Query) -> bytes:
        if query.documents[""]["action"]["tool_call_id"] == "first":
            await go.wait()
            return answer(ALLOWED)
        go.set()
        return answer(blocked)

    async with fake_opa(script) as server:
        engine = OpaPolicyEngine(server.socket_path, in_flight=1)
        with pytest.raises(PolicyUnavailableError):
            await engine.decide(encode(payment_document(tool_call_id="first")), deadline=soon(0.1))
        verdict = await engine.decide(encode(payment_document(tool_call_id="second")), deadline=soon())
        assert verdict.effect is Effect.BLOCK
        await engine.aclose()


async def test_answer_that_nobody_asked_for_closes_the_connection() -> None:
    async with fake_opa(always(answer(ALLOWED) + b"HTTP/1.1 200 OK\r\n")) as server:
        engine = OpaPolicyEngine(server.socket_path)
        for _ in range(3):
            await asyncio.gather(engine.decide(DOCUMENT, deadline=soon()), return_exceptions=True)
        assert server.connections >= 3
        await engine.aclose()


async def gather_batch(
    script: Callable[[Query], Awaitable[bytes | None]], count: int = 8
) -> tuple[list[Verdict | BaseException], list[Query], list[EngineCall]]:
    """Ask `count` documents at once, of which the first batch holds all."""
    calls: list[EngineCall] = []
    async with fake_opa(script) as server:
        engine = OpaPolicyEngine(server.socket_path, in_flight=1, observe=calls.append)
        outcomes = await asyncio.gather(
            *(
                engine.decide(encode(payment_document(tool_call_id=str(i))), deadline=soon())
                for i in range(count)
            ),
            return_exceptions=True,
        )
        await engine.aclose()
        return outcomes, server.queries, calls


async def test_batch_is_keyed_by_id_whatever_the_order() -> None:
    def judge(document: Any) -> Any:
        odd = int(document["action"]["tool_call_id"]) % 2
        effect = "block" if odd else "allow"
        return {
            "effect": effect,
            "reasons": [{"code": "a.b", "effect": effect, "message": ""}],
            "obligations": [],
        }

    async def script(query: Query) -> bytes:
        return answer({key: judge(query.documents[key]) for key in reversed(list(query.documents))})

    outcomes, queries, _ = await gather_batch(script)

    assert [len(query.documents) for query in queries] == [8]
    assert [o.effect for o in outcomes if isinstance(o, Verdict)] == [Effect.ALLOW, Effect.BLOCK] * 4


@pytest.mark.parametrize("odd", ["missing", "extra", "other", "status", "list", "none"])
async def test_failed_batch_goes_again_as_single_calls(odd: str) -> None:
    async def script(query: Query) -> bytes:
        if not query.batch:
            return allow_all(query)
        ids = list(query.documents)
        match odd:
            case "missing":
                return answer(dict.fromkeys(ids[1:], ALLOWED))
            case "extra":
                return answer(dict.fromkeys([*ids, "x"], ALLOWED))
            case "other":
                return answer(dict.fromkeys([*ids[1:], "x"], ALLOWED))
            case "status":
                return http(b"{}", "500 Internal Server Error")
            case "list":
                return answer([ALLOWED] * len(ids))
            case _:
                return http(b"{}")

    outcomes, queries, calls = await gather_batch(script)

    assert all(isinstance(o, Verdict) and o.effect is Effect.ALLOW for o in outcomes)
    assert [query.batch for query in queries] == [True] + [False] * 8
    assert calls[0].documents == 8
    assert calls[0].cause
    assert all(call.after_batch and not call.cause for call in calls[1:])


async def test_missing_id_in_both_is_no_answer() -> None:
    async def script(query: Query) -> bytes:
        return answer({}) if query.batch else http(b"{}")

    outcomes, _, calls = await gather_batch(script)

    assert calls[0].cause == "missing_id"
    assert [getattr(o, "cause", o) for o in outcomes] == ["no_result"] * 8


async def test_odd_verdict_in_a_batch_hurts_its_own_call_only() -> None:
    async def script(query: Query) -> bytes:
        return answer(
            {
                key: ALLOWED if document["action"]["tool_call_id"] != "3" else with_(effect="permit")
                for key, document in query.documents.items()
            }
        )

    outcomes, _, _ = await gather_batch(script)

    assert getattr(outcomes[3], "cause", None) == "unknown_effect"
    assert all(isinstance(o, Verdict) for i, o in enumerate(outcomes) if i != 3)


async def test_batches_hold_at_most_as_many_as_they_may() -> None:
    async def script(query: Query) -> bytes:
        return allow_all(query)

    outcomes, queries, _ = await gather_batch(script, count=150)

    assert all(isinstance(o, Verdict) for o in outcomes)
    assert max(len(query.documents) for query in queries) == 32


async def test_connection_that_was_closed_meanwhile_is_replaced_at_once() -> None:
    async def script(query: Query) -> bytes:
        return allow_all(query)

    async with fake_opa(script) as server:
        engine = OpaPolicyEngine(server.socket_path)
        assert (await engine.decide(DOCUMENT, deadline=soon())).effect is Effect.ALLOW
        # The engine has not seen the end of the connection yet when it sends.
        server.close_connections()
        assert (await engine.decide(DOCUMENT, deadline=soon())).effect is Effect.ALLOW
        assert server.connections == 2
        await engine.aclose()


async def test_verdict_carries_everything_that_policy_said() -> None:
    said = {
        "effect": "allow",
        "reasons": [{**REASON, "at": "chain[1]"}],
        "obligations": [{"id": "redeem", "properties": {"within": 1.5, "list": [1, {"a": 0.1}]}}],
    }
    async with fake_opa(always(answer(said))) as server:
        engine = OpaPolicyEngine(server.socket_path)
        verdict = await engine.decide(DOCUMENT, deadline=soon())
        assert verdict.reasons[0].at == "chain[1]"
        assert verdict.obligations[0].id == "redeem"
        assert str(verdict.obligations[0].properties["within"]) == "1.5"
        assert verdict.policy.revision == "r-1"
        assert verdict.retry_after is None
        await engine.aclose()


async def test_block_may_say_when_to_come_back() -> None:
    async with fake_opa(always(answer(block_with_retry(12.5)))) as server:
        engine = OpaPolicyEngine(server.socket_path)
        verdict = await engine.decide(DOCUMENT, deadline=soon())
        assert verdict.retry_after is not None
        assert verdict.retry_after.total_seconds() == 12.5
        await engine.aclose()


async def test_closed_engine_answers_nobody() -> None:
    asked, never = asyncio.Event(), asyncio.Event()

    async def script(_: Query) -> bytes | None:
        asked.set()
        await never.wait()
        return None

    async with fake_opa(script) as server:
        engine = OpaPolicyEngine(server.socket_path, in_flight=1)
        calls = [asyncio.ensure_future(engine.decide(DOCUMENT, deadline=soon())) for _ in range(3)]
        await asked.wait()
        late = asyncio.ensure_future(engine.decide(DOCUMENT, deadline=soon()))
        await asyncio.sleep(0)
        await engine.aclose()
        outcomes = await asyncio.gather(*calls, late, return_exceptions=True)
        assert [getattr(o, "cause", o) for o in outcomes] == ["connection"] * 4
        with pytest.raises(PolicyUnavailableError):
            await engine.decide(DOCUMENT, deadline=soon())
        never.set()


def test_findings_become_places_and_figures() -> None:
    said = {
        "code": "payment.large",
        "effect": "escalate",
        "message": "m",
        "remediation": "r",
        "remedy": "ask",
        "findings": [
            {"code": "payment.large", "hop": 1, "unit": "JPY", "used": 5, "added": 7, "limit": 10},
            {"code": "payment.large", "of": "session", "unit": "EUR", "added": 7, "window_seconds": 60},
            {"code": "payment.large", "at": "entities.order"},
        ],
    }
    verdict = {"effect": "escalate", "reasons": [said], "obligations": []}
    body = json.dumps({"result": verdict, "provenance": PROVENANCE}).encode()
    (found,) = single_verdict(body, bundle="placet").reasons
    assert found.remedy is Remedy.ASK
    assert found.remediation == "r"
    assert found.at == "session"
    assert found.figures == (
        Figures(of="session", unit="EUR", added="0.07", window=timedelta(seconds=60)),
        Figures(of="", at="chain[1]", unit="JPY", used="5", added="7", limit="10"),
    )
