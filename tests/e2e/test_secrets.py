"""Secret arguments over a real stack: only the caller's own answer lets anybody find out what they are."""

from __future__ import annotations

import json
import zlib
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from placet import Decision, InvalidRequestError, PreconditionError, Session
from placet.capability import CapabilityError, presented, presented_headers
from placet.receipt import ReceiptError, check_action, parse
from placet.verify import Verifier
from tests.e2e.scene import TRANSFER, Scene, codes, new_call
from tests.e2e.test_capability import gate
from tests.e2e.test_faults import owner_url
from tests.support.dictionary import find_by_dictionary

pytestmark = pytest.mark.asyncio(loop_scope="session")
STRING = {"type": "string"}
SECRETS = ["pin", "headers.Authorization", "items[].token"]
TOOL: dict[str, Any] = {
    "name": TRANSFER,
    "effect": "pay",
    "resource": "invoice:{invoice}",
    "arguments_schema": {
        "type": "object",
        "properties": {
            "invoice": STRING,
            "amount": {"type": ["number", "string"]},
            "currency": STRING,
            "pin": STRING,
            "headers": {"type": "object", "additionalProperties": STRING},
            "items": {
                "type": "array",
                "items": {"type": "object", "properties": {"token": STRING, "id": STRING}},
            },
        },
        "additionalProperties": False,
    },
    "amount": {"argument": "amount", "unit": "major", "currency_argument": "currency"},
    "secret_arguments": SECRETS,
    "audience": "erp",
}
CALL: dict[str, Any] = {"invoice": "INV-1", "amount": 5, "currency": "EUR"}


async def set_tool(scene: Scene, **changes: Any) -> None:
    await (await scene.operator()).put_tools([TOOL | changes])


def asked(arguments: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"tool": TRANSFER, "arguments": CALL | arguments, "tool_call_id": new_call()} | members


async def test_pin_of_four_digits_is_recovered_by_nobody_who_is_given_the_receipt(scene: Scene) -> None:
    await set_tool(scene)
    decision = await scene.ask(asked({"pin": "4711"}), await scene.session())
    assert decision.allowed
    recorded = await scene.recorded(decision.decision_id)
    assert recorded.receipt == decision.receipt
    assert recorded.secret_salt == b""
    assert len(decision.secret_salt) == 32
    candidates = [CALL | {"pin": f"{number:04}"} for number in range(10_000)]
    assert find_by_dictionary(recorded.receipt, candidates) == []
    assert parse(recorded.receipt).claims["act"]["secrets"] == ["pin"]
    # Who knows the salt compares; who only has the receipt cannot.
    known: dict[str, Any] = {"tool": TRANSFER, "arguments": CALL | {"pin": "4711"}}
    proven = Verifier(scene.jwks).verify(recorded.receipt)
    check_action(proven, **known, secret_salt=decision.secret_salt)
    with pytest.raises(ReceiptError, match="no salt"):
        check_action(proven, **known)


async def test_nothing_that_leaves_but_the_callers_answer_tells_a_secret(scene: Scene) -> None:
    await set_tool(scene)
    session, mark = await scene.session(), f"S3cr3t{new_call()}"
    arguments = {
        "pin": f"{mark}-1",
        "headers": {"authorization": f"Bearer {mark}-2", "Accept": "*"},
        "items": [{"token": f"{mark}-3", "id": "a"}, {"id": "b"}],
    }
    intents = {"intent": f"with {mark}-1", "resource": f"login:{mark}-2", "provenance": {"pin": f"{mark}-1"}}
    allowed = await scene.ask(asked(arguments), session)
    assert allowed.allowed, allowed.reasons
    blocked = await scene.ask(asked(arguments, **intents), session)
    assert codes(blocked) == ["action.resource_mismatch"]
    misspelt = await scene.ask(asked({"pni": f"{mark}-4"}, intent=f"{mark}-4"), session)
    assert "registry.arguments_invalid" in codes(misspelt)
    agent = await scene.agent()
    (planned,) = await agent.evaluate_plan([asked(arguments)], session=session)
    async with agent.stream() as stream:
        streamed = await stream.evaluate(asked(arguments), session=session)
    author = await scene.client("author", "policy_author")
    simulated = await author.simulate(
        asked(arguments, intent=f"{mark}-1"), session=session, subject="svc-ap", agents=("agent:payer",)
    )
    erp = await scene.tool_server()
    with pytest.raises(PreconditionError) as refused:
        await erp.redeem(
            allowed.decision_id, tool=TRANSFER, arguments=CALL | {"pin": f"{mark}-9"}, audience="erp"
        )
    answers = [allowed, blocked, misspelt, planned, streamed]
    assert all(len(answer.secret_salt) == 32 for answer in answers)
    assert len({answer.secret_salt for answer in answers}) == len(answers)
    seen = {"simulation": str(simulated), "refusal": str(refused.value)}
    for number, answer in enumerate(answers):
        seen[f"answer {number}"] = repr(answer) + str(parse(answer.receipt).claims)
        for reader in (await scene.auditor(), await scene.operator(), agent):
            read = await reader.get_decision(answer.decision_id, session=session)
            assert read.secret_salt == b""
            seen[f"{number} {reader}"] = repr(read) + read.input_document.decode()
    logs = scene.stack.directory / "logs"
    seen |= {log.name: log.read_text(errors="replace") for log in logs.iterdir()}
    seen["database"] = database(scene)
    salts = [shown for answer in answers for shown in (answer.secret_salt.hex(), repr(answer.secret_salt))]
    assert [name for name, text in seen.items() if mark in text or any(salt in text for salt in salts)] == []
    document = json.loads((await scene.recorded(allowed.decision_id)).input_document)
    assert document["action"]["arguments"] == CALL | {
        "pin": "[secret]",
        "headers": {"authorization": "[secret]", "Accept": "*"},
        "items": [{"token": "[secret]", "id": "a"}, {"id": "b"}],
    }


