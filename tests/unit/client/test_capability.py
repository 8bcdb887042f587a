"""What a tool server lets in: the action that was judged, for this server, once."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import pytest

from placet import Action, Decision, DevIdentity, Obligation, Session
from placet._calls.plain import decision_json
from placet.capability import (
    HEADER,
    REASONS,
    SALT_HEADER,
    Capability,
    CapabilityError,
    CapabilityMiddleware,
    Gate,
    MemoryUses,
    check,
    presented,
    presented_headers,
    read_salt,
)
from placet.receipt import ParsedReceipt, ReceiptError, b64url_encode, parse
from placet.testing import FakePdp
from placet.verify import Verifier
from tests.support.processes import eventually

TOOL, AUDIENCE, TENANT = "payments.create", "erp", "test"
ARGUMENTS: dict[str, Any] = {"invoice": "INV-1", "amount": "1200.00", "n": 1200}


@dataclass(kw_only=True)
class Server:
    """A tool server's gate, and a PDP that allows its callers everything."""

    fake: FakePdp
    session: Session
    now: float

    def gate(self, **options: Any) -> Gate:
        settings: dict[str, Any] = {
            "audience": AUDIENCE,
            "tenant": TENANT,
            "verifier": Verifier(self.fake.jwks()),
            "clock": lambda: self.now,
        }
        return Gate(**(settings | options))

    def receipt(self, arguments: Mapping[str, Any] = ARGUMENTS, *, audience: str = AUDIENCE) -> bytes:
        """An allow, as its caller hands it on."""
        action = {"tool": TOOL, "arguments": arguments, "tool_call_id": f"call-{uuid4().hex}"}
        with self.fake.client() as pdp:
            decision = pdp.evaluate(action, session=self.session, audience=audience)
        return presented(decision.receipt).encode()


@pytest.fixture
def server() -> Iterator[Server]:
    with FakePdp(signed=True) as fake:
        fake.allow(TOOL)
        yield Server(fake=fake, session=fake.session(), now=fake.now().timestamp())


def refused(reason: str) -> Any:
    return pytest.raises(CapabilityError, match=rf"^{reason}: ")


def test_action_that_was_judged_is_let_in(server: Server) -> None:
    found = server.gate().admit(server.receipt(), tool=TOOL, arguments=json.dumps(ARGUMENTS).encode())
    assert isinstance(found, Capability)
    assert (found.tool, found.tenant, found.caller) == (TOOL, TENANT, "test")
    assert found.session_id == server.session.session_id
    assert not found.must_redeem
    assert found.expires_at > server.fake.now()


@pytest.mark.parametrize(
    "arguments",
    [
        b'{"n": 1.2e3, "amount": "1200.00", "invoice": "INV-1"}',
        b' { "invoice" : "INV-1", "amount":"1200.00", "n":1200.0 } ',
        {"n": 1200, "invoice": "INV-1", "amount": "1200.00"},
    ],
)
def test_order_spaces_and_spelling_of_numbers_make_no_other_action(server: Server, arguments: Any) -> None:
    server.gate().admit(server.receipt(), tool=TOOL, arguments=arguments)


@pytest.mark.parametrize(
    ("tool", "arguments", "reason"),
    [
        ("payments.delete", ARGUMENTS, "other_action"),
        (TOOL, ARGUMENTS | {"amount": "1200.01"}, "other_action"),
        (TOOL, ARGUMENTS | {"amount": 1200}, "other_action"),
        (TOOL, ARGUMENTS | {"to": "DE00"}, "other_action"),
        (TOOL, {"invoice": "INV-1", "amount": "1200.00"}, "other_action"),
        (TOOL, ARGUMENTS | {"invoice": "INV-1 "}, "other_action"),
        (TOOL, b'{"invoice":"INV-1","amount":"1200.00","n":1200,"n":1200}', "arguments"),
        (TOOL, b'{"invoice":"INV-1","amount":"1200.00","n":NaN}', "arguments"),
        (TOOL, json.dumps(ARGUMENTS).encode("utf-16"), "arguments"),
        (TOOL, b"\xef\xbb\xbf" + json.dumps(ARGUMENTS).encode(), "arguments"),
        (TOOL, json.dumps(ARGUMENTS).encode() + b"{}", "arguments"),
        (TOOL, b"[]", "arguments"),
        (TOOL, b"", "arguments"),
        (TOOL, b"[" * 100_000, "arguments"),
    ],
)
def test_approval_of_one_action_runs_no_other(server: Server, tool: str, arguments: Any, reason: str) -> None:
    gate, receipt = server.gate(), server.receipt()
    with refused(f"capability.{reason}"):
        gate.admit(receipt, tool=tool, arguments=arguments)
    # A refusal uses nothing up.
    gate.admit(receipt, tool=TOOL, arguments=ARGUMENTS)


