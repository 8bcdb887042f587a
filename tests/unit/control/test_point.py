"""Every write of an operator has an author, and a line in the log."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from pdp.control.entities import EntityPoint
from pdp.control.point import ControlPoint
from pdp.errors import InvalidFieldError, NotFoundError, PermissionDeniedError, TenantUnknownError
from pdp.model import (
    Attribution,
    BusinessKeyRule,
    Caller,
    ControlKind,
    EntityName,
    Prerequisite,
    Role,
    Signal,
    Tool,
    ToolEffect,
)
from tests.fakes.store import FakeStore
from tests.support import builders
from tests.support.builders import TENANT

ANNA = Caller(
    tenant=TENANT,
    subject="anna",
    roles=frozenset({Role.OPERATOR}),
    agents=frozenset(),
    issuer="https://id.example.org",
)
VENDOR = EntityName(type="vendor", id="V-1")
HIDDEN = "DE89-3704-0044"
CLOSED = (
    '{"type": "object", "properties": {"invoice": {"type": "string"}}, "required": ["invoice"], '
    '"additionalProperties": false}'
)
Write = Callable[[ControlPoint, EntityPoint], Coroutine[Any, Any, Any]]
WRITES: dict[str, tuple[Write, str]] = {
    "settings": (lambda control, _: control.put_settings(ANNA, "", b"{}", reason="why"), "settings"),
    "patched settings": (
        lambda control, _: control.patch_settings(ANNA, {"allow_ttl_seconds": 30}, reason="why"),
        "settings",
    ),
    "agents": (
        lambda control, _: control.put_agents(
            ANNA,
            [replace(builders.agent(), owner=HIDDEN, trust_explanation=HIDDEN)],
            reason="why",
        ),
        "agents",
    ),
    "tools": (
        lambda control, _: control.put_tools(ANNA, [builders.tool(HIDDEN)], reason="why"),
        "tools",
    ),
    "rollback": (
        lambda control, _: control.roll_back_tools(ANNA, 1, reason="why"),
        "tools",
    ),
    "signals": (
        lambda control, _: control.put_signals(ANNA, [Signal(name="s", value=HIDDEN)], reason="why"),
        "signals",
    ),
    "issuers": (
        lambda control, _: control.put_issuer_keys(ANNA, "tasks", [{"kid": HIDDEN}], reason="why"),
        "issuers",
    ),
    "entities": (
        lambda _, entities: entities.put(ANNA, {VENDOR: {"iban": HIDDEN}}, reason="why"),
        "entities",
    ),
    "patch": (
        lambda _, entities: entities.patch(
            ANNA, VENDOR, set_={"iban": HIDDEN}, unset=[], check=lambda _: None, reason="why"
        ),
        "entities",
    ),
    "delete": (lambda _, entities: entities.delete(ANNA, [VENDOR], reason="why"), "entities"),
}


async def a_store() -> FakeStore:
    store = FakeStore()
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    await store.control_plane.put_tools(TENANT, [builders.tool()], by=builders.AUTHOR)
    await store.entities.put_entities(TENANT, {VENDOR: {}}, by=builders.AUTHOR)
    return store


@pytest.mark.parametrize("name", WRITES)
async def test_write_is_logged_with_author_and_reason_and_without_values(name: str) -> None:
    write, what = WRITES[name]
    store = await a_store()
    with capture_logs() as lines:
        await write(ControlPoint(store.control_plane), EntityPoint(store.entities))
    [line] = lines
    assert line["revision"] >= 1
    assert {key: line[key] for key in ("event", "tenant", "what", "subject", "issuer", "reason")} == {
        "event": "operator_wrote",
        "tenant": TENANT,
        "what": what,
        "subject": "anna",
        "issuer": "https://id.example.org",
        "reason": "why",
    }
    assert HIDDEN not in json.dumps(line)


async def test_what_was_not_written_is_not_logged() -> None:
    empty, full = FakeStore(), await a_store()
    with capture_logs() as lines:
        with pytest.raises(TenantUnknownError):
            await ControlPoint(empty.control_plane).put_agents(ANNA, [builders.agent()], reason="")
        with pytest.raises(PermissionDeniedError):
            await ControlPoint(full.control_plane).put_settings(ANNA, "other", b"{}", reason="")
        with pytest.raises(NotFoundError):
            await ControlPoint(full.control_plane).roll_back_tools(ANNA, 7, reason="")
        with pytest.raises(NotFoundError):
            await EntityPoint(full.entities).patch(
                ANNA,
                EntityName(type="vendor", id="nobody"),
                set_={"a": 1},
                unset=[],
                check=lambda _: None,
                reason="",
            )
    assert lines == []


async def test_history_names_the_author_by_issuer_and_subject() -> None:
    store = await a_store()
    await ControlPoint(store.control_plane).put_tools(ANNA, [builders.tool()], reason="why")
    [latest] = await ControlPoint(store.control_plane).history(ANNA, ControlKind.TOOLS, before=None, limit=1)
    assert latest.by == Attribution(subject="anna", issuer="https://id.example.org", reason="why")


async def test_patched_settings_are_checked_as_a_whole() -> None:
    store = await a_store()
    point = ControlPoint(store.control_plane)
    await point.put_settings(
        ANNA, "", b'{"large_amount": {"EUR": "2000.10"}, "po_tolerance": 0.50}', reason=""
    )
    patched = await point.patch_settings(
        ANNA, {"large_amount": {"USD": "10.00"}, "po_tolerance": None}, reason=""
    )
    assert json.loads(patched.settings) == {"large_amount": {"EUR": "2000.10", "USD": "10.00"}}
    for wrong, field in (
        ({"colour": "red"}, "settings.colour"),
        ({"allow_ttl_seconds": 0}, "settings.allow_ttl"),
    ):
        with pytest.raises(InvalidFieldError, match=field):
            await point.patch_settings(ANNA, wrong, reason="")
    assert (await point.settings(ANNA, revision=None)).settings == patched.settings


async def test_change_is_shown_with_what_it_replaced() -> None:
    point = ControlPoint((await a_store()).control_plane)
    await point.put_settings(ANNA, "", b'{"allow_ttl_seconds": 30}', reason="why")
    change, differences = await point.change(ANNA, ControlKind.SETTINGS, 2, after="", limit=20)
    assert (change.revision, change.by) == (
        2,
        Attribution(subject="anna", issuer="https://id.example.org", reason="why"),
    )
    assert [(item.before, item.after) for item in differences] == [("{}", '{"allow_ttl_seconds": 30}')]
    with pytest.raises(NotFoundError):
        await point.change(ANNA, ControlKind.SETTINGS, 3, after="", limit=20)


def named(name: str, **change: Any) -> Tool:
    return replace(
        builders.tool(name, amount=None, effect=ToolEffect.READ, arguments_schema=CLOSED), **change
    )


async def fields_refused(plane: ControlPoint, *tools: Tool) -> list[str]:
    with pytest.raises(InvalidFieldError) as caught:
        await plane.put_tools(ANNA, tools, reason="")
    return [field for field, _ in caught.value.violations]


async def test_registration_that_could_never_pass_is_refused_with_every_field() -> None:
    store = await a_store()
    control = ControlPoint(store.control_plane)
    wrong = named(
        "a",
        resource="invoice:{invioce}",
        business_key=BusinessKeyRule(name="a", arguments=("nobody",)),
    )
    assert await fields_refused(control, named("b"), wrong) == [
        "tools[1].resource",
        "tools[1].business_key.arguments[0]",
    ]
    assert (await control.tools(ANNA, revision=None, after="", limit=9)).revision == 1


async def test_what_is_doubtful_is_registered_and_said() -> None:
    store = await a_store()
    done = await ControlPoint(store.control_plane).put_tools(ANNA, [named("files.delete")], reason="")
    assert [(judged.field, judged.finding.code) for judged in done.warnings] == [
        ("tools[0].effect", "effect.softer"),
    ]


async def test_prerequisites_are_looked_for_in_the_registry() -> None:
    store = await a_store()
    control = ControlPoint(store.control_plane)
    after = named("b", prerequisites=(Prerequisite(tool="a", same=(), required=True),))
    assert await fields_refused(control, after) == ["tools[0].prerequisites[0].tool"]
    await control.put_tools(ANNA, [named("a")], reason="")
    await control.put_tools(ANNA, [after], reason="")
    circle = named("a", prerequisites=(Prerequisite(tool="b", same=(), required=True),))
    assert await fields_refused(control, circle) == ["tools[0].prerequisites[0].tool"]


async def test_check_finds_what_a_write_would_and_writes_nothing() -> None:
    store = await a_store()
    control = ControlPoint(store.control_plane)
    with capture_logs() as lines:
        found = await control.check_tools(ANNA, [named("a", resource="x")])
    assert [(judged.field, judged.is_error) for judged in found] == [
        ("tools[0].resource", True),
    ]
    assert (await control.tools(ANNA, revision=None, after="", limit=9)).revision == 1
    assert lines == []


async def test_roll_back_to_what_would_be_refused_is_refused() -> None:
    store = await a_store()
    await store.control_plane.put_tools(TENANT, [named("old", resource="x")], by=builders.AUTHOR)
    control = ControlPoint(store.control_plane)
    with pytest.raises(InvalidFieldError, match=r"resource"):
        await control.roll_back_tools(ANNA, 2, reason="")
    with pytest.raises(NotFoundError, match="there is no revision 99 of the tools"):
        await control.roll_back_tools(ANNA, 99, reason="")
    done = await control.roll_back_tools(ANNA, 1, reason="")
    assert done.revision == 3
    assert [judged.finding.code for judged in done.warnings]
