"""The command tree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from placet import __version__
from placet._calls.plain import decision_json, plain, simulation_json
from placet.cli import admin, chain, entities, issuers, outcomes, plans, receipts, scenarios, tools
from placet.cli.connection import Json, connected
from placet.cli.decisions import record_json, show_record
from placet.cli.exits import HELP, CommandError, exit_of
from placet.cli.inputs import read_object, read_token
from placet.cli.output import print_json, printable, show_decision, show_session, show_simulation
from placet.client import Client
from placet.errors import invalid
from placet.model import Session

_KEEP = {"pretty_exceptions_enable": False, "no_args_is_help": True, "rich_markup_mode": None}
_ENVIRONMENT = """\
\b
Environment: PLACET_TARGET, PLACET_TENANT, PLACET_SUBJECT, PLACET_ROLES, PLACET_AGENTS, PLACET_TOOLS,
PLACET_AUDIENCES, PLACET_CA, PLACET_CERT, PLACET_KEY, PLACET_TOKEN_FILE, PLACET_TIMEOUT and PLACET_JWKS
stand for the options of the same names.
"""

app = typer.Typer(
    name="placet",
    help="Ask the policy decision point, and check its receipts.",
    epilog=HELP + "\n" + _ENVIRONMENT,
    **_KEEP,  # type: ignore[arg-type]
)
session = typer.Typer(help="Open, show, complete and close sessions, and revoke their proofs.", **_KEEP)  # type: ignore[arg-type]
decision = typer.Typer(help="Plans, recorded decisions, and what others would be.", **_KEEP)  # type: ignore[arg-type]
app.add_typer(session, name="session")
app.add_typer(decision, name="decision")
app.add_typer(outcomes.app, name="outcome")
app.add_typer(chain.app, name="chain")
app.add_typer(receipts.app, name="receipt")
app.add_typer(tools.app, name="tool")
app.add_typer(entities.app, name="entity")
app.add_typer(issuers.app, name="issuer")
app.add_typer(admin.app, name="admin")
app.add_typer(scenarios.app, name="scenario")

decision.command("plan", epilog=plans.EPILOG)(plans.plan)

File = Annotated[str, typer.Argument(metavar="FILE", help="A JSON file; - is standard input.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"placet {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(
    epilog=f"""\
\b
FILE holds the action, and may hold what the options say:
  {{"session": "0199…", "tool": "payments.create", "tool_call_id": "call-1",
   "arguments": {{"invoice": "INV-1001", "amount": "1200.00", "currency": "EUR"}}}}

\b
Examples:
  export PLACET_TENANT=acme PLACET_SUBJECT=svc PLACET_ROLES=agent PLACET_AGENTS=agent:payer
  placet evaluate action.json --session 0199…
  placet evaluate - --json < action.json | jq .effect

{HELP}"""
)
@connected
def evaluate(
    client: Client,
    file: File,
    session: Annotated[str, typer.Option(help="Id of the session; else the file's.")] = "",
    audience: Annotated[str, typer.Option(help="Who will check the receipt.")] = "",
    receipt_to: Annotated[Path | None, typer.Option(help="Write the receipt to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Ask whether an action may be taken."""
    asked = read_object(file)
    known: dict[str, Any] = {"session": "", "chain": [], "audience": "", "review_id": None}
    given = {name: asked.pop(name, default) for name, default in known.items()}
    if session:
        given["session"] = session
    if audience:
        given["audience"] = audience
    if not given["session"]:
        raise CommandError("which session? give --session, or a member session in the file")
    _check_types(given)
    decided = client.evaluate(asked, **given)
    if receipt_to is not None and decided.receipt:
        try:
            receipt_to.write_bytes(decided.receipt)
        except OSError as exc:
            raise CommandError(f"{receipt_to}: {exc.strerror or exc}") from exc
    if as_json:
        print_json(decision_json(decided))
    else:
        show_decision(decided)
    raise typer.Exit(exit_of(decided))


