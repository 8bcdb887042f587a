"""`placet receipt`: check and show receipts. Nothing here calls the PDP."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from placet.canonical import canonical_number
from placet.cli.connection import Json, offline
from placet.cli.exits import HELP, CommandError, Exit
from placet.cli.inputs import read_jwks, read_object, read_receipt
from placet.cli.output import print_json, printable, show_receipt
from placet.receipt import ParsedReceipt, ReceiptError, check_action, parse, secret_paths

app = typer.Typer(
    help="Check and show receipts, offline.",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    rich_markup_mode=None,
)

File = Annotated[
    str,
    typer.Argument(
        metavar="FILE", help="The receipt, or a decision in JSON that has one; - is standard input."
    ),
]
# The members of a decision in JSON, and the claim that each must equal.
_SAME = {
    "effect": "effect",
    "decision_id": "jti",
    "session_id": "session",
    "session_version": "session_version",
    "tool_call_id": "tool_call_id",
    "attempt_id": "attempt",
    "retryable": "retryable",
    "policy": "policy",
    "data_revisions": "data",
}


@app.command(
    epilog=f"""\
\b
Examples:
  placet receipt verify receipt.txt --jwks http://localhost:7434/.well-known/jwks.json
  placet receipt verify receipt.txt --jwks keys.json --decision decision.json --action action.json

Keys come from --jwks alone, never from the receipt.

{HELP}"""
)
@offline
def verify(
    file: File,
    jwks: Annotated[
        str,
        typer.Option(envvar="PLACET_JWKS", help="JWK Set: a file or an http address.", metavar="FILE|URL"),
    ] = "",
    decision: Annotated[
        str, typer.Option(help="A decision in JSON that the receipt must be for.", metavar="FILE")
    ] = "",
    action: Annotated[
        str, typer.Option(help="An action in JSON that the receipt must be for.", metavar="FILE")
    ] = "",
    issuer: Annotated[str, typer.Option(help="The issuer that the receipt must have.")] = "",
    as_json: Json = False,
) -> None:
    """Check a receipt: signature, disclosures, and that it is for a decision or an action.

    A receipt that fails is named by its part: header, payload, signature, disclosure n, or the
    field that differs.
    """
    token, uncompared = read_receipt(file), tuple[str, ...]()
    try:
        receipt = _verify(token, jwks, issuer)
        if decision:
            _check_decision(receipt, read_object(decision))
        if action:
            asked = read_object(action)
            if not isinstance(asked.get("arguments"), Mapping):
                raise CommandError(f"{action}: has no object `arguments`")
            # The salt of secrets is with whoever asked for the decision, and nowhere else.
            check_action(receipt, tool=str(asked.get("tool")), arguments=asked["arguments"], secret_salt=None)
            uncompared = secret_paths(receipt)
    except ReceiptError as exc:
        raise CommandError(f"not valid: {exc}", Exit.BLOCK, part=exc.part, reason=exc.reason) from exc
    status = "verified" if jwks else "unverified"
    if as_json:
        said = {"receipt_status": status, "header": receipt.header, "claims": receipt.claims}
        print_json(said | ({"uncompared": list(uncompared)} if uncompared else {}))
    elif jwks:
        typer.echo(printable(f"verified: signed by {receipt.header['kid']} ({receipt.header['alg']})"))
    else:
        typer.echo("unverified: the receipt is well formed; whether it was signed needs --jwks")
    if uncompared and not as_json:
        named = ", ".join(path or "all" for path in uncompared)
        typer.echo(f"not compared: secret arguments ({printable(named)})")
    raise typer.Exit(Exit.OK if jwks else Exit.UNVERIFIED)


@app.command(epilog="\b\nExample:\n  placet receipt show receipt.txt --json | jq .claims.act\n")
@offline
def show(file: File, as_json: Json = False) -> None:
    """Show what a receipt says. Proves nothing."""
    try:
        receipt = parse(read_receipt(file))
    except ReceiptError as exc:
        raise CommandError(f"not valid: {exc}", Exit.BLOCK, part=exc.part, reason=exc.reason) from exc
    if as_json:
        print_json({"header": receipt.header, "claims": receipt.claims})
    else:
        show_receipt(receipt)


def _verify(token: bytes, jwks: str, issuer: str) -> ParsedReceipt:
    if not jwks:
        receipt = parse(token)
        if issuer and receipt.payload.get("iss") != issuer:
            raise ReceiptError("payload", f"iss is not {issuer}")
        return receipt
    try:
        from placet.verify import JwksError, Verifier
    except ImportError as exc:
        raise CommandError("checking signatures needs: pip install 'placet[verify]'") from exc
    try:
        verifier = Verifier(read_jwks(jwks), issuer=issuer or None)
    except JwksError as exc:
        raise CommandError(f"{jwks}: {exc}") from exc
    return verifier.verify(token)


def _check_decision(receipt: ParsedReceipt, decision: Mapping[str, Any]) -> None:
    """Raise `ReceiptError` that names the first field in which decision and receipt differ."""
    claims = receipt.claims
    for name in ("effect", "decision_id"):
        if name not in decision:
            raise CommandError(f"the decision has no {name}")
    for name, claim in _SAME.items():
        if name in decision:
            _compare(name, decision[name], claims.get(claim))
    for name, claim in (("decided_at", "iat"), ("expires_at", "exp")):
        if decision.get(name) is not None:
            _compare(name, decision[name], _read_instant(claims.get(claim)))
    for name, member in (("reasons", "code"), ("obligations", "id")):
        if name in decision:
            _compare(name, _list_members(decision[name], member), _list_members(claims.get(name), member))


def _compare(name: str, given: Any, found: Any) -> None:
    if _as_comparable(given) != _as_comparable(found):
        raise ReceiptError(name, f"the decision says {given!r}, the receipt {found!r}")


def _as_comparable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_comparable(item) for key, item in value.items()}
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return canonical_number(value) if isinstance(value, int) else value


def _read_instant(seconds: Any) -> Any:
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return None


def _list_members(items: Any, name: str) -> Any:
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        return None
    return [item.get(name) for item in items]
