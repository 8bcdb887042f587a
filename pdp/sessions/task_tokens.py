"""Task tokens: what an issuer signed, as a session to open. Pure: keys and time come in.

A token that proves nothing is not permitted (`PermissionDeniedError`); a proven one that says
something odd is malformed (`InvalidFieldError` under `task_token`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pdp.authority.boundary import parse_boundary
from pdp.errors import InvalidFieldError, PermissionDeniedError
from pdp.model import JSON, IssuerKeys, SessionTerms, Task
from pdp.names import MAX_DESCRIPTION, MAX_NAME, MAX_PROMPT, name, text
from placet import task_token
from placet.canonical import CanonicalError, parse_object
from placet.task_token import TaskToken, TaskTokenError
from placet.verify import JwksError, public_key

FIELD = "task_token"
# Put before the token's issuer in `Session.issuer`. A caller with such a subject cannot open sessions.
ISSUER_PREFIX = "task:"
MAX_KEYS = 16
# How many issuers a tenant may have, counting those whose keys are all revoked.
MAX_ISSUERS = 256
# How far the issuer's clock may be ahead, in seconds.
_LEEWAY = 60
_SECRET_MEMBERS = frozenset({"d", "k", "p", "q", "dp", "dq", "qi", "oth"})


def read(token: str) -> TaskToken:
    """Take a token apart, of which nothing is proven yet. Raises `PermissionDeniedError` for no token."""
    try:
        return task_token.parse(token)
    except TaskTokenError as exc:
        raise PermissionDeniedError(f"the task token {exc}") from exc


def prove(token: TaskToken, keys: IssuerKeys | None, *, tenant: str, now: datetime) -> SessionTerms:
    """Return the terms that the token states, if they are proven. `now` is the database's time.

    1. A key that is registered for the issuer has signed it, by that key's algorithm.
    2. It is for this tenant, at this time, and not for long.
    3. What it asks for can be asked for.

    Raises `PermissionDeniedError` (1, 2), `InvalidFieldError` (3).
    """
    claims = token.claims
    try:  # 1
        task_token.check_signature(token, {} if keys is None else keys.by_id())
    except (TaskTokenError, JwksError) as exc:
        raise PermissionDeniedError(f"the task token {exc}") from exc
    if claims["aud"] != tenant:  # 2
        raise PermissionDeniedError("the task token is for another tenant (aud)")
    issued_at, expires_at = _instant(claims, "iat"), _instant(claims, "exp")
    seconds = now.timestamp()
    if issued_at > seconds + _LEEWAY:
        raise PermissionDeniedError("the task token is not valid yet (iat)")
    if expires_at <= seconds:
        raise PermissionDeniedError("the task token has expired (exp)")
    if expires_at - issued_at > task_token.MAX_LIFETIME:
        raise PermissionDeniedError(
            f"the task token is valid for more than {task_token.MAX_LIFETIME} s (exp)"
        )
    return SessionTerms(  # 3
        issuer=ISSUER_PREFIX + token.issuer,
        task=_task(claims["task"]),
        principal=_name(claims["sub"], "sub"),
        agent=_name(claims["agent"], "agent"),
        boundary=parse_boundary(claims["boundary"], f"{FIELD}.boundary"),
        expires_at=_expiry(claims["expires_at"]) if "expires_at" in claims else None,
        token_id=_name(claims["jti"], "jti"),
        issued_at=datetime.fromtimestamp(issued_at, UTC),
    )


def issuer_name(value: str) -> str:
    """Check the name that keys are registered under. Raises `InvalidFieldError`."""
    return name(value, "issuer", most=MAX_NAME - len(ISSUER_PREFIX))


def issuer_keys(data: bytes) -> tuple[Mapping[str, str], ...]:
    """Check a JWK Set (RFC 7517 §5) of public keys; return the members of each key that are used.

    Raises `InvalidFieldError`: unlike a reader of other people's sets, an operator who
    registers a key that cannot be used must hear of it.
    """
    try:
        keys = parse_object(data, field="jwks").get("keys")
    except CanonicalError as exc:
        raise InvalidFieldError(exc.field, exc.reason) from exc
    if not isinstance(keys, list):
        raise InvalidFieldError("jwks", "must be a JWK Set: an object with a list `keys`")
    if len(keys) > MAX_KEYS:
        raise InvalidFieldError("jwks.keys", f"has {len(keys)} keys; at most {MAX_KEYS}")
    found = tuple(_key(jwk, f"jwks.keys[{index}]") for index, jwk in enumerate(keys))
    seen: set[str] = set()
    for index, jwk in enumerate(found):
        if jwk["kid"] in seen:
            raise InvalidFieldError(f"jwks.keys[{index}].kid", "is another key's of the set")
        seen.add(jwk["kid"])
    return found


def _key(jwk: Any, path: str) -> Mapping[str, str]:
    if not isinstance(jwk, Mapping):
        raise InvalidFieldError(path, "must be an object")
    if secret := _SECRET_MEMBERS & set(jwk):
        raise InvalidFieldError(
            f"{path}.{min(secret)}", "is secret: register the public half, and replace this key"
        )
    algorithms = task_token.ALGORITHMS.get((str(jwk.get("kty")), str(jwk.get("crv"))))
    if algorithms is None:
        raise InvalidFieldError(path, "must be an EC key of P-256, or an OKP key of Ed25519")
    if jwk.get("use", "sig") != "sig":
        raise InvalidFieldError(f"{path}.use", "must be sig")
    if jwk.get("alg", algorithms[0]) not in algorithms:
        raise InvalidFieldError(f"{path}.alg", f"must be {' or '.join(algorithms)}")
    key_id = jwk.get("kid", "")
    if not isinstance(key_id, str):
        raise InvalidFieldError(f"{path}.kid", "must be text")
    names = ("kty", "crv", "x", "y") if jwk["kty"] == "EC" else ("kty", "crv", "x")
    for member in names:
        if not isinstance(jwk.get(member), str):
            raise InvalidFieldError(f"{path}.{member}", "must be text")
    kept = {member: jwk[member] for member in names} | {"kid": name(key_id, f"{path}.kid")}
    try:
        public_key(kept)
    except JwksError as exc:
        raise InvalidFieldError(path, "is no point of its curve") from exc
    return kept


def _task(value: JSON) -> Task:
    path = f"{FIELD}.task"
    if not isinstance(value, Mapping):
        raise InvalidFieldError(path, "must be an object")
    if unknown := set(value) - {"id", "description", "prompt"}:
        raise InvalidFieldError(f"{path}.{min(unknown)}", "is unknown; known: description, id, prompt")
    return Task(
        id=_name(value.get("id", ""), "task.id"),
        description=text(
            _text(value.get("description", ""), "task.description"), f"{path}.description", MAX_DESCRIPTION
        ),
        prompt=text(_text(value.get("prompt", ""), "task.prompt"), f"{path}.prompt", MAX_PROMPT),
    )


def _name(value: JSON, claim: str) -> str:
    return name(_text(value, claim), f"{FIELD}.{claim}")


def _text(value: JSON, claim: str) -> str:
    if not isinstance(value, str):
        raise InvalidFieldError(f"{FIELD}.{claim}", "must be text")
    return value


def _instant(claims: Mapping[str, JSON], claim: str) -> int:
    value = claims[claim]
    if isinstance(value, bool) or not isinstance(value, int):
        raise PermissionDeniedError(f"the task token has no time in whole seconds ({claim})")
    return value


def _expiry(value: JSON) -> datetime:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidFieldError(f"{FIELD}.expires_at", "must be a time in whole seconds")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError) as exc:
        raise InvalidFieldError(f"{FIELD}.expires_at", "is no instant that can be stored") from exc
