"""An agent with two guarded tools: it reads an invoice, refunds a part of it, and twice asks for too much.

Its "model" is a list of tool calls. See examples/README.md.
"""

from __future__ import annotations

import argparse
import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable

from placet import Blocked, Client, DevIdentity, NotExecuted, Session, current_decision, tool_call
from placet.capability import presented_headers
from placet.verify import fetch_jwks

AGENT = "agent:payer"
INVOICES = {"INV-1001": {"vendor": "V-1", "amount": "1200.00", "currency": "EUR"}}
# What a model might ask for in the course of its task.
CALLS = [
    ("invoices.get", {"invoice": "INV-1001"}),
    ("refunds.create", {"invoice": "INV-1001", "amount": "200.00", "currency": "EUR"}),
    ("refunds.create", {"invoice": "INV-1001", "amount": "3000.00", "currency": "EUR"}),
    ("refunds.create", {"invoice": "INV-9999", "amount": "200.00", "currency": "EUR"}),
]


def open_session(target: str, tenant: str) -> Session:
    """What gives out tasks does this, and not the agent: it says what the task may touch."""
    identity = DevIdentity(tenant=tenant, subject="svc-tasks", roles=["session_issuer"])
    with Client(target, identity=identity, timeout=5) as tasks:
        return tasks.open_session(
            task={"id": f"T-{uuid.uuid4()}", "prompt": "Refund 200 EUR of invoice INV-1001."},
            principal="user:anna",
            agent=AGENT,
            boundary={
                "tools": ["invoices.get", "refunds.create"],
                "resources": ["invoice:INV-1001"],
                "amounts": {"EUR": "5000"},
            },
        )


def guarded_tools(pdp: Client, session: Session, tool_server: str) -> dict[str, Callable[..., object]]:
    """The agent's tools by name. Nothing calls what is inside a guard without an allow."""

    @pdp.guard(session=session, tool="invoices.get")
    def get_invoice(invoice: str) -> dict[str, str]:
        return INVOICES[invoice]

    # The tool server checks the receipt again, which is for that server: the registry says so.
    @pdp.guard(session=session, tool="refunds.create")
    def refund(invoice: str, amount: str, currency: str) -> str:
        request = urllib.request.Request(
            f"{tool_server}/refunds",
            data=json.dumps({"invoice": invoice, "amount": amount, "currency": currency}).encode(),
            headers=presented_headers(current_decision()) | {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                reference: str = json.load(answer)["reference"]
        except urllib.error.HTTPError as error:
            # It refused, so nothing was done; any other failure leaves that open, and is reported as unknown.
            raise NotExecuted(f"the tool server refused: {json.load(error)['reason']}") from error
        return reference

    return {"invoices.get": get_invoice, "refunds.create": refund}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="localhost:7433", help="the PDP's gRPC address")
    parser.add_argument("--http", default="http://localhost:7434", help="where the PDP publishes its keys")
    parser.add_argument("--tenant", default="acme")
    parser.add_argument("--tool-server", default="http://localhost:7500")
    options = parser.parse_args()
    session = open_session(options.target, options.tenant)
    # In production a client certificate or a token says who this is.
    identity = DevIdentity(tenant=options.tenant, subject="svc-ap", roles=["agent"], agents=[AGENT])
    keys = fetch_jwks(f"{options.http}/.well-known/jwks.json")
    with Client(options.target, identity=identity, jwks=keys, timeout=5) as pdp:
        tools = guarded_tools(pdp, session, options.tool_server)
        for number, (name, arguments) in enumerate(CALLS, start=1):
            said = f"{name} {' '.join(arguments.values())}"
            try:
                # The framework's id of the call: a hook that is run again on resume executes nothing twice.
                with tool_call(f"call-{number}"):
                    print(f"{said}: {tools[name](**arguments)}")
            except Blocked as blocked:
                # `model_text` has codes and ids only, and is what a model may see.
                codes = [reason.code for reason in blocked.decision.reasons] if blocked.decision else []
                print(f"{said}: {type(blocked).__name__.lower()}, {', '.join(codes)}")


if __name__ == "__main__":
    main()
