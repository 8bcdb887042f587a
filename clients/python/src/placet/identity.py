"""Who calls, as servers for development believe it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True, init=False)
class DevIdentity:
    """Names the caller in metadata. Believed by servers in `--insecure-dev` only.

    `roles`: agent, session_issuer, operator, auditor, …; `agents`: those that the caller may
    speak for; `tools` and `audiences`: what a caller with role tool serves, where a tool's name
    may end with "*".
    """

    tenant: str
    subject: str
    roles: tuple[str, ...]
    agents: tuple[str, ...]
    tools: tuple[str, ...]
    audiences: tuple[str, ...]

    def __init__(
        self,
        *,
        tenant: str,
        subject: str,
        roles: Iterable[str] = (),
        agents: Iterable[str] = (),
        tools: Iterable[str] = (),
        audiences: Iterable[str] = (),
    ) -> None:
        """Raises ValueError for a name that cannot be sent as metadata."""
        lists = {"roles": roles, "agents": agents, "tools": tools, "audiences": audiences}
        for field, value in lists.items():
            if isinstance(value, str):
                raise ValueError(f"{field} must be a list of names, not one string")
        object.__setattr__(self, "tenant", tenant)
        object.__setattr__(self, "subject", subject)
        for field, value in lists.items():
            object.__setattr__(self, field, tuple(value))
        for field in ("tenant", "subject", *lists):
            for value in getattr(self, field) if field in lists else (getattr(self, field),):
                if not value or not value.isascii() or not value.isprintable() or value != value.strip():
                    raise ValueError(f"{field}: {value!r} must be printable ASCII without spaces around it")
                if "," in value and field in lists:
                    raise ValueError(f"{field}: {value!r} must not contain a comma")

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata of every call."""
        named = (
            ("placet-tenant", self.tenant),
            ("placet-subject", self.subject),
            ("placet-roles", ",".join(self.roles)),
            ("placet-agents", ",".join(self.agents)),
            ("placet-tools", ",".join(self.tools)),
            ("placet-audiences", ",".join(self.audiences)),
        )
        return tuple((name, value) for name, value in named if value)
