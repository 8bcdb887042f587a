"""Grants: their claims come back as they were written, and no others are read."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from pdp.delegation.grant import grant_claims, read_claims
from pdp.model import (
    Grant,
)
from tests.support import builders

GRANT = Grant(
    issuer="https://pdp.test",
    tenant="acme",
    grant_id="g-1",
    agent="agent:c",
    session_id="s-1",
    task_id="T-1",
    depth=2,
    boundary=builders.boundary(),
    parent="ab" * 32,
    actors=("agent:b", "agent:a"),
    delegated_by="svc-b",
    purpose="look the invoice up",
    issued_at=builders.NOW,
    expires_at=builders.NOW + timedelta(hours=1),
)


def test_claims_come_back() -> None:
    claims = grant_claims(GRANT)
    assert claims["act"] == {"sub": "agent:b", "act": {"sub": "agent:a"}}
    assert read_claims(claims) == GRANT


def test_root_names_no_parent() -> None:
    root = replace(GRANT, parent=None, actors=(), depth=0)
    assert {"parent", "act"} & set(grant_claims(root)) == set()
    assert read_claims(grant_claims(root)) == root


@pytest.mark.parametrize("claim", sorted(set(grant_claims(GRANT)) - {"parent", "act"}))
def test_claim_that_is_missing_or_odd_is_refused(claim: str) -> None:
    claims = grant_claims(GRANT)
    with pytest.raises(ValueError):  # noqa: PT011
        read_claims({name: value for name, value in claims.items() if name != claim})
    for odd in (None, True, [], -1, 1.5, {"sub": "x"}, "\0"):
        with pytest.raises(ValueError):  # noqa: PT011
            read_claims(claims | {claim: odd})


@pytest.mark.parametrize(
    "change",
    [
        {"more": 1},
        {"parent": "00"},
        {"parent": ""},
        {"parent": 7},
        {"act": {}},
        {"act": {"sub": ""}},
        {"act": {"sub": "a", "act": None}},
        {"act": {"sub": "a", "more": 1}},
        {"act": "agent:a"},
        {"depth": 17},
        {"boundary": {"tools": [1]}},
        {"boundary": {"everything": True}},
        {"sub": ""},
        {"tenant": " acme"},
        {"exp": 2**40},
    ],
)
def test_claims_that_are_not_written_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read_claims(grant_claims(GRANT) | change)
