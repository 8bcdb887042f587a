"""A receipt of the real PDP, in the hands of somebody who trusts neither agent nor operator."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import sys
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from joserfc import jws
from joserfc.jwk import KeySet

from pdp.authority.boundary import boundary_document
from placet import Decision, Effect, Session
from placet.receipt import b64url_decode, b64url_encode, parse
from placet.verify import Verifier, thumbprint
from tests.e2e.scene import (
    AGENT,
    PRINCIPAL,
    TRANSFER,
    Scene,
    codes,
    jwks,
    new_call,
    pay,
    read,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

INTENT = "Anna wants INV-1 paid before noon."
PART = re.compile(r"header|payload|signature|disclosure [1-9][0-9]*")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A receipt, and all that its holder knows."""

    decision: Decision
    session: Session
    action: dict[str, Any]
    keys: dict[str, Any]

    @property
    def token(self) -> bytes:
        return self.decision.receipt


async def case(scene: Scene, *, audience: str = "erp") -> Case:
    session = await scene.session()
    await scene.ask(read(), session)
    action = pay(Decimal("1200.50"), intent=INTENT)
    decision = await scene.ask(action, session, audience=audience)
    assert decision.allowed, codes(decision)
    return Case(decision=decision, session=session, action=action, keys=await jwks(scene.replica()))


# --- what is signed ---------------------------------------------------------------


async def test_every_field_of_the_table_is_there(scene: Scene) -> None:
    paid = await case(scene)
    receipt = Verifier(paid.keys, issuer="placet-dev").verify(paid.token)
    claims, payload = receipt.claims, receipt.payload
    assert dict(receipt.header) == {
        "alg": "ES256",
        "kid": receipt.header["kid"],
        "typ": "placet-receipt+sd-jwt",
    }
    decision, session = paid.decision, paid.session
    assert decision.decided_at is not None
    assert decision.expires_at is not None
    scope = rfc8785.dumps(
        boundary_document(session.boundary)  # type: ignore[arg-type]  # the client's Boundary, same names
    )
    expected = {
        # identity
        "jti": decision.decision_id,
        "iss": "placet-dev",
        "tenant": scene.tenant,
        "kind": "decision",
        "effect": "allow",
        "iat": int(decision.decided_at.timestamp()),
        "exp": int(decision.expires_at.timestamp()),
        "ver": 1,
        # who
        "sub": AGENT,
        "agent": {"model": "m-1", "version": ""},
        "caller": "svc-ap",
        "principal": PRINCIPAL,
        "session": session.session_id,
        "session_version": session.version + 2,
        "task": session.task.id,
        # what
        "intent": INTENT,
        "arguments": {"invoice": "INV-1", "amount": Decimal("1200.50"), "currency": "EUR"},
        "tool_call_id": paid.action["tool_call_id"],
        "attempt": decision.attempt_id,
        # chain
        "chain": [
            {
                "agent": AGENT,
                "delegated_by": "svc-tasks",
                "scope_digest": b64url_encode(hashlib.sha256(scope).digest()),
                "depth": 0,
                "same_runtime": False,
                "human_reviewed": False,
                "effect": "allow",
            }
        ],
        # basis
        "policy": {"bundle": "placet", "revision": decision.policy.revision},
        "data": dict(decision.data_revisions),
        "engine": "opa",
        "trust": {"score": "0.8", "model": "operator"},
        # controls
        "obligations": [],
        "durability": "DURABLE",
        "retryable": False,
        # capability
        "aud": "erp",
        "use": "once",
    }
    assert {name: claims.get(name) for name in expected} == expected
    rest = {"nonce", "act", "ad_salt", "input_digest", "reasons", "prev"}
    assert set(claims) == set(expected) | rest
    assert set(claims["act"]) == {"tool", "method", "resource", "ad"}
    assert claims["exp"] - claims["iat"] == 60
    assert len(b64url_decode(claims["nonce"])) == len(b64url_decode(claims["ad_salt"])) == 16
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", claims["jti"])
    assert [dict(reason) for reason in claims["reasons"]] == [
        {"code": reason.code, "effect": str(reason.effect), "message": reason.message}
        for reason in decision.reasons
    ]
    # Erasable: not in what is signed but as digests.
    hidden = {"principal", "intent", "arguments", "ad_salt"}
    assert not hidden & set(payload)
    assert all("message" not in reason for reason in payload["reasons"])
    assert len(payload["_sd"]) == len(hidden)
    assert len(receipt.disclosures) == len(hidden) + len(decision.reasons)
    for secret in (PRINCIPAL, INTENT, "1200.5", decision.reasons[0].message):
        assert secret.encode() not in b64url_decode(receipt.signed.split(b".")[1].decode())


