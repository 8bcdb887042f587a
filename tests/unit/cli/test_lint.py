"""`placet tool lint`: every finding with its place in the file, and exit codes for continuous integration."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placet.cli.lint import form_faults, judge_import, lint_files
from placet.cli.mcp.listing import import_tools
from placet.cli.positions import locate_json
from placet.cli.toolfiles import read_tool_file
from tests.support.markdown import blocks, section, text_of

RIGHT = text_of("examples/tools.yaml")
WRONG = """\
tools:
  - name: mail.send
    effect: read
    resource: "mailbox:{form}"
    arguments_schema:
      type: object
      properties:
        from: {type: string}
        to: {type: string}
        bcc: {type: string}
        headers: {type: object}
      required: [from, to]
      additionalProperties: false
    argument_roles: {to: destnation, subject: content}
    secret_arguments:
      - passwrd
    prerequisites:
      - {tool: mail.login, same: [from], requierd: true}
"""
# What is found in it, in this order.
FOUND = [
    (3, 13, "warning", "effect.softer", "effect"),
    (4, 15, "error", "template.unknown_argument", "resource"),
    (9, 9, "warning", "target.unjudged", "arguments_schema.properties.to"),
    (10, 9, "warning", "target.unjudged", "arguments_schema.properties.bcc"),
    (11, 9, "warning", "schema.open", "arguments_schema.properties.headers"),
    (14, 26, "error", "form.invalid", "argument_roles.to"),
    (14, 38, "warning", "role.unknown_argument", "argument_roles.subject"),
    (16, 9, "error", "secret.undeclared", "secret_arguments[0]"),
    (18, 16, "error", "prerequisite.unknown_tool", "prerequisites[0].tool"),
    (18, 42, "error", "form.invalid", "prerequisites[0].requierd"),
]


def run(
    *words: str, stdin: str = "", code: int = 0, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", "from placet.cli import main; main()", "tool", "lint", *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        env={"NO_COLOR": "1", "COLUMNS": "100", "PATH": "/usr/bin:/bin"},
        cwd=cwd,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == code, done.stdout + done.stderr
    return done


def places(text: str, tmp_path: Path, name: str = "tools.yaml") -> list[tuple[Any, ...]]:
    file = tmp_path / name
    file.write_text(text)
    return [
        (item["line"], item["column"], item["severity"], item["code"], item["path"])
        for item in (found.plain() for found in lint_files([read_tool_file(str(file))]))
    ]


def test_findings_come_all_together_with_line_and_column(tmp_path: Path) -> None:
    assert places(WRONG, tmp_path) == FOUND


def test_json_has_the_same_findings_at_its_own_places(tmp_path: Path) -> None:
    import yaml

    text = json.dumps(yaml.safe_load(WRONG), indent="\t")
    lines = text.splitlines()
    found = places(text, tmp_path, "tools.json")
    assert sorted(item[2:] for item in found) == sorted(item[2:] for item in FOUND)
    for line, column, _, _, path in found:
        last = path.rpartition(".")[2].partition("[")[0]
        rest = lines[line - 1][column - 1 :]
        assert rest[0] in '"{', path
        assert last in lines[line - 1] or rest.startswith('"passwrd"'), path


def test_lines_are_what_compilers_print(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(WRONG)
    (tmp_path / "b.yaml").write_text(RIGHT)
    lines = run("a.yaml", "b.yaml", code=1, cwd=tmp_path).stdout.splitlines()
    assert lines[1] == (
        "a.yaml:4:15: error: mail.send: resource: 'form' is no argument of the tool: every call is blocked; "
        "did you mean 'from'? [template.unknown_argument]"
    )
    assert lines[-2].startswith("b.yaml:3:5: warning: refunds.create: pays")
    assert lines[-1] == "2 tools: 5 errors, 6 warnings"


def test_exit_codes(tmp_path: Path) -> None:
    """0: at most warnings. 1: errors, and with --strict warnings. 2: what could not be read."""
    clean = "- {name: clock.read, effect: read, resource: 'tool:clock'}"
    assert run("-", stdin=clean).stdout == "1 tool: nothing found\n"
    run("-", "--strict", stdin=clean)
    assert "business_key.absent" in run("-", stdin=RIGHT).stdout
    run("-", "--strict", stdin=RIGHT, code=1)
    run("-", stdin=WRONG, code=1)
    assert "standard input:2:1" in run("-", stdin="tools: [\n", code=2).stderr
    assert "nowhere.yaml" in run("nowhere.yaml", code=2, cwd=tmp_path).stderr
    assert "who calls?" in run("-", "--registry", stdin=clean, code=2).stderr


def test_json_for_machines() -> None:
    printed = json.loads(run("-", "--json", stdin=WRONG, code=1).stdout)
    assert (printed["errors"], printed["warnings"], printed["tools"]) == (5, 5, 1)
    assert printed["findings"][1] == {
        "file": "standard input",
        "line": 4,
        "column": 15,
        "severity": "error",
        "code": "template.unknown_argument",
        "tool": "mail.send",
        "path": "resource",
        "message": "'form' is no argument of the tool: every call is blocked; did you mean 'from'?",
    }


def test_files_count_together(tmp_path: Path) -> None:
    login = tmp_path / "login.yaml"
    login.write_text("- {name: mail.login, effect: read, resource: 'tool:login'}\n")
    wrong = tmp_path / "tools.yaml"
    wrong.write_text(WRONG)
    found = lint_files([read_tool_file(str(wrong)), read_tool_file(str(login))])
    codes = [item.finding.code for item in found]
    assert "prerequisite.unknown_tool" not in codes
    # The tool that comes before has no such argument.
    assert "prerequisite.unknown_argument" in codes


def test_an_alias_has_the_place_of_its_own_name(tmp_path: Path) -> None:
    text = (
        "- {name: a, effect: read, resource: 'x:1', arguments_schema: &open {type: object}}\n"
        "- {name: b, effect: read, resource: 'x:1', arguments_schema: *open}\n"
    )
    assert [(line, column) for line, column, *_ in places(text, tmp_path)] == [(1, 44), (2, 44)]


@pytest.mark.parametrize("long", [False, True])
def test_aliases_of_aliases_are_refused_before_they_are_followed(tmp_path: Path, long: bool) -> None:
    lines = ["- name: a", "  effect: read", "  resource: x:1", "  arguments_schema:", "    type: object"]
    lines.append(f"    x-0: &a0 {'y' * 3_000_000 if long else '[x]'}")
    for number in range(1, 9):
        lines.append(f"    x-{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 9)}]")
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))
    line = 7 if long else 11
    refused = run("bomb.yaml", code=2, cwd=tmp_path).stderr
    assert f"bomb.yaml:{line}:10: aliases make more than 100000 values" in refused


def test_ordinary_aliases_work(tmp_path: Path) -> None:
    names = [f"      a{number}: *text" for number in range(3000)]
    lines = ["- name: a", "  effect: read", "  resource: x:1", "  arguments_schema:", "    type: object"]
    lines += ["    $defs: {text: &text {type: string}}", "    additionalProperties: false"]
    text = "\n".join([*lines, "    properties:", *names])
    (tmp_path / "a.yaml").write_text(text)
    assert "error" not in run("a.yaml", cwd=tmp_path).stdout


def test_merge_keys_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "- &base {name: a, effect: read, resource: 'x:1'}\n- <<: *base\n  name: b\n"
    )
    refused = run("a.yaml", code=2, cwd=tmp_path).stderr
    assert "a.yaml:2:3: merge keys (<<) are not supported" in refused


def test_a_name_twice_in_json_is_named_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"tools": [\n  {"name": "a", "effect": "read",\n   "name": "b"}]}')
    assert "a.json:3:4: name is given twice" in run("a.json", code=2, cwd=tmp_path).stderr


def test_a_hint_is_the_text_that_is_written(tmp_path: Path) -> None:
    text = "- {name: a, effect: raed, resource: 'x:1', normalise: {b: [trimm]}}\n"
    printed = run("-", stdin=text, code=1).stdout
    assert "did you mean 'read'?" in printed
    assert "<" not in printed


@pytest.mark.parametrize(
    ("form", "paths"),
    [
        ({"effect": "reed"}, [("effect",)]),
        ({"effect": "read", "colour": 1, "size": 2}, [("colour",), ("size",)]),
        ({"effect": "read", "argument_roles": {"a": "x", "b": "y", "c.d": "z"}},
         [("argument_roles", "a"), ("argument_roles", "b"), ("argument_roles", "c.d")]),
        ({"effect": "read", "normalise": {"a": ["trim", "x", "y"]}},
         [("normalise", "a", 1), ("normalise", "a", 2)]),
        ({"effect": "read", "entities": [{"name": "a"}, {"type": "b", "id": "c", "x": 1}]},
         [("entities", 0, "type"), ("entities", 0), ("entities", 1, "x"), ("entities", 1, "name")]),
        ({"effect": "read", "entities": 5}, [("entities",)]),
        ({"effect": "read", "entities": [5, {"name": "a", "type": "b", "id": "c", "x": 1}]},
         [("entities", 0), ("entities", 1, "x")]),
        ({"effect": "read", "business_key": {}}, [("business_key", "arguments")]),
        ({"effect": "read", "amount": {"unit": "kg"}}, [("amount", "argument"), ("amount", "unit")]),
        ({"effect": "read", "arguments_schema": [1]}, [("arguments_schema",)]),
        ({"effect": "read", "prerequisites": [{"tool": 5, "same": [1, "a", 2]}]},
         [("prerequisites", 0, "tool"), ("prerequisites", 0, "same", 0), ("prerequisites", 0, "same", 2)]),
        ({}, [("effect",)]),
    ],
)  # fmt: skip
def test_every_part_that_cannot_be_sent_is_found(form: dict[str, Any], paths: list[Any]) -> None:
    assert [fault.path for fault in form_faults({"name": "a"} | form, 0)] == paths


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
MEMBERS = ["effect", "amount", "argument_roles", "normalise", "entities", "business_key", "prerequisites",
           "output", "redeem", "glob", "audience", "arguments_schema", "secret_arguments", "x"]  # fmt: skip


@given(st.dictionaries(st.sampled_from(MEMBERS), JSON, max_size=3))
def test_whatever_a_form_holds_its_faults_end(form: dict[str, Any]) -> None:
    faults = form_faults({"name": "a"} | form, 0)
    assert len({fault.path for fault in faults}) == len(faults) < 50


@given(JSON, st.sampled_from([None, 1, "\t"]))
def test_places_of_json_are_those_of_its_values(value: Any, indent: Any) -> None:
    text = json.dumps(value, indent=indent)
    lines = text.split("\n")

    def check(located: Any, of: Any) -> None:
        rest = lines[located.at.line - 1][located.at.column - 1 :]
        assert rest.startswith({dict: "{", list: "["}.get(type(of), json.dumps(of)))
        parts = of.items() if isinstance(of, dict) else enumerate(of) if isinstance(of, list) else ()
        assert set(located.parts) == {key for key, _ in parts}
        for key, item in (
            of.items() if isinstance(of, dict) else enumerate(of) if isinstance(of, list) else ()
        ):
            check(located.parts[key][1], item)

    check(locate_json(text), value)


def test_example_of_the_documentation_has_only_what_is_said_of_it(tmp_path: Path) -> None:
    (example,) = blocks(section(text_of("docs/tools.md"), "The file"), "yaml")
    assert [item[3] for item in places(example, tmp_path)] == ["business_key.absent"]


def test_import_leaves_out_what_has_errors_and_notes_what_is_doubtful() -> None:
    path = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
    listed = [{"name": name, "inputSchema": path} for name in ("files.read", "files.wipe", "files.after")]
    overlay = {
        "files.read": {"name": "files.read", "effect": "read", "resource": "file:{pth}"},
        "files.after": {"name": "files.after", "prerequisites": [{"tool": "files.read"}]},
    }
    found = import_tools(
        {"listed.json": {"tools": listed}}, overlay=overlay, registered={}, accept_hints=False
    )
    judged = judge_import(found, registered=[])
    assert [item.form["name"] for item in judged.tools] == ["files.wipe"]
    assert [(item.name, item.reason.partition(":")[0]) for item in judged.left_out] == [
        ("files.read", "resource"),
        ("files.after", "prerequisites[0].tool"),
    ]
    assert any(note.endswith("[target.unjudged]") for note in judged.tools[0].notes)
