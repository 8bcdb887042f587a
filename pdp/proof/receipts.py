"""Decision to receipt and back. The format is `placet.receipt`; docs/receipts.md explains it.

Everything that the answer says is in the receipt, so that a repeat is answered, and an
auditor served, from the signed bytes alone.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

from pdp.action.secrets import without_texts
from pdp.authority.boundary import boundary_document
from pdp.jsontext import arguments_json
from pdp.jws import sign_compact
from pdp.model import (
    Action,
    Agent,
    Boundary,
    Chain,
    ChainHop,
    Decision,
    Derived,
    Effect,
    EvaluationRequest,
    Facts,
    Hop,
    Obligation,
    PolicyRevision,
    Reason,
    Receipt,
    Remedy,
    Session,
    Verdict,
    VerifiedHop,
)
from pdp.ports import Signer
from pdp.proof.details import details_of, read_details
from placet.canonical import action_digest, canonical_json, canonical_number
from placet.model._wording import model_text
from placet.receipt import (
    SECRETS_VERSION,
    TYP,
    VERSION,
    attach,
    b64url_encode,
    disclosure_digest,
    encode_disclosure,
    parse,
)
from placet.secret_paths import secrets_digest

ENGINE = "opa"
# How an agent's trust score came about: an operator set it.
TRUST_MODEL = "operator"
DURABILITY = "DURABLE"
_INPUT_DOMAIN = b"placet-input/v1\0"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceiptInputs:
    """What a decision rests on, for its receipt."""

    request: EvaluationRequest
    facts: Facts
    # The caller's own session; None if unknown or somebody else's.
    session: Session | None
    chain: Chain
    derived: Derived
    # None: the engine gave no verdict.
    verdict: Verdict | None
    input_document: bytes
    issuer: str
    # The salt of the secrets' digest; empty if the action has no secrets.
    secret_salt: bytes = field(default=b"", repr=False)


async def sign_receipt(decision: Decision, inputs: ReceiptInputs, signer: Signer) -> Receipt:
    """Return the decision's receipt, signed by the key that is active now.

    The format is `placet.receipt`'s: a compact JWS, then SD-JWT disclosures of what can be erased. Raises
    `SignerUnavailableError`.
    """
    claims, disclosures = _claims(decision, inputs)
    signed = await sign_compact(signer, typ=TYP, claims=claims)
    return Receipt(token=attach(signed.encode("ascii"), disclosures), secret_salt=inputs.secret_salt)


def read_decision(token: bytes) -> Decision:
    """Return the decision that a stored receipt holds.

    Messages and other disclosed fields that were erased come back empty.
    """
    claims: Any = parse(token).claims
    effect = Effect(claims["effect"])
    reasons = tuple(
        Reason(
            code=reason["code"],
            effect=Effect(reason["effect"]),
            message=reason.get("message", ""),
            at=reason.get("at", ""),
            remedy=Remedy(reason["remedy"]) if "remedy" in reason else None,
            **read_details(claims.get("details"), place),
        )
        for place, reason in enumerate(claims["reasons"])
    )
    seconds = claims.get("retry_after")
    retry_after = None if seconds is None else timedelta(seconds=seconds)
    return Decision(
        decision_id=claims["jti"],
        effect=effect,
        reasons=reasons,
        session_id=claims["session"],
        tool_call_id=claims["tool_call_id"],
        decided_at=datetime.fromtimestamp(claims["iat"], UTC),
        expires_at=datetime.fromtimestamp(claims["exp"], UTC),
        policy=PolicyRevision(bundle=claims["policy"]["bundle"], revision=claims["policy"]["revision"]),
        data_revisions=claims["data"],
        model_text=model_text(
            effect, claims["jti"], reasons, retryable=claims["retryable"], retry_after=retry_after
        ),
        obligations=tuple(
            Obligation(id=obligation["id"], properties=obligation["properties"])
            for obligation in claims["obligations"]
        ),
        retry_after=retry_after,
        session_version=claims["session_version"],
        retryable=claims["retryable"],
        attempt_id=claims["attempt"],
        chain=tuple(_read_hop(claim) for claim in claims["chain"]),
        secret_paths=tuple(claims["act"].get("secrets", ())),
    )


def chain_hops(presented: tuple[Hop, ...], chain: Chain) -> tuple[ChainHop, ...]:
    """Return the chain as a decision names it: verified hops by name, others as hashes only.

    `presented` is the chain as it came; the session's own agent may be left out of it.
    """
    return tuple(
        ChainHop(
            agent=hop.agent,
            delegated_by=hop.delegated_by,
            grant_hash=hop.grant_hash,
            depth=hop.depth,
            same_runtime=hop.same_runtime,
        )
        if hop.verified
        else ChainHop(unverified=_unverified(presented[index]))
        for index, hop in enumerate(chain.hops)
    )


def _claims(decision: Decision, inputs: ReceiptInputs) -> tuple[dict[str, Any], list[str]]:
    """Return the signed payload and the disclosures whose digests stand in it."""
    request, facts, session = inputs.request, inputs.facts, inputs.session
    disclosures: list[str] = []
    salt = secrets.token_bytes(16)
    derived = inputs.derived
    resource = "" if derived.resource is None else str(derived.resource)
    agent = _acting_agent(inputs)
    hidden: dict[str, Any] = {
        "arguments": arguments_json(derived.shown_arguments),
        "ad_salt": b64url_encode(salt),
    }
    if request.action.intent:
        hidden["intent"] = without_texts(request.action.intent, derived.secret_texts)
    if session is not None:
        hidden["principal"] = session.principal
    details = details_of(decision.reasons)
    if details is not None:
        hidden["details"] = details
    claims: dict[str, Any] = {
        "jti": decision.decision_id,
        "iss": inputs.issuer,
        "tenant": request.caller.tenant,
        "kind": "decision",
        "ver": SECRETS_VERSION if derived.secret_paths else VERSION,
        "effect": decision.effect,
        "iat": int(decision.decided_at.timestamp()),
        "exp": int(decision.expires_at.timestamp()),
        "nonce": b64url_encode(secrets.token_bytes(16)),
        "sub": agent.agent,
        "agent": {"model": agent.model, "version": agent.version},
        "caller": request.caller.subject,
        "session": decision.session_id,
        "session_version": decision.session_version,
        "task": "" if session is None else session.task.id,
        "tool_call_id": decision.tool_call_id,
        "attempt": decision.attempt_id,
        "act": _act(request.action, derived, resource, salt=salt, secret_salt=inputs.secret_salt),
        "chain": _hops(decision, inputs.chain),
        "policy": {"bundle": decision.policy.bundle, "revision": decision.policy.revision},
        "data": dict(decision.data_revisions),
        "engine": "" if inputs.verdict is None else ENGINE,
        "input_digest": b64url_encode(hashlib.sha256(_INPUT_DOMAIN + salt + inputs.input_document).digest()),
        "reasons": [_reason(reason, disclosures) for reason in decision.reasons],
        "trust": {"score": _lowest_trust(inputs.chain, facts.agents), "model": TRUST_MODEL},
        "obligations": [{"id": o.id, "properties": _plain(o.properties)} for o in decision.obligations],
        "durability": DURABILITY,
        "retryable": decision.retryable,
        "prev": _previous(session),
    }
    if decision.retry_after is not None:
        claims["retry_after"] = int(decision.retry_after.total_seconds())
    # An allow is for the audience that the registry names; a block says which one was asked for.
    if audience := request.audience or inputs.derived.audience:
        claims["aud"] = audience
    if decision.effect is Effect.ALLOW:
        claims["use"] = "once"
    claims["_sd_alg"] = "sha-256"
    claims["_sd"] = _hide(hidden, disclosures)
    return claims, disclosures


def _act(
    action: Action, derived: Derived, resource: str, *, salt: bytes, secret_salt: bytes
) -> dict[str, Any]:
    """Return what was asked for: digests of the arguments, of secret ones apart under a salt of their own."""
    digest = action_digest(tool=action.tool, resource=resource, arguments=derived.open_arguments, salt=salt)
    act: dict[str, Any] = {
        "tool": action.tool,
        "method": "call",
        "resource": resource,
        "ad": b64url_encode(digest),
    }
    if derived.secret_paths:
        if not secret_salt:
            raise ValueError("a receipt that names secrets needs a salt for their digest")
        act["secrets"] = list(derived.secret_paths)
        act["secrets_digest"] = b64url_encode(
            secrets_digest(tool=action.tool, resource=resource, arguments=action.arguments, salt=secret_salt)
        )
    return act


def _previous(session: Session | None) -> list[str]:
    """Return the hash of the session's receipt before this one, or none.

    A list: receipts of several replicas are ordered as a directed acyclic graph, not as one chain.
    """
    return [] if session is None or session.last_receipt is None else [b64url_encode(session.last_receipt)]


def _acting_agent(inputs: ReceiptInputs) -> Agent:
    """Return the agent that the caller proved to speak for; for a stranger one named as its credential."""
    if inputs.session is None:
        return Agent(agent=inputs.request.caller.subject)
    leaf = inputs.chain.leaf
    name = inputs.session.agent if leaf is None else leaf.agent
    return inputs.facts.agents.get(name, Agent(agent=name))


def _hops(decision: Decision, chain: Chain) -> list[dict[str, Any]]:
    """Return the claims of the chain's hops. The last hop acts: its claim has the effect too."""
    claims = [_hop(hop, verified) for hop, verified in zip(decision.chain, chain.hops, strict=True)]
    if claims and not decision.chain[-1].unverified:
        claims[-1]["effect"] = decision.effect
    return claims


