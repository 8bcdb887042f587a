"""Secret arguments on fakes: what anybody but the caller is given never tells them, not even by guessing."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pdp.decision.fingerprint import Fingerprints
from pdp.errors import NotRedeemableError
from pdp.model import JSON, Decision, Effect, Receipt, Tool
from pdp.proof.receipts import read_decision
from placet.receipt import ReceiptError, check_action, parse
from placet.secret_paths import EVERYTHING, SALT_BYTES
from tests.fakes.engine import BLOCK
from tests.support import builders
from tests.support.builders import TENANT
from tests.support.dictionary import find_by_dictionary
from tests.unit.decision.test_point import Bench, bench
from tests.unit.outcomes.test_point import AUDIENCE, redeem

__all__ = ["bench"]
CALL: dict[str, JSON] = {"invoice": "INV-1001", "amount": 1200, "currency": "EUR"}
STRING = {"type": "string"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "invoice": STRING,
        "amount": {"type": "number"},
        "currency": STRING,
        "pin": STRING,
        "headers": {"type": "object", "properties": {"Authorization": STRING, "Accept": STRING}},
        "items": {
            "type": "array",
            "items": {"type": "object", "properties": {"token": STRING, "id": STRING}},
        },
    },
    "additionalProperties": False,
}


def transfer(*paths: str, **changes: Any) -> Tool:
    registered = builders.tool(arguments_schema=json.dumps(SCHEMA), secret_arguments=paths)
    return replace(registered, audience=AUDIENCE, **changes)


async def register(bench: Bench, tool: Tool) -> None:
    await bench.store.control_plane.put_tools(TENANT, [tool], by=builders.AUTHOR)


async def ask(bench: Bench, arguments: dict[str, JSON], **action: Any) -> tuple[Decision, Receipt]:
    what = builders.action(arguments=arguments, **action)
    return await bench.point().evaluate(builders.evaluation(bench.session.session_id, what=what))


async def given_to_others(bench: Bench, decision: Decision) -> dict[str, bytes]:
    """All that leaves the server of a decision, but for the caller's own answer: by what it is."""
    recorded = await bench.store.ledger.decision(TENANT, decision.decision_id)
    assert recorded is not None
    assert recorded.input_document is not None
    claims = parse(recorded.token).claims
    return {
        "receipt": json.dumps(claims).encode(),
        "document": recorded.input_document,
        "decision": str(replace(read_decision(recorded.token))).encode(),
        "policy's": json.dumps(bench.engine.documents[-1]).encode(),
    }


async def test_pin_of_four_digits_is_not_recovered_from_what_an_auditor_is_given(bench: Bench) -> None:
    await register(bench, transfer("pin"))
    decision, receipt = await ask(bench, CALL | {"pin": "4711"})
    assert decision.effect is Effect.ALLOW
    candidates = [CALL | {"pin": f"{number:04}"} for number in range(10_000)]
    assert find_by_dictionary(receipt.token, candidates) == []


async def test_what_is_not_secret_is_found_by_the_same_attack(bench: Bench) -> None:
    """So the attack is one: whoever holds the disclosures may know these arguments."""
    await register(bench, transfer())
    _, receipt = await ask(bench, CALL | {"pin": "0042"})
    candidates = [CALL | {"pin": f"{number:04}"} for number in range(100)]
    assert find_by_dictionary(receipt.token, candidates) == [CALL | {"pin": "0042"}]


