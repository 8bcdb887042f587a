"""An agent's trust is what an operator wrote, to the last digit."""

from __future__ import annotations

import json

import pytest

from tests.e2e.scene import AGENT, READ, Scene, codes, new_call

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize(
    ("trust", "floor", "answer"),
    [
        (0.49996, 0.5, ["trust.below_floor"]),
        (0.499999999999, 0.5, ["trust.below_floor"]),
        (0.5, 0.5, ["task.within_boundary"]),
        (0.30000000000000004, 0.3, ["task.within_boundary"]),
        (0.3, 0.30000000000000004, ["trust.below_floor"]),
    ],
)
async def test_trust_is_compared_as_it_was_written(
    scene: Scene, trust: float, floor: float, answer: list[str]
) -> None:
    operator, auditor = await scene.operator(), await scene.auditor()
    await operator.put_agents([{"agent": AGENT, "trust": trust}])
    await operator.put_tenant({"trust_floor": {"read": floor}})
    action = {"tool": READ, "arguments": {"invoice": "INV-1"}, "tool_call_id": new_call()}
    decision = await scene.ask(action, await scene.session())
    assert codes(decision) == answer
    _, agents = await operator.list_agents()
    assert [agent.trust for agent in agents] == [trust]
    document = json.loads((await auditor.get_decision(decision.decision_id)).input_document, parse_float=str)
    assert document["agents"][AGENT]["trust"] == str(trust)
