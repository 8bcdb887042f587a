"""Makes vectors/recorded: what a server of an earlier tree signed, answered and left in its database.

    python -m tests.conformance.make_recorded TREE

starts a stack of the checkout TREE (`pdp dev`, with the packages of this environment) and calls it. It is run
by hand, with the tree that later ones must understand, before a change of what is stored; the committed files
are what holds. All keys and names in them are made up for this.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psycopg
from cryptography.hazmat.primitives.asymmetric import ec

from pdp.dev import local_postgres
from placet import Client, DevIdentity
from placet.task_token import public_jwk, sign
from tests.conformance.recorded import FOLDER, TENANT, Caller, Exchange, call, written
from tests.support.postgres import Cluster, embedded
from tests.support.processes import eventually

PAYING, CHECKING, PRINCIPAL, ISSUER = "agent:payer", "agent:checker", "user:anna", "tasks"
OFFICE = Caller(subject="svc-tasks", roles=("session_issuer",))
PAYER = Caller(subject="svc-payer", roles=("agent",), agents=(PAYING,))
CHECKER = Caller(subject="svc-checker", roles=("agent",), agents=(CHECKING,))
AUDITOR = Caller(subject="revision", roles=("auditor",))
READ, PAY = "invoices.get", "payments.create"
AUDIENCE = "https://payments.example"
STRING = {"type": "string"}
TOOLS: list[dict[str, Any]] = [
    {
        "name": READ,
        "effect": "read",
        "resource": "invoice:{invoice}",
        "arguments_schema": {"type": "object", "properties": {"invoice": STRING}, "required": ["invoice"]},
    },
    {
        "name": PAY,
        "effect": "pay",
        "resource": "invoice:{invoice}",
        "arguments_schema": {
            "type": "object",
            "properties": {"invoice": STRING, "amount": STRING, "currency": STRING, "pin": STRING},
            "required": ["invoice", "amount", "currency"],
        },
        "amount": {"argument": "amount", "unit": "major", "currency_argument": "currency"},
        "secret_arguments": ["pin"],
    },
]
# As protobuf's JSON, and for the client.
BOUNDARY: dict[str, Any] = {
    "tools": [READ, PAY],
    "resources": [{"type": "invoice", "prefix": ""}],
    "amounts": [{"currency": "EUR", "per_action": "5000.00", "total": "9000.00"}],
    "max_actions": "50",
}
NARROWER = {"tools": [READ], "resources": BOUNDARY["resources"], "max_actions": "5"}
SIGNED = {"tools": [READ, PAY], "resources": ["invoice:*"], "amounts": {"EUR": "5000.00"}}


@dataclass
class Recorder:
    """Calls a server and keeps what was said."""

    channel: grpc.Channel
    said: list[Exchange] = field(default_factory=list)

    def ask(
        self, method: str, caller: Caller, request: Mapping[str, Any], *, again: str = ""
    ) -> dict[str, Any]:
        answer = call(self.channel, method, caller, request)
        self.said.append(Exchange(method=method, caller=caller, request=request, answer=answer, again=again))
        return answer


def action(tool: str, call_id: str, **arguments: str) -> dict[str, Any]:
    text = base64.b64encode(json.dumps(arguments).encode()).decode()
    return {"tool": tool, "arguments": text, "tool_call_id": call_id}


def payment(call_id: str, amount: str) -> dict[str, Any]:
    return action(PAY, call_id, invoice="INV-1", amount=amount, currency="EUR", pin="1234")


def record(recorder: Recorder, token: str) -> None:
    """Open sessions, delegate, decide in every way, report and redeem; then read it all back."""
    ask = recorder.ask
    task = {"id": "T-1", "description": "Pay what is due", "prompt": "Pay INV-1."}
    opened = ask(
        "SessionService/OpenSession",
        OFFICE,
        {"task": task, "principal": PRINCIPAL, "agent": PAYING, "boundary": BOUNDARY},
    )
    session = opened["session"]["session_id"]
    root = {"agent": PAYING, "grant": opened["grant"]}
    ask("SessionService/OpenSession", PAYER, {"task_token": token}, again="same")
    handed_on = ask(
        "SessionService/Delegate",
        PAYER,
        {
            "session_id": session,
            "chain": {"hops": [root]},
            "to_agent": CHECKING,
            "boundary": NARROWER,
            "purpose": "check the invoice",
        },
    )

    def evaluate(caller: Caller, what: Mapping[str, Any], again: str, **options: Any) -> str:
        request = {"action": what, "session_id": session, **options}
        answer = ask("DecisionService/Evaluate", caller, request, again=again)
        decision_id: str = answer["decision"]["decision_id"]
        return decision_id

    read = evaluate(PAYER, action(READ, "read", invoice="INV-1"), "replayed")
    blocked = evaluate(PAYER, payment("too much", "5000.01"), "replayed", audience=AUDIENCE)
    evaluate(PAYER, payment("large", "4500.00"), "replayed", audience=AUDIENCE)
    paid = evaluate(PAYER, payment("paid", "120.50"), "", audience=AUDIENCE)
    chain = handed_on["chain"]
    checked = evaluate(CHECKER, action(READ, "checked", invoice="INV-2"), "replayed", chain=chain)
    evaluate(CHECKER, payment("of the checker", "1.00"), "replayed", chain=chain)
    server = Caller(subject="svc-payments", roles=("tool",))
    redeemed = {
        "decision_id": paid,
        "tool": PAY,
        "arguments": payment("", "120.50")["arguments"],
        "audience": AUDIENCE,
    }
    ask("DecisionService/Redeem", server, redeemed)
    outcome = {"decision_id": paid, "outcome": "OUTCOME_EXECUTED", "output": base64.b64encode(b"ok").decode()}
    ask("DecisionService/ReportOutcome", PAYER, outcome, again="same")
    for decision_id in (read, blocked, paid, checked):
        ask("DecisionService/GetDecision", AUDITOR, {"decision_id": decision_id}, again="same")
        ask("DecisionService/GetChain", AUDITOR, {"decision_id": decision_id}, again="same")
    ask("SessionService/GetSession", OFFICE, {"session_id": session}, again="same")


@contextmanager
def stack(tree: Path, database_url: str, data: Path) -> Iterator[dict[str, Any]]:
    """A stack of the checkout on the database; yields its description."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tree), str(tree / "clients" / "python" / "src")]),
        "DATABASE_URL": database_url,
    }
    command = [
        sys.executable,
        "-m",
        "pdp",
        "dev",
        "--data-dir",
        str(data),
        "--ports",
        "auto",
        "--clock",
        "manual",
    ]
    process = subprocess.Popen(command, cwd=tree, env=environment, stdout=sys.stderr)
    try:
        described = data / "stack.json"
        eventually(lambda: described.exists() or process.poll() is not None, "the stack is up", within=300)
        yield json.loads(described.read_text())
    finally:
        process.terminate()
        process.wait()