async def test_caller_can_compare_its_secrets_and_nobody_else_can(bench: Bench) -> None:
    await register(bench, transfer("pin"))
    _, receipt = await ask(bench, CALL | {"pin": "4711"})
    assert len(receipt.secret_salt) == SALT_BYTES
    read = parse(receipt.token)
    named: dict[str, Any] = {"tool": "payments.create"}
    check_action(read, arguments=CALL | {"pin": "4711"}, secret_salt=receipt.secret_salt, **named)
    with pytest.raises(ReceiptError) as caught:
        check_action(read, arguments=CALL | {"pin": "4712"}, secret_salt=receipt.secret_salt, **named)
    assert caught.value.part == "act.secrets"
    with pytest.raises(ReceiptError) as caught:
        check_action(read, arguments=CALL | {"pin": "4711"}, **named)
    assert caught.value.part == "act.secrets", "without the salt nothing is accepted unless one says so"
    check_action(read, arguments=CALL, secret_salt=None, **named)
    with pytest.raises(ReceiptError) as caught:
        check_action(read, arguments=CALL | {"amount": 1}, secret_salt=None, **named)
    assert caught.value.part == "act.ad"


async def test_receipt_names_the_secrets_that_the_call_has(bench: Bench) -> None:
    await register(bench, transfer("pin", "headers.authorization", "items[].token"))
    for call, named in (
        ({}, None),
        ({"pin": "4711"}, ["pin"]),
        ({"headers": {"Accept": "x"}}, None),
        ({"headers": {"Authorization": "Bearer x"}, "pin": "4711"}, ["headers.authorization", "pin"]),
        ({"items": [{"token": "t"}, {"id": "1"}]}, ["items[].token"]),
    ):
        decision, receipt = await ask(bench, CALL | call)
        claims = parse(receipt.token).claims
        assert claims["act"].get("secrets") == named
        assert claims["ver"] == (1 if named is None else 2)
        assert decision.secret_paths == tuple(named or ())
        assert bool(receipt.secret_salt) == bool(named)
        assert read_decision(receipt.token) == decision


async def test_repeat_has_the_same_salt_on_every_replica_and_no_reader_has_it(bench: Bench) -> None:
    await register(bench, transfer("pin"))
    asked = builders.evaluation(
        bench.session.session_id, what=builders.action(arguments=CALL | {"pin": "4711"})
    )
    first, receipt = await bench.point().evaluate(asked)
    again, repeated = await bench.point().evaluate(asked)
    assert again.replayed
    assert repeated.secret_salt == receipt.secret_salt
    assert receipt.secret_salt == Fingerprints(b"k" * 32).secret_salt(TENANT, first.decision_id)
    assert receipt.secret_salt != Fingerprints(b"k" * 32).secret_salt("globex", first.decision_id)
    assert receipt.secret_salt != Fingerprints(b"k" * 32).secret_salt(TENANT, "another")
    assert receipt.secret_salt not in receipt.token
    assert receipt.secret_salt.hex() not in repr(receipt)


async def test_plans_answers_have_salts_of_their_own(bench: Bench) -> None:
    await register(bench, transfer("pin"))
    requests = [
        builders.evaluation(
            bench.session.session_id, what=builders.action(arguments=CALL | {"pin": f"47{number}1"})
        )
        for number in range(3)
    ]
    for _ in range(2):
        answers = await bench.point().evaluate_plan(requests, all_or_nothing=False)
        assert len({answer.receipt.secret_salt for answer in answers}) == 3
        for request, answer in zip(requests, answers, strict=True):
            check_action(
                parse(answer.receipt.token),
                tool="payments.create",
                arguments=request.action.arguments,
                secret_salt=answer.receipt.secret_salt,
            )


async def test_plan_that_is_blocked_as_a_whole_has_salts_for_what_it_had_allowed_before(bench: Bench) -> None:
    await register(bench, transfer("pin"))
    requests = [
        builders.evaluation(
            bench.session.session_id, what=builders.action(arguments=CALL | {"pin": f"47{number}1"})
        )
        for number in range(3)
    ]
    first, receipt = await bench.point().evaluate(requests[0])
    bench.engine.judge_by(BLOCK)
    answers = await bench.point().evaluate_plan(requests, all_or_nothing=True)
    assert [answer.decision.effect for answer in answers] == [Effect.BLOCK] * 3
    assert answers[0].decision.decision_id != first.decision_id
    assert len({receipt.secret_salt, *(answer.receipt.secret_salt for answer in answers)}) == 4
    for request, answer in zip(requests, answers, strict=True):
        check_action(
            parse(answer.receipt.token),
            tool="payments.create",
            arguments=request.action.arguments,
            secret_salt=answer.receipt.secret_salt,
        )


