"""Grants: what one says as signed claims, and what the server keeps of it. Pure.

`pdp.delegation.tokens` signs the claims, `pdp.delegation.verification` judges what grants prove.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pdp.authority.boundary import intern_boundary, parse_boundary
from pdp.errors import InvalidFieldError
from pdp.model import MAX_CHAIN_DEPTH, Grant, GrantRow, grant_hash
from pdp.names import name, optional_name, text
from placet._wire.boundary import boundary_json
from placet.receipt import b64url_decode, b64url_encode

MAX_PURPOSE = 1024
_CLAIMS = frozenset(
    {
        "iss",
        "tenant",
        "jti",
        "sub",
        "session",
        "task",
        "depth",
        "boundary",
        "dlg",
        "purpose",
        "iat",
        "exp",
    }
)
_OPTIONAL = frozenset({"parent", "act"})


def grant_row(grant: Grant, compact: str) -> GrantRow:
    """Return what the server keeps of a grant that it has issued as `compact`."""
    return GrantRow(
        grant_hash=grant_hash(compact),
        session_id=grant.session_id,
        parent_hash=grant.parent,
        agent=grant.agent,
        delegated_by=grant.delegated_by,
        depth=grant.depth,
        purpose=grant.purpose,
        issued_at=grant.issued_at,
        expires_at=grant.expires_at,
    )


def grant_claims(grant: Grant) -> dict[str, Any]:
    """Return the claims that are signed. `read_claims` is the inverse."""
    claims: dict[str, Any] = {
        "iss": grant.issuer,
        "tenant": grant.tenant,
        "jti": grant.grant_id,
        "sub": grant.agent,
        "session": grant.session_id,
        "task": grant.task_id,
        "depth": grant.depth,
        "boundary": boundary_json(grant.boundary),
        "dlg": grant.delegated_by,
        "purpose": grant.purpose,
        "iat": int(grant.issued_at.timestamp()),
        "exp": int(grant.expires_at.timestamp()),
    }
    if grant.parent is not None:
        claims["parent"] = b64url_encode(bytes.fromhex(grant.parent))
    if grant.actors:
        claims["act"] = _nested(grant.actors)
    return claims


def read_claims(claims: Mapping[str, Any]) -> Grant:
    """Return the grant. Raises ValueError for claims that `grant_claims` does not write."""
    if not _CLAIMS <= set(claims) <= _CLAIMS | _OPTIONAL:
        raise ValueError("a grant has other claims than this")
    parent = claims.get("parent")
    try:
        return Grant(
            issuer=optional_name(_text(claims["iss"]), "iss"),
            tenant=name(_text(claims["tenant"]), "tenant"),
            grant_id=name(_text(claims["jti"]), "jti"),
            agent=name(_text(claims["sub"]), "sub"),
            session_id=name(_text(claims["session"]), "session"),
            task_id=name(_text(claims["task"]), "task"),
            depth=_whole(claims["depth"], MAX_CHAIN_DEPTH),
            boundary=intern_boundary(parse_boundary(claims["boundary"], "boundary")),
            parent=None if parent is None else _hash(_text(parent)),
            actors=tuple(_actors(claims["act"])) if "act" in claims else (),
            delegated_by=optional_name(_text(claims["dlg"]), "dlg"),
            purpose=text(_text(claims["purpose"]), "purpose", MAX_PURPOSE),
            issued_at=_instant(claims["iat"]),
            expires_at=_instant(claims["exp"]),
        )
    except InvalidFieldError as exc:
        raise ValueError(str(exc)) from exc


def _nested(actors: tuple[str, ...]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for actor in reversed(actors):
        nested = {"sub": actor, "act": nested} if nested else {"sub": actor}
    return nested


def _actors(nested: Any) -> Iterator[str]:
    while nested is not None:
        if not isinstance(nested, Mapping) or not {"sub"} <= set(nested) <= {"sub", "act"}:
            raise ValueError("act must be {sub, act}")
        yield name(_text(nested["sub"]), "act.sub")
        if "act" in nested and nested["act"] is None:
            raise ValueError("act must be an object")
        nested = nested.get("act")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a claim must be text")
    return value


def _whole(value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"a claim must be a whole number from 0 to {most}")
    return value


def _instant(value: Any) -> datetime:
    return datetime.fromtimestamp(_whole(value, 2**33), UTC)


def _hash(parent: str) -> str:
    digest = b64url_decode(parent)
    if len(digest) != 32:
        raise ValueError("parent must be a SHA-256")
    return digest.hex()
