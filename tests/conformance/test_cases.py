"""cases/*.yaml through OPA directly and through gRPC: one answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pdp.document import input_document
from pdp.model import EvaluationRequest, Facts, Hop
from pdp.registry import derive
from pdp.server import convert, convert_tools
from pdp.settings import parse_settings
from placet import Client, DevIdentity, requests
from placet.jsontext import object_text
from placet.v1 import decision_service_pb2
from tests import builders
from tests.opa import RunningOpa
from tests.stack import RealPdp

FILES = sorted((Path(__file__).parent / "cases").glob("*.yaml"))
SETS = {file.stem: yaml.safe_load(file.read_text()) for file in FILES}
CASES = [
    pytest.param(name, case, id=f"{name}: {case['name']}")
    for name, own in SETS.items()
    for case in own["cases"]
]
TIMEOUT = 60.0


def action(case: dict[str, Any]) -> dict[str, Any]:
    return {
        "tool": case["tool"],
        "arguments": case["arguments"],
        "tool_call_id": case["name"],
        "resource": case.get("resource", ""),
    }


async def test_there_are_cases() -> None:
    assert CASES


@pytest.mark.parametrize(("name", "case"), CASES)
async def test_policy_answers(opa: RunningOpa, name: str, case: dict[str, Any]) -> None:
    own = SETS[name]
    agent = case.get("agent", own["agent"])
    session = convert.session_to_open(
        requests.open_session(
            task="T-1",
            principal="user:anna",
            agent=agent,
            boundary=case.get("boundary", own["boundary"]),
            expires_in=None,
            expires_at=None,
        ),
        issuer="svc-issuer",
        session_id="s-1",
        now=builders.NOW,
    )
    tools = {tool.name: tool for tool in convert_tools.tools(requests.put_tools(own["tools"]))}
    agents = {known.agent: known for known in convert.agents(requests.put_agents(own["agents"]))}
    asked = requests.action(action(case))
    message = decision_service_pb2.EvaluateRequest(session_id="s-1")
    message.action.tool = asked.tool
    message.action.arguments = object_text(case["arguments"], "arguments")
    message.action.tool_call_id = case["name"]
    message.action.resource = case.get("resource", "")
    request: EvaluationRequest = convert.evaluation_request(
        message, caller=builders.caller(agents=frozenset({agent})), deadline=time.monotonic() + TIMEOUT
    )
    tool = tools.get(asked.tool)
    facts = Facts(
        now=builders.NOW,
        epoch=1,
        settings=parse_settings(object_text(own["settings"], "settings")),
        data_revisions={},
        session=session,
        tool=tool,
        agents=agents,
        signals={},
        prior=None,
    )
    hops = tuple(Hop(agent=hop) for hop in case.get("chain", [agent]))
    document = input_document(
        request, facts, session=session, hops=hops, derived=derive(request.action, tool)
    )
    engine = opa.engine()
    try:
        verdict = await engine.decide(document, deadline=time.monotonic() + TIMEOUT)
    finally:
        await engine.aclose()
    assert (verdict.effect, sorted(reason.code for reason in verdict.reasons)) == (
        case["effect"],
        sorted(case["reasons"]),
    )


@dataclass(kw_only=True, slots=True)
class Tenants:
    """A tenant for each set of cases, made when first asked for."""

    pdp: RealPdp
    names: dict[str, str]

    def client(self, tenant: str, subject: str, *roles: str, agents: tuple[str, ...] = ()) -> Client:
        identity = DevIdentity(tenant=tenant, subject=subject, roles=roles, agents=agents)
        return Client(self.pdp.target, identity=identity, timeout=TIMEOUT)

    def of(self, name: str) -> str:
        if name not in self.names:
            tenant, own = self.pdp.fresh_tenant(), SETS[name]
            with self.client(tenant, "svc-operator", "operator") as operator:
                operator.put_tenant(own["settings"])
                operator.put_agents(own["agents"])
                operator.put_tools(own["tools"])
            self.names[name] = tenant
        return self.names[name]


@pytest.fixture(scope="module")
def tenants(real_pdp: RealPdp) -> Iterator[Tenants]:
    return Tenants(pdp=real_pdp, names={})


@pytest.mark.parametrize(("name", "case"), CASES)
def test_server_answers(tenants: Tenants, name: str, case: dict[str, Any]) -> None:
    own, tenant = SETS[name], tenants.of(name)
    agent = case.get("agent", own["agent"])
    with tenants.client(tenant, "svc-issuer", "session_issuer") as issuer:
        session = issuer.open_session(
            task=case["name"],
            principal="user:anna",
            agent=agent,
            boundary=case.get("boundary", own["boundary"]),
        )
    with tenants.client(tenant, "svc-ap", "agent", agents=(agent,)) as pep:
        decision = pep.evaluate(action(case), session=session, chain=case.get("chain", ()))
    assert decision.failure is None
    assert (decision.effect, sorted(reason.code for reason in decision.reasons)) == (
        case["effect"],
        sorted(case["reasons"]),
    )