async def test_redeeming_compares_secrets_too(bench: Bench) -> None:
    await register(bench, transfer("pin", redeem_required=True))
    decision, _ = await ask(bench, CALL | {"pin": "4711"})
    for other in (CALL, CALL | {"pin": "4712"}, CALL | {"pin": ""}, CALL | {"Pin": "4711"}):
        with pytest.raises(NotRedeemableError, match="another action"):
            await redeem(bench, decision.decision_id, arguments=other)
    await redeem(bench, decision.decision_id, arguments=CALL | {"pin": "4711"})


async def test_redeeming_judges_again_with_the_secrets_that_were_judged(bench: Bench) -> None:
    await register(bench, transfer("pin", redeem_required=True))
    what = {"tool_call_id": "c-1", "intent": "with pin 4711", "claimed_resource": "invoice:INV-1001"}
    decision, _ = await ask(bench, CALL | {"pin": "4711"}, **what)
    await bench.store.control_plane.put_tenant(TENANT, b'{"allow_ttl_seconds": 50}', by=builders.AUTHOR)
    await redeem(bench, decision.decision_id, arguments=CALL | {"pin": "4711"})
    assert bench.engine.documents[-1]["action"]["arguments"]["pin"] == "[secret]"


@pytest.mark.parametrize(
    "arguments",
    [
        CALL | {"pinn": "4711-secret"},
        CALL | {"pin": ["4711-secret"]},
        CALL | {"headers": "Authorization: 4711-secret"},
        CALL | {"amount": "4711-secret"},
        CALL | {"items": {"0": {"token": "4711-secret"}}},
    ],
)
async def test_arguments_that_do_not_fit_the_schema_are_hidden_as_a_whole(
    bench: Bench, arguments: dict[str, JSON]
) -> None:
    """A misspelt secret is one, too."""
    await register(bench, transfer("pin", "headers.Authorization", "items[].token"))
    bench.engine.judge_by(BLOCK)
    decision, receipt = await ask(bench, arguments, intent="pay with 4711-SECRET")
    assert "registry.arguments_invalid" in bench.engine.documents[-1]["action"]["problems"]
    assert parse(receipt.token).claims["act"]["secrets"] == [EVERYTHING]
    assert "4711-secret" not in str(await given_to_others(bench, decision)).lower()
    check_action(
        parse(receipt.token), tool="payments.create", arguments=arguments, secret_salt=receipt.secret_salt
    )


async def test_what_the_caller_says_beside_its_arguments_is_hidden_where_it_tells_a_secret(
    bench: Bench,
) -> None:
    await register(bench, transfer("pin"))
    decision, _ = await ask(
        bench, CALL | {"pin": "hunter2"}, intent="log in with Hunter2", claimed_resource="login:hunter2"
    )
    seen = await given_to_others(bench, decision)
    assert [name for name, text in seen.items() if b"hunter2" in text.lower()] == []
    assert bench.engine.documents[-1]["claimed"]["intent"] == "[secret]"
    await ask(bench, CALL | {"pin": "hunter2"}, intent="pay INV-1001")
    assert bench.engine.documents[-1]["claimed"]["intent"] == "pay INV-1001"


async def test_simulation_shows_no_secret(bench: Bench) -> None:
    await register(bench, transfer("pin"))
    what = builders.action(arguments=CALL | {"pin": "hunter2"}, intent="hunter2")
    simulation = await bench.point().simulate(builders.evaluation(bench.session.session_id, what=what))
    assert "hunter2" not in str(simulation)


async def test_registration_of_an_earlier_release_that_shows_a_secret_is_blocked(bench: Bench) -> None:
    """The store holds what `PutTools` would refuse today."""
    await register(bench, transfer("pin", resource="invoice:{invoice}-{pin}"))
    decision, _ = await ask(bench, CALL | {"pin": "hunter2"})
    assert "registry.resource_underivable" in bench.engine.documents[-1]["action"]["problems"]
    assert "hunter2" not in str(await given_to_others(bench, decision))