def _hop(hop: ChainHop, verified: VerifiedHop) -> dict[str, Any]:
    if hop.unverified:
        return {"unverified": hop.unverified}
    claim: dict[str, Any] = {
        "agent": hop.agent,
        "delegated_by": hop.delegated_by,
        "scope_digest": _scope_digest(verified.boundary),
        "depth": hop.depth,
        "same_runtime": hop.same_runtime,
        "human_reviewed": hop.human_reviewed,
    }
    if hop.grant_hash:
        claim["grant"] = hop.grant_hash
    return claim


def _read_hop(claim: Mapping[str, Any]) -> ChainHop:
    if "unverified" in claim:
        return ChainHop(unverified=claim["unverified"])
    return ChainHop(
        agent=claim["agent"],
        delegated_by=claim["delegated_by"],
        grant_hash=claim.get("grant", ""),
        depth=claim["depth"],
        human_reviewed=claim["human_reviewed"],
        same_runtime=claim["same_runtime"],
    )


def _unverified(hop: Hop) -> str:
    return b64url_encode(hashlib.sha256(canonical_json([hop.agent, hop.grant])).digest())


@lru_cache(maxsize=1024)
def _scope_digest(boundary: Boundary) -> str:
    """Return the hash of a boundary. Cached: a session's is the same in all its decisions."""
    return b64url_encode(hashlib.sha256(canonical_json(boundary_document(boundary))).digest())


