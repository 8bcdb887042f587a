"""What a boundary permits by its ids is what is touched, whatever the arguments hold."""

from __future__ import annotations

from typing import Any

import pytest

from placet import InvalidRequestError
from tests.e2e.scene import Scene, codes, new_call

pytestmark = pytest.mark.asyncio(loop_scope="session")

UNDERIVABLE = ["registry.resource_underivable"]


async def judged(scene: Scene, tool: dict[str, Any], permitted: str, arguments: dict[str, Any]) -> list[str]:
    """Return the codes of a call of a tool in a session that permits one resource."""
    name = f"t.{new_call()}"
    schema = {"type": "object", "properties": {argument: {"type": "string"} for argument in arguments}}
    operator = await scene.operator()
    await operator.put_tools([{"name": name, "effect": "read", "arguments_schema": schema} | tool])
    session = await scene.session(boundary={"tools": [name], "resources": [permitted]})
    action: dict[str, Any] = {"tool": name, "arguments": arguments, "tool_call_id": new_call()}
    return codes(await scene.ask(action, session))


@pytest.mark.parametrize(
    ("resource", "permitted", "inside", "outside"),
    [
        (
            "account:{customer}-{account}",
            "account:C-1-2",
            {"customer": "C", "account": "1-2"},
            {"customer": "C-1", "account": "2"},
        ),
        (
            "repo:{owner}/{name}",
            "repo:acme/*",
            {"owner": "acme", "name": "web"},
            {"owner": "acme/evil", "name": "web"},
        ),
        ("file:/srv/share/{path}", "file:/srv/share/*", {"path": "a.txt"}, {"path": "/etc/passwd"}),
    ],
)
async def test_value_cannot_reach_into_the_text_around_it(
    scene: Scene, resource: str, permitted: str, inside: dict[str, Any], outside: dict[str, Any]
) -> None:
    assert await judged(scene, {"resource": resource}, permitted, inside) == ["task.within_boundary"]
    assert await judged(scene, {"resource": resource}, permitted, outside) == UNDERIVABLE


async def test_paths_and_patterns_are_what_they_touch(scene: Scene) -> None:
    tool = {"resource": "file:{path}", "normalise": {"path": ["path"]}}
    permitted = "file:src/*"
    assert await judged(scene, tool, permitted, {"path": "./src//a/../b.py"}) == ["task.within_boundary"]
    assert await judged(scene, tool, permitted, {"path": "src/*.py"}) == UNDERIVABLE
    assert await judged(scene, tool | {"glob": True}, permitted, {"path": "src/*.py"}) == [
        "task.within_boundary"
    ]
    assert await judged(scene, tool | {"glob": True}, permitted, {"path": "s*/a.py"}) == ["boundary.resource"]
    assert (await judged(scene, tool, permitted, {"path": "src/../../etc"}))[
        0
    ] == "registry.arguments_invalid"


@pytest.mark.parametrize(
    ("resource", "permitted", "path"),
    [
        ("file:/srv/share/{path}", "file:/srv/share/*", "{x/y,../../../etc}/passwd"),
        ("file:/srv/share/{path}", "file:/srv/share/*", "*/../x"),
        ("file:/srv/share/{path}", "file:/srv/share/*", "?/../x"),
        ("file:/srv/share/{path}", "file:/srv/share/*", "[a/../x"),
        ("file:{path}", "file:src/*", "src/{a,../../etc}/passwd"),
        ("file:{path}", "file:src/*", "src/{x/y/z,../../../../etc}/passwd"),
    ],
)
@pytest.mark.parametrize("glob", [False, True])
async def test_pattern_gets_nowhere_by_what_stands_behind_it(
    scene: Scene, resource: str, permitted: str, path: str, glob: bool
) -> None:
    tool = {"resource": resource, "normalise": {"path": ["path"]}, "glob": glob}
    assert "registry.resource_underivable" in await judged(scene, tool, permitted, {"path": path})


async def test_folder_itself_is_not_below_it(scene: Scene) -> None:
    tool = {"resource": "file:/srv/share/{path}", "normalise": {"path": ["path"]}, "effect": "delete"}
    for path in (".", "./", "a/.."):
        assert await judged(scene, tool, "file:/srv/share/*", {"path": path}) == ["boundary.resource"]
        assert await judged(scene, tool, "file:/srv/share", {"path": path}) == ["task.within_boundary"]


async def test_template_that_could_not_be_read_back_is_refused(scene: Scene) -> None:
    operator = await scene.operator()
    with pytest.raises(InvalidRequestError) as caught:
        await operator.put_tools([{"name": "t", "effect": "read", "resource": "x:{a}{b}"}])
    assert caught.value.violations[0].field == "tools[0].resource"


async def test_name_of_a_tool_is_text_in_its_resource(scene: Scene) -> None:
    tool = {"resource": "tool:{{x}}"}
    assert await judged(scene, tool, "tool:{x}", {"x": "secrets"}) == ["task.within_boundary"]
    assert await judged(scene, tool, "tool:secrets", {"x": "secrets"}) == ["boundary.resource"]
