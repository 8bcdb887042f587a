"""Options that every command which calls the PDP has, and how its failures end it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from placet._calls.plain import error_json
from placet.cli.exits import CommandError, exit_of_error
from placet.cli.inputs import read_jwks
from placet.cli.output import print_json, printable
from placet.client import Client
from placet.credentials import TlsCredentials, token_from
from placet.errors import PlacetError
from placet.identity import DevIdentity

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change, and write nothing.")]
Reason = Annotated[str, typer.Option(help="Why, for the history.")]

_GROUP = "Connection"


def _option(name: str, text: str, kind: Any, default: Any) -> inspect.Parameter:
    option = typer.Option(
        f"--{name.replace('_', '-')}", envvar=f"PLACET_{name.upper()}", help=text, rich_help_panel=_GROUP
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )


OPTIONS = (
    _option("target", "Where the PDP listens.", str, "localhost:7433"),
    _option("tenant", "The caller's tenant.", str, ""),
    _option("subject", "The caller's name.", str, ""),
    _option("roles", "The caller's roles, comma separated.", str, ""),
    _option("agents", "Agents that the caller may speak for, comma separated.", str, ""),
    _option("tools", "Tools that a caller with role tool serves, comma separated.", str, ""),
    _option("audiences", "Audiences whose receipts it redeems, comma separated.", str, ""),
    _option("ca", "Authorities that the PDP is believed by: a PEM file. Calls go over TLS.", str, ""),
    _option("cert", "The caller's certificate: a PEM file.", str, ""),
    _option("key", "The key of --cert: a PEM file.", str, ""),
    _option("token_file", "A file with the caller's bearer token. Calls go over TLS.", str, ""),
    _option("token", "The token itself; better as PLACET_TOKEN: others see command lines.", str, ""),
    _option("session_token_file", "A file with the session token that proves part in it.", str, ""),
    _option("session_token", "The token itself; better as PLACET_SESSION_TOKEN.", str, ""),
    _option("timeout", "Deadline of a call, in seconds.", float, 5.0),
    _option("jwks", "JWK Set (file or http address) to check receipts with.", str, ""),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Connection:
    """What the options say of where the PDP is, and who calls it."""

    target: str
    tenant: str
    subject: str
    roles: str
    agents: str
    tools: str
    audiences: str
    ca: str
    cert: str
    key: str
    token_file: str
    token: str
    session_token_file: str
    session_token: str
    timeout: float
    jwks: str

    def client(self) -> Client:
        """Return a client. Raises `CommandError` for options that make no sense."""
        try:
            if self.session_token and self.session_token_file:
                raise CommandError(
                    "give --session-token or --session-token-file (or PLACET_SESSION_TOKEN, "
                    "PLACET_SESSION_TOKEN_FILE), not both"
                )
            credentials = self._credentials()
            return Client(
                self.target,
                identity=None if credentials else self._identity(),
                credentials=credentials,
                timeout=self.timeout,
                jwks=read_jwks(self.jwks) if self.jwks else None,
                session_token=token_from(self.session_token_file)
                if self.session_token_file
                else self.session_token,
            )
        except ValueError as exc:
            raise CommandError(str(exc)) from exc

    def _credentials(self) -> TlsCredentials | None:
        if not (self.ca or self.cert or self.key or self.token_file or self.token):
            return None
        if self.token and self.token_file:
            raise CommandError("give --token or --token-file (or PLACET_TOKEN, PLACET_TOKEN_FILE), not both")
        named = (self.tenant, self.subject, self.roles, self.agents, self.tools, self.audiences)
        if any(named):
            raise CommandError(
                "--tenant, --subject, --roles, --agents, --tools and --audiences (or PLACET_TENANT, …) are "
                "for servers in --insecure-dev; a certificate or a token says who calls"
            )
        return TlsCredentials(
            ca_file=self.ca or None,
            certificate_file=self.cert or None,
            key_file=self.key or None,
            token=token_from(self.token_file) if self.token_file else self.token or None,
        )

    def _identity(self) -> DevIdentity:
        for name in ("tenant", "subject"):
            if not getattr(self, name):
                raise CommandError(
                    f"who calls? give --{name} or set PLACET_{name.upper()}; "
                    "or give --cert and --key, or --token-file"
                )
        return DevIdentity(
            tenant=self.tenant,
            subject=self.subject,
            roles=_names(self.roles),
            agents=_names(self.agents),
            tools=_names(self.tools),
            audiences=_names(self.audiences),
        )


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the connection's options; it gets a client as its first argument."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        connection = Connection(**{option.name: values.pop(option.name) for option in OPTIONS})
        with connection.client() as client:
            command(client, **values)

    return _with_signature(reporting(run), [*own, *OPTIONS])


def connectable(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the connection's options; its first argument makes a client if it needs one."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        connection = Connection(**{option.name: values.pop(option.name) for option in OPTIONS})
        command(connection.client, **values)

    return _with_signature(reporting(run), [*own, *OPTIONS])


def offline(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that calls nobody its options, and print its failures."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())
    return _with_signature(reporting(command), own)


def reporting(command: Callable[..., None]) -> Callable[..., None]:
    """Print failures as a line, or as JSON, and end with their exit code."""

    @functools.wraps(command)
    def run(**values: Any) -> None:
        try:
            command(**values)
        except CommandError as exc:
            _report(str(exc), exc.details, as_json=bool(values.get("as_json")))
            raise typer.Exit(exc.exit_code) from exc
        except PlacetError as exc:
            _report(str(exc), error_json(exc), as_json=bool(values.get("as_json")))
            raise typer.Exit(exit_of_error(exc)) from exc

    return run


def _report(message: str, details: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json({"error": {"message": message} | details})
    else:
        typer.echo(f"placet: {printable(message)}", err=True)


def _with_signature(run: Callable[..., None], parameters: list[inspect.Parameter]) -> Callable[..., None]:
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    run.__annotations__ = {}
    return run


def _names(text: str) -> list[str]:
    return [name for name in (part.strip() for part in text.split(",")) if name]
