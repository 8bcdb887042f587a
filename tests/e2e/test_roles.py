"""Every RPC, called by every role alone, about the caller's own tenant and about another's.

Callers are who their certificates prove, on real sockets and a real database.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import psycopg
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from psycopg import sql

from pdp.model import Role
from pdp.server.grpc.rpcs import RPCS
from placet import Client, DevIdentity, TlsCredentials
from placet.v1 import dev_service_pb2, entity_service_pb2
from tests.e2e.scene import AGENT, BOUNDARY, READ, TOOLS, read
from tests.support.credentials import Authority
from tests.support.processes import PATIENCE
from tests.support.rpcs import DENIED, NOT_FOUND, OK, ROWS, Things, call, methods
from tests.support.secured import configuration, secured_replica, tls
from tests.support.stack import RealPdp

# Stands in everything that the other tenant may not learn.
CANARY = "canary-5f1d"
# DevService is there under insecure-dev alone.
METHODS = {name: method for name, method in methods() if "DevService" not in name}
NOBODY = "nobody"
WALKERS: Mapping[str, frozenset[Role]] = {str(role): frozenset({role}) for role in Role} | {
    NOBODY: frozenset()
}
# Who makes the things that the walkers ask about.
MAKERS = {"tasks": Role.SESSION_ISSUER, "runtime": Role.AGENT, "ops": Role.OPERATOR}
# What `Things` needs.
THINGS = ("tenant", "agent", "tool", "task_id", "session_id", "decision_id", "vendor")
# What the stable reason of a refusal must be.
REASONS = {DENIED: "PERMISSION_DENIED", NOT_FOUND: "NOT_FOUND"}


@dataclass(kw_only=True)
class Town:
    """A replica with two tenants in which every role is held by somebody."""

    target: str
    database_url: str
    authority: Authority
    folder: Path
    home: str
    abroad: str
    _open: ExitStack
    _channels: dict[str, grpc.Channel] = field(default_factory=dict)

    def channel(self, tenant: str, name: str) -> grpc.Channel:
        """The connection of this caller; always the same one."""
        uri = identity(tenant, name)
        if uri not in self._channels:
            issued = self.authority.issue(uri=uri)
            credentials = grpc.ssl_channel_credentials(self.authority.pem, issued.key_pem, issued.pem)
            self._channels[uri] = self._open.enter_context(grpc.secure_channel(self.target, credentials))
        return self._channels[uri]

    def client(self, name: str) -> Client:
        files = self.authority.issue(uri=identity(self.home, name)).write(self.folder, name)
        credentials = TlsCredentials(ca_file=self.folder / "ca.pem", **files)
        return Client(self.target, credentials=credentials, timeout=PATIENCE)

    def things(self) -> Things:
        """New things of `home`, full of canaries."""
        with self.client("ops") as ops, self.client("tasks") as tasks, self.client("runtime") as runtime:
            ops.put_tenant({})
            ops.put_agents([{"agent": AGENT, "owner": CANARY, "trust": 0.7, "trust_explanation": CANARY}])
            tools_revision = ops.put_tools([tool | {"description": CANARY} for tool in TOOLS])
            put_vendor = "/placet.v1.EntityService/PutEntities"
            vendor = f"V-{uuid4().hex}"
            call(
                self.channel(self.home, "ops"),
                put_vendor,
                METHODS[put_vendor],
                entity_service_pb2.PutEntitiesRequest(
                    entities=[
                        entity_service_pb2.Entity(
                            name=entity_service_pb2.EntityName(type="vendor", id=vendor),
                            attributes=json.dumps({"name": CANARY}).encode(),
                        )
                    ]
                ),
                PATIENCE,
            )
            ops.put_signals([{"name": CANARY, "value": CANARY}])
            session = tasks.open_session(
                task={"id": f"T-{uuid4().hex}", "description": CANARY, "prompt": CANARY},
                principal=f"user:{CANARY}",
                agent=AGENT,
                boundary=BOUNDARY,
            )
            decision = runtime.evaluate(read(CANARY) | {"intent": CANARY}, session=session)
            assert decision.allowed, decision
            return Things(
                tenant=self.home,
                agent=AGENT,
                tool=READ,
                task_id=session.task.id,
                session_id=session.session_id,
                decision_id=decision.decision_id,
                vendor=vendor,
                grant=session.grant,
                session_token=session.token,
                tools_revision=tools_revision,
            )

    def state(self, tenant: str) -> dict[str, list[str]]:
        """Every row of a tenant, in every table that has tenants."""
        with psycopg.connect(self.database_url, options="-c role=placet_server") as connection:
            tables = connection.execute(
                "SELECT table_name FROM information_schema.columns "
                "WHERE table_schema = 'placet' AND column_name = 'tenant'"
            ).fetchall()
            assert len(tables) >= 8, tables
            return {
                table: [
                    row
                    for (row,) in connection.execute(
                        sql.SQL("SELECT t::text FROM placet.{} t WHERE tenant = %s ORDER BY 1").format(
                            sql.Identifier(table)
                        ),
                        (tenant,),
                    )
                ]
                for (table,) in tables
            }


def identity(tenant: str, name: str) -> str:
    return f"spiffe://test/{tenant}/{name}"


@pytest.fixture(scope="module")
def town(steady_pdp: RealPdp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder, authority = tmp_path_factory.mktemp("roles"), Authority()
    home, abroad = steady_pdp.fresh_tenant(), steady_pdp.fresh_tenant()
    known = WALKERS | {name: frozenset({role}) for name, role in MAKERS.items()}
    settings = {
        "tls": tls(authority, folder),
        "callers": [
            {
                "match": {"spiffe_id": identity(tenant, name)},
                "tenant": tenant,
                "roles": [str(role) for role in roles],
                "agents": [AGENT] if Role.AGENT in roles else [],
                "tools": [READ] if Role.TOOL in roles else [],
                "audiences": ["erp"] if Role.TOOL in roles else [],
            }
            for tenant in (home, abroad)
            for name, roles in known.items()
        ],
    }
    with secured_replica(steady_pdp, folder, settings) as replica, ExitStack() as opened:
        town = Town(
            target=replica.target,
            database_url=configuration(steady_pdp)["database_url"],
            authority=authority,
            folder=folder,
            home=home,
            abroad=abroad,
            _open=opened,
        )
        # The other tenant exists, so that nothing fails for want of it.
        call(
            town.channel(abroad, "ops"),
            "/placet.v1.AdminService/PutTenant",
            METHODS["/placet.v1.AdminService/PutTenant"],
            ROWS["/placet.v1.AdminService/PutTenant"].request(
                Things(
                    tenant=abroad, agent="", tool="", task_id="", session_id="", decision_id="", vendor="V-1"
                )
            ),
            PATIENCE,
        )
        yield town


def asked(town: Town, tenant: str, walker: str, name: str, things: Things) -> tuple[Any, Message | None]:
    """Status and answer of a call."""
    things = replace(things, tool_call_id=f"call-{uuid4().hex}")
    try:
        answer = call(town.channel(tenant, walker), name, METHODS[name], ROWS[name].request(things), PATIENCE)
    except grpc.RpcError as error:
        refused(error)
        return error.code(), None
    return OK, answer


def refused(error: Any) -> None:
    """The refusal has the stable reason of its status, and no canary."""
    details = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert details.details[0].Unpack(info), details
    assert (info.reason, info.domain) == (REASONS[error.code()], "placet.v1"), error.details()
    assert CANARY not in str(details)


def told(answer: Message) -> str:
    """All that an answer says, its receipts decoded."""
    text = answer.SerializeToString().decode("utf-8", errors="replace")
    for part in re.findall(r"[A-Za-z0-9_-]{16,}", text):
        try:
            text += base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode("utf-8", errors="replace")
        except binascii.Error:
            continue
    return text


@pytest.mark.parametrize("name", sorted(METHODS))
def test_role_opens_what_the_table_says_and_no_other_tenant(town: Town, name: str) -> None:
    row, roles, things = ROWS[name], RPCS[name].roles, town.things()
    for walker, held in WALKERS.items():
        passes = not roles or bool((roles - row.refused) & held)
        answered = bool(held & (roles - row.refused if row.answered is None else row.answered))

        before = town.state(town.home)
        code, answer = asked(town, town.abroad, walker, name, things)
        assert code is (row.elsewhere if passes else DENIED), f"{walker} of another tenant"
        assert town.state(town.home) == before, f"{walker} of another tenant"
        assert answer is None or CANARY not in told(answer)

        own = replace(things, task_id=f"T-{uuid4().hex}")
        code, _ = asked(town, town.home, walker, name, own)
        assert code is (OK if answered else NOT_FOUND if passes else DENIED), walker
        if not answered:
            assert town.state(town.home) == before, walker
    # What the other tenant asked left nothing of this one with it.
    assert CANARY not in str(town.state(town.abroad))


def test_canaries_can_be_seen_by_who_may(town: Town) -> None:
    things = town.things()
    for name in ("/placet.v1.SessionService/GetSession", "/placet.v1.DecisionService/GetDecision"):
        _, answer = asked(town, town.home, str(Role.OPERATOR), name, things)
        assert answer is not None
        assert CANARY in told(answer)
    assert CANARY in str(town.state(town.home))


def test_nobody_moves_a_clock_where_callers_prove_themselves(town: Town) -> None:
    name = "/placet.v1.DevService/AdvanceClock"
    for walker in WALKERS:
        with pytest.raises(grpc.RpcError) as refused:
            call(
                town.channel(town.home, walker),
                name,
                dict(methods())[name],
                ROWS[name].request(Things(**dict.fromkeys(THINGS, ""))),
                PATIENCE,
            )
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED, walker


def test_operators_alone_move_the_clock_of_a_stack_for_tests(real_pdp: RealPdp) -> None:
    name, tenant = "/placet.v1.DevService/AdvanceClock", real_pdp.fresh_tenant()
    with grpc.insecure_channel(real_pdp.target) as channel:
        for walker, held in WALKERS.items():
            identity = DevIdentity(tenant=tenant, subject=walker, roles=sorted(map(str, held)))
            request = ROWS[name].request(Things(**dict.fromkeys(THINGS, "")))
            move = channel.unary_unary(
                name,
                request_serializer=type(request).SerializeToString,
                response_deserializer=dev_service_pb2.AdvanceClockResponse.FromString,
            )
            if Role.OPERATOR in held:
                assert move(request, metadata=identity.metadata(), timeout=PATIENCE).HasField("now")
                continue
            with pytest.raises(grpc.RpcError) as refused:
                move(request, metadata=identity.metadata(), timeout=PATIENCE)
            assert refused.value.code() is DENIED, walker