async def test_payload_is_proven_without_its_disclosures(scene: Scene) -> None:
    paid = await case(scene)
    bare = paid.token.split(b"~", 1)[0] + b"~"
    proven = Verifier(paid.keys).verify(bare)
    assert proven.payload == parse(paid.token).payload
    assert not {"principal", "intent", "arguments", "ad_salt"} & set(proven.claims)


async def test_receipts_of_a_session_name_the_one_before(scene: Scene) -> None:
    session = await scene.session()
    asked = [await scene.ask(action, session) for action in (read(), pay(7000), pay(3000), pay())]
    receipts = [parse(decision.receipt) for decision in asked]
    assert receipts[0].claims["prev"] == []
    for before, after in pairwise(receipts):
        assert after.claims["prev"] == [b64url_encode(before.hash)]
    assert [receipt.claims.get("use") for receipt in receipts] == ["once", None, None, "once"]
    assert len({receipt.claims["nonce"] for receipt in receipts}) == len(receipts)


async def test_independent_jose_library_agrees(scene: Scene) -> None:
    paid = await case(scene)
    signed = paid.token.split(b"~", 1)[0]
    keys = KeySet.import_key_set(paid.keys)  # type: ignore[arg-type]  # parsed from the JWKS over HTTP
    found = jws.deserialize_compact(signed, keys, algorithms=["ES256"])
    header = found.headers()
    assert header["alg"] == "ES256"
    used = [key for key in paid.keys["keys"] if key["kid"] == header["kid"]]
    assert [thumbprint(key) for key in used] == [header["kid"]]
    assert "d" not in used[0]
    assert json.loads(found.payload)["jti"] == paid.decision.decision_id


async def test_action_digest_is_recomputed_independently(scene: Scene) -> None:
    paid = await case(scene)
    claims = parse(paid.token).claims
    canonical = rfc8785.dumps(
        {
            "tool": "payments.create",
            "method": "call",
            "resource": "invoice:INV-1",
            # A number that is no integer is hashed as decimal text, without trailing zeros.
            "arguments": {"invoice": "INV-1", "amount": "1200.5", "currency": "EUR"},
        }
    )
    salt = b64url_decode(claims["ad_salt"])
    digest = hashlib.sha256(b"placet-action/v1\0" + salt + canonical).digest()
    assert claims["act"]["ad"] == b64url_encode(digest)
    assert claims["act"]["resource"] == "invoice:INV-1"


async def test_auditor_gets_the_document_that_was_judged(scene: Scene) -> None:
    paid = await case(scene)
    claims = parse(paid.token).claims
    document = (await scene.recorded(paid.decision.decision_id)).input_document
    salt = b64url_decode(claims["ad_salt"])
    digest = hashlib.sha256(b"placet-input/v1\0" + salt + document).digest()
    assert claims["input_digest"] == b64url_encode(digest)
    judged = json.loads(document)
    assert judged["action"]["amount"] == {"minor": 120050, "currency": "EUR"}
    assert judged["session"]["id"] == paid.session.session_id
    assert judged["claimed"]["intent"] == INTENT
    own = await (await scene.agent()).get_decision(paid.decision.decision_id, session=paid.session)
    assert (own.receipt, own.input_document) == (paid.token, b"")


