"""Whose a session is: who may read it, end it, and revoke in it."""

from __future__ import annotations

from collections.abc import Sequence

from pdp.model import Caller, GrantRow, Role, Session
from pdp.sessions.task_tokens import ISSUER_PREFIX


def asked_for(caller: Caller, session: Session) -> bool:
    """Whether the caller asked for the session's task.

    The principal did, and needs no role for it; an agent is nobody's principal. The issuer did, and still
    needs its role; an issuer of task tokens is never a caller.
    """
    return (caller.subject == session.principal and Role.AGENT not in caller.roles) or (
        caller.subject == session.issuer
        and Role.SESSION_ISSUER in caller.roles
        and not session.issuer.startswith(ISSUER_PREFIX)
    )


def may_close(caller: Caller, session: Session) -> bool:
    """Whether the caller may end the session: who asked for its task, its own agent, and operators."""
    return (
        asked_for(caller, session)
        or (session.agent in caller.agents and Role.AGENT in caller.roles)
        or Role.OPERATOR in caller.roles
    )


def may_see(caller: Caller, session: Session) -> bool:
    """Whether the caller may see the session by what it is: who may end it, and auditors.

    An agent to whom something was delegated in it may by its chain alone.
    """
    return may_close(caller, session) or Role.AUDITOR in caller.roles


def may_revoke_proofs(caller: Caller, session: Session) -> bool:
    """Whether the caller may revoke all proofs of the session: who asked for its task, and operators."""
    return asked_for(caller, session) or Role.OPERATOR in caller.roles


def needs_proof(caller: Caller, session: Session) -> bool:
    """Whether the caller has to prove its part in the session, since only its agents give it any.

    Who asked for the task, operators and auditors act by their own right.
    """
    return not (asked_for(caller, session) or caller.roles & {Role.OPERATOR, Role.AUDITOR})


def may_see_chains(caller: Caller, session: Session | None) -> bool:
    """Whether the caller may see the chains of decisions in a session; None: there is no such session.

    Whoever may see the session may, and auditors may. Without a session only operators and auditors may.
    """
    if Role.AUDITOR in caller.roles or Role.OPERATOR in caller.roles:
        return True
    return session is not None and may_see(caller, session)


def may_revoke(caller: Caller, session: Session, path: Sequence[GrantRow]) -> bool:
    """Whether the caller may revoke a grant; `path` leads to it from the session's root grant.

    Whoever asked for the session's task may, operators may, and whoever speaks for an agent on the path.
    """
    return (
        asked_for(caller, session)
        or Role.OPERATOR in caller.roles
        or (Role.AGENT in caller.roles and any(row.agent in caller.agents for row in path))
    )
