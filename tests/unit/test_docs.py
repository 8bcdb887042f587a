"""The documents say what the code says."""

from __future__ import annotations

import ast
import functools
import json
import re
import shlex
import tomllib
from dataclasses import fields
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any

import grpc
import pytest
import typer

import pdp
import placet.cli.app
import placet.errors
from pdp.authority.boundary import parse_boundary
from pdp.authority.settings import budgets, parse_settings, policy_settings
from pdp.cli import app as pdp_app
from pdp.config.server import Config
from pdp.delegation.grant import grant_claims
from pdp.errors import InvalidFieldError
from pdp.metrics import Metrics
from pdp.model import Boundary
from pdp.overload.queue_stats import QueueStats
from pdp.server.grpc.rpcs import RPCS
from pdp.server.grpc.status import _INTERNAL, _TABLE
from pdp.server.messages import tools as tool_messages
from placet._calls.blocks import block_for
from placet._calls.registry import put_tools
from placet._calls.toolform import ENTITY_ROLES, FORMATS, STEPS, TOOL_EFFECTS, TRUSTS
from placet._calls.toolform import ROLES as ARGUMENT_ROLES
from placet._lint import CODES
from placet._wire.boundary import boundary_json
from placet.capability import REASONS
from placet.errors import Blocked, PlacetError
from placet.model import Tool, ToolEffect
from placet.scenario.steps.union import KINDS
from placet.v1 import admin_service_pb2, decision_service_pb2, entity_service_pb2, session_service_pb2
from placet.v1.error_reason_pb2 import ErrorReason
from tests.support import builders, chains
from tests.support.markdown import ROOT, anchors, blocks, code, documents, prose, section, table, text_of

COMMANDS = {"pdp": pdp_app, "placet": placet.cli.app.app}
# Names of other people's things that the documents mention.
FOREIGN = {"BadRequest", "Decimal", "EdDSA", "ErrorInfo", "NaN", "None", "RetryInfo"}
FOLDERS = ("pdp", "rego", "proto", "clients", "docs", "examples", "tests", "tools")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", documents(), ids=named)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document.read_text(encoding="utf-8"))):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), f"{target}: there is no such file"
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), f"{target}: there is no such heading"


def test_every_document_is_linked() -> None:
    linked = {
        (document.parent / target.partition("#")[0]).resolve()
        for document in documents()
        for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", document.read_text(encoding="utf-8"))
    }
    assert not {d for d in documents() if d.resolve() not in linked}


@pytest.mark.parametrize("document", documents(), ids=named)
def test_named_files_exist(document: Path) -> None:
    for span in code(prose(document.read_text(encoding="utf-8"))):
        if re.fullmatch(rf"({'|'.join(FOLDERS)})/[a-z0-9_./-]*", span):
            assert (ROOT / span).exists(), span


