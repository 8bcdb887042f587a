"""Who makes the calls of a scenario."""

from __future__ import annotations

from pydantic import Field, ValidationError, model_validator

from placet.errors import invalid
from placet.identity import DevIdentity
from placet.scenario.model import Part, Text


class Caller(Part):
    """A caller in place of the one that a step has by itself.

    Servers in --insecure-dev believe it. To others the credentials of `subject` say who calls, and
    the rest is unused.
    """

    subject: Text
    roles: list[Text] = Field(default_factory=list)
    """agent, session_issuer, operator, auditor, tool."""
    agents: list[Text] = Field(default_factory=list)
    """Agents that it may speak for."""
    tools: list[Text] = Field(default_factory=list)
    """Tools that a caller with the role tool serves; a name may end with "*"."""
    audiences: list[Text] = Field(default_factory=list)
    """Audiences whose receipts it redeems."""

    @model_validator(mode="after")
    def _sendable(self) -> Caller:
        self.identity("tenant")
        return self

    def identity(self, tenant: str) -> DevIdentity:
        """Return the caller's identity. Raises ValueError for names that cannot be sent."""
        return DevIdentity(
            tenant=tenant,
            subject=self.subject,
            roles=self.roles,
            agents=self.agents,
            tools=self.tools,
            audiences=self.audiences,
        )


OPERATOR = Caller(subject="ops", roles=["operator"])
ISSUER = Caller(subject="svc-tasks", roles=["session_issuer"])
AUDITOR = Caller(subject="revision", roles=["auditor"])


def runtime(*agents: str) -> Caller:
    """Return the caller in whose process agents run.

    Raises `InvalidRequestError` for a name that cannot be sent.
    """
    try:
        return Caller(subject="svc-runtime", roles=["agent"], agents=list(agents))
    except ValidationError as exc:
        raise invalid("agents", exc.errors()[0]["msg"].removeprefix("Value error, ")) from exc


def tool_server(tool: str, audience: str) -> Caller:
    """Return the tool's own side. An empty audience: receipts for the tool are for nobody.

    Raises `InvalidRequestError` for a name that cannot be sent.
    """
    try:
        return Caller(
            subject="svc-tool", roles=["tool"], tools=[tool], audiences=[audience] if audience else []
        )
    except ValidationError as exc:
        raise invalid("tool", exc.errors()[0]["msg"].removeprefix("Value error, ")) from exc


def principal(name: str) -> Caller:
    """Return the caller that a session serves, who needs no role for it. Raises `InvalidRequestError`."""
    try:
        return Caller(subject=name)
    except ValidationError as exc:
        raise invalid("principal", exc.errors()[0]["msg"].removeprefix("Value error, ")) from exc
