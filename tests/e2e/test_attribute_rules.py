"""The vendors of the listed invoices: what a task may touch beside what it names, on two replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from placet import Decision, InvalidRequestError, PreconditionError, Session
from tests.e2e.scene import HELPER, Scene, codes, new_call, read

pytestmark = pytest.mark.asyncio(loop_scope="session")

VENDOR = "vendors.get"
VENDORS = {"type": "vendor", "attribute": {"of_type": "invoice", "attribute": "vendor"}}
BOUNDARY = {
    "effects": ["read"],
    "resources": ["invoice:INV-1", {"type": "invoice", "ids": ["INV-2"]}, "invoice:INV-9*", VENDORS],
}
OUTSIDE = ["boundary.resource"]


@pytest.fixture
async def vendors(scene: Scene) -> Scene:
    operator = await scene.operator()
    await operator.put_tools(
        [
            {
                "name": VENDOR,
                "effect": "read",
                "resource": "vendor:{vendor}",
                "arguments_schema": {"type": "object", "properties": {"vendor": {"type": "string"}}},
            }
        ]
    )
    await operator.put_entities(
        [
            {"type": "invoice", "id": invoice, "attributes": {"vendor": vendor}}
            for invoice, vendor in (("INV-1", "V-1"), ("INV-2", "V-2"), ("INV-9", "V-9"), ("INV-3", "V-3"))
        ]
    )
    return scene


async def look_up(scene: Scene, session: Session, vendor: str, *, replica: int = 1) -> Decision:
    action: dict[str, Any] = {"tool": VENDOR, "arguments": {"vendor": vendor}, "tool_call_id": new_call()}
    return await (await scene.agent(replica=replica)).evaluate(action, session=session)


async def test_vendors_of_listed_invoices_may_be_read_and_no_others(vendors: Scene) -> None:
    session = await vendors.session(boundary=BOUNDARY)
    for replica in (1, 2):
        for vendor in ("V-1", "V-2"):
            assert (await look_up(vendors, session, vendor, replica=replica)).allowed
        # V-9 is of an invoice that only a prefix covers, V-3 of one that is not listed, the others of none.
        for vendor in ("V-9", "V-3", "V-4", "V-"):
            assert codes(await look_up(vendors, session, vendor, replica=replica)) == OUTSIDE
    assert (await vendors.ask(read("INV-1"), session)).allowed


async def test_another_vendor_on_the_invoice_counts_from_the_next_decision(vendors: Scene) -> None:
    session, operator = await vendors.session(boundary=BOUNDARY), await vendors.operator()
    before = await look_up(vendors, session, "V-1", replica=2)
    written = await operator.patch_entity("invoice:INV-1", {"vendor": "V-5"})
    for replica in (1, 2):
        after = await look_up(vendors, session, "V-5", replica=replica)
        assert (after.allowed, after.data_revisions["entities"]) == (True, written.revision)
        assert codes(await look_up(vendors, session, "V-1", replica=replica)) == OUTSIDE
    assert before.allowed
    await operator.delete_entities(["invoice:INV-1"])
    assert codes(await look_up(vendors, session, "V-5", replica=2)) == OUTSIDE
    await operator.put_entities([{"type": "invoice", "id": "INV-1", "attributes": {"vendor": 5}}])
    assert codes(await look_up(vendors, session, "5")) == OUTSIDE


async def test_no_allow_is_recorded_after_the_vendor_was_taken_off(vendors: Scene) -> None:
    sessions = [await vendors.session(boundary=BOUNDARY) for _ in range(4)]
    operator = await vendors.operator()
    asked: list[Decision] = []
    stop, busy = asyncio.Event(), asyncio.Event()

    async def keep_asking(number: int) -> None:
        while not stop.is_set():
            asked.append(await look_up(vendors, sessions[number], "V-1", replica=1 + number % 2))
            if len(asked) >= 4 * len(sessions):
                busy.set()

    async with asyncio.TaskGroup() as group:
        for number in range(len(sessions)):
            group.create_task(keep_asking(number))
        await busy.wait()
        written = await operator.patch_entity("invoice:INV-1", {"vendor": "V-5"})
        later = [await look_up(vendors, session, "V-1", replica=2) for session in sessions]
        stop.set()
    assert [decision.failure for decision in (*asked, *later) if decision.failure] == []
    assert asked[0].allowed
    for decision in (*asked, *later):
        knew = decision.data_revisions["entities"] >= written.revision
        assert decision.allowed != knew, decision


async def test_template_resolves_its_own_listed_entities(vendors: Scene) -> None:
    template = {
        "effects": ["read"],
        "resources": [{"type": "invoice", "prefix": ""}, {"type": "invoice", "id": "INV-2"}, VENDORS],
    }
    await (await vendors.operator()).put_tenant({"boundary_template": template})
    session = await vendors.session(boundary=BOUNDARY)
    assert (await look_up(vendors, session, "V-2")).allowed
    assert codes(await look_up(vendors, session, "V-1")) == OUTSIDE


async def ask_helper(
    scene: Scene, session: Session, own: Mapping[str, Any], vendor: str, *, replica: int = 2
) -> Decision:
    """Delegate with a boundary of its own, and have the vendor looked up by whom that was given to."""
    grant = await (await scene.agent()).delegate(session, to_agent=HELPER, boundary=own)
    helper = await scene.client("svc-helper", "agent", agents=(HELPER,), replica=replica)
    action = {"tool": VENDOR, "arguments": {"vendor": vendor}, "tool_call_id": new_call()}
    return await helper.evaluate(action, session=session, chain=grant.chain)


async def test_grant_lists_for_itself(vendors: Scene) -> None:
    await (await vendors.operator()).put_agents([{"agent": HELPER, "trust": 0.8}])
    session = await vendors.session(boundary=BOUNDARY)
    narrower = {"effects": ["read"], "resources": ["invoice:INV-2", VENDORS]}
    for replica in (1, 2):
        assert (await ask_helper(vendors, session, narrower, "V-2", replica=replica)).allowed
        assert codes(await ask_helper(vendors, session, narrower, "V-1", replica=replica)) == OUTSIDE
    for wider in (["invoice:INV-9", VENDORS], ["vendor:V-1"]):
        with pytest.raises(PreconditionError, match="resources"):
            await ask_helper(vendors, session, {"effects": ["read"], "resources": wider}, "V-9")


async def test_grant_may_say_which_of_all_vendors(vendors: Scene) -> None:
    """The session itself need not have a rule of this kind."""
    operator = await vendors.operator()
    await operator.put_agents([{"agent": HELPER, "trust": 0.8}])
    session = await vendors.session(boundary={"effects": ["read"], "resources": ["invoice:*", "vendor:*"]})
    own = {"effects": ["read"], "resources": ["invoice:INV-3", VENDORS]}
    assert (await ask_helper(vendors, session, own, "V-3")).allowed
    assert codes(await ask_helper(vendors, session, own, "V-1")) == OUTSIDE
    await operator.patch_entity("invoice:INV-3", {"vendor": "V-1"})
    assert (await ask_helper(vendors, session, own, "V-1")).allowed


async def test_plan_resolves_for_each_of_its_actions(vendors: Scene) -> None:
    session = await vendors.session(boundary=BOUNDARY)
    actions = [
        {"tool": VENDOR, "arguments": {"vendor": vendor}, "tool_call_id": new_call()}
        for vendor in ("V-1", "V-2", "V-9")
    ]
    plan = await (await vendors.agent()).evaluate_plan(actions, session=session)
    assert [decision.effect for decision in plan] == ["allow", "allow", "block"]
    assert codes(plan[2]) == OUTSIDE


async def test_boundary_that_points_to_too_many_entities_is_refused(vendors: Scene) -> None:
    listed = {"type": "invoice", "ids": [f"INV-{n}" for n in range(257)]}
    with pytest.raises(InvalidRequestError) as refused:
        await vendors.session(boundary={"effects": ["read"], "resources": [listed, VENDORS]})
    assert [violation.field for violation in refused.value.violations] == ["boundary.resources"]


async def test_many_sessions_that_list_as_many_as_they_may_are_judged_together(vendors: Scene) -> None:
    """More entities than the database has room to lock in one transaction."""
    bounds = []
    for number in range(32):
        ids = [f"I-{number}-{n}" for n in range(256)]
        bounds.append({"effects": ["read"], "resources": [{"type": "invoice", "ids": ids}, VENDORS]})
    operator = await vendors.operator()
    await operator.put_entities(
        [
            {"type": "invoice", "id": f"I-{number}-255", "attributes": {"vendor": f"V-{number}"}}
            for number in range(len(bounds))
        ]
    )
    sessions = [await vendors.session(boundary=boundary) for boundary in bounds]
    asked = [look_up(vendors, session, f"V-{number}") for number, session in enumerate(sessions)]
    assert {tuple(codes(decision)) for decision in await asyncio.gather(*asked)} == {
        ("task.within_boundary",)
    }