def test_receipt_for_others_is_refused(server: Server) -> None:
    receipt = server.receipt()
    asked: dict[str, Any] = {"tool": TOOL, "arguments": ARGUMENTS}
    with refused(r"capability\.other_audience"):
        server.gate(audience="crm").admit(receipt, **asked)
    with refused(r"capability\.other_audience"):
        server.gate().admit(server.receipt(audience=""), **asked)
    with refused(r"capability\.other_tenant"):
        server.gate(tenant="globex").admit(receipt, **asked)
    with refused(r"capability\.other_session"):
        server.gate().admit(receipt, **asked, session="another")
    with pytest.raises(ValueError, match="audience"):
        server.gate(audience="")


@pytest.mark.parametrize(("seconds", "reason"), [(60, "expired"), (61, "expired"), (-3600, "not_yet")])
def test_receipt_is_good_for_its_time_only(server: Server, seconds: int, reason: str) -> None:
    receipt = server.receipt()
    server.now = parse(receipt).claims["iat"] + seconds
    with refused(f"capability.{reason}"):
        server.gate().admit(receipt, tool=TOOL, arguments=ARGUMENTS)


@pytest.mark.parametrize("verdict", ["block", "escalate"])
def test_what_is_no_allow_lets_nothing_in(server: Server, verdict: str) -> None:
    getattr(server.fake, verdict)(TOOL)
    with refused(r"capability\.not_allowed"):
        server.gate().admit(server.receipt(), tool=TOOL, arguments=ARGUMENTS)


def test_every_flipped_bit_is_noticed(server: Server) -> None:
    receipt, gate = server.receipt(), server.gate()
    for position in range(len(receipt)):
        changed = bytearray(receipt)
        changed[position] ^= 1 << position % 7
        with pytest.raises(CapabilityError) as caught:
            gate.admit(bytes(changed), tool=TOOL, arguments=ARGUMENTS)
        assert caught.value.reason in ("capability.not_genuine", "capability.not_disclosed"), position
    gate.admit(receipt, tool=TOOL, arguments=ARGUMENTS)


def test_key_of_somebody_else_proves_nothing(server: Server) -> None:
    with FakePdp(signed=True) as stranger:
        gate = server.gate(verifier=Verifier(stranger.jwks()))
    with refused(r"capability\.not_genuine"):
        gate.admit(server.receipt(), tool=TOOL, arguments=ARGUMENTS)


def test_digest_without_its_salt_compares_with_nothing(server: Server) -> None:
    bare = server.receipt().split(b"~", 1)[0] + b"~"
    with refused(r"capability\.not_disclosed"):
        server.gate().admit(bare, tool=TOOL, arguments=ARGUMENTS)


def test_what_is_presented_discloses_the_salt_alone(server: Server) -> None:
    with server.fake.client() as pdp:
        action = {"tool": TOOL, "arguments": ARGUMENTS, "tool_call_id": "c-1"}
        whole = pdp.evaluate(action, session=server.session, audience=AUDIENCE).receipt
    handed = presented(whole).encode()
    assert "arguments" in parse(whole).claims
    assert set(parse(handed).claims) - set(parse(handed).payload) == {"ad_salt"}
    assert parse(handed).signed == parse(whole).signed


