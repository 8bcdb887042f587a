"""Who calls, and in which roles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pdp.model.json import JSON


class Role(StrEnum):
    """What a caller may be, by its credential. docs/api.md says which calls each role may make."""

    SESSION_ISSUER = "session_issuer"
    AGENT = "agent"
    TOOL = "tool"
    REVIEWER = "reviewer"
    AUDITOR = "auditor"
    POLICY_AUTHOR = "policy_author"
    OPERATOR = "operator"


# Roles that no credential holds together. An agent's holds no other role: such an agent would approve its
# own actions, grant itself a boundary, or free what it holds. A reviewer's holds none that changes what is
# reviewed.
ROLES_APART: tuple[frozenset[Role], ...] = (
    *(frozenset({Role.AGENT, other}) for other in Role if other is not Role.AGENT),
    frozenset({Role.REVIEWER, Role.OPERATOR}),
    frozenset({Role.REVIEWER, Role.POLICY_AUTHOR}),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who speaks, as the transport proved it; no message is ever believed about that."""

    tenant: str
    # The name that the credential proves.
    subject: str
    roles: frozenset[Role]
    # The agents that this credential may speak for.
    agents: frozenset[str]
    # What a caller with role tool serves: names of tools, or beginnings of names with a "*" behind, and the
    # audiences whose receipts are for it.
    tools: frozenset[str] = frozenset()
    audiences: frozenset[str] = frozenset()
    # The other credential of a gateway, which configuration pairs with this one: the subject that asks for
    # what this one redeems, and the agents that it speaks for. Empty: there is none.
    asks_as: str = ""
    asks_for: frozenset[str] = frozenset()
    # Verified scopes and claims; input to policy.
    claims: Mapping[str, JSON] = field(default_factory=dict)
    # Who issued the token that proves the subject; empty for a certificate, and with insecure-dev.
    issuer: str = ""

    def serves(self, tool: str) -> bool:
        """Return whether the caller is the tool's own side."""
        return Role.TOOL in self.roles and (
            tool in self.tools
            or any(name.endswith("*") and tool.startswith(name[:-1]) for name in self.tools)
        )
