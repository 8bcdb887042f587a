"""The terms of a session: what must be said, what may be left out, and how long it lives."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from pdp.errors import InvalidFieldError
from pdp.model import Boundary, SessionState, SessionTerms, Task
from pdp.sessions.opening import (
    DEFAULT_LIFETIME,
    MAX_LIFETIME,
    OpeningRequest,
    check_beside,
    new_session,
    stated_terms,
)
from tests.support import builders
from tests.support.builders import NOW

ASKED = OpeningRequest(
    task=Task(id="T-1", prompt="please pay"),
    principal=builders.PRINCIPAL,
    agent=builders.AGENT,
    boundary=builders.boundary(),
)
TERMS = SessionTerms(
    issuer="task:https://tasks.example.org",
    task=Task(id="T-1", prompt="please pay"),
    principal=builders.PRINCIPAL,
    agent=builders.AGENT,
    boundary=builders.boundary(),
    expires_at=NOW + timedelta(hours=2),
    token_id="t-1",
)


@pytest.mark.parametrize(
    ("left_out", "field"),
    [({"task": None}, "task"), ({"principal": ""}, "principal"), ({"agent": ""}, "agent")],
)
def test_task_principal_and_agent_must_be_stated(left_out: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        stated_terms(replace(ASKED, **left_out), issuer=builders.ISSUER, principal="")
    assert caught.value.field == field


def test_proven_principal_need_not_be_stated_and_cannot_be_contradicted() -> None:
    terms = stated_terms(replace(ASKED, principal=""), issuer=builders.ISSUER, principal="staff:anna")
    assert (terms.issuer, terms.principal) == (builders.ISSUER, "staff:anna")
    with pytest.raises(InvalidFieldError) as caught:
        stated_terms(ASKED, issuer=builders.ISSUER, principal="staff:anna")
    assert caught.value.field == "principal"


def test_boundary_that_nobody_stated_permits_nothing() -> None:
    terms = stated_terms(replace(ASKED, boundary=None), issuer=builders.ISSUER, principal="")
    assert terms.boundary == Boundary()


def test_what_the_token_says_may_be_left_out_or_said_again() -> None:
    check_beside(OpeningRequest(task_token="t"), TERMS, principal="")
    check_beside(replace(ASKED, expires_at=TERMS.expires_at), TERMS, principal=TERMS.principal)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"task": Task(id="T-1")}, "task"),
        ({"principal": "user:bob"}, "principal"),
        ({"agent": "agent:other"}, "agent"),
        ({"boundary": Boundary()}, "boundary"),
        ({"expires_at": NOW + timedelta(hours=1)}, "expires_at"),
    ],
)
def test_what_contradicts_the_token_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidFieldError, match="leave it out") as caught:
        check_beside(OpeningRequest(**change), TERMS, principal="")
    assert caught.value.field == field


def test_principal_token_of_another_than_the_task_token_is_refused() -> None:
    with pytest.raises(InvalidFieldError) as caught:
        check_beside(OpeningRequest(), TERMS, principal="user:bob")
    assert caught.value.field == "principal_token"


def test_session_lives_as_long_as_its_terms_say() -> None:
    session = new_session(TERMS, session_id="s-1", now=NOW)
    assert (session.session_id, session.opened_at, session.expires_at) == ("s-1", NOW, TERMS.expires_at)
    assert (session.state, session.version, session.issuer) == (SessionState.OPEN, 1, TERMS.issuer)
    unsaid = new_session(replace(TERMS, expires_at=None), session_id="s-1", now=NOW)
    assert unsaid.expires_at == NOW + DEFAULT_LIFETIME
    longest = new_session(replace(TERMS, expires_at=NOW + MAX_LIFETIME), session_id="s-1", now=NOW)
    assert longest.expires_at == NOW + MAX_LIFETIME


@pytest.mark.parametrize(
    "lifetime", [timedelta(0), timedelta(seconds=-1), MAX_LIFETIME + timedelta(seconds=1)]
)
def test_session_ends_later_than_now_and_within_thirty_days(lifetime: timedelta) -> None:
    with pytest.raises(InvalidFieldError, match="by 30 days at most") as caught:
        new_session(replace(TERMS, expires_at=NOW + lifetime), session_id="s-1", now=NOW)
    assert caught.value.field == "expires_at"