def test_unknown_obligation_is_refused_and_a_known_one_is_not(server: Server) -> None:
    server.fake.allow(TOOL, obligations=[Obligation(id="notify")])
    receipt = server.receipt()
    with refused(r"capability\.obligation"):
        server.gate().admit(receipt, tool=TOOL, arguments=ARGUMENTS)
    server.gate(fulfils=["notify"]).admit(receipt, tool=TOOL, arguments=ARGUMENTS)


# --- secrets ----------------------------------------------------------------------

SECRET_CALL = ARGUMENTS | {"pin": "1234", "headers": {"Authorization": "Bearer x", "Accept": "*"}}


@pytest.fixture
def secret(server: Server) -> Decision:
    """An allow of a call with secrets, as its caller has it."""
    operator = DevIdentity(tenant=TENANT, subject="ops", roles=["operator"])
    with server.fake.client(identity=operator) as ops:
        registered = {"name": TOOL, "effect": "pay", "resource": "invoice:{invoice}", "audience": AUDIENCE}
        ops.put_tools([registered | {"secret_arguments": ["pin", "headers.Authorization"]}])
    with server.fake.client() as pdp:
        action = {"tool": TOOL, "arguments": SECRET_CALL, "tool_call_id": "call-secret"}
        decision = pdp.evaluate(action, session=server.session)
        assert pdp.get_decision(decision.decision_id, session=server.session).secret_salt == b""
    assert decision.allowed
    return decision


OTHERS = [
    SECRET_CALL | {"pin": "1235"},
    {name: value for name, value in SECRET_CALL.items() if name != "pin"},
    SECRET_CALL | {"headers": {"Authorization": "Bearer y", "Accept": "*"}},
    SECRET_CALL | {"headers": "Bearer x"},
]


def test_secrets_are_compared_by_the_salt_that_came_with_the_receipt(
    server: Server, secret: Decision
) -> None:
    headers = presented_headers(secret)
    handed, salt = headers[HEADER].encode(), read_salt(headers[SALT_HEADER].encode())
    gate = server.gate()
    for arguments in (*OTHERS, SECRET_CALL | {"amount": "1.00"}):
        with refused(r"capability\.other_action"):
            gate.admit(handed, tool=TOOL, arguments=arguments, secret_salt=salt)
    with refused(r"capability\.other_action"):
        gate.admit(handed, tool=TOOL, arguments=SECRET_CALL, secret_salt=bytes(32))
    assert not gate.admit(handed, tool=TOOL, arguments=SECRET_CALL, secret_salt=salt).must_redeem


def test_headers_are_read_as_text_too(server: Server, secret: Decision) -> None:
    headers = presented_headers(secret)
    salt = read_salt(headers[SALT_HEADER])
    assert salt == read_salt(headers[SALT_HEADER].encode()) == secret.secret_salt
    server.gate().admit(headers[HEADER], tool=TOOL, arguments=SECRET_CALL, secret_salt=salt)
    assert presented(secret.receipt.decode()) == headers[HEADER]


ODD: list[Any] = [None, 7, 7.5, [], {}, object(), bytearray(43), memoryview(b"x" * 43)]


@pytest.mark.parametrize(
    "header",
    [*ODD, "", b"", "x", "\u00e9" * 43, "\udcff" * 43, "A" * 44, "A" * 42, "A" * 42 + "B", b"\xff" * 43],
)
def test_anything_else_in_the_place_of_a_salt_is_refused(header: Any) -> None:
    with refused(r"capability\.request"):
        read_salt(header)


