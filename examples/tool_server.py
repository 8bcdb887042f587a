"""A tool server that acts on receipts only: POST /refunds pays an invoice back.

It trusts no agent. A request is served if its header `Placet-Receipt` is the receipt of an allow for exactly
these arguments, meant for this server and not used before. See examples/README.md.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from placet import Client, DevIdentity, PlacetError
from placet.capability import HEADER, CapabilityError, Gate
from placet.verify import RefreshingVerifier, fetch_jwks

TOOL, AUDIENCE = "refunds.create", "refunds"
# More than any refund needs.
MAX_BODY = 64 * 1024


class RefundHandler(BaseHTTPRequestHandler):
    """Serves one request. `client` and `gate` are set by `main`."""

    client: Client
    gate: Gate

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.path != "/refunds" or not length.isdigit() or int(length) > MAX_BODY:
            self.answer(400, {"reason": "bad request"})
            return
        body = self.rfile.read(int(length))
        receipts = self.headers.get_all(HEADER, [])
        try:
            if len(receipts) != 1:
                raise CapabilityError("capability.missing")
            # Past this line the allow is used up: nobody can present it again, here or anywhere.
            capability = self.gate.admit(receipts[0].encode("ascii"), tool=TOOL, arguments=body)
        except (CapabilityError, UnicodeError) as error:
            reason = error.reason if isinstance(error, CapabilityError) else "capability.not_genuine"
            print(f"refused: {reason}", flush=True)
            self.answer(403, {"reason": reason})
            return
        refund = json.loads(body)
        print(f"refunding {refund['amount']} {refund['currency']} on {capability.resource}", flush=True)
        self.answer(200, {"refunded": refund["invoice"], "reference": f"R-{capability.decision_id}"})
        try:
            self.client.report_outcome(capability.decision_id, "executed")
        except PlacetError as error:
            # The refund stands; until somebody reports it, the server counts it as unresolved.
            print(f"not reported: {error}", flush=True)

    def answer(self, status: int, content: dict[str, str]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: the lines above say what happened."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="localhost:7433", help="the PDP's gRPC address")
    parser.add_argument("--http", default="http://localhost:7434", help="where the PDP publishes its keys")
    parser.add_argument("--tenant", default="acme")
    parser.add_argument("--port", type=int, default=7500, help="0: a free one")
    options = parser.parse_args()
    # In production a client certificate or a token says who this is.
    identity = DevIdentity(
        tenant=options.tenant, subject="svc-refunds", roles=["tool"], tools=[TOOL], audiences=[AUDIENCE]
    )
    keys = RefreshingVerifier(partial(fetch_jwks, f"{options.http}/.well-known/jwks.json"))
    with Client(options.target, identity=identity, timeout=5) as client:
        RefundHandler.client = client
        RefundHandler.gate = Gate(audience=AUDIENCE, tenant=options.tenant, verifier=keys, client=client)
        with ThreadingHTTPServer(("127.0.0.1", options.port), RefundHandler) as server:
            print(f"serving on http://127.0.0.1:{server.server_port}", flush=True)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                print("stopped")


if __name__ == "__main__":
    main()
