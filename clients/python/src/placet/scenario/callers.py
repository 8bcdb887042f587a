"""Who makes the calls of a scenario."""

from __future__ import annotations

from pydantic import Field

from placet.identity import DevIdentity
from placet.scenario.model import Part, Text


class Caller(Part):
    """In place of the one that a step has by itself. The server believes names in --insecure-dev only."""

    subject: Text
    roles: list[Text] = Field(default_factory=list)
    """agent, session_issuer, operator, auditor."""
    agents: list[Text] = Field(default_factory=list)
    """Agents that it may speak for."""

    def identity(self, tenant: str) -> DevIdentity:
        return DevIdentity(tenant=tenant, subject=self.subject, roles=self.roles, agents=self.agents)


OPERATOR = Caller(subject="ops", roles=["operator"])
ISSUER = Caller(subject="svc-tasks", roles=["session_issuer"])
AUDITOR = Caller(subject="revision", roles=["auditor"])


def runtime(*agents: str) -> Caller:
    """Where agents run."""
    return Caller(subject="svc-runtime", roles=["agent"], agents=list(agents))
