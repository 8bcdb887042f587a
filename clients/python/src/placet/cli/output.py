"""How commands print: for people, or JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from placet._calls.jsontext import json_text
from placet._calls.plain import plain
from placet.model import Attribution, Decision, LimitStatus, Reason, ResourceRule, Session, Simulation
from placet.model._wording import figures_text, violation_text
from placet.receipt import ParsedReceipt

STYLES = {"allow": "bold green", "block": "bold red", "escalate": "bold yellow"}


def print_json(value: Any) -> None:
    """Print the value as one line of JSON."""
    typer.echo(shown_json(plain(value)))


def shown_json(value: Any) -> str:
    """Return the value as one line of JSON that a terminal shows as it is."""
    return escaped_json(json_text(value, "output").decode("utf-8"))


def escaped_json(text: str) -> str:
    r"""Return JSON text of the same value, with \u escapes for all that a terminal would obey or hide.

    These are control and format characters, such as those that turn the direction of writing, line
    separators, and characters that nobody has assigned.
    """
    # Outside of strings JSON text has line feeds alone of all these, and within them none.
    return "".join(char if char.isprintable() or char == "\n" else _escape(char) for char in text)


def _escape(char: str) -> str:
    return json.dumps(char)[1:-1] if char != "\x7f" else "\\u007f"


def show_decision(decision: Decision) -> None:
    """Print a decision for people."""
    out = Console(highlight=False, soft_wrap=True)
    head = Text(decision.effect.upper(), style=STYLES[decision.effect])
    if decision.replayed:
        head.append("  (answered before; this is the stored answer)", style="dim")
    out.print(head)
    for reason in decision.reasons:
        _show_reason(out, reason)
    if decision.failure is not None:
        out.print(Text(f"  {printable(str(decision.failure))}", style="red"))
    for obligation in decision.obligations:
        out.print(_line("obligation", obligation.id, ""))
    shown: dict[str, Any] = {
        "decision": decision.decision_id,
        "after": ", ".join(decision.after),
        "call": decision.tool_call_id,
        "session": decision.session_id,
        "expires": decision.expires_at,
        "retry after": decision.retry_after,
        "policy": f"{decision.policy.bundle} {decision.policy.revision}".strip(),
        "receipt": decision.receipt_status if decision.receipt else "",
        "outcome": decision.outcome,
        "redeemed": "yes" if decision.redeemed else "",
    }
    print_table(out, shown)


def show_simulation(simulation: Simulation) -> None:
    """Print a simulation for people."""
    out = Console(highlight=False, soft_wrap=True)
    out.print(Text(f"would be {simulation.would_be.upper()}", style=STYLES[simulation.would_be]))
    for reason in simulation.reasons:
        _show_reason(out, reason)
    for obligation in simulation.obligations:
        out.print(_line("obligation", obligation.id, ""))
    print_table(
        out,
        {
            "retry after": simulation.retry_after,
            "policy": f"{simulation.policy.bundle} {simulation.policy.revision}".strip(),
        },
    )


def show_session(session: Session) -> None:
    """Print a session for people."""
    out = Console(highlight=False, soft_wrap=True)
    out.print(Text(f"{session.state.upper()}", style="bold"))
    boundary = session.boundary
    shown: dict[str, Any] = {
        "session": session.session_id,
        "task": session.task.id,
        "principal": session.principal,
        "agent": session.agent,
        "issuer": session.issuer,
        "expires": session.expires_at,
        "completed": session.completed_at,
        "closed": session.closed_at,
        "proofs revoked": session.proofs_revoked_at,
        "usable": "not until its issuer opens it again" if session.proofs_ended else None,
        "tools": ", ".join(boundary.tools),
        "effects": ", ".join(boundary.effects),
        "resources": ", ".join(_resource(rule) for rule in boundary.resources),
        "amounts": ", ".join(f"{limit.per_action} {limit.currency}" for limit in boundary.amounts),
        "after completion": ", ".join(boundary.after_completion),
        "decisions": ", ".join(f"{count} {effect}" for effect, count in sorted(session.decisions.items())),
    }
    print_table(out, shown)
    show_limits(out, session.limits)


def show_limits(out: Console, limits: tuple[LimitStatus, ...]) -> None:
    """Print each limit with what is used and left of it."""
    if not limits:
        return
    out.print(Text("  limits", style="bold"))
    for limit in limits:
        words = f"{limit.code}  {figures_text(limit.figures)}"
        if limit.left:
            words += f", {limit.left} left"
        if limit.on_exceed is not None:
            words += f" (else {limit.on_exceed})"
        out.print(Text(f"    {printable(words)}"))


def _resource(rule: ResourceRule) -> str:
    if rule.id is not None:
        return f"{rule.type}:{rule.id}"
    if rule.ids is not None:
        return f"{rule.type}:{{{', '.join(rule.ids)}}}"
    if rule.attribute is not None:
        return f"{rule.type}:<{rule.attribute.attribute} of {rule.attribute.of_type}>"
    return f"{rule.type}:{rule.prefix}*"


def show_receipt(receipt: ParsedReceipt) -> None:
    """Print a receipt for people: every claim, nested ones by their path."""
    out = Console(highlight=False, soft_wrap=True)
    out.print(Text("header", style="bold"))
    print_table(out, dict(receipt.header))
    out.print(Text("claims", style="bold"))
    rows = _flat(receipt.claims)
    # The empty path names all arguments, and rows without a value are not printed.
    hidden = [name for name, value in rows.items() if name.startswith("act.secrets[") and value == ""]
    print_table(out, rows | dict.fromkeys(hidden, "(all arguments)"))


def printable(text: str) -> str:
    """Return text from elsewhere without the control characters that a terminal would obey."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def author(by: Attribution | None) -> str:
    """Return who made a change, and why, in words."""
    if by is None:
        return "by nobody knows whom"
    issuer = f" of {by.issuer}" if by.issuer else ""
    return f"by {by.subject}{issuer}" + (f" ({by.reason})" if by.reason else "")


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return {k: v for key, item in value.items() for k, v in _flat(item, f"{path}.{key}").items()}
    if isinstance(value, list) and value:
        return {k: v for i, item in enumerate(value) for k, v in _flat(item, f"{path}[{i}]").items()}
    return {path.removeprefix("."): "" if value in ({}, []) else value}


def print_table(out: Console, rows: Mapping[str, Any]) -> None:
    """Print names and values below each other, without those that are empty."""
    rows = {name: value for name, value in rows.items() if value not in ("", None)}
    width = max((len(name) for name in rows), default=0)
    for name, value in rows.items():
        line = Text(f"  {printable(name):<{width}}  ", style="dim")
        line.append(printable(str(plain(value))), style="not dim")
        out.print(line)


def _show_reason(out: Console, reason: Reason) -> None:
    """Print a reason with what it found, and what its author advises."""
    out.print(_line(reason.code, reason.message, reason.at))
    found = [*map(violation_text, reason.violations), *map(figures_text, reason.figures)]
    if reason.more_violations:
        found.append(f"and {reason.more_violations} more")
    for words in found:
        out.print(Text(f"    {printable(words)}"))
    if reason.remediation:
        out.print(Text(f"    {printable(reason.remediation)}", style="dim"))


def _line(code: str, message: str, at: str) -> Text:
    line = Text(f"  {printable(code)}")
    line.append(f"  {printable(message)}" + (f" ({printable(at)})" if at else ""), style="dim")
    return line