@pytest.mark.parametrize("odd", [*ODD, "x" * 32])
def test_anything_else_in_the_place_of_an_argument_is_refused(
    server: Server, secret: Decision, odd: Any
) -> None:
    asked: dict[str, Any] = {"tool": TOOL, "arguments": SECRET_CALL, "secret_salt": secret.secret_salt}
    for receipt in (odd, "\u00e9", "\udcff", ""):
        with refused(r"capability\.not_genuine"):
            server.gate().admit(receipt, **asked)
        with pytest.raises(ReceiptError):
            presented(receipt)
    for reason, changed in (
        ("arguments", {"arguments": odd if odd != {} else [odd]}),
        ("other_action", {"tool": odd}),
        ("request", {"secret_salt": odd if odd is not None else "x"}),
    ):
        with refused(rf"capability\.{reason}"):
            server.gate().admit(secret.receipt, **(asked | changed))
    server.gate().admit(secret.receipt, **asked)


def test_receipt_without_sense_is_not_presented(server: Server) -> None:
    *parts, salt, end = server.receipt().decode().split("~")
    for odd in ("~~", f"~{salt}~"):
        receipt = "~".join([*parts, salt]) + odd
        with pytest.raises(ReceiptError):
            presented(receipt)
    assert not end


@pytest.mark.parametrize("now", [float("nan"), float("inf"), float("-inf")])
def test_time_that_is_none_lets_nothing_in(server: Server, now: float) -> None:
    with refused(r"capability\.(not_yet|expired)"):
        check(
            server.receipt(),
            tool=TOOL,
            arguments=ARGUMENTS,
            audience=AUDIENCE,
            tenant=TENANT,
            verifier=Verifier(server.fake.jwks()),
            now=now,
        )


@pytest.mark.parametrize(
    "claims", [{"ver": []}, {"ver": {}}, {"ver": 1.5}, {"exp": 10**20}, {"exp": []}, {"act": []}]
)
def test_genuine_receipt_of_odd_claims_is_refused(server: Server, claims: dict[str, Any]) -> None:
    class Odd:
        """Says that a receipt of any claims is proven."""

        def verify(self, token: bytes) -> ParsedReceipt:
            found = parse(token)
            return replace(found, claims={**found.claims, **claims})

    with refused(r"capability\.(not_genuine|other_action)"):
        server.gate(verifier=Odd()).admit(server.receipt(), tool=TOOL, arguments=ARGUMENTS)


def test_secrets_without_their_salt_are_redeemed_or_refused(server: Server, secret: Decision) -> None:
    handed = presented(secret.receipt).encode()
    with refused(r"capability\.not_redeemed"):
        server.gate().admit(handed, tool=TOOL, arguments=SECRET_CALL)
    erp = DevIdentity(tenant=TENANT, subject="svc-erp", roles=["tool"], tools=[TOOL], audiences=[AUDIENCE])
    with server.fake.client(identity=erp) as client:
        gate = server.gate(client=client)
        for arguments in OTHERS:
            with refused(r"capability\.(not_redeemed|other_action)"):
                gate.admit(handed, tool=TOOL, arguments=arguments)
        assert gate.admit(handed, tool=TOOL, arguments=SECRET_CALL).must_redeem
        with refused(r"capability\.not_redeemed"):
            gate.admit(handed, tool=TOOL, arguments=SECRET_CALL)
        with refused(r"capability\.used"):
            gate.admit(handed, tool=TOOL, arguments=SECRET_CALL, secret_salt=secret.secret_salt)


def test_receipt_that_was_let_in_by_its_salt_is_not_let_in_again_without(
    server: Server, secret: Decision
) -> None:
    erp = DevIdentity(tenant=TENANT, subject="svc-erp", roles=["tool"], tools=[TOOL], audiences=[AUDIENCE])
    handed = presented(secret.receipt).encode()
    with server.fake.client(identity=erp) as client:
        gate = server.gate(client=client)
        gate.admit(handed, tool=TOOL, arguments=SECRET_CALL, secret_salt=secret.secret_salt)
        with refused(r"capability\.used"):
            gate.admit(handed, tool=TOOL, arguments=SECRET_CALL)


