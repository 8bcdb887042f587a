"""Who calls, and in which roles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pdp.model.json import JSON


class Role(StrEnum):
    """What a credential entitles to. docs/api.md says which calls each role may make."""

    SESSION_ISSUER = "session_issuer"
    AGENT = "agent"
    TOOL = "tool"
    REVIEWER = "reviewer"
    AUDITOR = "auditor"
    POLICY_AUTHOR = "policy_author"
    OPERATOR = "operator"


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who speaks, as the transport proved it; no message is ever believed about that."""

    tenant: str
    # The name that the credential proves.
    subject: str
    roles: frozenset[Role]
    # The agents that this credential may speak for.
    agents: frozenset[str]
    # Verified scopes and claims; input to policy.
    claims: Mapping[str, JSON] = field(default_factory=dict)
    # Who issued the token that proves the subject; empty for a certificate, and with insecure-dev.
    issuer: str = ""