def _lowest_trust(chain: Chain, agents: Mapping[str, Agent]) -> str | None:
    """Return the lowest score of the chain's agents, as decimal text.

    None if the chain is not proven, or a score is not known.
    """
    if not chain.proven:
        return None
    scores = [agents[hop.agent].trust if hop.agent in agents else None for hop in chain.hops]
    known = [score for score in scores if score is not None]
    return str(canonical_number(min(known))) if known and len(known) == len(scores) else None


def _reason(reason: Reason, disclosures: list[str]) -> dict[str, Any]:
    claim: dict[str, Any] = {"code": reason.code, "effect": reason.effect}
    if reason.at:
        claim["at"] = reason.at
    if reason.remedy is not None:
        claim["remedy"] = reason.remedy
    if reason.message:
        claim["_sd"] = _hide({"message": reason.message}, disclosures)
    return claim


def _hide(values: Mapping[str, Any], disclosures: list[str]) -> list[str]:
    """Add a disclosure for each value; return their digests, sorted so that order says nothing."""
    new = [encode_disclosure(secrets.token_bytes(16), name, value) for name, value in values.items()]
    disclosures.extend(new)
    return sorted(disclosure_digest(disclosure) for disclosure in new)


def _plain(value: Any) -> Any:
    """Return an obligation's properties as the payload can hold them: no decimals."""
    if isinstance(value, Decimal):
        return canonical_number(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