@session.command(
    "open",
    epilog="""\
\b
FILE holds the session; the options override it:
  {"task": {"id": "T-100", "description": "Pay Anna's invoices"}, "principal": "user:anna",
   "agent": "agent:payer", "expires_in": 3600,
   "boundary": {"tools": ["payments.create"], "effects": ["read"],
                "resources": ["invoice:INV-1001", "vendor:*"], "amounts": {"EUR": "5000.00"}}}

\b
Examples:
  placet session open task.json --tenant acme --subject erp --roles session_issuer
  SESSION=$(placet session open task.json --json | jq -r .session_id)
  placet session open --task-token task.jws --tenant acme --subject svc --roles agent --agents agent:payer
""",
)
@connected
def open_session(
    client: Client,
    file: Annotated[
        str, typer.Argument(metavar="[FILE]", help="A JSON file; - is standard input.", show_default=False)
    ] = "",
    task: Annotated[str, typer.Option(help="Id of the task.")] = "",
    principal: Annotated[str, typer.Option(help="On whose behalf.")] = "",
    agent: Annotated[str, typer.Option(help="The agent that acts.")] = "",
    task_token: Annotated[
        str,
        typer.Option(
            metavar="FILE", help="A file with the task as its issuer signed it; no other is needed."
        ),
    ] = "",
    principal_token: Annotated[
        str, typer.Option(metavar="FILE", help="A file with a bearer token that proves the principal.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Open the session of a task, or show it if it was opened with the same."""
    if not file and not task_token:
        raise CommandError("which task? give FILE or --task-token")
    members = read_object(file) if file else {}
    for name, value in (("task", task), ("principal", principal), ("agent", agent)):
        if value:
            members[name] = value
    known = {"task", "principal", "agent", "boundary", "expires_in", "expires_at"}
    for name in members:
        if name not in known:
            raise invalid(name, f"is unknown; known: {', '.join(sorted(known))}")
    if members.get("expires_in") is not None:
        members["expires_in"] = _seconds(members["expires_in"])
    for name, token_file in (("task_token", task_token), ("principal_token", principal_token)):
        if token_file:
            members[name] = read_token(token_file)
    opened = client.open_session(**members)
    for warning in opened.warnings:
        typer.echo(printable(f"warning: {warning.field}: {warning.message}"), err=True)
    _print_session(opened, as_json=as_json)


@session.command("show", epilog="\b\nExample:\n  placet session show 0199… --json\n")
@connected
def show(
    client: Client,
    session_id: Annotated[str, typer.Argument(metavar="SESSION_ID")],
    as_json: Json = False,
) -> None:
    """Show a session as it is now, with what is used and left of each of its limits."""
    _print_session(client.get_session(session_id, limits=True), as_json=as_json)


@session.command("complete", epilog="\b\nExample:\n  placet session complete 0199… --reason 'paid'\n")
@connected
def complete(
    client: Client,
    session_id: Annotated[str, typer.Argument(metavar="SESSION_ID")],
    reason: Annotated[str, typer.Option(help="For the record.")] = "",
    as_json: Json = False,
) -> None:
    """Say that the task is done: from now on only what its boundary permits after completion."""
    _print_session(client.complete_task(session_id, reason=reason), as_json=as_json)


@session.command("close", epilog="\b\nExample:\n  placet session close 0199… --reason 'task done'\n")
@connected
def close(
    client: Client,
    session_id: Annotated[str, typer.Argument(metavar="SESSION_ID")],
    reason: Annotated[str, typer.Option(help="For the record.")] = "",
    as_json: Json = False,
) -> None:
    """End a session for good: everything after it is blocked."""
    _print_session(client.close_session(session_id, reason=reason), as_json=as_json)


@session.command(
    "revoke-proofs",
    epilog="\b\nExample:\n  placet session revoke-proofs 0199… --reason 'the token leaked'\n",
)
@connected
def revoke_proofs(
    client: Client,
    session_id: Annotated[str, typer.Argument(metavar="SESSION_ID")],
    reason: Annotated[str, typer.Option(help="Why; the history keeps it.")] = "",
    as_json: Json = False,
) -> None:
    """End a session's tokens and grants: nobody acts in it until its issuer opens it again."""
    revoked = client.revoke_session_proofs(session_id, reason=reason)
    if as_json:
        print_json(revoked)
        return
    typer.echo(
        f"revoked at {plain(revoked.revoked_at)} (tokens: {revoked.tokens}, grants: {revoked.grants})\n"
        "nobody acts in the session until its issuer opens it again"
    )


@decision.command(
    "simulate",
    epilog="""\
\b
FILE holds what `placet evaluate` takes.
Example:
  placet decision simulate action.json --session 0199… --as-subject svc --as-agents agent:payer
""",
)
@connected
def simulate(
    client: Client,
    file: File,
    as_subject: Annotated[str, typer.Option(help="Who would ask.")],
    as_agents: Annotated[str, typer.Option(help="The agents that it may speak for, with commas.")],
    session: Annotated[str, typer.Option(help="Id of the session; else the file's.")] = "",
    as_json: Json = False,
) -> None:
    """Show what the answer to somebody would be. It is no permission. Role: policy_author."""
    asked = read_object(file)
    known: dict[str, Any] = {"session": "", "chain": [], "audience": "", "review_id": None}
    given = {name: asked.pop(name, default) for name, default in known.items()}
    _check_types(given)
    found = client.simulate(
        asked,
        session=session or given["session"],
        subject=as_subject,
        agents=[name.strip() for name in as_agents.split(",") if name.strip()],
        chain=given["chain"],
        audience=given["audience"],
    )
    if as_json:
        print_json(simulation_json(found))
    else:
        show_simulation(found)


@decision.command("show", epilog="\b\nExample:\n  placet decision show 0199… --json > decision.json\n")
@connected
def show_recorded(
    client: Client,
    decision_id: Annotated[str, typer.Argument(metavar="DECISION_ID")],
    as_json: Json = False,
) -> None:
    """Show a recorded decision: who asked for what, for whom, the answer, its limits and what became of it.

    Exits with 0 whatever its effect.
    """
    found = client.get_decision(decision_id)
    if as_json:
        print_json(record_json(found))
    else:
        show_record(found)


@decision.command(
    "redeem",
    epilog="""\
\b
FILE holds the action, as `placet evaluate` takes it: tool and arguments.
Example:
  placet decision redeem 0199… action.json --audience erp --roles tool --tools erp.pay --audiences erp
""",
)
@connected
def redeem(
    client: Client,
    decision_id: Annotated[str, typer.Argument(metavar="DECISION_ID")],
    file: File,
    audience: Annotated[str, typer.Option(help="The audience that the receipt must name.")] = "",
    as_json: Json = False,
) -> None:
    """Use an allow, once, for the action that is about to run. Role: tool. Act only if it exits with 0."""
    asked = read_object(file)
    for name, kind in (("tool", str), ("arguments", dict)):
        if not isinstance(asked.get(name), kind):
            raise invalid(name, f"must be {'a string' if kind is str else 'an object'}")
    client.redeem(decision_id, tool=asked["tool"], arguments=asked["arguments"], audience=audience)
    if as_json:
        print_json({"decision_id": decision_id, "redeemed": True})
    else:
        typer.echo("redeemed")


def _print_session(found: Session, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        show_session(found)


def _check_types(given: dict[str, Any]) -> None:
    for name, kind in (("session", str), ("audience", str), ("chain", list)):
        if not isinstance(given[name], kind):
            raise invalid(name, f"must be a {'list' if kind is list else 'string'}")
    if given["review_id"] is not None and not isinstance(given["review_id"], str):
        raise invalid("review_id", "must be a string")


def _seconds(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as exc:
        raise invalid("expires_in", "must be a number of seconds") from exc
