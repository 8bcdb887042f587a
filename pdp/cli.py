"""The `pdp` command."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from pdp.config.server import ConfigError, load_config
from pdp.dev import command as dev_command
from pdp.errors import PdpError
from pdp.opa import bundle as bundles
from pdp.opa.checks import find_problems
from pdp.opa.installation import install
from pdp.opa.sidecar import BundleSource, OpaSidecar, SidecarError
from pdp.postgres.migrate import migrate as migrate_database
from pdp.server.grpc import core_log

# Exit codes: 1 means that it failed, 2 that it was told something that cannot be done.
FAILED, MISCONFIGURED = 1, 2

app = typer.Typer(
    name="pdp",
    help="Placet's policy decision point: should this agent take this action, now?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
bundle_app = typer.Typer(help="Check and build policy bundles.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(bundle_app, name="bundle")


@app.command(
    epilog="Examples:\n\n"
    "  pdp serve --config pdp.yaml\n\n"
    "  PLACET_DATABASE_URL=postgresql://… pdp serve --config pdp.yaml --grpc-address 127.0.0.1:7500\n\n"
    "Every setting can stand in the file, in the environment as PLACET_NAME, or, for those below, in a "
    "flag; flags outrank the environment, which outranks the file. Exit codes: 1 it failed, 2 the "
    "configuration is at fault; all faults are listed."
)
def serve(
    config: Annotated[Path | None, typer.Option(help="YAML file with settings.")] = None,
    grpc_address: Annotated[str | None, typer.Option(help="Where gRPC listens, host:port.")] = None,
    http_address: Annotated[
        str | None, typer.Option(help="Where /healthz, /readyz, /metrics and the public keys are served.")
    ] = None,
    database_url: Annotated[str | None, typer.Option(help="PostgreSQL connection string.")] = None,
    replica: Annotated[str | None, typer.Option(help="Name of this replica.")] = None,
    insecure_dev: Annotated[
        bool | None,
        typer.Option(
            "--insecure-dev", help="Callers name themselves in metadata. Loopback only; never in production."
        ),
    ] = None,
    reflection: Annotated[bool | None, typer.Option("--reflection", help="Serve gRPC reflection.")] = None,
    log_format: Annotated[str | None, typer.Option(metavar="json|console", help="Form of logs.")] = None,
) -> None:
    """Run one replica of the server until SIGTERM, which drains it."""
    flags: dict[str, Any] = {
        "grpc_address": grpc_address,
        "http_address": http_address,
        "database_url": database_url,
        "replica": replica,
        "insecure_dev": insecure_dev,
        "reflection": reflection,
        "log_format": log_format,
    }
    try:
        settings = load_config(config, {name: value for name, value in flags.items() if value is not None})
        if settings.tls is not None:
            core_log.divert(settings.log_format)
        # This imports gRPC, which has to come after.
        from pdp.app import configure_logs
        from pdp.app import serve as serve_replica

        configure_logs(settings.log_format)
        uvloop.run(serve_replica(settings))
    except ConfigError as exc:
        _fail(f"the configuration cannot be used:\n{exc}", MISCONFIGURED)
    except PdpError as exc:
        _fail(str(exc), FAILED)


@app.command(
    epilog="Examples:\n\n"
    "  pdp migrate --database-url postgresql://owner@db/placet\n\n"
    "  DATABASE_URL=postgresql://owner@db/placet pdp migrate"
)
def migrate(
    database_url: Annotated[
        str, typer.Option(envvar="DATABASE_URL", help="Connection string of the role that owns the schema.")
    ],
    server_role: Annotated[
        str, typer.Option(help="Role that the server takes on; created where it is missing.")
    ] = "placet_server",
    clock: Annotated[
        str, typer.Option(metavar="system|manual", help="manual: let the server move the database's clock.")
    ] = "system",
) -> None:
    """Bring a database's schema up to this release. Running it again changes nothing."""
    if clock not in ("system", "manual"):
        raise typer.BadParameter("must be system or manual", param_hint="--clock")
    try:
        applied = asyncio.run(
            migrate_database(database_url, server_role=server_role, manual_clock=clock == "manual")
        )
    except PdpError as exc:
        _fail(str(exc), FAILED)
    typer.echo("\n".join(f"applied {name}" for name in applied) if applied else "nothing to apply")


