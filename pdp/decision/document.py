"""The input document: everything that policy judges an action on, as JSON.

Its schema is rego/schemas/input.json; docs/policies.md explains it. What is not known is
absent, and rules restrict what is absent. An element that is absent from a list cannot be seen
there, so the document says apart from each list how many elements it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson

from pdp.action.entities import describe_counterparty, describe_entities, describe_reference, is_measured
from pdp.action.prerequisites import Standing
from pdp.action.secrets import claims_without_texts, without_texts
from pdp.authority.attribute_rules import resolve_attribute_rules
from pdp.authority.boundary import boundary_document, without_counts
from pdp.authority.counters import known_since, room_for_buckets
from pdp.authority.limits import describe_limits
from pdp.authority.order_use import OrderUse, add_uses
from pdp.authority.settings import policy_settings
from pdp.jsontext import exact_number
from pdp.model import (
    Action,
    Boundary,
    Chain,
    Derived,
    EntityRole,
    EvaluationRequest,
    Facts,
    KeyHashes,
    MeasuredLimit,
    Prerequisite,
    ResourceRule,
    Session,
    Tool,
    ToolEffect,
    VerifiedHop,
)
from placet._wire.boundary import resource_json

# So many seconds of payments rules see where the tenant sets no window of its own: the bundle's default
# window may be as long.
_WINDOW = 3_600
_NO_ROLES = {role.value: False for role in EntityRole}


def input_document(
    request: EvaluationRequest,
    facts: Facts,
    *,
    session: Session | None,
    chain: Chain,
    derived: Derived,
    limits: Sequence[MeasuredLimit] = (),
    uses: Sequence[OrderUse] = (),
    key: KeyHashes | None = None,
    prerequisites: Sequence[tuple[Prerequisite, Standing]] = (),
) -> bytes:
    """Return the document as JSON text.

    `session` is the caller's own session, `chain` the chain as far as it is proven, `limits` are those
    that the action meets, `uses` what was paid on a payment's record and order, `key` are the hashes of its
    business key, and `prerequisites` what comes before it, each with what was answered to it.
    """
    caller, action = request.caller, request.action
    settings = policy_settings(facts.settings)
    boundaries, own = ([], {}) if session is None else _boundaries(session, chain, facts, derived)
    document: dict[str, Any] = {
        "tenant": caller.tenant,
        "now": rfc3339(facts.now),
        "now_unix": int(facts.now.timestamp()),
        "caller": {
            "subject": caller.subject,
            "roles": sorted(caller.roles),
            "agents": sorted(caller.agents),
            "claims": caller.claims,
        },
        "session": None if session is None else _session(session, facts.now, facts.tool, settings),
        "boundaries": boundaries,
        "chain": [_hop(hop, own.get(hop.depth)) for hop in chain.hops],
        "chain_problems": [{"code": problem.code, "at": problem.at} for problem in chain.problems],
        "agents": _agents(facts, chain),
        "action": _action(action.tool, action.tool_call_id, facts, derived, uses)
        | _earlier(facts, key, prerequisites),
        "claimed": _claimed(action, derived),
        "entities": describe_entities(facts.tool, facts.entities),
        "limits": describe_limits(limits, facts.counters, int(facts.now.timestamp())),
        "settings": settings,
        "signals": facts.signals,
        "counts": _counts(facts, derived, chain=chain, boundaries=len(boundaries), limits=len(limits)),
    }
    return orjson.dumps(document, default=exact_number)


def rfc3339(instant: datetime) -> str:
    """Return an aware UTC instant in whole seconds (RFC 3339 §5.6)."""
    return instant.isoformat(timespec="seconds")[:19] + "Z"


def _counts(facts: Facts, derived: Derived, *, chain: Chain, boundaries: int, limits: int) -> dict[str, int]:
    """Return how many elements the document's lists have, by the names of the lists."""
    refs = () if facts.tool is None else facts.tool.entities
    return {
        "boundaries": boundaries,
        "chain": len(chain.hops),
        "chain_problems": len(chain.problems),
        "entities": len(refs),
        "holds": len(facts.holds),
        "limits": limits,
        "must_match": sum(ref.must_match is not None for ref in refs),
        "problems": len(derived.problems),
    }


