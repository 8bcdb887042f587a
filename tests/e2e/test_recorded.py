"""A server of this code on the database and keys of an earlier one (tests/conformance/make_recorded.py)."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest

from placet.receipt import b64url_decode, b64url_encode
from placet.verify import Verifier, public_key, verify_es256
from tests.conformance.recorded import FOLDER, Exchange, call, exchanges
from tests.support.postgres import Cluster
from tests.support.stack import RealPdp, running_stack

ABOUT = json.loads((FOLDER / "about.json").read_text())
SAID = exchanges()
CHECKED, PAID, LARGE = (
    next(said for said in SAID if said.request.get("action", {}).get("tool_call_id") == call_id)
    for call_id in ("checked", "paid", "large")
)


@pytest.fixture(scope="module")
def database_url(postgres_cluster: Cluster) -> Iterator[str]:
    """The earlier server's database, at the time when it was stopped."""
    name = postgres_cluster.create()
    url = postgres_cluster.of(name)
    with psycopg.connect(url) as connection:
        connection.execute((FOLDER / "database.sql").read_bytes())
        connection.execute("UPDATE placet.clock SET shift = %s - clock_timestamp()", [ABOUT["at"]])
    yield url
    postgres_cluster.drop(name)


@pytest.fixture(scope="module")
def pdp(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPdp]:
    data_dir: Path = tmp_path_factory.mktemp("recorded") / "data"
    (data_dir / "keys").mkdir(parents=True, mode=0o700)
    fingerprint_key = data_dir / "keys" / "fingerprint.key"
    fingerprint_key.touch(mode=0o600)
    fingerprint_key.write_text(ABOUT["fingerprint_key"])
    environment = {"DATABASE_URL": database_url}
    with running_stack("--clock", "manual", data_dir=data_dir, environment=environment) as stack:
        yield RealPdp(stack=stack)


@pytest.fixture(scope="module")
def channel(pdp: RealPdp) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(pdp.target) as channel:
        yield channel


@pytest.mark.parametrize(
    "said",
    [said for said in SAID if said.again and said is not LARGE],
    ids=lambda said: f"{said.method}-{said.request.get('action', {}).get('tool_call_id', '')}",
)
def test_call_gets_the_earlier_answer(channel: grpc.Channel, said: Exchange) -> None:
    answer, earlier = said.repeat(channel), dict(said.answer)
    if said.again == "replayed":
        assert answer["decision"].pop("replayed") is True
    if said.method == "SessionService/OpenSession":
        # The session is the same; each answer has a root grant of its own.
        assert answer.pop("grant") != earlier.pop("grant")
        # The earlier server knew no session tokens.
        assert len(answer.pop("session_token")) == 43
    if said.method == "DecisionService/GetDecision":
        # The earlier server left limits and amount in the document that it showed.
        judged = json.loads(base64.b64decode(answer["input_document"]))
        assert len(answer.pop("limits")) == len(judged["limits"])
        if "amount" in judged["action"]:
            minor, currency = (judged["action"]["amount"][name] for name in ("minor", "currency"))
            assert (answer.pop("amount"), answer.pop("currency")) == (f"{minor / 100:.2f}", currency)
    assert answer == earlier


def test_earlier_escalation_is_judged_on_the_ground_of_now(channel: grpc.Channel) -> None:
    """The earlier server kept no ground of it, so nobody can tell that none has moved.

    It was asked for an audience, and the tool was registered before tools had one.
    """
    answer, earlier = LARGE.repeat(channel)["decision"], LARGE.answer["decision"]
    assert answer.get("replayed", False) is False
    assert answer["decision_id"] != earlier["decision_id"]
    assert earlier["effect"] == "EFFECT_ESCALATE"
    codes = [reason["code"] for reason in earlier["reasons"]]
    assert answer["effect"] == "EFFECT_BLOCK"
    assert [reason["code"] for reason in answer["reasons"]] == ["action.audience", *codes]


def test_published_keys_verify_earlier_receipts_and_those_of_now(pdp: RealPdp, channel: grpc.Channel) -> None:
    verifier = Verifier(pdp.jwks(), issuer="placet-dev")
    earlier = CHECKED.answer["decision"]
    action = CHECKED.request["action"] | {"tool_call_id": "another"}
    now = call(channel, CHECKED.method, CHECKED.caller, {**CHECKED.request, "action": action})["decision"]
    assert now["effect"] == "EFFECT_ALLOW"
    key_ids = set()
    for found in (earlier, now):
        receipt = verifier.verify(base64.b64decode(found["receipt"]["token"]))
        assert receipt.claims["jti"] == found["decision_id"]
        key_ids.add(receipt.header["kid"])
    assert len(key_ids) == 2


def test_earlier_grant_is_handed_on(channel: grpc.Channel) -> None:
    request: dict[str, Any] = {
        "session_id": CHECKED.request["session_id"],
        "chain": CHECKED.request["chain"],
        "to_agent": "agent:third",
        "boundary": {"tools": ["invoices.get"], "max_actions": "1"},
    }
    handed_on = call(channel, "SessionService/Delegate", CHECKED.caller, request)
    helper = replace(CHECKED.caller, subject="svc-third", agents=("agent:third",))
    action = CHECKED.request["action"] | {"tool_call_id": "of the third"}
    request = {"action": action, "session_id": CHECKED.request["session_id"], "chain": handed_on["chain"]}
    decision = call(channel, CHECKED.method, helper, request)["decision"]
    assert [hop["agent"] for hop in decision["chain"]] == ["agent:payer", "agent:checker", "agent:third"]
    assert all(hop["verified"] for hop in decision["chain"])


def test_earlier_payment_still_counts(channel: grpc.Channel) -> None:
    action = PAID.request["action"] | {"tool_call_id": "paid again"}
    decision = call(channel, PAID.method, PAID.caller, {**PAID.request, "action": action})["decision"]
    auditor = replace(PAID.caller, subject="revision", roles=("auditor",), agents=())
    asked = {"decision_id": decision["decision_id"]}
    document = call(channel, "DecisionService/GetDecision", auditor, asked)["input_document"]
    limits = {limit["code"]: limit for limit in json.loads(base64.b64decode(document))["limits"]}
    assert limits["boundary.total"]["used"] == 120_50


def test_earlier_entries_verify_and_name_their_receipt(pdp: RealPdp, database_url: str) -> None:
    keys = {jwk["kid"]: public_key(jwk) for jwk in pdp.jwks()["keys"]}
    decision = PAID.answer["decision"]
    signed = base64.b64decode(decision["receipt"]["token"]).partition(b"~")[0]
    with psycopg.connect(database_url) as connection:
        entries = connection.execute(
            "SELECT kind, jws FROM placet.ledger WHERE about = %s ORDER BY seq", [decision["decision_id"]]
        ).fetchall()
    assert [kind for kind, _ in entries] == ["redemption", "outcome"]
    for kind, jws in entries:
        header, payload, signature = jws.split(b".")
        key = keys[json.loads(b64url_decode(header.decode()))["kid"]]
        verify_es256(key, header + b"." + payload, b64url_decode(signature.decode()))
        claims = json.loads(b64url_decode(payload.decode()))
        assert claims["kind"] == kind
        assert claims["receipt"] == b64url_encode(hashlib.sha256(signed).digest())
