"""Composition root: one PDP replica out of its parts, from start to drain."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from pathlib import Path

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection

from pdp.background import look_at_clock, rotate_keys, running, watch_clock, watch_outcomes
from pdp.config.callers import serving_nothing
from pdp.config.server import Config, split_address
from pdp.control.entities import EntityPoint
from pdp.control.point import ControlPoint
from pdp.decision.fingerprint import Fingerprints
from pdp.decision.point import DecisionPoint
from pdp.decision.reading import DecisionReader
from pdp.decision.redemption import RedemptionCheck
from pdp.delegation.chain import Chains
from pdp.delegation.point import DelegationPoint
from pdp.delegation.tokens import GrantTokens
from pdp.metrics import Metrics
from pdp.opa import OpaAdministration, OpaPolicyEngine
from pdp.outcomes.point import OutcomePoint
from pdp.overload.admission import Admission
from pdp.overload.settling import Settling
from pdp.ports import TokenAuthenticator
from pdp.postgres.access.write_quota import WriteQuota, WriteQuotas
from pdp.postgres.store import PostgresStore
from pdp.proxies.measured import MeasuredEngine, MeasuredInformationPoint, MeasuredLedger
from pdp.readiness import Readiness
from pdp.server.grpc.admin_service import AdminService, DevService
from pdp.server.grpc.decision_service import DecisionService
from pdp.server.grpc.edge import Edge
from pdp.server.grpc.entity_service import EntityService
from pdp.server.grpc.listening import add_ports, read_certificates
from pdp.server.grpc.session_service import SessionService
from pdp.server.http.operations import http_application, http_server, listen
from pdp.server.identity.authentication import (
    Authenticator,
    CredentialAuthenticator,
    InsecureAuthenticator,
    PrincipalAuthenticator,
)
from pdp.server.identity.jwks import key_source
from pdp.server.identity.tokens import TokenVerifier
from pdp.sessions.allowed_tools import Listing
from pdp.sessions.limits import SessionLimits
from pdp.sessions.point import SessionPoint
from pdp.sessions.proof import Proofs
from pdp.signing import RotatingSigner
from pdp.skew import SAMPLES, ClockSkew
from placet.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    decision_service_pb2,
    decision_service_pb2_grpc,
    dev_service_pb2_grpc,
    entity_service_pb2,
    entity_service_pb2_grpc,
    session_service_pb2,
    session_service_pb2_grpc,
)

_LOG = structlog.get_logger("pdp")
# Arguments may be 64 KiB, and a request has a few such fields. gRPC refuses a larger one unread.
_MAX_REQUEST_BYTES = 1024 * 1024
# The collector looks for cycles after so many new objects; at older objects at every tenth of these times,
# and at all objects at every hundredth of those.
_COLLECT_AFTER = (20_000, 10, 100)
_SERVICES = tuple(
    descriptor.full_name
    for module in (
        admin_service_pb2,
        decision_service_pb2,
        entity_service_pb2,
        session_service_pb2,
        health_pb2,
    )
    for descriptor in module.DESCRIPTOR.services_by_name.values()
)


async def serve(config: Config) -> None:
    """Run one replica until SIGTERM or SIGINT, then drain it.

    Raises `PdpError` or `ConfigError` when it cannot start, and says why.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with contextlib.AsyncExitStack() as stack:
        metrics = Metrics()
        store = await stack.enter_async_context(
            PostgresStore.open(
                config.database_url,
                replica=config.replica,
                role=config.database_role,
                # `pdp dev` works on any database that it is given.
                ordinary_login=not config.insecure_dev,
                quotas=WriteQuotas(
                    control=WriteQuota(config.control_writes_per_second),
                    entities=WriteQuota(config.entity_writes_per_second),
                ),
            )
        )
        signer = RotatingSigner(store.keys, replica=config.replica)
        await signer.rotate()
        engine = OpaPolicyEngine(config.opa_socket, token=_token(config.opa_token_file))
        stack.push_async_callback(engine.aclose)
        admission = Admission(max_in_flight=config.max_in_flight)
        settling = Settling()
        grants = GrantTokens(signer, store.keys)
        chains = Chains(store.information_point, grants)
        information = MeasuredInformationPoint(store.information_point, metrics)
        measured_engine = MeasuredEngine(engine, metrics)
        fingerprints = Fingerprints(config.fingerprint_key_file.read_bytes())
        decision_point = DecisionPoint(
            information=information,
            engine=measured_engine,
            signer=signer,
            ledger=MeasuredLedger(store.ledger, metrics),
            grants=grants,
            fingerprints=fingerprints,
            issuer=config.issuer,
            admission=admission,
            settling=settling,
        )
        for stage, load in (
            ("admission", admission.load),
            ("turn", decision_point.turns),
            ("settle", settling.load),
            ("enrich", store.information_point.load),
            ("decide", engine.load),
            ("record", store.ledger.load),
        ):
            metrics.watch(stage, load)
        metrics.watch_apart(engine.tenants_apart)
        proofs = Proofs(chains)
        outcome_point = OutcomePoint(
            ledger=store.ledger,
            signer=signer,
            check=RedemptionCheck(
                information=information,
                engine=measured_engine,
                history=store.ledger,
                grants=store.grants,
                fingerprints=fingerprints,
            ),
            proofs=proofs,
            fingerprints=fingerprints,
            settling=settling,
            reported=metrics.count_outcome,
            issuer=config.issuer,
        )

        for missing in serving_nothing(config.callers):
            _LOG.warning("tool_serves_nothing", detail=missing)
        authenticator = _authenticator(config, metrics, stack)
        delegation_point = DelegationPoint(
            chains=chains, store=store.grants, grants=grants, issuer=config.issuer
        )
        session_point = SessionPoint(
            sessions=store.sessions,
            clock=store.clock,
            control_plane=store.control_plane,
            grants=store.grants,
            delegations=delegation_point,
            proofs=proofs,
            limits=SessionLimits(information=store.information_point, grants=store.grants),
            principals=_principals(config, authenticator),
            principal_required=config.principal_tokens == "required",
        )
        skew = ClockSkew()
        # Where the clock can be moved, tests have moved it.
        with_offset = not config.insecure_dev
        for _ in range(SAMPLES):
            await look_at_clock(store.clock, skew, metrics, with_offset=with_offset)
        edge = Edge(metrics, authenticator, admission, skew)
        server = grpc.aio.server(
            interceptors=[edge],
            options=[
                # Two servers on one port would share its calls without a word.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", _MAX_REQUEST_BYTES),
                # A refusal costs gRPC and Python a good part of what an answer does. What one connection
                # opens beyond this gRPC resets by itself, before Python sees it.
                ("grpc.max_concurrent_streams", config.calls_per_connection),
            ],
        )
        decision_service_pb2_grpc.add_DecisionServiceServicer_to_server(
            DecisionService(
                decision_point=decision_point,
                outcome_point=outcome_point,
                reader=DecisionReader(
                    ledger=store.ledger, sessions=store.sessions, grants=store.grants, proofs=proofs
                ),
                listing=Listing(chains, store.control_plane),
                edge=edge,
                stopping=stopping,
            ),
            server,
        )
        session_service_pb2_grpc.add_SessionServiceServicer_to_server(
            SessionService(session_point, delegation_point), server
        )
        entity_point = EntityPoint(store.entities)
        admin_service_pb2_grpc.add_AdminServiceServicer_to_server(
            AdminService(ControlPoint(store.control_plane), entity_point), server
        )
        entity_service_pb2_grpc.add_EntityServiceServicer_to_server(EntityService(entity_point), server)
        if config.clock == "manual":
            dev_service_pb2_grpc.add_DevServiceServicer_to_server(DevService(store.clock), server)
        healthy = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
        if config.reflection:
            reflection.enable_server_reflection((*_SERVICES, reflection.SERVICE_NAME), server)

        http_socket = listen(config.http_address)
        stack.callback(http_socket.close)
        certificates = read_certificates(config, metrics)
        listening = add_ports(server, config, certificates)
        opa = OpaAdministration(config.opa_admin_url, token=_token(config.opa_admin_token_file))
        probe = OpaPolicyEngine(config.opa_socket, token=_token(config.opa_token_file), in_flight=1)
        stack.push_async_callback(probe.aclose)
        readiness = Readiness(opa=opa, engine=probe, store=store, signer=signer, skew=skew, stopping=stopping)
        http = http_server(
            http_application(metrics=metrics, keys=store.keys, checks=readiness.checks),
            host=split_address(config.http_address)[0],
            port=http_socket.getsockname()[1],
            tls=certificates.http_context() if certificates is not None else None,
        )
        await stack.enter_async_context(running(http.serve(sockets=[http_socket])))
        stack.callback(setattr, http, "should_exit", True)
        await stack.enter_async_context(
            running(rotate_keys(signer, hours=config.key_rotation_hours), cancel=True)
        )
        await stack.enter_async_context(running(watch_outcomes(outcome_point, metrics), cancel=True))
        await server.start()

        async def show_health() -> None:
            serving = not skew.is_off and not stopping.is_set()
            await healthy.set(
                "",
                health_pb2.HealthCheckResponse.SERVING
                if serving
                else health_pb2.HealthCheckResponse.NOT_SERVING,
            )

        await show_health()
        await stack.enter_async_context(
            running(
                watch_clock(store.clock, skew, metrics, with_offset=with_offset, changed=show_health),
                cancel=True,
            )
        )
        # What start-up made lives as long as the process, so the collector need not look at it. It need not
        # look often at the rest either: a call that ends, also by an exception, leaves nothing in cycles
        # but what gRPC makes of its metadata (docs/decisions/0012-no-cycles-on-failure.md).
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_COLLECT_AFTER)
        _LOG.info(
            "serving",
            **listening,
            http=f"{split_address(config.http_address)[0]}:{http_socket.getsockname()[1]}",
            replica=config.replica,
            insecure_dev=config.insecure_dev,
        )

        await stopping.wait()
        _LOG.info("draining", seconds=config.drain_seconds)
        await show_health()
        await server.stop(config.drain_seconds)
    _LOG.info("stopped")


def configure_logs(log_format: str) -> None:
    """Send structured logs to stderr: JSON lines, or text for people."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer()
            if log_format == "json"
            else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _authenticator(config: Config, metrics: Metrics, stack: contextlib.AsyncExitStack) -> Authenticator:
    if config.insecure_dev:
        return InsecureAuthenticator()

    def report(ok: bool) -> None:
        metrics.credentials_read("jwks", ok=ok)

    issuers = {issuer.issuer: (issuer, key_source(issuer, report)) for issuer in config.jwt}
    for _, keys in issuers.values():
        stack.push_async_callback(keys.aclose)
    return CredentialAuthenticator(config.callers, TokenVerifier(issuers))


def _principals(config: Config, authenticator: Authenticator) -> TokenAuthenticator | None:
    """Return what checks principal tokens; None where no issuer of tokens is configured."""
    if not config.jwt or not isinstance(authenticator, CredentialAuthenticator):
        return None
    return PrincipalAuthenticator(authenticator)


def _token(file: Path) -> str:
    return file.read_text(encoding="ascii").strip()
