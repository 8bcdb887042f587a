"""What every registry, key directory and clock promises."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import orjson
import pytest

from pdp.errors import InvalidFieldError, TenantUnknownError
from pdp.model import (
    AmountRole,
    Attribution,
    ControlKind,
    Difference,
    Facts,
    RegistryOutline,
    Signal,
    ToolEffect,
    ToolOutline,
)
from pdp.sessions.task_tokens import MAX_ISSUERS
from placet._wire.boundary import boundary_json
from tests.contract.conftest import Store
from tests.support import builders, every_field
from tests.support.builders import AGENT, TENANT


async def facts(store: Store, *, tool: str = "payments.create") -> Facts:
    request = builders.facts_request(builders.key("no-session"), tool=tool)
    return await store.information_point.gather(request)


async def test_settings_keep_every_digit(store: Store) -> None:
    assert (
        await store.control_plane.put_tenant(
            TENANT, b'{"trust_floor": {"pay": 0.50}, "n": 2}', by=builders.AUTHOR
        )
        == 1
    )
    known = await facts(store)
    assert known.settings == {"trust_floor": {"pay": Decimal("0.50")}, "n": 2}
    assert str(known.settings["trust_floor"]["pay"]) == "0.50"  # type: ignore[index,call-overload]


@pytest.mark.parametrize("settings", [b"", b"{", b"[]", b"7", b'"x"', b"\xff{}"])
async def test_settings_that_are_no_object_are_refused(store: Store, settings: bytes) -> None:
    with pytest.raises(InvalidFieldError):
        await store.control_plane.put_tenant(TENANT, settings, by=builders.AUTHOR)
    with pytest.raises(TenantUnknownError):
        await facts(store)


async def test_each_kind_has_its_own_revision_and_all_move_the_epoch(store: Store) -> None:
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    epochs = [(await facts(store)).epoch]
    for write in (
        store.control_plane.put_tenant(TENANT, b'{"a": 1}', by=builders.AUTHOR),
        store.control_plane.put_agents(TENANT, [builders.agent()], by=builders.AUTHOR),
        store.control_plane.put_tools(TENANT, [builders.tool()], by=builders.AUTHOR),
        store.control_plane.put_signals(TENANT, [Signal(name="incident", value=True)], by=builders.AUTHOR),
        store.control_plane.put_tools(TENANT, [], by=builders.AUTHOR),
    ):
        await write
        epochs.append((await facts(store)).epoch)
    assert epochs == sorted(set(epochs))
    revisions = {"settings": 2, "tools": 2, "agents": 1, "signals": 1, "entities": 0}
    assert (await facts(store)).data_revisions == revisions


async def test_preview_says_what_a_write_would_change_and_leaves_no_trace(store: Store) -> None:
    plane = store.control_plane
    new = await plane.preview(
        TENANT, ControlKind.SETTINGS, lambda p: p.put_tenant(TENANT, b'{"a": 1}', by=builders.AUTHOR)
    )
    assert [(item.name, item.before, json.loads(item.after or "")) for item in new] == [("", None, {"a": 1})]
    with pytest.raises(TenantUnknownError):
        await facts(store)

    await plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    await plane.put_tools(TENANT, [builders.tool(), builders.tool("other")], by=builders.AUTHOR)
    await plane.put_tools(TENANT, [builders.tool("third")], by=builders.AUTHOR)
    before = await facts(store)
    history = await plane.history(TENANT, ControlKind.TOOLS, before=None, limit=9)
    found = await plane.preview(
        TENANT,
        ControlKind.TOOLS,
        lambda p: p.put_tools(
            TENANT, [replace(builders.tool(), description="new"), builders.tool("x")], by=builders.AUTHOR
        ),
    )
    assert [(item.name, item.before is None) for item in found] == [
        (builders.tool().name, False),
        ("x", True),
    ]
    assert found[0].before != found[0].after
    back = await plane.preview(
        TENANT, ControlKind.TOOLS, lambda p: p.roll_back_tools(TENANT, 1, by=builders.AUTHOR)
    )
    assert [(item.name, item.after is None) for item in back if item.before != item.after] == [
        ("third", True)
    ]
    for kind, write in (
        (ControlKind.AGENTS, lambda p: p.put_agents(TENANT, [builders.agent()], by=builders.AUTHOR)),
        (
            ControlKind.SIGNALS,
            lambda p: p.put_signals(TENANT, [Signal(name="s", value=1)], by=builders.AUTHOR),
        ),
        (ControlKind.ISSUERS, lambda p: p.put_issuer_keys(TENANT, "i", [], by=builders.AUTHOR)),
    ):
        assert len(await plane.preview(TENANT, kind, write)) == 1
    assert await plane.history(TENANT, ControlKind.TOOLS, before=None, limit=9) == history
    assert replace(await facts(store), now=before.now) == before


async def test_preview_raises_what_the_write_raises(store: Store) -> None:
    plane = store.control_plane
    with pytest.raises(TenantUnknownError):
        await plane.preview(
            TENANT, ControlKind.TOOLS, lambda p: p.put_tools(TENANT, [builders.tool()], by=builders.AUTHOR)
        )
    with pytest.raises(InvalidFieldError):
        await plane.preview(
            TENANT, ControlKind.SETTINGS, lambda p: p.put_tenant(TENANT, b"[]", by=builders.AUTHOR)
        )


async def test_outline_has_what_a_session_may_name(store: Store) -> None:
    assert await store.control_plane.outline(TENANT, AGENT) == RegistryOutline(agent_known=False, tools=[])
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    tool = builders.tool()
    await store.control_plane.put_agents(TENANT, [builders.agent()], by=builders.AUTHOR)
    await store.control_plane.put_tools(TENANT, [tool], by=builders.AUTHOR)
    outline = ToolOutline(name=tool.name, effect=tool.effect, resource=tool.resource, amount=tool.amount)
    assert await store.control_plane.outline(TENANT, AGENT) == RegistryOutline(
        agent_known=True, tools=[outline]
    )
    assert not (await store.control_plane.outline(TENANT, "agent:other")).agent_known
    assert await store.control_plane.outline("other", AGENT) == RegistryOutline(agent_known=False, tools=[])


async def test_unknown_tenant_can_be_given_nothing(store: Store) -> None:
    for write in (
        store.control_plane.put_agents("nobody", [builders.agent()], by=builders.AUTHOR),
        store.control_plane.put_tools("nobody", [builders.tool()], by=builders.AUTHOR),
        store.control_plane.put_signals("nobody", [Signal(name="incident", value=True)], by=builders.AUTHOR),
    ):
        with pytest.raises(TenantUnknownError):
            await write


async def test_tool_comes_back_as_it_was_put_under_its_revision(store: Store) -> None:
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    first = builders.tool(secret_arguments=("iban", "pin"), arguments_schema='{"b":1.0,\n "a":2}')
    revision = await store.control_plane.put_tools(
        TENANT, [first, builders.tool("other")], by=builders.AUTHOR
    )
    assert (await facts(store)).tool == replace(first, revision=revision)
    second = replace(first, effect=ToolEffect.READ, amount=None)
    again = await store.control_plane.put_tools(TENANT, [second], by=builders.AUTHOR)
    assert again > revision
    assert (await facts(store)).tool == replace(second, revision=again)
    other = (await facts(store, tool="other")).tool
    assert other == replace(builders.tool("other"), revision=revision)


def test_every_field_is_tried() -> None:
    assert every_field.fields_left_out(every_field.TOOL, every_field.AGENT, every_field.BOUNDARY) == set()


async def test_every_field_of_a_registration_reaches_judgement_and_comes_back(store: Store) -> None:
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    tool = every_field.TOOL
    assert await store.control_plane.put_tools(TENANT, [tool], by=builders.AUTHOR) == 1
    assert (await facts(store, tool=tool.name)).tool == tool
    assert await store.control_plane.tools(TENANT) == (1, [tool])
    await store.control_plane.put_tools(TENANT, [builders.tool(tool.name)], by=builders.AUTHOR)
    assert await store.control_plane.tools(TENANT, revision=1) == (1, [tool])
    await store.control_plane.roll_back_tools(TENANT, 1, by=builders.AUTHOR)
    assert (await facts(store, tool=tool.name)).tool == replace(tool, revision=3)


async def test_every_field_of_an_agent_reaches_judgement_and_comes_back(store: Store) -> None:
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    agent = every_field.AGENT
    await store.control_plane.put_agents(TENANT, [agent], by=builders.AUTHOR)
    request = builders.facts_request(builders.key("no-session"), agents=(agent.agent,))
    known = (await store.information_point.gather(request)).agents[agent.agent]
    assert (known, known.revision) == (agent, 1)
    assert (await store.control_plane.agents(TENANT)).agents == [agent]


async def test_every_field_of_a_boundary_reaches_judgement(store: Store) -> None:
    template = replace(every_field.BOUNDARY, max_actions=8)
    settings = orjson.dumps({"boundary_template": boundary_json(template)})
    await store.control_plane.put_tenant(TENANT, settings, by=builders.AUTHOR)
    asked = builders.session(now=await store.clock.advance(0), bounds=every_field.BOUNDARY)
    opened = (await store.sessions.open(TENANT, asked)).session
    request = builders.facts_request(builders.key(opened.session_id))
    known = (await store.information_point.gather(request)).session
    assert known is not None
    assert (known.boundary, known.template) == (every_field.BOUNDARY, template)


async def test_registry_is_listed_by_name_as_it_is_and_as_it_was(store: Store) -> None:
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    assert await store.control_plane.tools(TENANT) == (0, [])
    b, a = builders.tool("b"), builders.payment_tool()
    await store.control_plane.put_tools(TENANT, [b, a], by=builders.AUTHOR)
    await store.control_plane.put_tools(
        TENANT, [replace(b, description="new"), builders.tool("Z")], by=builders.AUTHOR
    )
    now = [builders.tool("Z"), replace(b, description="new"), a]
    assert await store.control_plane.tools(TENANT) == (
        2,
        [replace(tool, revision=1 if tool is a else 2) for tool in now],
    )
    then = [replace(b, revision=1), replace(a, revision=1)]
    assert await store.control_plane.tools(TENANT, revision=1) == (1, then)
    assert await store.control_plane.tools(TENANT, revision=1, after="b") == (1, then[1:])
    assert await store.control_plane.tools(TENANT, revision=1, limit=1) == (1, then[:1])
    assert (await store.control_plane.tools(TENANT, revision=99)).revision == 2
    with pytest.raises(TenantUnknownError):
        await store.control_plane.tools("nobody")


async def test_roll_back_is_a_new_revision_with_the_old_content(store: Store) -> None:
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    old = builders.payment_tool()
    await store.control_plane.put_tools(TENANT, [old], by=builders.AUTHOR)
    await store.control_plane.put_tools(
        TENANT, [replace(old, effect=ToolEffect.READ), builders.tool("new")], by=builders.AUTHOR
    )
    before = (await facts(store)).epoch
    assert await store.control_plane.roll_back_tools(TENANT, 1, by=builders.AUTHOR) == 3
    known = await facts(store)
    assert known.tool == replace(old, revision=3)
    assert known.epoch > before
    assert (await facts(store, tool="new")).tool is None
    assert await store.control_plane.tools(TENANT) == (3, [replace(old, revision=3)])
    history = await store.control_plane.history(TENANT, ControlKind.TOOLS, before=None, limit=10)
    assert [(item.revision, item.written, item.removed) for item in history] == [
        (3, ("payments.create",), ("new",)),
        (2, ("new", "payments.create"), ()),
        (1, ("payments.create",), ()),
    ]
    assert await store.control_plane.history(TENANT, ControlKind.TOOLS, before=3, limit=1) == history[1:2]
    # Then it is rolled forward again.
    assert await store.control_plane.roll_back_tools(TENANT, 2, by=builders.AUTHOR) == 4
    assert (await facts(store, tool="new")).tool == replace(builders.tool("new"), revision=4)


async def test_roll_back_to_what_never_was_changes_nothing(store: Store) -> None:
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    await store.control_plane.put_tools(TENANT, [builders.tool()], by=builders.AUTHOR)
    for revision in (0, -1, 2, 99):
        assert await store.control_plane.roll_back_tools(TENANT, revision, by=builders.AUTHOR) is None
    assert (await facts(store)).data_revisions["tools"] == 1


async def test_amount_without_a_unit_stays_without(store: Store) -> None:
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    role = AmountRole(argument="amount", unit=None, currency_code="EUR")
    await store.control_plane.put_tools(TENANT, [builders.tool(amount=role)], by=builders.AUTHOR)
    known = (await facts(store)).tool
    assert known is not None
    assert known.amount == role


async def test_agent_without_trust_stays_without(store: Store) -> None:
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    await store.control_plane.put_agents(TENANT, [builders.agent(trust=None)], by=builders.AUTHOR)
    assert (await facts(store)).agents == {AGENT: builders.agent(trust=None)}
    await store.control_plane.put_agents(
        TENANT, [builders.agent(trust=Decimal("0.123456789"))], by=builders.AUTHOR
    )
    assert (await facts(store)).agents[AGENT].trust == Decimal("0.123456789")


async def test_signal_ends_at_its_expiry(store: Store) -> None:
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    now = await store.clock.advance(0)
    await store.control_plane.put_signals(
        TENANT,
        [
            Signal(name="feed", value={"level": Decimal("0.7"), "list": [1, "x", None]}),
            Signal(name="incident", value=True, expires_at=now + timedelta(minutes=5)),
        ],
        by=builders.AUTHOR,
    )
    feed = {"level": Decimal("0.7"), "list": [1, "x", None]}
    assert (await facts(store)).signals == {"feed": feed, "incident": True}
    await store.clock.advance(300)
    assert (await facts(store)).signals == {"feed": feed}


async def test_keys_are_kept_in_order_and_once(store: Store) -> None:
    first = {"kty": "EC", "crv": "P-256", "kid": "k1", "x": "1", "y": "2"}
    second = {**first, "kid": "k2"}
    for jwk in (first, second, first):
        await store.keys.register(jwk, replica="r")
    assert list(await store.keys.jwks()) == [first, second]
    assert await store.keys.key("k2") == second
    assert await store.keys.key("k3") is None


async def test_clock_moves_forward_only(store: Store) -> None:
    before = await store.clock.advance(0)
    after = await store.clock.advance(3600)
    assert after - before >= timedelta(hours=1)
    for seconds in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InvalidFieldError):
            await store.clock.advance(seconds)


KEY = {"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "kid": "k1"}


async def test_keys_of_an_issuer_are_replaced_and_move_the_epoch(store: Store) -> None:
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    assert await store.control_plane.keys_of(TENANT, "tasks") == (None, (await facts(store)).epoch)
    assert (
        await store.control_plane.put_issuer_keys(
            TENANT, "tasks", [KEY, KEY | {"kid": "k2"}], by=builders.AUTHOR
        )
        == 1
    )
    found, epoch = await store.control_plane.keys_of(TENANT, "tasks")
    assert found is not None
    assert (found.by_id().keys(), found.revision) == ({"k1", "k2"}, 1)
    assert await store.control_plane.put_issuer_keys(TENANT, "other", [KEY], by=builders.AUTHOR) == 2
    assert await store.control_plane.put_issuer_keys(TENANT, "tasks", [], by=builders.AUTHOR) == 3
    found, later = await store.control_plane.keys_of(TENANT, "tasks")
    assert found is not None
    assert (found.keys, later) == ((), epoch + 2)
    revision, issuers = await store.control_plane.issuer_keys(TENANT)
    assert (revision, [(known.issuer, len(known.keys)) for known in issuers]) == (
        3,
        [("other", 1), ("tasks", 0)],
    )


async def test_a_tenant_has_so_many_issuers_and_no_more(store: Store) -> None:
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    for number in range(MAX_ISSUERS):
        await store.control_plane.put_issuer_keys(TENANT, f"i{number}", [], by=builders.AUTHOR)
    with pytest.raises(InvalidFieldError):
        await store.control_plane.put_issuer_keys(TENANT, "one more", [], by=builders.AUTHOR)
    await store.control_plane.put_issuer_keys(TENANT, "i0", [KEY], by=builders.AUTHOR)
    assert (await store.control_plane.issuer_keys(TENANT)).revision == MAX_ISSUERS + 1


async def test_issuers_need_their_tenant(store: Store) -> None:
    for call in (
        store.control_plane.put_issuer_keys("nowhere", "tasks", [], by=builders.AUTHOR),
        store.control_plane.issuer_keys("nowhere"),
        store.control_plane.keys_of("nowhere", "tasks"),
    ):
        with pytest.raises(TenantUnknownError):
            await call


async def test_each_write_keeps_its_author_and_reason(store: Store) -> None:
    anna = Attribution(subject="anna", issuer="https://id.example.org", reason="review of May")
    host = Attribution(subject="spiffe://acme/ops")
    await store.control_plane.put_tenant(TENANT, b"{}", by=anna)
    await store.control_plane.put_tools(TENANT, [builders.tool()], by=anna)
    await store.control_plane.put_tools(TENANT, [builders.tool("new")], by=host)
    await store.control_plane.roll_back_tools(TENANT, 1, by=anna)
    history = await store.control_plane.history(TENANT, ControlKind.TOOLS, before=None, limit=10)
    assert [(item.revision, item.by) for item in history] == [(3, anna), (2, host), (1, anna)]
    await store.control_plane.put_issuer_keys(TENANT, "tasks", [KEY], by=anna)
    await store.control_plane.put_issuer_keys(TENANT, "tasks", [], by=host)
    await store.control_plane.put_issuer_keys(TENANT, "other", [], by=anna)
    issuers = (await store.control_plane.issuer_keys(TENANT)).issuers
    assert [(known.issuer, known.by) for known in issuers] == [("other", anna), ("tasks", host)]


async def test_settings_are_read_back_as_they_are_and_as_they_were(store: Store) -> None:
    anna = Attribution(subject="anna", reason="first")
    assert await store.control_plane.put_tenant(TENANT, b'{"n": 1.50}', by=anna) == 1
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    now = await store.control_plane.settings(TENANT)
    assert now is not None
    assert (now.revision, now.settings, now.by) == (2, b"{}", builders.AUTHOR)
    then = await store.control_plane.settings(TENANT, revision=1)
    assert then is not None
    assert (then.revision, then.settings, then.by) == (1, b'{"n": 1.50}', anna)
    assert await store.control_plane.settings(TENANT, revision=9) == now
    with pytest.raises(TenantUnknownError):
        await store.control_plane.settings("nobody")


async def test_agents_are_read_back_by_name_as_they_are_and_as_they_were(store: Store) -> None:
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    assert await store.control_plane.agents(TENANT) == (0, [])
    a, b = replace(builders.agent(), agent="a", trust=Decimal("0.25")), replace(builders.agent(), agent="b")
    await store.control_plane.put_agents(TENANT, [b, a], by=builders.AUTHOR)
    other = replace(a, trust=None, owner="else")
    await store.control_plane.put_agents(TENANT, [other], by=builders.AUTHOR)
    a, b, other = replace(a, revision=1), replace(b, revision=1), replace(other, revision=2)
    assert await store.control_plane.agents(TENANT) == (2, [other, b])
    assert await store.control_plane.agents(TENANT, revision=1) == (1, [a, b])
    assert await store.control_plane.agents(TENANT, revision=1, after="a") == (1, [b])
    assert await store.control_plane.agents(TENANT, limit=1) == (2, [other])


async def test_signals_are_read_back_also_when_they_have_ended(store: Store) -> None:
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    now = await store.clock.advance(0)
    on = Signal(name="incident", value={"severity": Decimal("1.5")}, expires_at=now + timedelta(minutes=5))
    await store.control_plane.put_signals(TENANT, [on], by=builders.AUTHOR)
    await store.clock.advance(301)
    assert await store.control_plane.signals(TENANT) == (1, [on])
    off = Signal(name="incident", value=None)
    await store.control_plane.put_signals(TENANT, [off], by=builders.AUTHOR)
    assert await store.control_plane.signals(TENANT) == (2, [off])
    assert await store.control_plane.signals(TENANT, revision=1) == (1, [on])


async def test_each_kind_has_its_own_history(store: Store) -> None:
    anna = Attribution(subject="anna", reason="why")
    await store.control_plane.put_tenant(TENANT, b"{}", by=anna)
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    await store.control_plane.put_agents(TENANT, [builders.agent()], by=anna)
    await store.control_plane.put_signals(TENANT, [Signal(name="s", value=1)], by=anna)
    await store.control_plane.put_issuer_keys(TENANT, "tasks", [], by=anna)
    written = {}
    for kind in ControlKind:
        changes = await store.control_plane.history(TENANT, kind, before=None, limit=10)
        written[kind] = [(change.revision, change.written, change.by) for change in changes]
    assert written == {
        ControlKind.SETTINGS: [(2, (), builders.AUTHOR), (1, (), anna)],
        ControlKind.AGENTS: [(1, (AGENT,), anna)],
        ControlKind.TOOLS: [],
        ControlKind.SIGNALS: [(1, ("s",), anna)],
        ControlKind.ISSUERS: [(1, ("tasks",), anna)],
    }
    assert await store.control_plane.history("nobody", ControlKind.TOOLS, before=None, limit=1) == []


async def test_change_says_what_it_replaced_and_what_it_removed(store: Store) -> None:
    plane = store.control_plane
    await plane.put_tenant(TENANT, b'{"n": 1.50}', by=builders.AUTHOR)
    await plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    first, second = (
        await plane.differences(TENANT, ControlKind.SETTINGS, 1),
        await plane.differences(TENANT, ControlKind.SETTINGS, 2),
    )
    assert first == [Difference(name="", before=None, after='{"n": 1.50}')]
    assert second == [Difference(name="", before='{"n": 1.50}', after="{}")]
    await plane.put_tools(TENANT, [builders.tool("a"), builders.tool("b")], by=builders.AUTHOR)
    await plane.put_tools(TENANT, [builders.tool("c")], by=builders.AUTHOR)
    await plane.roll_back_tools(TENANT, 1, by=builders.AUTHOR)
    found = await plane.differences(TENANT, ControlKind.TOOLS, 3)
    assert [(item.name, item.before is None, item.after is None) for item in found] == [
        ("a", False, False),
        ("b", False, False),
        ("c", False, True),
    ]
    assert await plane.differences(TENANT, ControlKind.TOOLS, 3, after="a", limit=1) == found[1:2]
    assert await plane.differences(TENANT, ControlKind.TOOLS, 9) == []
    assert await plane.differences("nobody", ControlKind.TOOLS, 1) == []


async def test_patch_of_settings_works_on_those_that_there_are(store: Store) -> None:
    await store.control_plane.put_tenant(TENANT, b'{"a": 1}', by=builders.AUTHOR)
    epoch = (await facts(store)).epoch
    patched = await store.control_plane.patch_settings(
        TENANT, lambda before: before.replace(b"1", b"2.50"), by=builders.AUTHOR
    )
    assert (patched.revision, patched.settings, patched.by) == (2, b'{"a": 2.50}', builders.AUTHOR)
    known = await facts(store)
    assert (known.settings, known.epoch) == ({"a": Decimal("2.50")}, epoch + 1)

    def refuse(_: bytes) -> bytes:
        raise InvalidFieldError("settings.a", "is refused")

    with pytest.raises(InvalidFieldError):
        await store.control_plane.patch_settings(TENANT, refuse, by=builders.AUTHOR)
    assert (await facts(store)).epoch == epoch + 1
    with pytest.raises(TenantUnknownError):
        await store.control_plane.patch_settings("nobody", lambda before: before, by=builders.AUTHOR)
