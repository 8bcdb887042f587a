"""`placet outcome`: what became of allows."""

from __future__ import annotations

from typing import Annotated

import typer

from placet.cli.connection import Json, connected
from placet.cli.exits import CommandError
from placet.cli.inputs import read_bytes
from placet.cli.output import print_json, printable
from placet.client import Client

app = typer.Typer(
    help="Say what became of allows, and list those about which nobody did.",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(
    "report",
    epilog="""\
\b
OUTCOME is executed, failed, not_executed, unknown or voided.
Examples:
  placet outcome report executed 0199… --output result.json
  placet outcome report voided --session 0199… --call call-7
""",
)
@connected
def report(
    client: Client,
    outcome: Annotated[str, typer.Argument(metavar="OUTCOME")],
    decision_id: Annotated[str, typer.Argument(metavar="[DECISION_ID]", show_default=False)] = "",
    session: Annotated[str, typer.Option(help="Without a decision: the session of the call.")] = "",
    call: Annotated[str, typer.Option(help="Without a decision: the tool_call_id.")] = "",
    output: Annotated[
        str, typer.Option(help="What the tool returned: a JSON file; - is standard input.", metavar="FILE")
    ] = "",
    as_json: Json = False,
) -> None:
    """Report what became of an allow, and show what it still holds. A repeat changes nothing."""
    if bool(decision_id) == bool(session and call) or bool(session) != bool(call):
        raise CommandError("which allow? give DECISION_ID, or --session and --call")
    reported = client.report_outcome(
        decision_id,
        outcome,
        session=session,
        tool_call_id=call,
        output=read_bytes(output) if output else b"",
    )
    if as_json:
        print_json(
            {"decision_id": reported.decision_id, "hold": reported.hold, "conflict": reported.conflict}
        )
    else:
        typer.echo(f"{reported.hold}, outcome.conflict" if reported.conflict else reported.hold)


@app.command(
    "open",
    epilog="\b\nExample:\n  placet outcome open --roles auditor --json | jq -r .decisions[].decision_id\n",
)
@connected
def open_(
    client: Client,
    after: Annotated[str, typer.Option(help="Only after this decision.")] = "",
    as_json: Json = False,
) -> None:
    """List expired allows whose outcome nobody reported, 100 at most, by id."""
    found = client.list_open_decisions(after=after)
    if as_json:
        print_json({"decisions": found})
        return
    for item in found:
        redeemed = ", redeemed" if item.redeemed else ""
        typer.echo(
            printable(
                f"{item.decision_id}  {item.hold}{redeemed}  expired {item.expires_at:%Y-%m-%dT%H:%M:%SZ}  "
                f"session {item.session_id}  call {item.tool_call_id}"
            )
        )
