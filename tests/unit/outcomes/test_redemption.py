"""Redemptions on moved ground: judged again, used only if still allowed, and nothing used up otherwise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from pdp.delegation.tokens import GrantTokens
from pdp.errors import NotRedeemableError, PolicyUnavailableError
from pdp.model import BusinessKeyRule, EntityName, EvaluationRequest, Recording, ToolEffect, Verdict
from placet.receipt import b64url_decode
from tests.fakes.engine import ALLOW, BLOCK, ESCALATE
from tests.fakes.store.ledger import FakeLedger
from tests.support import builders
from tests.support.builders import AUTHOR, TENANT
from tests.support.chains import chain_of
from tests.unit.decision.test_point import Bench, bench
from tests.unit.decision.test_revalidation import (
    MOVES,
    move_another_tool,
    move_policy,
    move_signals,
    pay_tool,
)
from tests.unit.outcomes.test_point import ARGUMENTS, AUDIENCE, TOOL, Between, point

__all__ = ["bench"]
Move = Callable[[Bench], Awaitable[None]]


async def allowed(bench: Bench, request: EvaluationRequest | None = None, **change: Any) -> str:
    await bench.store.control_plane.put_tools(
        TENANT, [replace(pay_tool(), redeem_required=True, audience=AUDIENCE, **change)], by=AUTHOR
    )
    decision, _ = await bench.point().evaluate(request or builders.evaluation(bench.session.session_id))
    assert decision.effect == "allow"
    return decision.decision_id


async def redeem(bench: Bench, decision_id: str, ledger: FakeLedger | None = None) -> None:
    await point(bench, ledger).redeem(
        TOOL,
        decision_id,
        tool="payments.create",
        arguments=ARGUMENTS,
        audience=AUDIENCE,
        deadline=builders.deadline(),
    )


async def is_redeemed(bench: Bench, decision_id: str) -> bool:
    status = await bench.store.ledger.status(TENANT, decision_id=decision_id)
    assert status is not None
    assert status.hold.outcome is None
    return status.hold.redeemed


def said(bench: Bench) -> dict[str, Any]:
    said: dict[str, Any] = orjson.loads(b64url_decode(bench.store.entries[-1].token.decode().split(".")[1]))
    return said


async def move_tool_that_is_redeemed(bench: Bench) -> None:
    tool = replace(pay_tool(), redeem_required=True, audience=AUDIENCE, description="another")
    await bench.store.control_plane.put_tools(TENANT, [tool], by=AUTHOR)


ALL_MOVES = [move for move in MOVES if move.__name__ != "move_tool"] + [move_tool_that_is_redeemed]


@pytest.mark.parametrize("move", [None, move_another_tool])
async def test_on_unmoved_ground_policy_is_not_asked_again(bench: Bench, move: Move | None) -> None:
    decision_id = await allowed(bench)
    if move is not None:
        await move(bench)
    bench.engine.judge_by(BLOCK)
    await redeem(bench, decision_id)
    assert await is_redeemed(bench, decision_id)
    assert len(bench.engine.documents) == 1
    assert said(bench)["policy"] == {"bundle": "placet", "revision": "fake-1"}


@pytest.mark.parametrize("move", ALL_MOVES)
async def test_on_moved_ground_it_is_judged_again_and_the_entry_says_on_what(
    bench: Bench, move: Move
) -> None:
    decision_id = await allowed(bench)
    first = bench.engine.documents[-1]
    await move(bench)
    again = replace(ALLOW, policy=bench.engine.serving)
    bench.engine.judge_by(again)
    await redeem(bench, decision_id)
    assert await is_redeemed(bench, decision_id)
    second = bench.engine.documents[-1]
    assert second is not first
    # It alone is set aside.
    assert (second["action"]["holds"], second["session"]["history"]) == ([], first["session"]["history"])
    assert second["claimed"] == first["claimed"]
    tenant = bench.store.state.tenants[TENANT]
    assert said(bench)["data"] == {kind: of for kind, of in tenant.revisions.items() if kind != "issuers"}
    assert said(bench)["policy"]["revision"] == bench.engine.serving.revision


@pytest.mark.parametrize("move", ALL_MOVES)
@pytest.mark.parametrize("now", [BLOCK, ESCALATE])
async def test_what_would_not_be_allowed_now_is_not_redeemed_and_uses_nothing_up(
    bench: Bench, move: Move, now: Verdict
) -> None:
    decision_id = await allowed(bench)
    await move(bench)
    bench.engine.judge_by(now)
    with pytest.raises(NotRedeemableError) as caught:
        await redeem(bench, decision_id)
    assert caught.value.codes == (now.reasons[0].code,)
    assert now.reasons[0].code in str(caught.value)
    assert not await is_redeemed(bench, decision_id)
    bench.engine.judge_by(ALLOW)
    await redeem(bench, decision_id)


@pytest.mark.parametrize("fails", ["policy", "verdict"])
async def test_engine_that_does_not_answer_uses_nothing_up(bench: Bench, fails: str) -> None:
    decision_id = await allowed(bench)
    await move_signals(bench)
    if fails == "policy":
        bench.engine.fail("connection")
    else:
        bench.engine.judge_by(lambda _: (_ for _ in ()).throw(PolicyUnavailableError("timeout")))
    with pytest.raises(PolicyUnavailableError):
        await redeem(bench, decision_id)
    assert not await is_redeemed(bench, decision_id)


@pytest.mark.parametrize(
    "change",
    [
        {"effect": ToolEffect.WRITE},
        {"resource": "bill:{invoice}"},
        {"business_key": BusinessKeyRule(name="bill", arguments=("invoice",))},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_another_act_is_not_redeemed(bench: Bench, change: dict[str, Any]) -> None:
    decision_id = await allowed(bench)
    tool = replace(pay_tool(), redeem_required=True, audience=AUDIENCE, **change)
    await bench.store.control_plane.put_tools(TENANT, [tool], by=AUTHOR)
    with pytest.raises(NotRedeemableError, match="act"):
        await redeem(bench, decision_id)


async def test_entity_that_moves_while_it_is_redeemed_has_it_judged_again(bench: Bench) -> None:
    decision_id = await allowed(bench)

    async def block_the_vendor() -> None:
        invoice = EntityName(type="invoice", id="INV-1001")
        await bench.store.entities.put_entities(TENANT, {invoice: {"amount": 1}}, by=AUTHOR)
        bench.engine.judge_by(BLOCK)

    with pytest.raises(NotRedeemableError):
        await redeem(bench, decision_id, Between(bench.store.state, block_the_vendor))
    assert not await is_redeemed(bench, decision_id)


async def test_decision_of_an_earlier_server_is_judged_again(bench: Bench) -> None:
    class Earlier(FakeLedger):
        async def record(self, recording: Recording) -> Any:
            return await super().record(replace(recording, ground=None))

    await allowed(bench)
    decision, _ = await bench.point(Earlier(bench.store.state)).evaluate(
        builders.evaluation(bench.session.session_id)
    )
    await redeem(bench, decision.decision_id)
    assert len(bench.engine.documents) == 3


async def test_action_with_claims_and_intent_is_told_again(bench: Bench) -> None:
    request = builders.evaluation(bench.session.session_id)
    action = replace(
        request.action,
        intent="to pay",
        claimed_resource="invoice:INV-1001",
        provenance={"invoice": {"from": "mail", "weight": 1}},
    )
    decision_id = await allowed(bench, replace(request, action=action))
    await move_policy(bench)
    bench.engine.judge_by(replace(ALLOW, policy=bench.engine.serving))
    await redeem(bench, decision_id)
    assert bench.engine.documents[-1]["claimed"] == bench.engine.documents[0]["claimed"]


async def delegated(bench: Bench, *, with_boundaries: bool) -> EvaluationRequest:
    """Return a request on a chain to an agent of the caller's, every grant of it stored."""
    grants = GrantTokens(bench.signer, bench.store.keys)
    links = await chain_of(grants, bench.session, "agent:between", "agent:helper")
    for each in links:
        boundary = each.grant.boundary if with_boundaries else None
        await bench.store.grants.add_grant(TENANT, each.row, boundary=boundary)
    return builders.evaluation(
        bench.session.session_id,
        by=builders.caller(subject="svc-helper", agents=frozenset({"agent:helper"})),
        hops=tuple(each.hop for each in links),
    )


