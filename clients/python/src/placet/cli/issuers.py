"""`placet issuer`: the keys of those who sign task tokens."""

from __future__ import annotations

from typing import Annotated

import typer

from placet.cli.connection import DryRun, Json, Reason, connected
from placet.cli.inputs import read_jwks
from placet.cli.output import author, print_json, printable
from placet.cli.written import print_preview, print_written
from placet.client import Client
from placet.model import ControlKind

app = typer.Typer(
    help="Say whose task tokens open sessions.",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(
    "put",
    epilog="""\
\b
JWKS is a JWK Set of public keys (P-256 or Ed25519, each with a kid), in a file or at an address;
{"keys": []} revokes them all. What was there before is replaced.

\b
Example:
  placet issuer put https://tasks.example.org jwks.json
""",
)
@connected
def put(
    client: Client,
    issuer: Annotated[str, typer.Argument(metavar="ISSUER", help="`iss` of its tokens.")],
    keys: Annotated[str, typer.Argument(metavar="JWKS", help="A file, or an http(s) address.")],
    reason: Reason = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Replace the keys of an issuer. Role: operator."""
    found = read_jwks(keys)
    if dry_run:
        print_preview(client, "put_issuer_keys", issuer, found, as_json=as_json)
        return
    revision = client.put_issuer_keys(issuer, found, reason=reason)
    print_written(client, ControlKind.ISSUERS, revision, as_json=as_json)


@app.command("list", epilog="\b\nExample:\n  placet issuer list --json\n")
@connected
def list_(client: Client, as_json: Json = False) -> None:
    """List the issuers with the ids of their keys. Role: operator or auditor."""
    issuers = client.list_issuer_keys()
    if as_json:
        print_json(issuers)
        return
    for issuer in issuers:
        keys = [key for key in issuer.jwks.get("keys", []) if isinstance(key, dict)]
        named = ", ".join(str(key.get("kid")) for key in keys) or "no key: revoked"
        head = f"{issuer.issuer}  revision {issuer.revision}, {author(issuer.by)}"
        typer.echo(printable(f"{head}  {named}"))