def dump(database_url: str) -> str:
    """The database as SQL that any driver can run: no commands of psql, no COPY."""
    binaries = next(iter(local_postgres.installed())).directory
    done = subprocess.run(
        [binaries / "pg_dump", "--inserts", "--no-owner", "--no-privileges", "--schema=placet", database_url],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = (line for line in done.stdout.splitlines() if line and not line.startswith(("--", "\\")))
    return "\n".join(lines) + "\n"


def main(tree: Path) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    token = sign(
        key,
        issuer=ISSUER,
        tenant=TENANT,
        task={"id": "T-2"},
        principal=PRINCIPAL,
        agent=PAYING,
        boundary=SIGNED,
    )
    with embedded(wheel=False) as conninfo, tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(conninfo)
        database_url = cluster.of(cluster.create())
        with stack(tree, database_url, Path(folder)) as described:
            [replica] = described["replicas"]
            identity = DevIdentity(tenant=TENANT, subject="ops", roles=["operator"])
            with Client(replica["grpc"], identity=identity) as operator:
                operator.put_tenant({})
                operator.put_agents(
                    [{"agent": name, "owner": "ap", "trust": 0.8} for name in (PAYING, CHECKING)]
                )
                operator.put_tools(TOOLS)
                operator.put_issuer_keys(ISSUER, {"keys": [public_jwk(key)]})
            with grpc.insecure_channel(replica["grpc"]) as channel:
                recorder = Recorder(channel)
                record(recorder, token)
            with urllib.request.urlopen(replica["jwks"]) as answer:
                (FOLDER / "jwks.json").write_bytes(answer.read())
            fingerprint_key = (Path(folder) / "keys" / "fingerprint.key").read_text()
        (FOLDER / "exchanges.json").write_text(written(recorder.said))
        (FOLDER / "database.sql").write_text(dump(database_url))
        with psycopg.connect(database_url) as connection:
            row = connection.execute("SELECT placet.now()").fetchone()
        assert row is not None
        about = {
            "at": row[0].isoformat(),
            "fingerprint_key": fingerprint_key,
            "issuer": ISSUER,
            "issuer_keys": [public_jwk(key)],
            "task_token": token,
        }
        (FOLDER / "about.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