def _session(
    session: Session, now: datetime, tool: Tool | None, settings: Mapping[str, Any]
) -> dict[str, Any]:
    aggregates = session.aggregates
    history: dict[str, Any] = {
        "decisions": {
            "allow": aggregates.allow,
            "block": aggregates.block,
            "escalate": aggregates.escalate,
        }
    }
    # Only rules on payments read when payments were made, and only what lies in their window.
    if tool is not None and tool.effect is ToolEffect.PAY:
        window = settings.get("velocity", {}).get("payments", {}).get("window_seconds", _WINDOW)
        since = known_since(window, int(now.timestamp()))
        history["pay_since"] = since
        history["pay_room"] = room_for_buckets(aggregates.pay)
        history["pay"] = [
            {"start": start, "width": width, "count": number}
            for start, width, number in aggregates.pay
            if start + width > since
        ]
        history["pay_count"] = len(history["pay"])
    return {
        "id": session.session_id,
        "state": session.state_at(now),
        "principal": session.principal,
        "agent": session.agent,
        "issuer": session.issuer,
        "version": session.version,
        "opened_at": rfc3339(session.opened_at),
        "expires_at": rfc3339(session.expires_at),
        "task": {"id": session.task.id},
        "history": history,
    }


def _boundaries(
    session: Session, chain: Chain, facts: Facts, derived: Derived
) -> tuple[list[orjson.Fragment], dict[int, int]]:
    """Return the boundaries that an action must lie within, and by the depth of each proven hop which
    of them is its own.

    The session's boundary, which is the root grant's as well, comes first. One that permits the same
    of an action as an earlier one is not repeated.
    """
    kind = "" if derived.resource is None else derived.resource.type
    # Whose each boundary is ("of" and "at"), by what it permits of one action, in order.
    whose: dict[Boundary, tuple[str, str]] = {without_counts(session.boundary): ("session", "")}
    if session.template is not None:
        whose.setdefault(without_counts(session.template), ("template", ""))
    own: dict[int, Boundary] = {}
    for hop in chain.hops:
        if hop.verified:
            own[hop.depth] = without_counts(hop.boundary if hop.depth else session.boundary)
            whose.setdefault(own[hop.depth], ("grant", f"chain[{hop.depth}]"))
    place = {boundary: index for index, boundary in enumerate(whose)}
    listed = [
        _boundary(of, at, boundary, resolve_attribute_rules(boundary, kind, facts.listed))
        for boundary, (of, at) in whose.items()
    ]
    return listed, {depth: place[boundary] for depth, boundary in own.items()}


@lru_cache(maxsize=256)
def _boundary(
    of: str, at: str, boundary: Boundary, permitted: tuple[tuple[ResourceRule, tuple[str, ...]], ...]
) -> orjson.Fragment:
    """Return a boundary as rules see it. `permitted` are the ids that its attribute rules permit.

    Equal boundaries are written once: a session's is the same in all its decisions, and may be long.
    """
    document = {"of": of} | ({"at": at} if at else {}) | boundary_document(boundary)
    ids = dict(permitted)
    document["resources"] = [
        _resource_rule(rule) | ({"resolved": ids[rule]} if rule in ids else {}) for rule in boundary.resources
    ]
    return orjson.Fragment(orjson.dumps(document))


def _resource_rule(rule: ResourceRule) -> dict[str, Any]:
    """A rule that permits every id says so: an empty prefix would permit as much, and may be a lost one."""
    return {"type": rule.type, "any": True} if rule.prefix == "" else resource_json(rule)