def database(scene: Scene) -> str:
    """Every row of every table, as text; input documents and what else is compressed, unpacked."""
    found = []
    with psycopg.connect(owner_url(scene.stack)) as connection:
        tables = connection.execute(
            "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'placet' AND c.relkind IN ('r', 'p')"
        ).fetchall()
        for (table,) in tables:
            for row in connection.execute(f"SELECT * FROM {table}").fetchall():
                found += [_text(value) if isinstance(value, bytes) else str(value) for value in row]
    assert found
    return "\n".join(found)


def _text(value: bytes) -> str:
    with suppress(zlib.error):
        value += zlib.decompress(value)
    return value.decode("latin-1") + value.hex()


async def test_repeats_of_a_call_have_their_salt_on_every_replica(scene: Scene) -> None:
    await set_tool(scene)
    session, action = await scene.session(), asked({"pin": "4711"})
    first = await scene.ask(action, session, attempt_id="a")
    for replica in (1, 2):
        again: Decision = await (await scene.agent(replica=replica)).evaluate(
            action, session=session, attempt_id="a"
        )
        assert again.replayed
        assert again.failure is None
        assert again.secret_salt == first.secret_salt


async def test_gate_compares_secrets_by_the_salt_or_has_them_redeemed(scene: Scene) -> None:
    await set_tool(scene)
    arguments = CALL | {"pin": "4711", "items": [{"token": "t"}]}
    others = [
        arguments | {"pin": "4712"},
        arguments | {"items": [{"token": "u"}]},
        CALL | {"pin": "4711"},
        CALL,
    ]

    async def allowed() -> Decision:
        session: Session = await scene.session()
        return await scene.ask(asked(arguments), session)

    for with_client in (True, False):
        decision, door = await allowed(), await gate(scene, **({} if with_client else {"client": None}))
        handed, salt = presented(decision.receipt).encode(), decision.secret_salt
        assert len(presented_headers(decision)) == 2
        for other in others:
            with pytest.raises(CapabilityError) as caught:
                await door.admit_async(handed, tool=TRANSFER, arguments=other, secret_salt=salt)
            assert caught.value.reason == "capability.other_action"
            with pytest.raises(CapabilityError) as caught:
                await door.admit_async(handed, tool=TRANSFER, arguments=other)
            assert caught.value.reason in ("capability.other_action", "capability.not_redeemed")
        if with_client:
            await door.admit_async(handed, tool=TRANSFER, arguments=arguments)
            assert (await scene.recorded(decision.decision_id)).redeemed
        else:
            with pytest.raises(CapabilityError) as caught:
                await door.admit_async(handed, tool=TRANSFER, arguments=arguments)
            assert caught.value.reason == "capability.not_redeemed"
            await door.admit_async(handed, tool=TRANSFER, arguments=arguments, secret_salt=salt)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"secret_arguments": ["pni"]}, "secret_arguments[0]"),
        ({"secret_arguments": ["pin", "items.token"]}, "secret_arguments[1]"),
        ({"argument_roles": {"headers": "secret", "nip": "secret"}}, "argument_roles[nip]"),
        ({"resource": "invoice:{invoice}-{pin}"}, "resource"),
        ({"entities": [{"name": "login", "type": "login", "id": "{pin}"}]}, "entities[0].id"),
        ({"business_key": {"arguments": ["pin"]}}, "business_key.arguments[0]"),
        ({"normalise": {"headers": ["trim"]}}, "normalise[0].argument"),
        ({"prerequisites": [{"tool": TRANSFER, "same": ["pin"]}]}, "prerequisites[0].same[0]"),
        ({"amount": {"argument": "pin", "unit": "major", "currency_code": "EUR"}}, "amount.argument"),
    ],
)
async def test_registration_that_would_show_a_secret_is_refused_by_its_field(
    scene: Scene, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await set_tool(scene, **changes)
    # What would show a secret comes before what else is wrong.
    violation = caught.value.violations[0]
    assert violation.field == f"tools[0].{field}"