async def test_chain_is_judged_as_it_was_proven_first(bench: Bench) -> None:
    decision_id = await allowed(bench, await delegated(bench, with_boundaries=True))
    await move_signals(bench)
    await redeem(bench, decision_id)
    first, again = bench.engine.documents
    for part in ("chain", "chain_problems", "boundaries", "agents", "caller", "limits"):
        assert again[part] == first[part]


async def test_chain_of_an_earlier_server_is_redeemed_on_unmoved_ground_only(bench: Bench) -> None:
    request = await delegated(bench, with_boundaries=False)
    decision_id = await allowed(bench, request)
    other = replace(request, action=replace(request.action, tool_call_id="c-2"))
    unmoved, _ = await bench.point().evaluate(other)
    await redeem(bench, unmoved.decision_id)
    await move_signals(bench)
    with pytest.raises(NotRedeemableError, match="chain"):
        await redeem(bench, decision_id)
    assert not await is_redeemed(bench, decision_id)


async def test_chain_that_has_become_too_deep_is_not_redeemed(bench: Bench) -> None:
    decision_id = await allowed(bench, await delegated(bench, with_boundaries=True))
    await bench.store.control_plane.put_tenant(TENANT, b'{"max_chain_depth": 1}', by=AUTHOR)
    with pytest.raises(NotRedeemableError) as caught:
        await redeem(bench, decision_id)
    assert caught.value.codes == ("chain.too_deep",)
