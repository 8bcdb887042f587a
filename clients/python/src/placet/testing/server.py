"""The gRPC server of the fake, in the test's own process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import grpc

from placet.testing.decisions import FakeDecisions
from placet.testing.outcomes import FakeOutcomes
from placet.testing.services.admin import AdminService
from placet.testing.services.decisions import DecisionService
from placet.testing.services.entities import EntityService
from placet.testing.services.sessions import SessionService
from placet.testing.state import FakeState
from placet.v1 import admin_service_pb2_grpc as admin_stubs
from placet.v1 import decision_service_pb2_grpc as decision_stubs
from placet.v1 import entity_service_pb2_grpc as entity_stubs
from placet.v1 import session_service_pb2_grpc as session_stubs


class Listening(NamedTuple):
    """A server that runs, and the port of loopback that it listens on."""

    server: grpc.Server
    port: int


def start_server(
    state: FakeState, decisions: FakeDecisions, outcomes: FakeOutcomes, *, port: int
) -> Listening:
    """Serve the fake on loopback; port 0 takes any that is free."""
    server = grpc.server(
        ThreadPoolExecutor(max_workers=16, thread_name_prefix="fake-pdp"),
        options=(("grpc.so_reuseport", 0),),
    )
    decision_stubs.add_DecisionServiceServicer_to_server(DecisionService(state, decisions, outcomes), server)
    session_stubs.add_SessionServiceServicer_to_server(SessionService(state, decisions), server)
    admin_stubs.add_AdminServiceServicer_to_server(AdminService(state), server)
    entity_stubs.add_EntityServiceServicer_to_server(EntityService(), server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return Listening(server, port)