async def test_middleware_reads_the_salt_from_its_header(server: Server, secret: Decision) -> None:
    application = Application()
    app = CapabilityMiddleware(application, gate=server.gate(), tools={"/pay": TOOL})
    headers = presented_headers(secret)
    handed, body = headers[HEADER].encode(), json.dumps(SECRET_CALL).encode()

    async def status(*salts: bytes) -> int:
        more = [(SALT_HEADER.lower().encode(), salt) for salt in salts]
        return (await request(app, handed, path="/pay", body=body, headers=tuple(more)))[0]

    salt = headers[SALT_HEADER].encode()
    for salts in (
        (),
        (salt, salt),
        (b"x",),
        (salt + b"=",),
        (b"\xff",),
        (b64url_encode(bytes(32)).encode(),),
    ):
        assert await status(*salts) == 403, salts
    assert await status(salt) == 204
    (seen,) = application.headers
    assert salt not in [value for _, value in seen], "applications log their headers"
    assert handed in [value for _, value in seen]


def test_salt_is_shown_and_kept_nowhere(server: Server, secret: Decision) -> None:
    salt = b64url_encode(secret.secret_salt)
    action = Action(tool=TOOL, arguments=SECRET_CALL, tool_call_id="c-1", intent="1234")
    shown = repr(action) + repr(secret) + str(decision_json(secret)) + secret.receipt.decode()
    assert salt not in shown
    assert secret.secret_salt.hex() not in shown
    assert pickle.loads(pickle.dumps(secret)).secret_salt == b""
    assert "1234" not in shown
    assert "Bearer" not in str(parse(secret.receipt).claims)


def test_receipt_that_names_secrets_oddly_is_not_genuine(server: Server, secret: Decision) -> None:
    """So a signed receipt is read in one way only, whatever its version says."""

    def verified(change: Mapping[str, Any], version: int) -> Any:
        real = parse(secret.receipt)
        act = {**real.claims["act"], **change}
        claims = {**real.claims, "act": {k: v for k, v in act.items() if v is not None}, "ver": version}
        return type("Proven", (), {"verify": lambda self, token: replace(real, claims=claims)})()

    absent = {"secrets": None, "secrets_digest": None}
    for change, version in (
        (absent, 2),
        ({}, 1),
        ({}, 3),
        ({}, True),
        ({"secrets": []}, 2),
        ({"secrets": "pin"}, 2),
        ({"secrets": [1]}, 2),
        ({"secrets": None}, 2),
        ({"secrets_digest": None}, 2),
        ({"secrets_digest": 1}, 2),
    ):
        gate = server.gate(verifier=verified(change, version))
        with refused(r"capability\.not_genuine"):
            gate.admit(secret.receipt, tool=TOOL, arguments=SECRET_CALL, secret_salt=secret.secret_salt)


def test_check_alone_is_offline_and_uses_nothing_up(server: Server) -> None:
    receipt, verifier = server.receipt(), Verifier(server.fake.jwks())
    server.fake.stop()
    for _ in range(2):
        check(
            receipt,
            tool=TOOL,
            arguments=ARGUMENTS,
            audience=AUDIENCE,
            tenant=TENANT,
            verifier=verifier,
            now=server.now,
        )
    server.fake.start()


# --- once ---------------------------------------------------------------------------


def admitted(gate: Gate, receipt: bytes) -> str:
    try:
        gate.admit(receipt, tool=TOOL, arguments=ARGUMENTS)
    except CapabilityError as exc:
        return exc.reason
    return "let in"


def test_replay_is_refused(server: Server) -> None:
    gate, receipt = server.gate(), server.receipt()
    assert [admitted(gate, receipt) for _ in range(3)] == ["let in", "capability.used", "capability.used"]


def test_of_many_replays_at_once_one_is_let_in(server: Server) -> None:
    gate, receipt = server.gate(), server.receipt()
    with ThreadPoolExecutor(16) as threads:
        seen = list(threads.map(lambda _: admitted(gate, receipt), range(64)))
    assert seen.count("let in") == 1
    assert seen.count("capability.used") == 63


def test_servers_that_share_their_memory_let_in_once_together(server: Server) -> None:
    uses, receipt = MemoryUses(), server.receipt()
    gates = [server.gate(uses=uses) for _ in range(2)]
    assert [admitted(gate, receipt) for gate in gates] == ["let in", "capability.used"]