async def test_blocks_have_their_document_too(scene: Scene) -> None:
    session = await scene.session()
    async with scene.stack.supervisor.killed("opa"):
        unavailable = await scene.ask(pay(), session)
    for decision in (unavailable, await scene.ask(pay(7000), session), await scene.ask(read(), new_call())):
        assert decision.effect is Effect.BLOCK
        claims = Verifier(scene.jwks).verify(decision.receipt).claims
        document = (await scene.recorded(decision.decision_id)).input_document
        salted = b"placet-input/v1\0" + b64url_decode(claims["ad_salt"]) + document
        assert claims["input_digest"] == b64url_encode(hashlib.sha256(salted).digest())
    assert parse(unavailable.receipt).claims["engine"] == ""


# --- what was changed ---------------------------------------------------------------


def places(token: bytes) -> list[tuple[int, str]]:
    """Every byte that belongs to a part, and the part."""
    signed, *disclosures = token.split(b"~")
    found, position = [], 0
    parts = list(zip(signed.split(b"."), ("header", "payload", "signature"), strict=True))
    parts += [(text, f"disclosure {n}") for n, text in enumerate(disclosures[:-1], start=1)]
    for text, name in parts:
        found += [(index, name) for index in range(position, position + len(text))]
        position += len(text) + 1
    return found


def flipped(token: bytes, index: int, bit: int) -> bytes:
    changed = bytearray(token)
    changed[index] ^= 1 << bit
    return bytes(changed)


async def test_every_flipped_bit_is_noticed_and_its_part_named(scene: Scene) -> None:
    paid = await case(scene)
    verifier = Verifier(paid.keys)
    assert verifier.verify(paid.token).claims["jti"] == paid.decision.decision_id
    parts = dict(places(paid.token))
    names = set(parts.values())
    assert {"header", "payload", "signature", "disclosure 1", "disclosure 5"} <= names
    passed, misnamed = [], []
    for index in range(len(paid.token)):
        for bit in range(8):
            changed = flipped(paid.token, index, bit)
            try:
                verifier.verify(changed)
            except ValueError as exc:
                named = getattr(exc, "part", "")
            else:
                passed.append((index, bit))
                continue
            assert PART.fullmatch(named), (index, bit, named)
            # A flip that makes or breaks a separator moves the borders of the parts themselves.
            if changed[index] in b".~" or index not in parts:
                continue
            # A signature fails for the payload that it is over, too.
            right = {parts[index]} | ({"signature"} if parts[index] == "payload" else set())
            if named not in right:
                misnamed.append((parts[index], named, index, bit))
    assert not passed
    assert not misnamed


