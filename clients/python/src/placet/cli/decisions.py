"""What `placet decision show` tells of a recorded decision: the answer and what its receipt says."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from placet._calls.jsontext import json_text
from placet._calls.plain import decision_json, plain
from placet.cli.output import print_table, show_decision, show_limits
from placet.model import ChainHop, Decision
from placet.receipt import ReceiptError, parse


def record_json(decision: Decision) -> dict[str, Any]:
    """Return a recorded decision as JSON: the answer, and under `record` what its receipt says."""
    return decision_json(decision) | {"record": plain(record_of(decision))}


def record_of(decision: Decision) -> dict[str, Any]:
    """Return who asked for what on whose behalf, as the receipt says it; what was erased is not there."""
    try:
        claims = parse(decision.receipt).claims
    except ReceiptError:
        return {}
    act = claims.get("act") or {}
    said = {
        "caller": claims.get("caller"),
        "agent": claims.get("sub"),
        "principal": claims.get("principal"),
        "task": claims.get("task"),
        "tool": act.get("tool"),
        "resource": act.get("resource"),
        "audience": claims.get("aud"),
        "arguments": claims.get("arguments"),
        "secret_paths": act.get("secrets"),
        "intent": claims.get("intent"),
    }
    return {name: value for name, value in said.items() if value not in (None, "")}


def show_record(decision: Decision) -> None:
    """Print a recorded decision for people."""
    show_decision(decision)
    out = Console(highlight=False, soft_wrap=True)
    record = record_of(decision)
    print_table(
        out,
        {
            "decided": decision.decided_at,
            "asked by": record.get("caller"),
            "agent": record.get("agent"),
            "for": record.get("principal"),
            "task": record.get("task"),
            "chain": " > ".join(_hop(hop) for hop in decision.chain),
            "tool": record.get("tool"),
            "resource": record.get("resource"),
            "amount": f"{decision.amount} {decision.currency}".strip(),
            "arguments": json_text(record["arguments"], "arguments").decode("utf-8")
            if "arguments" in record
            else "",
            "secret": ", ".join(record.get("secret_paths", ())),
            "intent": record.get("intent"),
            "audience": record.get("audience"),
        },
    )
    show_limits(out, decision.limits)


def _hop(hop: ChainHop) -> str:
    if not hop.verified:
        return f"unverified {hop.unverified[:12]}"
    return f"{hop.agent} (from {hop.delegated_by})" if hop.delegated_by else hop.agent
