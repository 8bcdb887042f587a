"""Who calls, as servers for development believe it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True, init=False)
class DevIdentity:
    """Names the caller in metadata. Believed by servers in `--insecure-dev` only.

    `roles`: agent, session_issuer, operator, auditor, …; `agents`: those that the caller may
    speak for.
    """

    tenant: str
    subject: str
    roles: tuple[str, ...]
    agents: tuple[str, ...]

    def __init__(
        self, *, tenant: str, subject: str, roles: Iterable[str] = (), agents: Iterable[str] = ()
    ) -> None:
        """Raises ValueError for a name that cannot be sent as metadata."""
        for field, value in (("roles", roles), ("agents", agents)):
            if isinstance(value, str):
                raise ValueError(f"{field} must be a list of names, not one string")
        object.__setattr__(self, "tenant", tenant)
        object.__setattr__(self, "subject", subject)
        object.__setattr__(self, "roles", tuple(roles))
        object.__setattr__(self, "agents", tuple(agents))
        for field, values in (
            ("tenant", (tenant,)),
            ("subject", (subject,)),
            ("roles", self.roles),
            ("agents", self.agents),
        ):
            for value in values:
                if not value or not value.isascii() or not value.isprintable() or value != value.strip():
                    raise ValueError(f"{field}: {value!r} must be printable ASCII without spaces around it")
                if "," in value and field in ("roles", "agents"):
                    raise ValueError(f"{field}: {value!r} must not contain a comma")

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata of every call."""
        named = (
            ("placet-tenant", self.tenant),
            ("placet-subject", self.subject),
            ("placet-roles", ",".join(self.roles)),
            ("placet-agents", ",".join(self.agents)),
        )
        return tuple((name, value) for name, value in named if value)