async def placet(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run the command and return its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("placet")),
        *arguments,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("PLACET_")}, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_command_names_the_part_that_was_changed(scene: Scene, tmp_path: Path) -> None:
    paid = await case(scene)
    file, keys = tmp_path / "receipt.txt", f"{scene.replica().http_url}/.well-known/jwks.json"
    file.write_bytes(paid.token)
    code, said = await placet("receipt", "verify", str(file), "--jwks", keys, "--issuer", "placet-dev")
    assert (code, "verified: signed by" in said) == (0, True), said
    by_part: dict[str, list[int]] = {}
    for index, name in places(paid.token):
        by_part.setdefault(name, []).append(index)
    for name, indexes in by_part.items():
        index = indexes[len(indexes) // 2]
        bit = next(bit for bit in range(8) if flipped(paid.token, index, bit)[index] not in b".~")
        file.write_bytes(flipped(paid.token, index, bit))
        code, said = await placet("receipt", "verify", str(file), "--jwks", keys)
        assert code == 1, (name, said)
        assert re.search(rf"not valid: ({name}|{'signature' if name == 'payload' else name}):", said), said
        assert name in said, said


async def test_command_names_the_field_that_differs(scene: Scene, tmp_path: Path) -> None:
    paid = await case(scene)
    receipt, decision, keys = (tmp_path / name for name in ("receipt.txt", "decision.json", "keys.json"))
    receipt.write_bytes(paid.token)
    keys.write_text(json.dumps(paid.keys))
    code, said = await placet(
        "decision",
        "show",
        paid.decision.decision_id,
        "--json",
        PLACET_TARGET=scene.replica().grpc_address,
        PLACET_TENANT=scene.tenant,
        PLACET_SUBJECT="svc-ap",
        PLACET_ROLES="agent",
        PLACET_AGENTS=AGENT,
        PLACET_TIMEOUT="60",
        PLACET_SESSION_TOKEN=paid.session.token,
    )
    assert code == 0, said
    shown = json.loads(said)
    assert shown["receipt"].encode() == paid.token

    async def verify(changed: dict[str, Any]) -> tuple[int, str]:
        decision.write_text(json.dumps(shown | changed))
        return await placet(
            "receipt", "verify", str(receipt), "--jwks", str(keys), "--decision", str(decision)
        )

    assert (await verify({}))[0] == 0
    for changed in (
        {"effect": "block"},
        {"decision_id": shown["decision_id"][:-1] + "x"},
        {"session_id": "another"},
        {"tool_call_id": "another"},
        {"expires_at": "2099-01-01T00:00:00Z"},
        {"reasons": [{"code": "task.other", "effect": "allow"}]},
        {"policy": {"bundle": "placet", "revision": "another"}},
    ):
        code, said = await verify(changed)
        (name,) = changed
        assert code == 1, (name, said)
        assert f"not valid: {name}: " in said, said


# --- time and secrets ---------------------------------------------------------------


async def test_old_receipt_is_proven_after_restarts(scene: Scene) -> None:
    paid = await case(scene)
    kid = parse(paid.token).header["kid"]
    async with scene.stack.supervisor.killed("pdp-1"):
        pass
    keys = await jwks(scene.replica())
    assert Verifier(keys).verify(paid.token).claims["jti"] == paid.decision.decision_id
    scene.jwks = keys
    await scene.found()
    recorded = await (await scene.client("revision-2", "auditor")).get_decision(paid.decision.decision_id)
    assert recorded.receipt == paid.token
    agent = await scene.agent("svc-after")
    after = await agent.evaluate(read(), session=paid.session)
    assert after.failure is None
    assert parse(after.receipt).header["kid"] != kid, "a process has a key of its own"
    other = await jwks(scene.replica(2))
    assert {key["kid"] for key in other["keys"]} >= {kid, parse(after.receipt).header["kid"]}


async def test_secrets_are_written_nowhere(scene: Scene) -> None:
    secret, session = f"pin-{new_call()}", await scene.session()
    arguments = {"invoice": "INV-1", "amount": 100, "currency": "EUR", "pin": secret}
    action = {"tool": TRANSFER, "arguments": arguments, "tool_call_id": new_call()}
    decision = await scene.ask(action, session)
    assert decision.allowed, "the receipt's digest covers the secret, which the caller knows"
    other = await scene.ask(action | {"arguments": arguments | {"pin": "another"}}, session)
    assert codes(other) == ["action.key_reused"], "a secret makes the action, too"
    # Refused and failing calls must not tell it either.
    await scene.ask(action | {"tool_call_id": "", "arguments": arguments}, session)
    async with scene.stack.supervisor.killed("opa"):
        await scene.ask(action | {"tool_call_id": new_call()}, session)
    recorded = await scene.recorded(decision.decision_id)
    claims = parse(decision.receipt).claims
    assert claims["arguments"]["pin"] == "[secret]"
    assert json.loads(recorded.input_document)["action"]["arguments"]["pin"] == "[secret]"
    texts = {
        "receipt": str(dict(claims)) + str(dict(parse(decision.receipt).payload)),
        "input": recorded.input_document.decode(),
        "message": decision.model_text + str(decision.reasons),
    }
    logs = list((scene.stack.directory / "logs").iterdir())
    assert {"pdp-1.log", "opa.log", "postgres.log"} <= {log.name for log in logs}
    texts |= {log.name: log.read_text(errors="replace") for log in logs}
    assert [name for name, text in texts.items() if secret in text] == []
    assert decision.decision_id in texts["pdp-1.log"], "logs know decisions by their id"
    assert '"INV-1"' not in texts["pdp-1.log"], "logs never hold arguments"
