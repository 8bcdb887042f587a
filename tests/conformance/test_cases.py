"""cases/*.yaml through OPA directly and, as scenarios, through gRPC: one answer."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pdp.action.derivation import derive
from pdp.authority.settings import max_chain_depth, parse_settings
from pdp.decision.document import input_document
from pdp.delegation.verification import verify_chain
from pdp.model import EvaluationRequest, Facts, Hop
from pdp.server.messages import control_plane, decisions, sessions
from pdp.server.messages import tools as tool_messages
from pdp.sessions.opening import new_session, stated_terms
from placet._calls.action import checked_action
from placet._calls.jsontext import object_text
from placet._calls.registry import put_agents, put_tools
from placet._calls.sessions import open_session_request
from placet.scenario.load import load
from placet.scenario.run import Pdp
from placet.scenario.runner import run_scenario
from placet.scenario.scenario import Scenario
from placet.scenario.steps.evaluate import Evaluate
from placet.scenario.steps.step import Scope
from placet.v1 import decision_service_pb2
from tests.support import builders
from tests.support.opa import RunningOpa
from tests.support.stack import RealPdp

FILES = sorted((Path(__file__).parent / "cases").glob("*.yaml"))
TIMEOUT = 60.0


def scenario_in(file: Path) -> Scenario:
    found = load(file.read_text(), file.name, Scope())
    assert isinstance(found, Scenario), "\n".join(map(str, found))
    return found


SCENARIOS = {file.stem: scenario_in(file) for file in FILES}
CASES = [
    pytest.param(name, step, id=f"{name}: {step.title}")
    for name, scenario in SCENARIOS.items()
    for step in scenario.steps
    if isinstance(step, Evaluate)
]


async def test_there_are_cases() -> None:
    assert CASES


@pytest.mark.parametrize(("name", "step"), CASES)
async def test_policy_answers(opa: RunningOpa, name: str, step: Evaluate) -> None:
    fixture = SCENARIOS[name].fixture
    terms = fixture.sessions[step.session]
    asked = sessions.opening(open_session_request(**terms.terms("T-1"), expires_in=None, expires_at=None))
    session = new_session(
        stated_terms(asked, issuer="svc-issuer", principal=""), session_id="s-1", now=builders.NOW
    )
    tools = {tool.name: tool for tool in tool_messages.tools(put_tools(fixture.tools).request)}
    agents = {known.agent: known for known in control_plane.agents(put_agents(fixture.agents).request)}
    action = checked_action(step.action("call-1"))
    message = decision_service_pb2.EvaluateRequest(session_id="s-1")
    message.action.tool = action.tool
    message.action.arguments = object_text(step.arguments, "arguments")
    message.action.tool_call_id = action.tool_call_id
    message.action.resource = step.resource
    request: EvaluationRequest = decisions.evaluation_request(
        message,
        caller=builders.caller(agents=frozenset({terms.agent})),
        deadline=time.monotonic() + TIMEOUT,
    )
    tool = tools.get(action.tool)
    facts = Facts(
        now=builders.NOW,
        epoch=1,
        settings=parse_settings(object_text(fixture.settings, "settings")),
        data_revisions={},
        session=session,
        tool=tool,
        agents=agents,
        signals={},
        prior=None,
    )
    chain = verify_chain(
        tuple(Hop(agent=hop) for hop in step.chain or ()),
        grants={},
        rows={},
        session=session,
        tenant=request.caller.tenant,
        caller=request.caller,
        now=facts.now,
        max_depth=max_chain_depth(facts.settings),
        root_proven=True,
    )
    document = input_document(
        request, facts, session=session, chain=chain, derived=derive(request.action, tool)
    )
    engine = opa.engine()
    try:
        verdict = await engine.decide(document, deadline=time.monotonic() + TIMEOUT)
    finally:
        await engine.aclose()
    codes = sorted(reason.code for reason in verdict.reasons)
    assert step.expect.exact_codes is not None
    assert (verdict.effect, codes) == (step.expect.effect, sorted(step.expect.exact_codes))


@pytest.mark.parametrize("name", SCENARIOS)
async def test_server_answers(real_pdp: RealPdp, name: str) -> None:
    pdp = Pdp(targets=(real_pdp.target,), timeout=TIMEOUT)
    result = await run_scenario(SCENARIOS[name], pdp, file=name)
    assert {step.title: step.differences for step in result.steps if not step.ok} == {}
    assert len(result.steps) == len(SCENARIOS[name].steps)