def test_clock_that_is_set_back_brings_no_receipt_to_life(server: Server) -> None:
    gate, receipt = server.gate(), server.receipt()
    assert admitted(gate, receipt) == "let in"
    begin = server.now
    server.now += 61
    assert admitted(gate, receipt) == "capability.expired"
    server.now = begin
    assert admitted(gate, receipt) == "capability.expired"


def test_memory_forgets_what_has_expired_and_never_what_has_not() -> None:
    uses = MemoryUses(capacity=2)
    assert uses.claim("a", until=10, now=0)
    assert uses.claim("b", until=20, now=0)
    with refused(r"capability\.unavailable"):
        uses.claim("c", until=30, now=9)
    assert not uses.claim("a", until=10, now=9)
    assert uses.claim("c", until=30, now=10)
    assert not uses.claim("b", until=20, now=19)


# --- redeemed -----------------------------------------------------------------------


@pytest.fixture
def redeemed(server: Server) -> Server:
    server.fake.allow(TOOL, obligations=[Obligation(id="redeem")])
    return server


def erp() -> DevIdentity:
    return DevIdentity(tenant=TENANT, subject="svc-erp", roles=["tool"], tools=[TOOL], audiences=[AUDIENCE])


def test_what_has_to_be_redeemed_needs_a_client(redeemed: Server) -> None:
    with refused(r"capability\.not_redeemed"):
        redeemed.gate().admit(redeemed.receipt(), tool=TOOL, arguments=ARGUMENTS)


def test_redemption_is_the_pdps_and_holds_for_all_servers(redeemed: Server) -> None:
    receipt = redeemed.receipt()
    with redeemed.fake.client(identity=erp()) as client:
        gates = [redeemed.gate(client=client) for _ in range(2)]
        with ThreadPoolExecutor(8) as threads:
            seen = list(threads.map(lambda n: admitted(gates[n % 2], receipt), range(16)))
    assert seen.count("let in") == 1
    assert seen.count("capability.not_redeemed") == 15


def test_pdp_that_is_away_lets_nothing_in_and_uses_nothing_up(redeemed: Server) -> None:
    receipt = redeemed.receipt()
    with redeemed.fake.client(identity=erp()) as client:
        gate = redeemed.gate(client=client)
        redeemed.fake.stop()
        assert admitted(gate, receipt) == "capability.unavailable"
        redeemed.fake.start()
        # gRPC looks again after a while only.
        eventually(lambda: admitted(gate, receipt) == "let in", "the PDP is found again")


def test_action_that_comes_after_another_is_redeemed_and_that_one_first(server: Server) -> None:
    with server.fake.client() as pdp:
        action = {"tool": TOOL, "arguments": ARGUMENTS, "tool_call_id": "first"}
        first = pdp.evaluate(action, session=server.session, audience=AUDIENCE)
    after = Obligation(id="after", properties={"decision_id": first.decision_id})
    server.fake.allow(TOOL, obligations=[after])
    receipt = server.receipt()
    assert admitted(server.gate(), receipt) == "capability.not_redeemed"
    with server.fake.client(identity=erp()) as client:
        gate = server.gate(client=client)
        assert admitted(gate, receipt) == "capability.not_redeemed"
        client.redeem(first.decision_id, tool=TOOL, arguments=ARGUMENTS, audience=AUDIENCE)
        assert admitted(gate, receipt) == "let in"


def test_voided_allow_is_not_redeemed(redeemed: Server) -> None:
    receipt = redeemed.receipt()
    claims = parse(receipt).claims
    with redeemed.fake.client() as pdp, redeemed.fake.client(identity=erp()) as client:
        pdp.report_outcome(outcome="voided", session=claims["session"], tool_call_id=claims["tool_call_id"])
        assert admitted(redeemed.gate(client=client), receipt) == "capability.not_redeemed"


