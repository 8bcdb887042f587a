"""What an earlier server signed, read and written by this code: the same bytes. See `make_recorded.py`."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.json_format import ParseDict

from pdp.authority.boundary import boundary_document
from pdp.delegation.grant import grant_claims
from pdp.delegation.tokens import GrantTokens
from pdp.model import Grant, IssuerKeys
from pdp.sessions import task_tokens
from pdp.signing import RotatingSigner
from placet.canonical import canonical_json, parse_object
from placet.receipt import b64url_encode, check_binding, encode_header
from placet.task_token import sign
from placet.v1 import decision_pb2
from placet.verify import Verifier
from tests.conformance.recorded import FOLDER, TENANT, Exchange, exchanges
from tests.fakes.store import FakeStore

ABOUT = json.loads((FOLDER / "about.json").read_text())
JWKS = json.loads((FOLDER / "jwks.json").read_text())
SAID = exchanges()
DECIDED = [said for said in SAID if said.method == "DecisionService/Evaluate"]
GRANTS = [
    said.answer["grant"]
    for said in SAID
    if said.method in ("SessionService/OpenSession", "SessionService/Delegate")
]
EFFECTS = {
    decision_pb2.EFFECT_ALLOW: "allow",
    decision_pb2.EFFECT_BLOCK: "block",
    decision_pb2.EFFECT_ESCALATE: "escalate",
}


def payload(compact: str) -> bytes:
    """The bytes of a compact JWS's payload."""
    return base64.urlsafe_b64decode(compact.split(".")[1] + "==")


def decision(said: Exchange) -> decision_pb2.Decision:
    return ParseDict(said.answer["decision"], decision_pb2.Decision())


async def read(compact: str) -> Grant:
    """The grant, read as a server does that has the earlier one's public keys."""
    keys = FakeStore().keys
    for jwk in JWKS["keys"]:
        await keys.register(jwk, replica="earlier")
    grant = await GrantTokens(RotatingSigner(keys, replica="later"), keys).read(compact)
    assert grant is not None
    return grant


def test_every_kind_of_answer_is_recorded() -> None:
    assert {EFFECTS[decision(said).effect] for said in DECIDED} == {"allow", "block", "escalate"}
    assert {said.again for said in SAID} == {"", "same", "replayed"}


@pytest.mark.parametrize("said", DECIDED, ids=lambda said: said.request["action"]["tool_call_id"])
def test_receipt_verifies_and_is_of_its_action(said: Exchange) -> None:
    answer, action = decision(said), said.request["action"]
    check_binding(
        Verifier(JWKS, issuer="placet-dev").verify(answer.receipt.token),
        effect=EFFECTS[answer.effect],
        session_id=said.request["session_id"],
        tool_call_id=action["tool_call_id"],
        decision_id=answer.decision_id,
        expires_at=answer.expires_at.seconds,
        tool=action["tool"],
        arguments=parse_object(base64.b64decode(action["arguments"]), field="arguments"),
        audience=said.request.get("audience", ""),
    )


def test_receipt_that_was_read_back_is_the_one_that_was_given() -> None:
    given = {decision(said).decision_id: decision(said).receipt.token for said in DECIDED}
    read_back = [said for said in SAID if said.method == "DecisionService/GetDecision"]
    assert len(read_back) == 4
    for said in read_back:
        assert given[decision(said).decision_id] == decision(said).receipt.token


@pytest.mark.parametrize("compact", GRANTS)
async def test_grant_is_read_and_written_again_byte_for_byte(compact: str) -> None:
    assert orjson.dumps(grant_claims(await read(compact))) == payload(compact)


async def test_receipt_names_the_boundary_of_each_grant_by_the_same_digest() -> None:
    [said] = [said for said in DECIDED if said.request["action"]["tool_call_id"] == "checked"]
    claims = Verifier(JWKS).verify(decision(said).receipt.token).claims
    hops = said.request["chain"]["hops"]
    assert len(hops) == len(claims["chain"]) == 2
    for hop, signed in zip(hops, claims["chain"], strict=True):
        written = canonical_json(boundary_document((await read(hop["grant"])).boundary))
        assert signed["scope_digest"] == b64url_encode(hashlib.sha256(written).digest())


def test_receipts_header_is_written_byte_for_byte() -> None:
    [key] = JWKS["keys"]
    for said in DECIDED:
        header = decision(said).receipt.token.partition(b".")[0]
        assert encode_header(alg="ES256", kid=key["kid"]).encode() == header


def test_task_token_is_proven() -> None:
    token = task_tokens.read(ABOUT["task_token"])
    keys = IssuerKeys(issuer=ABOUT["issuer"], keys=tuple(ABOUT["issuer_keys"]))
    terms = task_tokens.prove(token, keys, tenant=TENANT, now=datetime.fromisoformat(ABOUT["at"]))
    assert (terms.task.id, terms.principal, terms.agent) == ("T-2", "user:anna", "agent:payer")


def test_task_token_is_written_again_byte_for_byte() -> None:
    claims: dict[str, Any] = json.loads(payload(ABOUT["task_token"]))
    again = sign(
        ec.generate_private_key(ec.SECP256R1()),
        issuer=claims["iss"],
        tenant=claims["aud"],
        task=claims["task"]["id"],
        principal=claims["sub"],
        agent=claims["agent"],
        boundary={
            "tools": ["invoices.get", "payments.create"],
            "resources": ["invoice:*"],
            "amounts": {"EUR": "5000.00"},
        },
        expires_in=claims["exp"] - claims["iat"],
        key_id=ABOUT["issuer_keys"][0]["kid"],
        token_id=claims["jti"],
        issued_at=claims["iat"],
    )
    assert again.rpartition(".")[0] == ABOUT["task_token"].rpartition(".")[0]
