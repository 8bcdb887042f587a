"""`placet chain`: hand authority on to another agent, take it back, and see through whose hands work came."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from placet._calls.plain import plain
from placet.cli.connection import Json, connected
from placet.cli.exits import CommandError
from placet.cli.inputs import read_object
from placet.cli.output import STYLES, print_json, printable
from placet.client import Client
from placet.model import Chain, ChainLink

app = typer.Typer(
    help="Delegate, revoke, and show chains of agents.",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(
    "delegate",
    epilog="""\
\b
FILE holds the chain that is delegated from: what `placet session open --json` printed, or what this
command printed with --json.

\b
Examples:
  placet chain delegate session.json --to agent:helper --purpose 'look the invoice up' --json > helper.json
  placet chain delegate helper.json --to agent:clerk --boundary reads.json --expires-in 600 --json
""",
)
@connected
def delegate(
    client: Client,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A JSON file; - is standard input.")],
    to: Annotated[str, typer.Option(help="The agent that gets the grant.")],
    boundary: Annotated[
        str, typer.Option(metavar="FILE", help="What it may do, in JSON; else what the one before it may.")
    ] = "",
    purpose: Annotated[str, typer.Option(help="For the record.")] = "",
    expires_in: Annotated[
        float | None, typer.Option(help="Seconds; else as long as the one before it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Hand some of a grant's authority on to another agent. Role: agent."""
    session, chain = _read_chain(read_object(file), file)
    grant = client.delegate(
        session,
        chain,
        to_agent=to,
        boundary=read_object(boundary) if boundary else None,
        purpose=purpose,
        expires_in=expires_in,
    )
    if as_json:
        hops = [{"agent": hop.agent, "grant": hop.grant} for hop in grant.chain]
        print_json({"session": session, "grant_hash": grant.grant_hash, "chain": hops})
    else:
        typer.echo(printable(f"{' > '.join(hop.agent for hop in grant.chain)}  grant {grant.grant_hash}"))


@app.command(
    "revoke",
    epilog="\b\nExample:\n  placet chain revoke 0199… $(jq -r .grant_hash helper.json) --reason 'done'\n",
)
@connected
def revoke(
    client: Client,
    session_id: Annotated[str, typer.Argument(metavar="SESSION_ID")],
    grant: Annotated[str, typer.Argument(metavar="GRANT", help="The grant's hash, or the grant.")],
    reason: Annotated[str, typer.Option(help="For the record.")] = "",
    as_json: Json = False,
) -> None:
    """End a grant and all that was delegated from it."""
    since = client.revoke_grant(session_id, grant, reason=reason)
    if as_json:
        print_json({"revoked_at": since})
    else:
        typer.echo(f"revoked since {plain(since)}")


@app.command("show", epilog="\b\nExample:\n  placet chain show 0199…\n")
@connected
def show(
    client: Client,
    decision_id: Annotated[str, typer.Argument(metavar="DECISION_ID")],
    as_json: Json = False,
) -> None:
    """Draw the chain of a recorded decision, and what else each agent on it was answered."""
    chain = client.get_chain(decision_id)
    if as_json:
        print_json(chain)
    else:
        Console(highlight=False, soft_wrap=True).print(_draw_chain(chain))


def _read_chain(members: Mapping[str, Any], file: str) -> tuple[str, list[dict[str, str]]]:
    """Return the session and the chain that a file holds. Raises `CommandError`."""
    if isinstance(members.get("chain"), list) and isinstance(members.get("session"), str):
        return members["session"], members["chain"]
    held = [members.get(name) for name in ("session_id", "agent", "grant")]
    if not all(isinstance(value, str) and value for value in held):
        raise CommandError(f"{file}: has neither session and chain, nor session_id, agent and grant")
    session, agent, grant = (str(value) for value in held)
    return session, [{"agent": agent, "grant": grant}]


def _draw_chain(chain: Chain) -> Tree:
    what = f"task {chain.task_id} of {chain.principal}" if chain.task_id else "no session that is known"
    tree = Tree(Text(printable(f"{what}, session {chain.session_id}")))
    place = tree
    for link in chain.links:
        place = place.add(_describe_hop(link))
        for decision_id, effect in link.decisions:
            line = Text(f"{effect.upper():<8} ", style=STYLES[effect])
            line.append(printable(decision_id), style="not bold default")
            if decision_id == chain.decision_id:
                line.append("  this one", style="not bold dim")
            place.add(line)
    return tree


def _describe_hop(link: ChainLink) -> Text:
    hop = link.hop
    if not hop.verified:
        return Text(printable(f"not proven ({hop.unverified})"), style="red")
    line = Text(printable(hop.agent), style="bold")
    parts = [f"by {hop.delegated_by}"]
    if link.purpose:
        parts.append(link.purpose)
    if hop.same_runtime:
        parts.append("same runtime")
    if hop.grant_hash:
        parts.append(f"grant {hop.grant_hash[:12]}…")
    line.append(printable("  " + ", ".join(parts)), style="not bold dim")
    if link.revoked_at is not None:
        why = f": {link.revoke_reason}" if link.revoke_reason else ""
        line.append(printable(f"  revoked by {link.revoked_by}{why}"), style="not bold red")
    return line
