"""A registry of roles as another project has it, converted and registered in full.

The data is not part of this project: PLACET_TEST_DATA names the folder that holds it
(`make test-data`).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pdp.model import ArgumentRole, FieldTrust, Tool, ToolEffect
from pdp.server.messages import tools as tool_messages
from placet._calls.registry import put_tools
from placet._lint import Severity, lint_tools
from placet.cli.lint import is_currency
from placet.cli.rolesjson import convert_registry

pytestmark = pytest.mark.data
EFFECTS = {"profile": "write", "calendar": "write", "file": "write"}


@pytest.fixture(scope="module")
def registry() -> dict[str, Any]:
    folder = os.environ.get("PLACET_TEST_DATA", "")
    file = Path(folder) / "agentdojo" / "tool_registry.json"
    assert folder, "PLACET_TEST_DATA names no folder"
    assert file.is_file(), f"{file} is not there"
    value: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return value


def registered(registry: dict[str, Any], group: str = "") -> dict[str, Tool]:
    forms = [item.form for item in convert_registry(registry, group=group, effects=EFFECTS)]
    return {tool.name: tool for tool in tool_messages.tools(put_tools(forms).request)}


def test_every_tool_is_registered(registry: dict[str, Any]) -> None:
    names = {tool for group, tools in registry.items() if not group.startswith("_") for tool in tools}
    assert set(registered(registry)) == names
    assert len(names) > 20


def test_registration_says_what_the_data_says(registry: dict[str, Any]) -> None:
    tools = registered(registry, "banking")
    send = tools["send_money"]
    assert (send.effect, send.reversible) == (ToolEffect.PAY, False)
    assert send.amount is not None
    assert (send.amount.argument, send.amount.currency_code) == ("amount", "EUR")
    assert send.argument_roles["recipient"] is ArgumentRole.DESTINATION
    assert tools["update_password"].secret_arguments == ("password",)
    assert tools["update_user_info"].effect is ToolEffect.WRITE
    output = tools["get_most_recent_transactions"].output
    assert output is not None
    trusts = {field.name: field.trust for field in output.fields}
    assert (trusts["recipient"], trusts["subject"]) == (FieldTrust.RECORD, FieldTrust.FREE_TEXT)


@pytest.mark.parametrize("file", ["tool_registry.json", "tool_registry_v2.json"])
def test_nothing_in_the_registry_could_never_pass_or_would_leak(file: str) -> None:
    value = json.loads((Path(os.environ["PLACET_TEST_DATA"]) / "agentdojo" / file).read_text())
    forms = [item.form for item in convert_registry(value, group="", effects=EFFECTS)]
    found = lint_tools(forms, is_currency=is_currency)
    assert [item for item in found if item.severity is Severity.ERROR] == []
    unjudged = {(item.tool, item.path[-1]) for item in found if item.code == "target.unjudged"}
    assert {("send_money", "recipient"), ("send_email", "bcc"), ("send_email", "cc")} <= unjudged