async def test_gate_with_an_async_client_does_not_block(redeemed: Server) -> None:
    receipt = redeemed.receipt()
    async with redeemed.fake.async_client(identity=erp()) as client:
        gate = redeemed.gate(client=client)
        with pytest.raises(TypeError, match="admit_async"):
            gate.admit(receipt, tool=TOOL, arguments=ARGUMENTS)
        asked = (gate.admit_async(receipt, tool=TOOL, arguments=ARGUMENTS) for _ in range(8))
        seen = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(each, Capability) for each in seen) == 1


# --- before an application ----------------------------------------------------------


@dataclass(kw_only=True)
class Application:
    """Remembers what reached it."""

    bodies: list[bytes] = field(default_factory=list)
    capabilities: list[Capability] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    headers: list[list[tuple[bytes, bytes]]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.kinds.append(scope["type"])
        if scope["type"] == "lifespan":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        self.bodies.append(body)
        self.capabilities.append(scope["placet.capability"])
        self.headers.append(scope["headers"])
        self.after.append((await receive())["type"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})


BODY = json.dumps(ARGUMENTS).encode()


async def request(
    app: Any,
    *receipts: bytes,
    body: bytes = BODY,
    chunk: int = 0,
    content_type: str = "application/json",
    query: bytes = b"",
    headers: tuple[tuple[bytes, bytes], ...] = (),
    path: str = "/payments",
    method: str = "POST",
) -> tuple[int, dict[str, Any]]:
    """Status and body of the answer."""
    parts = [body[at : at + chunk] for at in range(0, len(body), chunk)] if chunk else [body]
    messages = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, start=1)
    ]
    messages.append({"type": "http.disconnect"})
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query,
        "headers": [
            (b"content-type", content_type.encode()),
            *((HEADER.lower().encode(), receipt) for receipt in receipts),
            *headers,
        ],
    }
    await app(scope, receive, send)
    if not sent:
        return 0, {}
    text = sent[1].get("body", b"")
    return sent[0]["status"], json.loads(text) if text else {}


@pytest.fixture
def application() -> Application:
    return Application()


async def test_request_passes_unchanged(server: Server, application: Application) -> None:
    app = CapabilityMiddleware(application, gate=server.gate(), tools={"/payments": TOOL})
    body = b'  {"n":1.2e3,"amount":"1200.00",\n"invoice":"INV-1"}'
    for chunk in (0, 1, 7):
        assert await request(app, server.receipt(), body=body, chunk=chunk) == (204, {})
    assert application.bodies == [body] * 3
    assert application.after == ["http.disconnect"] * 3
    assert {found.tool for found in application.capabilities} == {TOOL}


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"body": BODY.replace(b"1200.00", b"9999.00")}, 403, "other_action"),
        ({"body": b'{"n":1200,"amount":"1200.00","invoice":"INV-1","invoice":"INV-1"}'}, 403, "arguments"),
        ({"body": b""}, 403, "arguments"),
        ({"body": b"[" * 65536}, 403, "arguments"),
        ({"body": b" " * 65537}, 413, "too_large"),
        ({"body": b" " * 1_000_000, "chunk": 1000}, 413, "too_large"),
        ({"query": b"invoice=INV-2"}, 403, "request"),
        ({"path": "/refunds"}, 403, "request"),
        ({"path": "/payments/"}, 403, "request"),
        ({"path": "//payments"}, 403, "request"),
        ({"method": "DELETE"}, 403, "request"),
        ({"method": "GET"}, 403, "request"),
        ({"content_type": "application/x-www-form-urlencoded"}, 403, "request"),
        ({"content_type": "application/json; charset=utf-16"}, 403, "request"),
        ({"content_type": ""}, 403, "request"),
        ({"headers": ((b"content-type", b"application/json"),)}, 403, "request"),
        ({"headers": ((b"content-encoding", b"gzip"),)}, 403, "request"),
    ],
)
async def test_request_that_the_receipt_does_not_cover_is_refused(
    server: Server, application: Application, change: dict[str, Any], status: int, reason: str
) -> None:
    app = CapabilityMiddleware(application, gate=server.gate(), tools={"/payments": TOOL})
    receipt = server.receipt()
    code = f"capability.{reason}"
    assert await request(app, receipt, **change) == (
        status,
        {"type": "about:blank", "title": REASONS[code], "status": status, "reason": code},
    )
    assert application.bodies == []
    assert (await request(app, receipt))[0] == 204


