"""The `placet` command, run as it is installed, against the fake."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from placet.task_token import sign
from placet.testing import FakePdp

PATIENCE = 120
ACTION = {"tool": "invoices.get", "arguments": {"invoice": "INV-1", "n": 1.25}, "tool_call_id": "c-1"}


@pytest.fixture
def signed_pdp() -> Iterator[FakePdp]:
    with FakePdp(signed=True) as fake:
        fake.allow("invoices.get")
        fake.block("vendors.update")
        fake.escalate("payments.create")
        # Commands name sessions by their ids.
        with fake.client() as operator:
            operator.put_tenant({"session_proof": "id"})
        yield fake


def run(
    fake: FakePdp | None, *words: str, stdin: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    own = {
        "PLACET_TENANT": "test",
        "PLACET_SUBJECT": "test",
        "PLACET_ROLES": "agent,session_issuer,operator",
        "PLACET_AGENTS": "agent:test",
        "PLACET_TIMEOUT": "60",
        "NO_COLOR": "1",
        "COLUMNS": "100",
        "PATH": "/usr/bin:/bin",
    }
    if fake is not None:
        own["PLACET_TARGET"] = fake.target
    done = subprocess.run(
        [sys.executable, "-c", "from placet.cli import main; main()", *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=own | environment,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


def evaluate(fake: FakePdp, *options: str, **members: Any) -> subprocess.CompletedProcess[str]:
    asked = {"session": fake.session().session_id} | ACTION | members
    return run(fake, "evaluate", "-", *options, stdin=json.dumps(asked))


def test_evaluate_says_what_was_decided(signed_pdp: FakePdp) -> None:
    allowed = evaluate(signed_pdp)
    assert allowed.returncode == 0, allowed.stderr
    assert allowed.stdout.startswith("ALLOW")
    assert "task.within_boundary" in allowed.stdout
    assert "unverified" in allowed.stdout
    blocked = evaluate(signed_pdp, tool="vendors.update")
    assert (blocked.returncode, blocked.stdout[:5]) == (1, "BLOCK")
    escalated = evaluate(signed_pdp, tool="payments.create")
    assert (escalated.returncode, escalated.stdout[:8]) == (3, "ESCALATE")


def test_numbers_of_a_file_are_sent_as_they_are_written(signed_pdp: FakePdp, tmp_path: Path) -> None:
    file = tmp_path / "action.json"
    file.write_text(
        '{"tool": "invoices.get", "tool_call_id": "c", "arguments": {"a": 0.1000, "b": 12345678901234567.89}}'
    )
    session = signed_pdp.session().session_id
    assert run(signed_pdp, "evaluate", str(file), "--session", session).returncode == 0
    arguments = signed_pdp.received[-1].action.arguments
    assert {name: str(value) for name, value in arguments.items()} == {  # type: ignore[union-attr]
        "a": "0.1000",
        "b": "12345678901234567.89",
    }


def test_json_has_the_whole_decision(signed_pdp: FakePdp, tmp_path: Path) -> None:
    jwks = tmp_path / "jwks.json"
    jwks.write_text(json.dumps(signed_pdp.jwks()))
    done = evaluate(signed_pdp, "--json", "--jwks", str(jwks))
    decision = json.loads(done.stdout)
    assert decision["effect"] == "allow"
    assert decision["allowed"] is True
    assert decision["receipt_status"] == "verified"
    assert decision["reasons"][0]["code"] == "task.within_boundary"
    assert decision["expires_at"].endswith("Z")
    assert decision["receipt"].count(".") == 2
    assert done.returncode == 0


def test_same_call_again_is_not_to_be_acted_on(signed_pdp: FakePdp) -> None:
    session = signed_pdp.session().session_id
    first = evaluate(signed_pdp, session=session)
    second = evaluate(signed_pdp, "--json", session=session)
    assert first.returncode == 0
    assert second.returncode == 5
    assert json.loads(second.stdout)["replayed"] is True
    assert json.loads(second.stdout)["allowed"] is False


def test_no_answer_exits_with_4(signed_pdp: FakePdp) -> None:
    session = signed_pdp.session().session_id
    signed_pdp.stop()
    done = evaluate(signed_pdp, "--json", session=session)
    assert done.returncode == 4
    decision = json.loads(done.stdout)
    assert decision["effect"] == "block"
    assert decision["reasons"][0]["code"] == "client.unreachable"
    assert decision["failure"]["code"] == "UNAVAILABLE"
    assert run(signed_pdp, "session", "show", session).returncode == 4


def test_refused_request_exits_with_2_and_names_the_field(signed_pdp: FakePdp) -> None:
    done = evaluate(signed_pdp, tool="")
    assert done.returncode == 2
    assert "action.tool" in done.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"tool": "a",\n  "arguments": }', "action.json:2:16: Expecting value"),
        ('{"a": 1, "a": 2}', "action.json:1:10: a is given twice"),
        (
            '[{"a": {"b:": 1},\n  "z": {"b": [{"c": 1}, {"c": 1}], "\\u0062": 2}}]',
            "action.json:2:36: b is given twice",
        ),
        ("[]", "action.json: must hold a JSON object"),
        ("", "action.json:1:1: Expecting value"),
        ('{"tool": NaN}', "action.json: NaN is not a JSON number"),
    ],
)
def test_bad_json_is_named_by_file_line_and_column(
    signed_pdp: FakePdp, tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "action.json"
    file.write_text(text)
    done = run(signed_pdp, "evaluate", str(file), "--session", "s")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


def test_bytes_that_are_no_text_are_named_by_line_and_column(signed_pdp: FakePdp, tmp_path: Path) -> None:
    file = tmp_path / "action.json"
    file.write_bytes(b'{"a":\n "\xff"}')
    done = run(signed_pdp, "evaluate", str(file), "--session", "s")
    assert (done.returncode, "action.json:2:3: is not UTF-8" in done.stderr) == (2, True)


def test_missing_file_and_missing_identity_are_usage_errors(signed_pdp: FakePdp) -> None:
    done = run(signed_pdp, "evaluate", "/nowhere/action.json", "--session", "s")
    assert (done.returncode, "No such file" in done.stderr) == (2, True)
    done = run(signed_pdp, "session", "show", "s", PLACET_TENANT="")
    assert (done.returncode, "PLACET_TENANT" in done.stderr) == (2, True)
    done = run(signed_pdp, "evaluate")
    assert done.returncode == 2


def test_session_is_opened_shown_and_closed(signed_pdp: FakePdp) -> None:
    boundary = {"tools": ["invoices.get"], "resources": ["invoice:*"], "amounts": {"EUR": "10.50"}}
    asked = {"task": {"id": "T-1"}, "principal": "user:anna", "agent": "agent:test", "boundary": boundary}
    done = run(signed_pdp, "session", "open", "-", "--json", stdin=json.dumps(asked))
    assert done.returncode == 0, done.stderr
    session = json.loads(done.stdout)
    assert session["boundary"]["amounts"] == [{"currency": "EUR", "per_action": "10.50"}]
    shown = run(signed_pdp, "session", "show", session["session_id"])
    assert (shown.returncode, shown.stdout.splitlines()[0]) == (0, "OPEN")
    assert "10.50 EUR" in shown.stdout
    closed = run(signed_pdp, "session", "close", session["session_id"], "--reason", "done", "--json")
    assert json.loads(closed.stdout)["state"] == "closed"
    again = run(signed_pdp, "session", "open", "-", "--agent", "agent:other", stdin=json.dumps(asked))
    assert (again.returncode, "already has a session" in again.stderr) == (2, True)
    misspelt = run(signed_pdp, "session", "open", "-", stdin=json.dumps(asked | {"boundry": {}}))
    assert (misspelt.returncode, "boundry" in misspelt.stderr) == (2, True)


def test_signed_task_is_opened_from_its_file(signed_pdp: FakePdp, tmp_path: Path) -> None:
    file = tmp_path / "task.jws"
    token = sign(
        ec.generate_private_key(ec.SECP256R1()),
        issuer="erp",
        tenant="test",
        task="T-1",
        principal="user:anna",
        agent="agent:test",
        boundary={"tools": ["invoices.get"]},
    )
    file.write_text(token + "\n")
    done = run(signed_pdp, "session", "open", "--task-token", str(file), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["issuer"] == "task:erp"
    other = run(signed_pdp, "session", "open", "--task-token", str(file), "--principal", "user:bob")
    assert (other.returncode, "principal" in other.stderr) == (2, True)
    assert run(signed_pdp, "session", "open").returncode == 2
    file.write_text(" ")
    assert run(signed_pdp, "session", "open", "--task-token", str(file)).returncode == 2


def test_keys_of_an_issuer_are_registered(signed_pdp: FakePdp, tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": []}))
    put = run(signed_pdp, "issuer", "put", "erp", str(tmp_path / "jwks.json"), "--json")
    assert json.loads(put.stdout) == {"issuers_revision": 1}, put.stderr
    assert run(signed_pdp, "issuer", "put", "erp", str(tmp_path / "none.json")).returncode == 2


def test_errors_are_json_when_json_is_asked_for(signed_pdp: FakePdp) -> None:
    done = run(signed_pdp, "session", "show", "nope", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["reason"] == "NOT_FOUND"


def test_decision_is_shown(signed_pdp: FakePdp) -> None:
    decision = json.loads(evaluate(signed_pdp, "--json", tool="vendors.update").stdout)
    shown = run(signed_pdp, "decision", "show", decision["decision_id"], "--json")
    assert shown.returncode == 0
    assert json.loads(shown.stdout)["receipt"] == decision["receipt"]
    assert run(signed_pdp, "decision", "show", "nope").returncode == 2


def test_admin_writes_and_prints_the_revision(signed_pdp: FakePdp) -> None:
    def put(what: str, value: object) -> subprocess.CompletedProcess[str]:
        return run(signed_pdp, "admin", what, "-", "--json", stdin=json.dumps(value))

    assert json.loads(put("put-tenant", {"trust_floor": {"pay": 0.5}}).stdout) == {"settings_revision": 2}
    assert json.loads(put("put-agents", [{"agent": "a", "trust": 0.8}]).stdout) == {"agents_revision": 1}
    tools = {"tools": [{"name": "t", "effect": "pay", "amount": {"argument": "a", "unit": "major"}}]}
    assert json.loads(put("put-tools", tools).stdout) == {"tools_revision": 1}
    assert json.loads(put("put-signals", [{"name": "incident", "value": True}]).stdout) == {
        "signals_revision": 1
    }
    refused = put("put-tools", [{"name": "t", "effect": "steal"}])
    assert refused.returncode == 2
    assert json.loads(refused.stdout)["error"]["violations"][0]["field"] == "tools[0].effect"


# --- receipts ---------------------------------------------------------------------


@pytest.fixture
def kept(signed_pdp: FakePdp, tmp_path: Path) -> Path:
    """A directory with receipt.txt, decision.json, action.json and jwks.json of one allow."""
    done = evaluate(signed_pdp, "--json", "--receipt-to", str(tmp_path / "receipt.txt"))
    (tmp_path / "decision.json").write_text(done.stdout)
    (tmp_path / "action.json").write_text(json.dumps(ACTION))
    (tmp_path / "jwks.json").write_text(json.dumps(signed_pdp.jwks()))
    return tmp_path


def verify(kept: Path, *options: str, receipt: str = "receipt.txt") -> subprocess.CompletedProcess[str]:
    jwks = ["--jwks", str(kept / "jwks.json")]
    return run(None, "receipt", "verify", str(kept / receipt), *jwks, *options)


def test_secrets_are_not_compared_and_the_command_says_which(signed_pdp: FakePdp, tmp_path: Path) -> None:
    tool = {"name": ACTION["tool"], "effect": "read", "resource": "invoice:{invoice}"}
    with signed_pdp.client() as operator:
        operator.put_tools([tool | {"secret_arguments": ["pin"]}])
    secret = ACTION | {"arguments": ACTION["arguments"] | {"pin": "hunter2"}}
    (tmp_path / "jwks.json").write_text(json.dumps(signed_pdp.jwks()))
    (tmp_path / "asked.json").write_text(json.dumps(secret))
    session = signed_pdp.session()
    with signed_pdp.client() as agent:
        decision = agent.evaluate(secret, session=session)
    assert decision.allowed
    (tmp_path / "receipt.txt").write_bytes(decision.receipt)
    # An auditor's file has the secret, another value of it, or none.
    for pin in ({"pin": "hunter2"}, {"pin": "x"}, {}):
        known = ACTION | {"arguments": ACTION["arguments"] | pin}
        (tmp_path / "action.json").write_text(json.dumps(known))
        done = verify(tmp_path, "--action", str(tmp_path / "action.json"))
        assert (done.returncode, done.stdout.splitlines()[1:]) == (
            0,
            ["not compared: secret arguments (pin)"],
        )
        said = json.loads(verify(tmp_path, "--json", "--action", str(tmp_path / "action.json")).stdout)
        assert said["uncompared"] == ["pin"]
        assert "hunter2" not in str(said)
    shown = run(None, "receipt", "show", str(tmp_path / "receipt.txt")).stdout
    assert [line.split() for line in shown.splitlines() if "act.secrets[" in line] == [
        ["act.secrets[0]", "pin"]
    ]
    (tmp_path / "action.json").write_text(json.dumps(ACTION | {"arguments": {"invoice": "another"}}))
    done = verify(tmp_path, "--action", str(tmp_path / "action.json"))
    assert (done.returncode, "act.ad" in done.stderr) == (1, True)


def test_receipt_says_that_all_arguments_are_hidden(signed_pdp: FakePdp, tmp_path: Path) -> None:
    tool = {"name": ACTION["tool"], "effect": "read", "resource": "invoice:{invoice}"}
    with signed_pdp.client() as agent:
        # The empty path is all of them; a server names it where it cannot tell what is secret.
        agent.put_tools([tool | {"secret_arguments": [""]}])
        decision = agent.evaluate(ACTION, session=signed_pdp.session())
    (tmp_path / "receipt.txt").write_bytes(decision.receipt)
    shown = run(None, "receipt", "show", str(tmp_path / "receipt.txt")).stdout
    (line,) = [line for line in shown.splitlines() if "act.secrets[" in line]
    assert line.split(maxsplit=1) == ["act.secrets[0]", "(all arguments)"]
    assert "INV-1" not in shown


def test_receipt_is_verified_offline(signed_pdp: FakePdp, kept: Path) -> None:
    signed_pdp.stop()
    both = ("--decision", str(kept / "decision.json"), "--action", str(kept / "action.json"))
    done = verify(kept, *both, "--issuer", "placet-fake")
    assert (done.returncode, done.stdout.split(":")[0]) == (0, "verified"), done.stderr
    assert verify(kept, receipt="decision.json").returncode == 0
    without_keys = run(None, "receipt", "verify", str(kept / "receipt.txt"))
    assert (without_keys.returncode, without_keys.stdout.split(":")[0]) == (6, "unverified")


def test_changed_part_is_named(kept: Path) -> None:
    token = (kept / "receipt.txt").read_text()
    jws, *disclosures = token.split("~")
    header, payload, signature = jws.split(".")

    def flip(text: str) -> str:
        middle = len(text) // 2
        return text[:middle] + ("A" if text[middle] != "A" else "B") + text[middle + 1 :]

    rest = "~".join(disclosures)
    for part, changed in {
        "header": f"{flip(header)}.{payload}.{signature}~{rest}",
        "signature": f"{header}.{payload}.{flip(signature)}~{rest}",
        "disclosure 1": f"{jws}~{flip(disclosures[0])}~" + "~".join(disclosures[1:]),
    }.items():
        (kept / "changed.txt").write_text(changed)
        done = verify(kept, "--json", receipt="changed.txt")
        assert (done.returncode, json.loads(done.stdout)["error"]["part"]) == (1, part)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("effect", "block"),
        ("decision_id", "another"),
        ("session_id", "another"),
        ("tool_call_id", "another"),
        ("expires_at", "2030-01-01T00:00:00Z"),
        ("reasons", [{"code": "other"}]),
        ("obligations", [{"id": "other"}]),
        ("policy", {"bundle": "other", "revision": "1"}),
        ("session_version", 99),
    ],
)
def test_field_in_which_a_decision_differs_is_named(kept: Path, field: str, value: object) -> None:
    decision = json.loads((kept / "decision.json").read_text())
    (kept / "decision.json").write_text(json.dumps(decision | {field: value}))
    done = verify(kept, "--decision", str(kept / "decision.json"), "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]["part"]) == (1, field)


def test_other_action_other_issuer_and_other_keys_are_not_valid(kept: Path) -> None:
    (kept / "action.json").write_text(json.dumps(ACTION | {"arguments": {"invoice": "INV-2"}}))
    done = verify(kept, "--action", str(kept / "action.json"))
    assert (done.returncode, "act.ad" in done.stderr) == (1, True)
    assert verify(kept, "--issuer", "somebody").returncode == 1
    with FakePdp(signed=True) as other:
        (kept / "jwks.json").write_text(json.dumps(other.jwks()))
    done = verify(kept)
    assert (done.returncode, "header" in done.stderr) == (1, True)


def test_keys_are_fetched_from_an_address(signed_pdp: FakePdp, kept: Path) -> None:
    body = json.dumps(signed_pdp.jwks()).encode()

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Keys)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/jwks.json"
        assert run(None, "receipt", "verify", str(kept / "receipt.txt"), "--jwks", url).returncode == 0
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    done = run(None, "receipt", "verify", str(kept / "receipt.txt"), "--jwks", url)
    assert (done.returncode, "cannot be fetched" in done.stderr) == (2, True)


def test_receipt_is_shown(kept: Path) -> None:
    shown = run(None, "receipt", "show", str(kept / "receipt.txt"))
    assert shown.returncode == 0
    assert "act.tool" in shown.stdout
    assert "invoices.get" in shown.stdout
    as_json = json.loads(run(None, "receipt", "show", str(kept / "receipt.txt"), "--json").stdout)
    assert as_json["claims"]["effect"] == "allow"
    (kept / "receipt.txt").write_text("nonsense")
    assert run(None, "receipt", "show", str(kept / "receipt.txt")).returncode == 1


def test_failures_of_the_server_say_so(signed_pdp: FakePdp) -> None:
    signed_pdp.fail(grpc.StatusCode.INTERNAL)
    done = evaluate(signed_pdp)
    assert (done.returncode, "INTERNAL" in done.stdout) == (4, True)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["evaluate"],
        ["session", "open"],
        ["session", "show"],
        ["session", "close"],
        ["decision", "plan"],
        ["decision", "show"],
        ["receipt", "verify"],
        ["receipt", "show"],
        ["chain", "delegate"],
        ["chain", "show"],
        ["admin", "put-tools"],
    ],
)
def test_help_has_examples(words: list[str]) -> None:
    done = run(None, *words, "--help")
    assert done.returncode == 0
    assert "xample" in done.stdout or "FILE holds" in done.stdout or "Exit codes" in done.stdout


def test_simulation_is_shown_as_what_would_be(signed_pdp: FakePdp) -> None:
    session = signed_pdp.session().session_id
    words = [
        "decision",
        "simulate",
        "-",
        "--session",
        session,
        "--as-subject",
        "svc",
        "--as-agents",
        "agent:test",
    ]
    author = {"PLACET_ROLES": "policy_author", "stdin": json.dumps(ACTION)}
    shown = run(signed_pdp, *words, **author)
    assert shown.returncode == 0
    assert shown.stdout.startswith("would be ALLOW")
    found = json.loads(run(signed_pdp, *words, "--json", **author).stdout)
    assert (found["would_be"], "effect" in found, "receipt" in found) == ("allow", False, False)
    assert run(signed_pdp, *words, stdin=json.dumps(ACTION)).returncode == 2


def test_task_is_completed(signed_pdp: FakePdp) -> None:
    task = {"task": {"id": "T-1"}, "principal": "user:anna", "agent": "agent:test", "boundary": {}}
    opened = run(signed_pdp, "session", "open", "-", "--json", stdin=json.dumps(task))
    session_id = json.loads(opened.stdout)["session_id"]
    completed = run(signed_pdp, "session", "complete", session_id, "--reason", "paid")
    assert completed.returncode == 0
    assert completed.stdout.startswith("COMPLETED")


def decided(fake: FakePdp, **members: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(evaluate(fake, "--json", **members).stdout)
    return found


def test_outcome_is_reported_and_shown(signed_pdp: FakePdp, tmp_path: Path) -> None:
    first, second = decided(signed_pdp), decided(signed_pdp, tool_call_id="c-2")
    output = tmp_path / "result.json"
    output.write_text('{"id": 7}')
    told = run(signed_pdp, "outcome", "report", "executed", first["decision_id"], "--output", str(output))
    assert (told.returncode, told.stdout) == (0, "committed\n"), told.stderr
    call = ("--session", second["session_id"], "--call", "c-2")
    voided = run(signed_pdp, "outcome", "report", "voided", *call, "--json")
    reported = json.loads(voided.stdout)
    assert (reported["hold"], reported["conflict"]) == ("unresolved", False)
    assert signed_pdp.outcomes == [(first["decision_id"], "executed"), (second["decision_id"], "voided")]
    shown = run(signed_pdp, "decision", "show", first["decision_id"])
    assert "outcome" in shown.stdout
    assert "executed" in shown.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("executed",), "which allow"),
        (("executed", "d-1", "--session", "s", "--call", "c"), "which allow"),
        (("executed", "--session", "s"), "which allow"),
        (("done", "d-1"), "outcome"),
        (("lapsed", "d-1"), "the server's own finding"),
        (("unredeemed", "d-1"), "the server's own finding"),
        (("executed", "d-1"), "no such decision"),
    ],
)
def test_report_that_makes_no_sense_is_refused(
    signed_pdp: FakePdp, words: tuple[str, ...], said: str
) -> None:
    done = run(signed_pdp, "outcome", "report", *words)
    assert done.returncode == 2
    assert said in done.stderr


def test_silence_is_listed(signed_pdp: FakePdp) -> None:
    silent = decided(signed_pdp)
    assert run(signed_pdp, "outcome", "open").stdout == ""
    signed_pdp.advance(timedelta(seconds=61))
    assert silent["decision_id"] in run(signed_pdp, "outcome", "open").stdout
    listed = json.loads(run(signed_pdp, "outcome", "open", "--json").stdout)
    assert [item["decision_id"] for item in listed["decisions"]] == [silent["decision_id"]]
    assert run(signed_pdp, "outcome", "open", "--after", silent["decision_id"]).stdout == ""


def test_decision_is_redeemed_once_and_for_its_action_only(signed_pdp: FakePdp) -> None:
    shown = evaluate(signed_pdp, "--json", "--audience", "erp")
    decision_id = json.loads(shown.stdout)["decision_id"]

    def redeem(action: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        words = ("decision", "redeem", decision_id, "-", "--audience", "erp", "--tools", ACTION["tool"])
        serving = {
            "PLACET_SUBJECT": "svc-erp",
            "PLACET_AGENTS": "",
            "PLACET_ROLES": "tool",
            "PLACET_AUDIENCES": "erp",
        }
        return run(signed_pdp, *words, stdin=json.dumps(action), **serving)

    other = redeem(ACTION | {"arguments": {"invoice": "INV-2", "n": 1.25}})
    assert (other.returncode, other.stdout) == (2, "")
    first = redeem(ACTION)
    assert first.returncode == 0, first.stderr
    assert redeem(ACTION).returncode == 2
    assert redeem({"tool": "invoices.get"}).stderr == "placet: arguments: must be an object\n"


def test_plan_is_shown_item_by_item_and_exits_for_the_first_that_is_not_allowed(signed_pdp: FakePdp) -> None:
    session = signed_pdp.session().session_id
    actions = [ACTION, ACTION | {"tool": "payments.create", "tool_call_id": "c-2"}]
    asked = json.dumps({"session": session, "actions": actions})
    shown = run(signed_pdp, "decision", "plan", "-", stdin=asked)
    assert (shown.returncode, shown.stderr) == (3, "")
    assert [line for line in shown.stdout.splitlines() if not line.startswith(" ")] == ["ALLOW", "ESCALATE"]

    others = [action | {"tool_call_id": f"d-{n}"} for n, action in enumerate(actions)]
    whole = run(
        signed_pdp,
        *("decision", "plan", "-", "--session", session, "--all-or-nothing", "--json"),
        stdin=json.dumps(others),
    )
    assert whole.returncode == 1
    found = json.loads(whole.stdout)["decisions"]
    assert [each["reasons"][0]["code"] for each in found] == ["plan.not_whole"] * 2

    alone = run(signed_pdp, "decision", "plan", "-", "--session", session, stdin=json.dumps(others[:1]))
    assert (alone.returncode, alone.stdout[:5]) == (0, "ALLOW")
    again = run(signed_pdp, "decision", "plan", "-", "--session", session, stdin=json.dumps(others[:1]))
    assert again.returncode == 5


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("[]", "actions"),
        ('{"session": "s", "actions": {}}', "actions"),
        ('{"session": "s", "items": []}', "items"),
        ('[{"tool": "t"}]', "session"),
        ('{"session": "s", "actions": [{"tool": "t"}]}', "items[0].action"),
    ],
)
def test_plan_that_makes_no_sense_is_refused(signed_pdp: FakePdp, asked: str, words: str) -> None:
    done = run(signed_pdp, "decision", "plan", "-", stdin=asked)
    assert done.returncode == 2
    assert words in done.stdout + done.stderr
    assert signed_pdp.received == []


def test_chain_is_delegated_acted_on_drawn_and_revoked(signed_pdp: FakePdp, tmp_path: Path) -> None:
    asked = {
        "task": "T-1",
        "principal": "user:anna",
        "agent": "agent:test",
        "boundary": {"tools": ["a", "b"]},
    }
    opened = run(signed_pdp, "session", "open", "-", "--json", stdin=json.dumps(asked))
    session, held = json.loads(opened.stdout), tmp_path / "session.json"
    held.write_text(opened.stdout)
    bounds = tmp_path / "bounds.json"
    bounds.write_text('{"tools": ["a"]}')
    words = ("chain", "delegate", str(held), "--to", "agent:helper", "--purpose", "look\x1b it up")
    done = run(signed_pdp, *words, "--boundary", str(bounds), "--expires-in", "60", "--json")
    assert done.returncode == 0, done.stderr
    helper = json.loads(done.stdout)
    assert [hop["agent"] for hop in helper["chain"]] == ["agent:test", "agent:helper"]
    assert helper["session"] == session["session_id"]

    # What was printed is what an action is asked with, and what is delegated from.
    as_helper = {"PLACET_AGENTS": "agent:helper", "PLACET_SUBJECT": "svc-helper"}
    action = json.dumps(ACTION | {name: helper[name] for name in ("session", "chain")})
    decided = run(signed_pdp, "evaluate", "-", "--json", stdin=action, **as_helper)
    decision = json.loads(decided.stdout)
    assert (decided.returncode, decision["chain"][1]["grant_hash"]) == (0, helper["grant_hash"])
    below = run(signed_pdp, "chain", "delegate", "-", "--to", "agent:clerk", stdin=done.stdout, **as_helper)
    assert below.stdout.startswith("agent:test > agent:helper > agent:clerk  grant ")

    drawn = run(signed_pdp, "chain", "show", decision["decision_id"])
    assert drawn.returncode == 0, drawn.stderr
    lines = drawn.stdout.splitlines()
    assert lines[0] == f"task T-1 of user:anna, session {session['session_id']}"
    assert "agent:test  by test, grant " in lines[1]
    assert "agent:helper  by test, look\\x1b it up, grant " in lines[2]
    assert lines[3].split()[-4:] == ["ALLOW", decision["decision_id"], "this", "one"]

    revoked = run(
        signed_pdp, "chain", "revoke", session["session_id"], helper["grant_hash"], "--reason", "done"
    )
    assert (revoked.returncode, revoked.stdout.startswith("revoked since 20")) == (0, True)
    assert "revoked by test: done" in run(signed_pdp, "chain", "show", decision["decision_id"]).stdout
    shown = run(signed_pdp, "chain", "show", decision["decision_id"], "--json")
    assert json.loads(shown.stdout)["links"][1]["revoke_reason"] == "done"
    again = run(signed_pdp, *words)
    assert again.returncode == 0


@pytest.mark.parametrize("held", ["{}", '{"session": "s"}', '{"session_id": "s", "agent": "a"}'])
def test_file_that_holds_no_chain_is_named(signed_pdp: FakePdp, held: str) -> None:
    done = run(signed_pdp, "chain", "delegate", "-", "--to", "agent:helper", stdin=held)
    assert (done.returncode, "has neither session and chain" in done.stderr) == (2, True)


@pytest.mark.parametrize("by", ["environment", "file", "option"])
def test_session_token_proves_part_in_a_session(by: str, tmp_path: Path) -> None:
    with FakePdp() as fake:
        fake.allow("invoices.get")
        session = fake.session()
        asked = tmp_path / "action.json"
        asked.write_text(json.dumps({"session": session.session_id} | ACTION))
        refused = run(fake, "evaluate", str(asked), "--json")
        assert json.loads(refused.stdout)["reasons"][0]["code"] == "session.unproven"
        words, environment = ["evaluate", str(asked), "--json"], {}
        token = tmp_path / "token"
        token.write_text(session.token + "\n")
        match by:
            case "environment":
                environment = {"PLACET_SESSION_TOKEN": session.token}
            case "file":
                environment = {"PLACET_SESSION_TOKEN_FILE": str(token)}
            case _:
                words += ["--session-token", session.token]
        done = run(fake, *words, **environment)
        assert (done.returncode, json.loads(done.stdout)["allowed"]) == (0, True), done.stderr
        assert session.token not in done.stdout + done.stderr


def test_opened_session_is_printed_with_its_token(signed_pdp: FakePdp, tmp_path: Path) -> None:
    file = tmp_path / "task.json"
    task = {"task": {"id": "T-2"}, "principal": "user:anna", "agent": "agent:test", "boundary": {}}
    file.write_text(json.dumps(task))
    opened = json.loads(run(signed_pdp, "session", "open", str(file), "--json").stdout)
    assert len(opened["token"]) == 43
    assert opened["token"] not in run(signed_pdp, "session", "open", str(file)).stdout


def test_proofs_of_a_session_are_revoked_and_that_is_shown(signed_pdp: FakePdp) -> None:
    session = signed_pdp.session().session_id
    done = run(signed_pdp, "session", "revoke-proofs", session, "--reason", "it leaked")
    assert done.returncode == 0, done.stderr
    assert "(tokens: 1, grants: 0)" in done.stdout
    assert "until its issuer opens it again" in done.stdout
    assert "until its issuer opens it again" in run(signed_pdp, "session", "show", session).stdout
    again = json.loads(run(signed_pdp, "session", "revoke-proofs", session, "--json").stdout)
    assert (again["tokens"], again["grants"]) == (0, 0)
    assert again["revoked_at"].endswith("Z")
    assert evaluate(signed_pdp, session=session).returncode == 1
    missing = run(signed_pdp, "session", "revoke-proofs", "unknown")
    assert (missing.returncode, "whose proofs you may revoke" in missing.stderr) == (2, True)