async def test_registration_of_an_earlier_release_with_a_misspelt_path_hides_everything(
    bench: Bench,
) -> None:
    await register(bench, transfer("pni"))
    decision, receipt = await ask(bench, CALL | {"pin": "hunter2"})
    assert decision.effect is Effect.ALLOW
    assert bench.engine.documents[-1]["action"]["arguments"] == {}
    assert parse(receipt.token).claims["act"]["secrets"] == [EVERYTHING]
    assert "hunter2" not in str(await given_to_others(bench, decision))


# --- any schema, any secret ---------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "key", "Token", "x.y", "z[]"])
# Long enough to be found nowhere by chance.
# Whatever is drawn, it stands nowhere else by chance, as a word of the code might.
VALUES = st.integers(min_value=0).map(lambda number: sha256(str(number).encode()).hexdigest()[:20])


@st.composite
def shapes(draw: st.DrawFn, depth: int = 3) -> tuple[dict[str, Any], list[str], Any, Any]:
    """A schema, the paths of its secrets, arguments that fit it, and the same with another secret."""
    kind = draw(st.sampled_from(["secret", "open", "object", "list"] if depth else ["secret", "open"]))
    if kind == "secret":
        return STRING, [""], draw(VALUES), draw(VALUES)
    if kind == "open":
        value = draw(st.integers(0, 9))
        return {"type": "integer"}, [], value, value
    if kind == "list":
        schema, paths, one, other = draw(shapes(depth - 1))
        times = draw(st.integers(1, 3))
        inside = [
            "[]" if not path else f"[]{path}" if path.startswith("[]") else f"[].{path}" for path in paths
        ]
        return {"type": "array", "items": schema}, inside, [one] * times, [other] * times
    return draw(objects(depth - 1))


@st.composite
def objects(draw: st.DrawFn, depth: int = 2) -> tuple[dict[str, Any], list[str], Any, Any]:
    properties: dict[str, Any] = {}
    paths: list[str] = []
    one, other = {}, {}
    for name in draw(st.lists(NAMES, min_size=1, max_size=4, unique=True)):
        schema, inside, value, another = draw(shapes(depth))
        properties[name], one[name], other[name] = schema, value, another
        paths += [f"{name}{'' if not path or path.startswith('[]') else '.'}{path}" for path in inside]
    return {"type": "object", "properties": properties, "additionalProperties": False}, paths, one, other


def leaves(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [leaf for item in items for leaf in leaves(item)]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(shape=objects(), effect=st.sampled_from([Effect.ALLOW, Effect.BLOCK]))
async def test_nothing_that_leaves_tells_a_secret(
    bench: Bench, shape: tuple[dict[str, Any], list[str], Any, Any], effect: Effect
) -> None:
    schema, paths, arguments, other = shape
    tool = replace(
        builders.tool(resource="thing:1", amount=None, secret_arguments=tuple(paths)),
        arguments_schema=json.dumps(schema),
    )
    await register(bench, tool)
    bench.engine.judge_by(builders.verdict(effect))
    said = " and ".join(leaves(arguments))
    decision, receipt = await ask(bench, arguments, intent=said)
    assert bench.engine.documents[-1]["action"]["problems"] == []
    seen = b"".join((await given_to_others(bench, decision)).values()) + receipt.token
    assert [leaf for leaf in leaves(arguments) if leaf.encode() in seen] == []
    if not paths:
        return
    assert find_by_dictionary(receipt.token, [arguments]) == []
    checked: dict[str, Any] = {"tool": "payments.create", "secret_salt": receipt.secret_salt}
    check_action(parse(receipt.token), arguments=arguments, **checked)
    if other != arguments:
        with pytest.raises(ReceiptError):
            check_action(parse(receipt.token), arguments=other, **checked)