@bundle_app.command(
    "build",
    epilog="Example:\n\n  pdp bundle build --opa opa --key bundle-key.pem --output placet.tar.gz\n\n"
    "The checks are those of continuous integration: format, strict check with the schema of the document, "
    "conventions, tests that run every line. `pdp bundle create-key` makes a key.",
)
def build_bundle(
    opa: Annotated[Path, typer.Option(help="The opa program.")],
    key: Annotated[Path, typer.Option(help="ES256 private key (PEM), which must be there.")],
    output: Annotated[Path, typer.Option(help="Where the bundle goes.")],
    sources: Annotated[Path | None, typer.Option(help="Folder of Rego.")] = None,
    revision: Annotated[
        str | None, typer.Option(help="Names the policy in every receipt; a hash of it by default.")
    ] = None,
) -> None:
    """Check, build and sign a policy bundle for the sidecar; print its revision and the key's public half."""
    try:
        signing = bundles.load_signing_key(key)
        _check(opa, sources or bundles.policy_sources())
        built = bundles.build(
            opa=opa,
            key=signing,
            output=output,
            sources=sources,
            revision=revision,
        )
    except bundles.BundleError as exc:
        _fail(str(exc), FAILED)
    typer.echo(f"{built.path} revision {built.revision}")
    typer.echo(f"key {built.key_id}\n{built.public_key}", nl=False)


@bundle_app.command(
    "check",
    epilog="Example:\n\n  pdp bundle check --opa .tools/bin/opa --sources rego",
)
def check_bundle(
    opa: Annotated[Path, typer.Option(help="The opa program.")],
    sources: Annotated[Path | None, typer.Option(help="Folder of Rego.")] = None,
) -> None:
    """Run the checks that `pdp bundle build` makes, and build nothing."""
    try:
        _check(opa, sources or bundles.policy_sources())
    except bundles.BundleError as exc:
        _fail(str(exc), FAILED)
    typer.echo("every check passed")


@bundle_app.command(
    "create-key",
    epilog="Example:\n\n  pdp bundle create-key bundle-key.pem > bundle-key.pub",
)
def create_key(key: Annotated[Path, typer.Argument(help="Where the new private key goes (PEM).")]) -> None:
    """Make a key that signs bundles. Its id goes to standard error, its public half to standard output."""
    try:
        made = bundles.create_signing_key(key)
    except bundles.BundleError as exc:
        _fail(str(exc), FAILED)
    except OSError as exc:
        _fail(f"{key}: {exc.strerror}", FAILED)
    typer.echo(f"key {made.key_id}", err=True)
    typer.echo(made.public_key, nl=False)


def _check(opa: Path, sources: Path) -> None:
    """Raise `BundleError` for a policy that the checks refuse; it says all that is wrong."""
    problems = find_problems(opa=opa, sources=sources)
    if problems:
        raise bundles.BundleError("\n".join(["the policy is not built:", *problems]))


@app.command(
    epilog="Example:\n\n  openssl ec -in bundle-key.pem -pubout -out bundle-key.pub\n\n"
    "  pdp sidecar --opa /usr/local/bin/opa --directory /run/placet/opa --bundle placet.tar.gz "
    "--public-key bundle-key.pub\n\n  /run/placet/opa/run.sh"
)
def sidecar(
    opa: Annotated[Path, typer.Option(help="The opa program.", exists=True, dir_okay=False)],
    directory: Annotated[Path, typer.Option(help="Where OPA's files and its socket go; a short path.")],
    bundle: Annotated[
        str, typer.Option(help="The signed bundle: a file, read at OPA's start, or an http(s) URL, polled.")
    ],
    public_key: Annotated[Path, typer.Option(help="Public half (PEM) of the key that signs bundles.")],
    admin_address: Annotated[
        str, typer.Option(help="Where OPA listens for health and status; on loopback.")
    ] = "127.0.0.1:8181",
    diagnostic_address: Annotated[
        str, typer.Option(help="Where OPA serves health and metrics to anybody; on loopback.")
    ] = "127.0.0.1:8282",
) -> None:
    """Write OPA's configuration, authorization, tokens and command line; print the server's settings.

    run.sh in the directory starts OPA. Running this again keeps the tokens.
    """
    try:
        key = bundles.load_verification_key(public_key)
        described = OpaSidecar(
            opa=opa,
            directory=directory.resolve(),
            bundle=BundleSource(
                location=bundle, key_id=key.key_id, public_key=key.public_key, scope=bundles.SIGNING_SCOPE
            ),
            admin_address=admin_address,
            diagnostic_address=diagnostic_address,
        )
        settings = install(described)
    except (bundles.BundleError, SidecarError) as exc:
        _fail(str(exc), MISCONFIGURED)
    except OSError as exc:
        _fail(f"{exc.filename}: {exc.strerror}", FAILED)
    typer.echo("".join(f"{name}: {value}\n" for name, value in settings.items()), nl=False)


dev_command.add_to(app)


def _fail(message: str, code: int) -> Any:
    typer.echo(f"pdp: {message}", err=True)
    raise typer.Exit(code)


def main() -> None:
    app()
