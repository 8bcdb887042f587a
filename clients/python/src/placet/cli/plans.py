"""`placet decision plan`: several actions of a session, judged in order."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from placet._calls.plain import decision_json
from placet.cli.connection import Json, connected
from placet.cli.exits import CommandError, exit_of
from placet.cli.inputs import read_json
from placet.cli.output import print_json, show_decision
from placet.client import Client
from placet.errors import invalid
from placet.model import Decision, Effect

EPILOG = """\
\b
FILE holds a list of what `placet evaluate` takes, or an object with it:
  {"session": "0199…", "actions": [
    {"tool": "invoices.approve", "tool_call_id": "c-1", "arguments": {"invoice": "INV-1001"}},
    {"tool": "payments.create", "tool_call_id": "c-2", "arguments": {"invoice": "INV-1001", "amount": 90}}]}
Exits as `placet evaluate` does: with 0 if all are allowed, else for the first that is not.
Example:
  placet decision plan plan.json --session 0199… --all-or-nothing
"""


@connected
def plan(
    client: Client,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A JSON file; - is standard input.")],
    session: Annotated[str, typer.Option(help="Id of the session; else the file's.")] = "",
    all_or_nothing: Annotated[
        bool, typer.Option("--all-or-nothing", help="Block all unless all are allowed.")
    ] = False,
    audience: Annotated[str, typer.Option(help="Who will check the receipts.")] = "",
    as_json: Json = False,
) -> None:
    """Ask whether the next actions of a session may be taken, in this order. Role: agent."""
    asked = read_json(file)
    members: dict[str, Any] = asked if isinstance(asked, dict) else {"actions": asked}
    for name in members:
        if name not in ("session", "chain", "actions"):
            raise invalid(name, "is unknown; known: actions, chain, session")
    actions, chain, named = members.get("actions"), members.get("chain", []), members.get("session", "")
    if not isinstance(actions, list) or not actions:
        raise invalid("actions", "must be a list of actions")
    if not isinstance(chain, list) or not isinstance(named, str):
        raise CommandError("chain must be a list, and session a string")
    if not (session or named):
        raise CommandError("which session? give --session, or a member session in the file")
    decisions = client.evaluate_plan(
        actions, session=session or named, chain=chain, all_or_nothing=all_or_nothing, audience=audience
    )
    if as_json:
        print_json({"decisions": [decision_json(decision) for decision in decisions]})
    else:
        for decision in decisions:
            show_decision(decision)
    raise typer.Exit(next((exit_of(decision) for decision in decisions if not _granted(decision)), 0))


def _granted(decision: Decision) -> bool:
    """Whether this attempt was allowed the action, if only after another one of the plan."""
    return decision.effect is Effect.ALLOW and decision.failure is None and not decision.replayed
