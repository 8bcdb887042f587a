"""What MCP servers list, made ready to register: which tools, under which names, and which are left out."""

from __future__ import annotations

from typing import Any

import pytest

from placet.cli.exits import CommandError
from placet.cli.mcp.listing import ToolImport, import_tools

SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}}


def tool(name: Any, **parts: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": SCHEMA} | parts


def page(*tools: Any, **parts: Any) -> dict[str, Any]:
    return {"tools": list(tools)} | parts


def imported(files: dict[str, Any], **options: Any) -> ToolImport:
    given: dict[str, Any] = {"overlay": {}, "registered": {}, "accept_hints": False}
    return import_tools(files, **(given | options))


def names(found: ToolImport) -> list[str]:
    return [item.form["name"] for item in found.tools]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("{x}", "its name is not 1 to 128"),
        ("x" * 129, "its name is not 1 to 128"),
        ("löschen", "its name is not 1 to 128"),
        ("a b", "its name is not 1 to 128"),
        ("a\n", "its name is not 1 to 128"),
        ("", "it has no name"),
        (7, "it has no name"),
        (None, "it has no name"),
    ],
)
def test_tool_whose_name_cannot_be_used_is_left_out_and_named(name: Any, reason: str) -> None:
    found = imported({"a.json": page(tool("good"), tool(name))})
    assert names(found) == ["good"]
    [left] = found.left_out
    assert left.name == (name if isinstance(name, str) and name else "tools[1]")
    assert reason in left.reason


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"inputSchema": None}, "inputSchema /: must be an object"),
        ({"inputSchema": True}, "inputSchema /: must be an object"),
        ({"inputSchema": {"type": "string"}}, "inputSchema /type: must be object"),
        (
            {"inputSchema": {"properties": {"a": {"pattern": "(?=x)"}}}},
            "inputSchema /properties/a/pattern: the engine has no such pattern: (?=x)",
        ),
        ({"inputSchema": {"$ref": "https://example.org/s"}}, "leads out of the schema; nothing is fetched"),
    ],
)
def test_tool_whose_schema_cannot_be_used_is_left_out_and_named(parts: dict[str, Any], reason: str) -> None:
    found = imported({"a.json": page(tool("bad", **parts), tool("good"))})
    assert names(found) == ["good"]
    [left] = found.left_out
    assert (left.name, left.file) == ("bad", "a.json")
    assert reason in left.reason


def test_own_schema_makes_good_what_the_servers_lacks() -> None:
    own = {"bad": {"arguments_schema": SCHEMA, "effect": "read", "resource": "file:{path}"}}
    found = imported({"a.json": page({"name": "bad"})}, overlay=own)
    assert found.tools[0].form["arguments_schema"] == SCHEMA
    assert found.left_out == ()


def test_list_that_goes_on_is_said() -> None:
    assert imported({"a.json": page(tool("a"), nextCursor="2")}).unfinished == ("a.json",)
    assert imported({"a.json": {"result": page(tool("a"), nextCursor="2")}}).unfinished == ("a.json",)
    whole = imported({"a.json": [page(tool("a"), nextCursor="2"), page(tool("b"))]})
    assert (names(whole), whole.unfinished) == (["a", "b"], ())
    assert imported({"a.json": [page(tool("a")), page(tool("b"), nextCursor="3")]}).unfinished == ("a.json",)
    assert imported({"a.json": page(tool("a"), nextCursor=None)}).unfinished == ()


def test_tools_of_one_name_are_left_out_and_named() -> None:
    found = imported({"a.json": page(tool("x"), tool("a")), "b.json": page(tool("x"), tool("b"))})
    assert names(found) == ["a", "b"]
    assert [(left.name, left.file) for left in found.left_out] == [("x", "a.json"), ("x", "b.json")]
    assert "b.json lists a tool of that name too" in found.left_out[0].reason
    twice = imported({"a.json": [page(tool("x"), nextCursor="2"), page(tool("x"), tool("a"))]})
    assert names(twice) == ["a"]
    assert [left.reason for left in twice.left_out] == ["it is listed more than once"] * 2


def test_prefix_keeps_servers_apart() -> None:
    registered = {"x": tool("x"), "git/x": {"name": "git/x", "effect": "read", "resource": "r:x"}}
    found = imported({"a.json": page(tool("x"))}, registered=registered, prefix="git/")
    assert names(found) == ["git/x"]
    assert found.tools[0].form["effect"] == "read"
    assert names(imported({"a.json": page(tool("x"))}, overlay={"p.x": {"effect": "send"}}, prefix="p.")) == [
        "p.x"
    ]


def test_what_is_registered_under_the_name_is_kept_and_said() -> None:
    registered = {"x": {"name": "x", "description": "of another server", "arguments_schema": SCHEMA}}
    [item] = imported({"a.json": page(tool("x", description="Ours"))}, registered=registered).tools
    assert item.form["description"] == "of another server"
    assert any("another server's tool of this name" in note for note in item.notes)


def test_long_description_is_cut_and_said() -> None:
    [item] = imported({"a.json": page(tool("x", description="y" * 9000 + "\0"))}).tools
    assert item.form["description"] == "y" * 8192
    assert any(note.startswith("description: cut") for note in item.notes)


@pytest.mark.parametrize("value", [{}, [{}], "tools", {"tools": {}}, {"error": {"code": -32601}}])
def test_what_is_no_list_is_refused(value: Any) -> None:
    with pytest.raises(CommandError, match=r"a\.json: .*is no result of tools/list"):
        imported({"a.json": value})


def test_overlay_that_names_something_else_is_refused() -> None:
    with pytest.raises(CommandError, match="the overlay names tools that are not listed: y"):
        imported({"a.json": page(tool("x"))}, overlay={"y": {}})
