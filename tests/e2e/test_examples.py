"""The examples run as their page says, on a stack as `make run` starts it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from pdp.dev.story import story
from placet import Client, DevIdentity, Outcome
from tests.support.markdown import blocks, text_of
from tests.support.processes import PATIENCE
from tests.support.stack import ROOT, RealPdp, running_stack

PAGE = text_of("examples/README.md")
REFERENCE = re.compile(r"R-([0-9a-f-]{36})")


@pytest.fixture(scope="module")
def pdp() -> Iterator[RealPdp]:
    """A stack with a clock that nobody moves, and with what the first story registers."""
    with running_stack() as stack:
        pdp = RealPdp(stack=stack)
        with client(pdp, "operator") as operator:
            operator.put_tenant({})
            operator.put_agents(story().fixture.agents)
            operator.put_tools(story().fixture.tools)
        yield pdp


@pytest.fixture(scope="module")
def tool_server(pdp: RealPdp) -> Iterator[str]:
    """The address of the example's tool server, its tool registered by the page's command."""
    register, start = (command.split() for command in blocks(PAGE, "sh")[0].splitlines()[1:])
    variables = {"PLACET_TENANT": "acme", "PLACET_SUBJECT": "ops", "PLACET_ROLES": "operator"}
    assert blocks(PAGE, "sh")[0].splitlines()[0] == "export " + " ".join(
        f"{n}={v}" for n, v in variables.items()
    )
    assert register[0] == ".venv/bin/placet"
    done = subprocess.run(
        [sys.executable, "-c", "from placet.cli import main; main()", *register[1:]],
        cwd=ROOT,
        env={**os.environ, **variables, "PLACET_TARGET": pdp.target, "PLACET_TIMEOUT": str(PATIENCE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    process = subprocess.Popen(
        [*python(start), "--target", pdp.target, "--http", pdp.http_url, "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        said, _, address = process.stdout.readline().strip().rpartition(" ")
        assert said == "serving on"
        yield address
    finally:
        process.terminate()
        process.wait(PATIENCE)
        process.stdout.close()


def client(pdp: RealPdp, role: str) -> Client:
    return Client(
        pdp.target, identity=DevIdentity(tenant="acme", subject=role, roles=[role]), timeout=PATIENCE
    )


def python(command: list[str]) -> list[str]:
    assert command[0] == ".venv/bin/python"
    return [sys.executable, *command[1:]]


def test_agent_is_let_through_and_stopped_as_the_page_shows(pdp: RealPdp, tool_server: str) -> None:
    [command] = blocks(PAGE, "sh")[1].splitlines()
    addresses = ("--target", pdp.target, "--http", pdp.http_url, "--tool-server", tool_server)
    done = subprocess.run(
        [*python(command.split()), *addresses], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    [shown] = blocks(PAGE, "text")
    assert REFERENCE.sub("R-…", done.stdout) == REFERENCE.sub("R-…", shown)
    [decision_id] = REFERENCE.findall(done.stdout)
    with client(pdp, "auditor") as auditor:
        decision = auditor.get_decision(decision_id)
    assert (decision.redeemed, decision.outcome) == (True, Outcome.EXECUTED)


def test_tool_server_acts_on_no_request_without_a_receipt(tool_server: str) -> None:
    body = b'{"invoice": "INV-1001", "amount": "200.00", "currency": "EUR"}'
    request = urllib.request.Request(f"{tool_server}/refunds", data=body)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=PATIENCE)
    with refused.value:
        assert refused.value.code == 403
        assert b"capability.missing" in refused.value.read()
