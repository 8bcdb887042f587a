"""The examples in the documents run on a real stack, and come out as they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pdp.dev.story import story
from placet import Action, Client, DevIdentity
from placet.receipt import parse
from tests.support.markdown import blocks, code, named_files, section, table, text_of
from tests.support.processes import PATIENCE
from tests.support.stack import RealPdp

# A reader has these from elsewhere; a bare machine that runs the tests need not.
STAND_INS = {
    "curl": """
import sys, urllib.request
options, file, url = sys.argv[1:]
assert options == "-sSfo"
urllib.request.urlretrieve(url, file)
""",
    "jq": """
import json, sys
option, path = sys.argv[1:]
assert option == "-r"
print(json.load(sys.stdin)[path.removeprefix(".")])
""",
}


@pytest.fixture
def tenant(real_pdp: RealPdp) -> str:
    """A tenant of its own, with what `make run` writes into the documents' `acme`."""
    name = real_pdp.fresh_tenant()
    operator = DevIdentity(tenant=name, subject="ops", roles=["operator"])
    with Client(real_pdp.target, identity=operator, timeout=PATIENCE) as admin:
        admin.put_tenant({})
        admin.put_agents(story().fixture.agents)
        admin.put_tools(story().fixture.tools)
    return name


def expected_output(source: str) -> list[str]:
    """What stands as a comment behind each print()."""
    return re.findall(r"^ *print\(.*\)  # (.+)", source, re.MULTILINE)


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "docs/agent-developers.md",
        "docs/delegation.md",
        "docs/plans.md",
        "docs/outcomes.md",
        "docs/tasks.md",
    ],
)
def test_python_examples_print_what_they_say(
    document: str, real_pdp: RealPdp, tenant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = "\n".join(blocks(text_of(document), "python"))
    expected = [line.strip() for line in expected_output(source)]
    assert expected
    source = source.replace("http://localhost:7434", real_pdp.http_url)
    assert source.count("localhost:7433") == len(re.findall(r"Client\([^)]*identity=\w+", source))
    source = source.replace("localhost:7433", real_pdp.target).replace('"acme"', f'"{tenant}"')
    source = re.sub(r"(Client\([^)]*identity=\w+)", rf"\1, timeout={PATIENCE}", source)
    names: dict[str, object] = {}
    try:
        exec(compile(source, document, "exec"), names)
    finally:
        for value in names.values():
            if isinstance(value, Client):
                value.close()
    printed = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("POLICY_")]
    assert printed == expected


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with stand-ins for programs that are not ours."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name, source in STAND_INS.items():
        file = folder / name
        file.write_text(f'#!/bin/sh\nexec {sys.executable} {file}.py "$@"\n')
        file.chmod(0o755)
        (folder / f"{name}.py").write_text(source)
    return folder


def run_block(document: str, folder: Path, environment: dict[str, str], real_pdp: RealPdp) -> str:
    """Run the block of a document that has `placet` commands; return what it printed."""
    text = text_of(document)
    for name, content in named_files(text).items():
        (folder / name).write_text(content)
    (block,) = [block for block in blocks(text, "sh") if "\nplacet " in block]
    block = block.replace("=acme", f"={environment['TENANT']}").replace(
        "http://localhost:7434", real_pdp.http_url
    )
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE * 4,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_shell_examples_run(real_pdp: RealPdp, tenant: str, programs: Path, tmp_path: Path) -> None:
    environment = {
        "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "TENANT": tenant,
        "PLACET_TARGET": real_pdp.target,
        "PLACET_TIMEOUT": str(PATIENCE),
    }
    assert "ALLOW" in run_block("docs/agent-developers.md", tmp_path, environment, real_pdp)
    receipt = parse((tmp_path / "receipt.txt").read_bytes().strip())
    environment["DECISION"] = receipt.claims["jti"]
    assert "verified" in run_block("docs/auditors.md", tmp_path, environment, real_pdp)


@pytest.mark.parametrize(
    "document",
    [
        "docs/tenants.md",
        "docs/tools.md",
        "docs/entities.md",
        "docs/tasks.md",
        "docs/outcomes.md",
        "docs/delegation.md",
    ],
)
def test_commands_of_a_page_run(
    document: str, real_pdp: RealPdp, tenant: str, programs: Path, tmp_path: Path
) -> None:
    text = text_of(document)
    for name, content in named_files(text).items():
        (tmp_path / name).write_text(content)
    found = blocks(text, "sh")
    assert found
    for block in found:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.replace("=acme", f"={tenant}")],
            cwd=tmp_path,
            env={
                "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
                "HOME": str(tmp_path),
                "PLACET_TARGET": real_pdp.target,
                "PLACET_TIMEOUT": str(PATIENCE),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE * 4,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_receipt_has_the_fields_that_are_documented(real_pdp: RealPdp, tenant: str) -> None:
    agent = DevIdentity(
        tenant=tenant, subject="svc", roles=["agent", "session_issuer"], agents=["agent:payer"]
    )
    action = Action(
        tool="payments.create",
        arguments={"invoice": "INV-1001", "amount": "12.00", "currency": "EUR"},
        tool_call_id="c-1",
        intent="Pay it.",
    )
    with Client(real_pdp.target, identity=agent, timeout=PATIENCE) as pdp:
        session = pdp.open_session(
            task="T-1",
            principal="user:anna",
            agent="agent:payer",
            boundary={
                "tools": ["payments.create"],
                "resources": ["invoice:*"],
                "amounts": {"EUR": "5000"},
            },
        )
        decision = pdp.evaluate(action, session=session)
    assert decision.allowed
    receipt = parse(decision.receipt)
    fields = {field: "◇" in cell for cell, _ in table(documented()) for field in code(cell)}
    disclosed = {name for name, erasable in fields.items() if erasable}
    # What waiting may lift is a block, and only what restricts has details; this is an allow.
    assert set(receipt.payload) | set(receipt.claims) == set(fields) - {"retry_after", "details"}
    assert set(receipt.claims) - set(receipt.payload) == disclosed - {"details"}


def documented() -> str:
    return section(text_of("docs/receipts.md"), "Fields")
