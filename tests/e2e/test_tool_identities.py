"""What a tool's side may do: certificates that serve some tools for some audiences, on a real server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from placet import Client, Decision, HoldState, NotFoundError, PreconditionError, TlsCredentials
from tests.e2e.scene import AGENT, BOUNDARY, PAY, PRINCIPAL, READ, TOOLS, pay
from tests.support.credentials import Authority
from tests.support.processes import PATIENCE
from tests.support.secured import SecuredReplica, secured_replica, tls
from tests.support.stack import RealPdp

CALLERS: Mapping[str, dict[str, Any]] = {
    "ops": {"roles": ["operator"]},
    "tasks": {"roles": ["session_issuer"]},
    "runtime": {"roles": ["agent"], "agents": [AGENT]},
    "erp": {"roles": ["tool"], "tools": [PAY], "audiences": ["erp"]},
    "all-of-erp": {"roles": ["tool"], "tools": ["payments.*"], "audiences": ["erp"]},
    "reader": {"roles": ["tool"], "tools": [READ], "audiences": ["erp"]},
    "crm": {"roles": ["tool"], "tools": ["*"], "audiences": ["crm"]},
    "idle": {"roles": ["tool"]},
    "gateway": {"roles": ["tool"], "tools": [PAY], "audiences": ["erp"], "asks_as": "runtime"},
    # Has the agent in its entry, which pairs it with nobody.
    "unpaired": {"roles": ["tool"], "tools": [PAY], "audiences": ["erp"], "agents": [AGENT]},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """A replica that believes certificates alone, and a client of every caller."""

    replica: SecuredReplica
    clients: Mapping[str, Client]

    def allow(self) -> tuple[Decision, dict[str, Any]]:
        """Return an allow, and what its tool's side says that it is about to run."""
        session = self.clients["tasks"].open_session(
            task=f"T-{uuid4().hex}", principal=PRINCIPAL, agent=AGENT, boundary=BOUNDARY
        )
        action = pay(10)
        decision = self.clients["runtime"].evaluate(action, session=session)
        assert decision.allowed, decision
        return decision, {"tool": PAY, "arguments": action["arguments"], "audience": "erp"}


@pytest.fixture(scope="module")
def site(steady_pdp: RealPdp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, authority, tenant = tmp_path_factory.mktemp("tools"), Authority(), steady_pdp.fresh_tenant()
    callers = [
        {"match": {"dns_name": f"{name}.example"}, "tenant": tenant, "subject": name} | said
        for name, said in CALLERS.items()
    ]
    settings = {"tls": tls(authority, folder), "callers": callers}
    with secured_replica(steady_pdp, folder, settings) as replica, ExitStack() as opened:
        clients = {}
        for name in CALLERS:
            files = authority.issue(dns=f"{name}.example").write(folder, name)
            credentials = TlsCredentials(ca_file=folder / "ca.pem", **files)
            clients[name] = opened.enter_context(
                Client(replica.target, credentials=credentials, timeout=PATIENCE)
            )
        clients["ops"].put_tenant({})
        clients["ops"].put_agents([{"agent": AGENT, "trust": 0.9}])
        clients["ops"].put_tools(TOOLS)
        yield Site(replica=replica, clients=clients)


@pytest.mark.parametrize("name", ["erp", "all-of-erp"])
def test_tools_own_side_redeems_and_is_believed(site: Site, name: str) -> None:
    decision, asked = site.allow()
    site.clients[name].redeem(decision.decision_id, **asked)
    assert site.clients[name].report_outcome(decision.decision_id, "failed").hold is HoldState.RELEASED


@pytest.mark.parametrize("name", ["reader", "crm", "idle"])
def test_side_of_other_tools_or_audiences_moves_nothing(site: Site, name: str) -> None:
    decision, asked = site.allow()
    for audience in ("erp", "crm", ""):
        said = []
        # What it does not serve looks like what there never was.
        for decision_id in (decision.decision_id, f"{decision.decision_id[:-12]}000000000000"):
            with pytest.raises(NotFoundError) as refused:
                site.clients[name].redeem(decision_id, **(asked | {"audience": audience}))
            said.append(str(refused.value))
        assert said[0] == said[1]
    for outcome in ("failed", "not_executed", "executed", "unknown", "voided"):
        with pytest.raises(NotFoundError):
            site.clients[name].report_outcome(decision.decision_id, outcome)
    site.clients["erp"].redeem(decision.decision_id, **asked)


def test_gateway_redeems_what_its_other_credential_asked_for_and_frees_nothing(site: Site) -> None:
    decision, asked = site.allow()
    with pytest.raises(PreconditionError, match="asks_as") as refused:
        site.clients["unpaired"].redeem(decision.decision_id, **asked)
    assert refused.value.reason == "NOT_REDEEMABLE"
    gateway = site.clients["gateway"]
    gateway.redeem(decision.decision_id, **asked)
    assert gateway.report_outcome(decision.decision_id, "failed").hold is HoldState.UNRESOLVED
    assert site.clients["erp"].report_outcome(decision.decision_id, "failed").hold is HoldState.RELEASED


def test_server_says_at_its_start_which_credential_serves_nothing(site: Site) -> None:
    said = [line for line in site.replica.log.splitlines() if "tool_serves_nothing" in line]
    number = list(CALLERS).index("idle")
    assert len(said) == 2
    assert all(f"callers.{number}: names no" in line and '"level": "warning"' in line for line in said)