@functools.cache
def classes() -> dict[str, set[str]]:
    """The classes of server and client, stubs included, each with the names in its body."""
    found: dict[str, set[str]] = {}
    for folder in ("pdp", "clients/python/src/placet"):
        for path in chain((ROOT / folder).rglob("*.py"), (ROOT / folder).rglob("*.pyi")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    inside = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
                    inside |= {each.name for each in node.body if isinstance(each, ast.AsyncFunctionDef)}
                    found.setdefault(node.name, set()).update(inside)
    return found


def rpcs() -> dict[str, set[str]]:
    """The calls of the API by their bare names, each with the fields of its request."""
    return {
        method.name: set(method.input_type.fields_by_name)
        for module in (admin_service_pb2, decision_service_pb2, entity_service_pb2, session_service_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


@pytest.mark.parametrize("document", documents(), ids=named)
def test_named_classes_and_calls_exist(document: Path) -> None:
    for span in code(prose(document.read_text(encoding="utf-8"))):
        if match := re.fullmatch(r"([A-Z][a-z]+(?:[A-Z]\w*)?)(?:\.(\w+))?(?:\(.*\))?", span):
            name, member = match.groups()
            if name not in FOREIGN:
                assert name in classes() or name in rpcs(), span
                assert member is None or member in classes().get(name, set()) | rpcs().get(name, set()), span


def test_codes_of_lint_are_all_listed() -> None:
    rows = table(section(text_of("docs/tools.md"), "What is found"))
    listed = {code(name)[0]: (severity, text) for name, severity, text in rows}
    assert listed == {name: (str(severity), text) for name, (severity, text) in CODES.items()}
    assert list(listed) == sorted(listed)


def test_glossary_is_in_order_and_names_each_class_once() -> None:
    rows = table(section(text_of("docs/architecture.md"), "Glossary"))
    words = [word for word, _, _ in rows]
    assert words == sorted(words)
    named_classes = [name for _, _, cell in rows for name in code(cell)]
    assert len(named_classes) == len(set(named_classes))


@pytest.mark.parametrize("document", documents(), ids=named)
def test_commands_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
    for line in chain(lines, code(prose(text))):
        for command in re.findall(r"(?:^|\$\()((?:PLACET_\w+=\w+ )?(?:pdp|placet|make|pip) [^|)>#]*)", line):
            check_command(shlex.split(command))


def check_command(words: list[str]) -> None:
    while "=" in words[0]:
        words = words[1:]
    program, *rest = words
    if program == "make":
        makefile = text_of("Makefile")
        for target in rest:
            assert "=" in target or re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), target
    elif program == "pip":
        assert rest[0] == "install"
        for source in rest[1:]:
            check_source(source)
    elif program in COMMANDS:
        check_options(typer.main.get_command(COMMANDS[program]), rest)


def check_source(source: str) -> None:
    """A folder that pip can install, with extras that it has."""
    path, extras = re.fullmatch(r"([^\[]+)(?:\[([\w,-]+)\])?", source).groups()  # type: ignore[union-attr]
    project = tomllib.loads(text_of(Path(path) / "pyproject.toml"))["project"]
    for extra in (extras or "").split(","):
        assert not extra or extra in project["optional-dependencies"], source


def check_options(command: Any, words: list[str]) -> None:
    """The words name subcommands and options that exist."""
    while getattr(command, "commands", None) and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"{command.name} has no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    options = set(chain.from_iterable(parameter.opts for parameter in command.params)) | {"--help"}
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in options, f"{command.name} has no option {word}"


def test_settings_are_those_of_the_server() -> None:
    rows = table(section(text_of("docs/operations.md"), "Configuration"))
    said = {code(name)[0]: (default, meaning) for name, default, meaning in rows}
    built = {}
    for name, field in Config.model_fields.items():
        default = field.default
        shown = str(default).lower() if isinstance(default, bool) else str(default)
        built[name] = ("required" if field.is_required() else f"`{shown}`", field.description)
    assert said == built


def test_metrics_are_those_that_are_exposed() -> None:
    metrics = Metrics()
    metrics.count_evaluation("allow", "task.within_boundary", 0.1)
    metrics.failed_closed("policy_timeout")
    metrics.rpc("/placet.v1.SessionService/GetSession", "OK", 0.1)
    metrics.bundle("1")
    metrics.credentials_read("tls", ok=True)
    metrics.count_outcome("executed", conflict=False)
    with metrics.stage("decide"):
        pass
    metrics.watch("decide", lambda: QueueStats(waiting=1, dropped={}))
    exposed = {}
    for family in metrics.registry.collect():
        labels = set().union(*(sample.labels for sample in family.samples)) - {"le"}
        suffix = "_total" if family.type == "counter" else ""
        exposed[family.name + suffix] = (family.type, labels)
    rows = table(section(text_of("docs/operations.md"), "Metrics"))
    said = {code(name)[0]: (kind, set(code(labels))) for name, kind, labels, _ in rows}
    assert said == exposed


def events_logged() -> set[str]:
    """Return the names of all events that the server's code logs.

    They are the first arguments of calls of a log's methods, and what a member `event` holds.
    """
    found = set()
    for path in (ROOT / "pdp").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            named: list[ast.expr | None] = []
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if getattr(node.func.value, "id", "") == "_LOG":
                    # `log` has the level in front.
                    named = list(node.args[node.func.attr == "log" :][:1])
            elif isinstance(node, ast.Dict):
                named = [
                    value
                    for key, value in zip(node.keys, node.values, strict=True)
                    if isinstance(key, ast.Constant) and key.value == "event"
                ]
            for name in named:
                for part in ast.walk(name) if name is not None else ():
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        found.add(part.value)
    return found


def test_events_of_the_log_are_those_that_are_listed() -> None:
    told = section(text_of("docs/operations.md"), "Logs").partition("Logs never hold")[0]
    said = {word for word in code(told) if re.fullmatch(r"[a-z]+(_[a-z]+)*", word)}
    members = {"event", "request_id", "peer", "address", "cause", "detail"}
    assert said - members == events_logged()


def test_roles_are_those_of_the_server() -> None:
    rows = table(section(text_of("docs/api.md"), "Who may call what"))
    said = {f"/placet.v1.{code(rpc)[0]}": set(code(roles)) for rpc, roles in rows}
    assert said == {path: {str(role) for role in rpc.roles} for path, rpc in RPCS.items()}
    assert {rpc for rpc, roles in rows if roles == "any caller"} == {rpc for rpc, r in rows if not code(r)}


def test_error_reasons_are_those_of_the_api() -> None:
    rows = table(section(text_of("docs/api.md"), "Failures"))
    statuses: dict[str, grpc.StatusCode | None] = dict.fromkeys(
        name for name in ErrorReason.DESCRIPTOR.values_by_name if not name.endswith("_UNSPECIFIED")
    )
    statuses |= {ErrorReason.Name(reason): status for status, reason in (*_TABLE.values(), _INTERNAL)}
    assert [(code(name)[0], code(status)[0] if code(status) else status) for name, status, _ in rows] == [
        (name.removeprefix("ERROR_REASON_"), "not sent yet" if status is None else status.name)
        for name, status in statuses.items()
    ]


def client_errors() -> list[type[PlacetError]]:
    kinds = [kind for kind in vars(placet.errors).values() if isinstance(kind, type)]
    return [kind for kind in kinds if issubclass(kind, PlacetError)]


def test_failures_that_become_blocks_are_those_of_the_client() -> None:
    rows = table(section(text_of("docs/agent-developers.md"), "Failures are blocks"))
    said = {code(name)[0]: again for name, _, again in rows}
    blocks_made = [block_for(kind("x"), None) for kind in client_errors() if not issubclass(kind, Blocked)]
    made = {block.reasons[0].code: "yes" if block.retryable else "no" for block in blocks_made}
    assert said == made


def test_what_the_guard_raises_is_listed() -> None:
    text = section(text_of("docs/agent-developers.md"), "Failures are blocks").partition("What the guard")[2]
    said = {code(name)[0] for name, _ in table(text)}
    assert said == {kind.__name__ for kind in client_errors() if issubclass(kind, Blocked)}


def test_reasons_of_tool_servers_are_those_of_the_client() -> None:
    rows = table(section(text_of("docs/outcomes.md"), "A tool server"))
    assert {code(reason)[0]: meaning for reason, meaning in rows} == dict(REASONS)


def rooms(folder: str) -> set[str]:
    """The folders directly below this one that have Python modules."""
    return {path.parent.name for path in (ROOT / folder).glob("*/__init__.py")}


def first_line(module: str) -> str:
    docstring = ast.get_docstring(ast.parse(text_of(module)))
    assert docstring is not None, f"{module} has no docstring"
    return docstring.splitlines()[0]


def test_both_maps_show_the_rooms_that_there_are() -> None:
    page = section(text_of("docs/architecture.md"), "Rooms")
    drawn = {Path(code(room)[0]).name: meaning for room, meaning in table(page)}
    planned = {code(room)[0]: meaning for room, meaning in table(section(page, "Rooms to come"))}
    lines = re.findall(r"^ {4}(\w+)/ +(.+)$", pdp.__doc__ or "", re.MULTILINE)
    assert dict(lines) == drawn | planned
    assert [room for room, _ in lines] == [*drawn, *planned]
    assert rooms("pdp") == set(drawn)
    assert {room: first_line(f"pdp/{room}/__init__.py") for room in drawn} == drawn


def test_files_that_belong_to_no_room_are_explained() -> None:
    page = section(text_of("docs/architecture.md"), "Rooms")
    said = {name for name in code(page) if re.fullmatch(r"\w+\.py", name)} - {"point.py", "store.py"}
    assert said == {path.name for path in (ROOT / "pdp").glob("*.py") if not path.name.startswith("__")}


def test_rooms_of_the_client_are_on_the_map() -> None:
    package = "clients/python/src/placet"
    rows = table(section(text_of("docs/architecture.md"), "Rooms of the client"))
    drawn = [code(room)[0] for room, _ in rows]
    assert sorted(drawn) == sorted([f"{package}/", *(f"{package}/{room}/" for room in rooms(package))])


def floor_contracts() -> list[dict[str, Any]]:
    contracts = tomllib.loads(text_of("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    return [contract for contract in contracts if contract["type"] == "layers"]


def test_floors_are_those_that_are_checked() -> None:
    drawn = blocks(section(text_of("docs/architecture.md"), "Floors"), "")[0].splitlines()
    assert [floor.replace("pdp.", "") for floor in drawn[:-1]] == floor_contracts()[0]["layers"]


def test_a_module_that_stands_on_no_floor_breaks_its_contract() -> None:
    assert [contract["name"] for contract in floor_contracts() if not contract.get("exhaustive")] == []
    assert {"pdp", "placet"} <= {room for contract in floor_contracts() for room in contract["containers"]}


def test_decision_records_are_listed() -> None:
    records = sorted(path.name for path in (ROOT / "docs/decisions").glob("0*.md"))
    index = text_of("docs/decisions/README.md")
    assert re.findall(r"\]\((0[^)]+)\)", index) == records
    for number, name in enumerate(records, start=1):
        text = text_of(f"docs/decisions/{name}")
        assert name.startswith(f"{number:04}")
        assert re.match(rf"# {number:04} .+", text)
        assert "**Rejected.**" in text


def breaks_cycles(path: Path) -> bool:
    """Whether a `finally` in the module deletes references; each has to name its record."""
    text = path.read_text(encoding="utf-8")
    lines, found = text.splitlines(), False
    for node in ast.walk(ast.parse(text)):
        for statement in node.finalbody if isinstance(node, ast.Try) else ():
            if isinstance(statement, ast.Delete) and all(isinstance(e, ast.Name) for e in statement.targets):
                found = True
                assert "0012-no-cycles-on-failure" in lines[statement.lineno - 2], (
                    f"{path}:{statement.lineno}"
                )
    return found


def test_record_on_cycles_lists_every_place_that_breaks_one() -> None:
    rows = table(text_of("docs/decisions/0012-no-cycles-on-failure.md"))
    said = {name for where, _ in rows for name in code(where) if name.endswith(".py")}
    assert said == {named(path) for path in (ROOT / "pdp").rglob("*.py") if breaks_cycles(path)}


def test_members_of_a_tools_file_are_those_that_are_read() -> None:
    rows = table(section(text_of("docs/tools.md"), "The file"))
    assert {code(name)[0] for name, _ in rows} == {item.name for item in fields(Tool)}
    said = {code(name)[0]: code(meaning) for name, meaning in rows}
    assert set(ARGUMENT_ROLES) <= set(said["argument_roles"])
    assert set(FORMATS + TRUSTS) <= set(said["output"])
    assert set(TOOL_EFFECTS) == set(said["effect"]) == set(ToolEffect)
    assert set(STEPS) <= set(code(section(text_of("docs/tools.md"), "Spelling")))
    roles = [
        code(role)[0] for role, _ in table(section(text_of("docs/entities.md"), "What a call is judged on"))
    ]
    assert set(roles) == set(ENTITY_ROLES)


def test_limits_are_written_as_they_are_read() -> None:
    boundary, settings, tool = (
        json.loads(b, parse_float=Decimal) for b in blocks(text_of("docs/limits.md"), "json")
    )
    assert boundary_json(parse_boundary(boundary, "boundary")) == boundary | {
        "effects": [],
        "after_completion": [],
    }
    assert len(budgets(settings)) == 2
    assert set(policy_settings(settings)) == set()
    assert tool_messages.tools(put_tools([tool]).request)[0].business_key is not None


def test_page_on_delegation_says_what_is_judged() -> None:
    text = text_of("docs/delegation.md")
    agents = grant_claims(chains.grant_of(builders.session(), agent="agent:a"))
    claims = {claim for row in table(section(text, "Grants")) for claim in code(row[0])}
    assert claims == {*agents, "parent", "act"}
    members = {row[0].strip("`") for row in table(section(text, "Narrower, never wider"))}
    assert members == {*(item.name for item in fields(Boundary) if item.init), "expiry"}
    codes = {code(row[0])[0] for row in table(section(text, "What is proven of a chain"))}
    rules = (ROOT / "rego" / "placet" / "rules" / "chain").glob("*.rego")
    assert codes == {f"chain.{rule.stem}" for rule in rules if not rule.stem.endswith("_test")}


def test_settings_of_a_tenant_are_those_that_are_read() -> None:
    rows = table(section(text_of("docs/operations.md"), "Settings of a tenant"))
    examples = {code(name)[0]: code(example)[0] for name, example, _ in rows}
    members = ", ".join(f"{json.dumps(name)}: {example}" for name, example in examples.items())
    assert set(parse_settings(f"{{{members}}}".encode())) == set(examples)
    with pytest.raises(InvalidFieldError, match=re.escape(", ".join(sorted(examples)))):
        parse_settings(b'{"unknown": 1}')


def test_scenario_steps_are_documented_each_with_an_example() -> None:
    text = section(text_of("docs/scenarios.md"), "Steps")
    kinds = [code(row[0])[0] for row in table(text)]
    assert set(kinds) == {kind.kind for kind in KINDS}
    for kind in kinds:
        (example, *_) = blocks(section(text, f"`{kind}`"), "yaml")
        assert any(line.startswith(f"- {kind}:") for line in example.splitlines()), kind