async def test_receipt_for_one_path_opens_no_other(server: Server, application: Application) -> None:
    tools = {"/payments": TOOL, "/refunds": "payments.refund"}
    app = CapabilityMiddleware(application, gate=server.gate(), tools=tools)
    receipt = server.receipt()
    assert (await request(app, receipt, path="/refunds"))[1]["reason"] == "capability.other_action"
    assert (await request(app, receipt))[0] == 204


async def test_one_header_is_wanted(server: Server, application: Application) -> None:
    app = CapabilityMiddleware(application, gate=server.gate(), tools={"/payments": TOOL})
    first, second = server.receipt(), server.receipt()
    for receipts in ((), (first, second), (first, first)):
        assert (await request(app, *receipts))[1]["reason"] == "capability.missing"
    assert (await request(app, first + b"," + second))[1]["reason"] == "capability.not_genuine"
    assert application.bodies == []


async def test_of_many_equal_requests_at_once_one_runs(server: Server, application: Application) -> None:
    app = CapabilityMiddleware(application, gate=server.gate(), tools={"/payments": TOOL})
    receipt = server.receipt()
    answers = await asyncio.gather(*(request(app, receipt, chunk=3) for _ in range(16)))
    assert sorted(status for status, _ in answers) == [204] + [403] * 15
    assert len(application.bodies) == 1


async def test_resolver_says_what_a_request_asks_for(server: Server, application: Application) -> None:
    def resolve(scope: Mapping[str, Any], body: bytes) -> tuple[str, Mapping[str, Any]]:
        if scope["path"] != "/payments":
            raise CapabilityError("capability.request")
        return TOOL, json.loads(body)["arguments"]

    app = CapabilityMiddleware(application, gate=server.gate(), resolve=resolve)
    body = json.dumps({"arguments": ARGUMENTS}).encode()
    assert (await request(app, server.receipt(), body=body))[0] == 204
    other = json.dumps({"arguments": ARGUMENTS | {"n": 1}}).encode()
    assert (await request(app, server.receipt(), body=other))[1]["reason"] == "capability.other_action"
    for wrong in ({}, {"tools": {}}, {"tools": {"/payments": TOOL}, "resolve": resolve}):
        with pytest.raises(ValueError, match="exactly one"):
            CapabilityMiddleware(application, gate=server.gate(), **wrong)


async def test_pdp_that_is_away_is_said_to_be(redeemed: Server, application: Application) -> None:
    receipt = redeemed.receipt()
    async with redeemed.fake.async_client(identity=erp()) as client:
        app = CapabilityMiddleware(application, gate=redeemed.gate(client=client), tools={"/payments": TOOL})
        redeemed.fake.stop()
        assert (await request(app, receipt))[0] == 503
        redeemed.fake.start()
    assert application.bodies == []


async def test_client_that_hangs_up_runs_nothing(server: Server, application: Application) -> None:
    app = CapabilityMiddleware(application, gate=server.gate(), tools={"/payments": TOOL})
    messages = [{"type": "http.request", "body": BODY, "more_body": True}, {"type": "http.disconnect"}]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "path": "/payments",
        "headers": [(HEADER.lower().encode(), server.receipt())],
        "query_string": b"",
    }
    await app(scope, receive, send)
    assert (sent, application.bodies) == ([], [])


async def test_lifespan_passes_and_a_websocket_does_not(server: Server, application: Application) -> None:
    app = CapabilityMiddleware(application, gate=server.gate(), tools={"/payments": TOOL})
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "lifespan"}, receive, send)
    await app({"type": "websocket", "headers": []}, receive, send)
    assert application.kinds == ["lifespan"]
    assert [message["type"] for message in sent] == ["websocket.close"]