def _hop(hop: VerifiedHop, boundary: int | None) -> dict[str, Any]:
    """Return a hop as rules see it: nothing of one that is not proven. `boundary` is the place of its own."""
    if not hop.verified:
        return {"depth": hop.depth, "verified": False}
    described = {
        "agent": hop.agent,
        "depth": hop.depth,
        "verified": True,
        "same_runtime": hop.same_runtime,
        "own_runtime": hop.own_runtime,
        "delegated_by": hop.delegated_by,
    }
    return described if boundary is None else described | {"boundary": boundary}


def _agents(facts: Facts, chain: Chain) -> dict[str, Any]:
    agents: dict[str, Any] = {}
    for name in {hop.agent for hop in chain.hops if hop.verified} & set(facts.agents):
        agent = facts.agents[name]
        agents[name] = {"owner": agent.owner}
        if agent.trust is not None:
            agents[name]["trust"] = agent.trust
    return agents


def _action(
    name: str, tool_call_id: str, facts: Facts, derived: Derived, uses: Sequence[OrderUse]
) -> dict[str, Any]:
    tool = facts.tool
    described: dict[str, Any] = {
        "name": name,
        "known": tool is not None,
        "business_key": tool is not None and tool.business_key is not None,
        "prerequisites": 0 if tool is None else len(tool.prerequisites),
    }
    if tool is not None:
        described["effect"] = tool.effect
        described["reversible"] = tool.reversible
        described["amount"] = tool.amount is not None
        # Each role is there, so that one which is not known cannot pass for one that the tool has not.
        described["roles"] = _NO_ROLES | {ref.role.value: True for ref in tool.entities}
        described["measured"] = is_measured(tool)
        described["must_match"] = [ref.name for ref in tool.entities if ref.must_match is not None]
    action: dict[str, Any] = {
        "tool": described,
        "arguments": derived.shown_arguments,
        "problems": derived.problems,
        "tool_call_id": tool_call_id,
    }
    if derived.resource is not None:
        action["resource"] = {"type": derived.resource.type, "id": derived.resource.id}
    if derived.amount is not None:
        action["amount"] = {"minor": derived.amount.minor, "currency": derived.amount.currency}
    if tool is not None and tool.entities:
        dealt_with = describe_counterparty(tool, facts.entities)
        if dealt_with is not None:
            action["counterparty"] = dealt_with
        if is_measured(tool):
            action["reference"] = describe_reference(tool, derived, facts.entities)
            add_uses(action["reference"], uses, derived.amount)
    if tool is not None and tool.normalise:
        action["normalised"] = _normalised(tool, derived)
    return action


def _normalised(tool: Tool, derived: Derived) -> dict[str, Any]:
    """Return the arguments that have a normal spelling, in it; without secrets."""
    result = {}
    for rule in tool.normalise:
        name = rule.argument
        if name in derived.arguments and name in derived.open_arguments:
            value = derived.arguments[name]
            # Only text is spelt otherwise. Anything else may hold secrets.
            result[name] = value if isinstance(value, str) else derived.shown_arguments[name]
    return result


def _claimed(action: Action, derived: Derived) -> dict[str, Any]:
    """Return what the caller says of the action, as far as it gives no secret away."""
    resource = action.claimed_resource
    if resource != str(derived.resource):
        resource = without_texts(resource, derived.secret_texts)
    return {
        "resource": resource,
        "provenance": claims_without_texts(action.provenance, derived.secret_texts),
        "intent": without_texts(action.intent, derived.secret_texts),
    }


def _earlier(
    facts: Facts,
    key: KeyHashes | None,
    prerequisites: Sequence[tuple[Prerequisite, Standing]],
) -> dict[str, Any]:
    """Return what was decided before and stands in the action's way, or has to come first."""
    result: dict[str, Any] = {}
    if key is not None:
        result["holds"] = [
            {"state": hold.state, "spelling": "same" if hold.given == key.given else "other"}
            for hold in facts.holds
        ]
    if prerequisites:
        result["prerequisites"] = [
            {"tool": rule.tool, "required": rule.required, "latest": standing.latest}
            for rule, standing in prerequisites
        ]
    return result
