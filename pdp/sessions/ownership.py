"""Whose a session is."""

from __future__ import annotations

from collections.abc import Sequence

from pdp.model import Caller, GrantRow, Role, Session
from pdp.sessions.task_tokens import ISSUER_PREFIX


def asked_for(caller: Caller, session: Session) -> bool:
    """Its principal, who needs no role; its issuer, unless that is one of task tokens: no caller is."""
    return caller.subject == session.principal or (
        caller.subject == session.issuer
        and Role.SESSION_ISSUER in caller.roles
        and not session.issuer.startswith(ISSUER_PREFIX)
    )


def may_see(caller: Caller, session: Session) -> bool:
    """Its principal, who needs no role; its issuer; its agent; operators.

    Not who was delegated something in it.
    """
    return (
        asked_for(caller, session)
        or (session.agent in caller.agents and Role.AGENT in caller.roles)
        or Role.OPERATOR in caller.roles
    )


def may_see_chains(caller: Caller, session: Session | None) -> bool:
    """Who may see the session; auditors. Of a session that is unknown, operators and auditors."""
    if Role.AUDITOR in caller.roles or Role.OPERATOR in caller.roles:
        return True
    return session is not None and may_see(caller, session)


def may_revoke(caller: Caller, session: Session, path: Sequence[GrantRow]) -> bool:
    """Who asked for the session; operators; who speaks for the grant's agent or one before it.

    `path` leads from the session's root grant to the one in question.
    """
    return (
        asked_for(caller, session)
        or Role.OPERATOR in caller.roles
        or (Role.AGENT in caller.roles and any(row.agent in caller.agents for row in path))
    )
