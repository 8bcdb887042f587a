"""A task's boundary and its end, on real processes."""

from __future__ import annotations

import pytest

from placet import Effect, SessionState
from tests.e2e.scene import BOUNDARY, PRINCIPAL, READ, Scene, codes, pay, read

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_after_completion_only_what_the_boundary_says(scene: Scene) -> None:
    session = await scene.session(boundary=BOUNDARY | {"after_completion": [READ]})
    assert (await scene.ask(pay(), session)).effect is Effect.ALLOW
    principal = await scene.client(PRINCIPAL)
    assert (await principal.complete_task(session, reason="paid")).state is SessionState.COMPLETED

    blocked = await scene.ask(pay(), session)
    assert blocked.effect is Effect.BLOCK
    assert "session.completed" in codes(blocked)
    assert (await scene.ask(read(), session)).effect is Effect.ALLOW


async def test_allow_from_before_completion_does_not_outlive_it(scene: Scene) -> None:
    session = await scene.session(boundary=BOUNDARY | {"after_completion": [READ]})
    before = read()
    assert (await scene.ask(before, session)).effect is Effect.ALLOW
    await (await scene.issuer()).complete_task(session)
    assert codes(await scene.ask(before, session))[0] == "action.replay_stale"

    after = read()
    first = await scene.ask(after, session)
    repeat = await scene.ask(after, session)
    assert (repeat.decision_id, repeat.replayed) == (first.decision_id, True)


async def test_action_lies_within_session_and_template(scene: Scene) -> None:
    template = {
        "effects": ["read", "pay"],
        "resources": [{"type": "invoice", "ids": ["INV-1", "INV-2"]}],
        "amounts": [{"currency": "EUR", "per_action": "150.00"}],
    }
    await (await scene.operator()).put_tenant({"boundary_template": template})
    session = await scene.session()
    assert session.template is not None
    assert (await scene.ask(pay(150), session)).effect is Effect.ALLOW
    assert codes(await scene.ask(pay(151), session)) == ["boundary.amount"]
    assert codes(await scene.ask(read("INV-3"), session)) == ["boundary.resource"]


async def test_session_opened_before_the_template_goes_on_without_it(scene: Scene) -> None:
    session = await scene.session()
    await (await scene.operator()).put_tenant({"boundary_template": {}})
    assert (await scene.ask(read(), session)).effect is Effect.ALLOW
    assert (await scene.ask(read(), await scene.session())).effect is Effect.BLOCK
