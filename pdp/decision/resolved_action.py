"""What an action is: what registry, chain and limits make of a call, and so what has to be read. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from pdp.action.derivation import derive
from pdp.authority.attribute_rules import entities_pointed_to
from pdp.authority.limits import Limits, find_limits, linked_counterparty
from pdp.decision.fingerprint import Fingerprints
from pdp.delegation.chain import PresentedChain, own_session, speaks_in_session
from pdp.model import (
    JSON,
    Boundary,
    Chain,
    DecisionKey,
    Derived,
    EntityName,
    EvaluationRequest,
    Facts,
    FactsRequest,
    KeyHashes,
    Prerequisite,
    PrerequisiteKey,
    Session,
    SessionScope,
    Tool,
)


class ResolutionInputs(NamedTuple):
    """All that a resolved action rests on, beside the request itself.

    A request is resolved to equal actions on equal inputs. They hold nothing that a decision
    changes, so the inputs of one action tell what to read for the session's next one.
    """

    tool: Tool | None
    # Verified as far as it can be proven.
    chain: Chain
    # The caller's own session; None if it is unknown or somebody else's.
    scope: SessionScope | None
    settings: Mapping[str, JSON]
    # The counterparty, if its id stands in another entity of the call.
    counterparty: EntityName | None


NO_INPUTS = ResolutionInputs(tool=None, chain=Chain(), scope=None, settings={}, counterparty=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedAction:
    """What registry, chain and limits make of a call, on given inputs."""

    inputs: ResolutionInputs
    presented: PresentedChain
    derived: Derived
    limits: Limits
    # Hashes of the business key; None if the call has none.
    key: KeyHashes | None
    # The actions that come before this one, each with the rule that says so.
    prerequisites: tuple[tuple[Prerequisite, PrerequisiteKey], ...]
    # The entities that boundaries list, and whose attributes say what they permit.
    listed: tuple[EntityName, ...]

    @property
    def prerequisite_keys(self) -> tuple[PrerequisiteKey, ...]:
        return tuple(key for _, key in self.prerequisites)

    def reads_more_than(self, other: ResolvedAction) -> bool:
        """Whether facts that were read for `other` may lack something of this action."""
        return self is not other and (
            self.derived.entities != other.derived.entities
            or self.key != other.key
            or self.prerequisites != other.prerequisites
            or _has_more(self.limits.counters, other.limits.counters)
            or _has_more(self.listed, other.listed)
        )

    def facts_request(self, request: EvaluationRequest, deadline: float) -> FactsRequest:
        """Return what to read, by `deadline`, for all that the action is."""
        return FactsRequest(
            key=decision_key(request),
            tool=request.action.tool,
            agents=tuple(hop.agent for hop in request.hops),
            deadline=deadline,
            entities=self.derived.entities,
            counters=self.limits.counters,
            business_key=None if self.key is None else self.key.normal,
            prerequisites=self.prerequisite_keys,
            listed=self.listed,
            grants=self.presented.hashes,
            session_token_hash=request.session_token_hash,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ActionContext:
    """A request, what is known about it, and what the request is resolved to on just that."""

    request: EvaluationRequest
    facts: Facts
    # The caller's own session; None if it is unknown or somebody else's.
    session: Session | None
    action: ResolvedAction

    @property
    def chain(self) -> Chain:
        """The chain as far as these facts prove it."""
        return self.action.inputs.chain

    @property
    def unproven(self) -> bool:
        """Whether the caller speaks for an agent of the session, and shows nothing to prove its part in it.

        What is wrong with a chain that it shows is said of the chain.
        """
        return not self.chain.problems and self.proves_nothing

    @property
    def proves_nothing(self) -> bool:
        """Whether the caller speaks for an agent of the session, and does not prove its part in it."""
        return self.session is None and speaks_in_session(self.request.caller, self.facts)

    def with_facts(self, facts: Facts) -> ActionContext:
        """Return the context with facts that differ in the history of session, counters and holds only."""
        return replace(self, facts=facts, session=None if self.session is None else facts.session)


def resolve_action(
    request: EvaluationRequest,
    presented: PresentedChain,
    inputs: ResolutionInputs,
    fingerprints: Fingerprints,
    *,
    earlier: ResolvedAction | None = None,
) -> ResolvedAction:
    """Return what the action is on these inputs.

    `earlier` is what the same request was resolved to before, on whatever inputs. Nothing is taken
    from it but what these inputs, compared by value, would give again.
    """
    if earlier is not None and earlier.inputs == inputs:
        return earlier
    tool, chain, scope = inputs.tool, inputs.chain, inputs.scope
    if earlier is not None and earlier.inputs.tool == tool:
        derived, key, prerequisites = earlier.derived, earlier.key, earlier.prerequisites
    else:
        derived = derive(request.action, tool, audience=request.audience)
        key = _business_key(request, derived, fingerprints)
        prerequisites = _prerequisites(request, tool, derived, fingerprints)
    return ResolvedAction(
        inputs=inputs,
        presented=presented,
        derived=derived,
        limits=find_limits(
            scope,
            inputs.settings,
            tool,
            derived,
            agents=[hop.agent for hop in chain.hops],
            # The root's authority is the session's own, and counted as such.
            grants=[(hop.grant_hash, hop.boundary) for hop in chain.hops[1:]] if chain.proven else (),
            counterparty=inputs.counterparty,
        ),
        key=key,
        prerequisites=prerequisites,
        listed=()
        if scope is None or derived.resource is None
        else entities_pointed_to(_boundaries(scope, chain), derived.resource.type),
    )


def resolve_on_facts(
    request: EvaluationRequest,
    presented: PresentedChain,
    facts: Facts,
    fingerprints: Fingerprints,
    *,
    earlier: ResolvedAction,
) -> ActionContext:
    """Return the action as these facts show it, and they alone. `earlier` as for `resolve_action`."""
    supposed = request.proof_supposed
    chain = presented.verify(request.caller, facts, proof_supposed=supposed)
    session = own_session(request.caller, facts, chain, proof_supposed=supposed)
    inputs = ResolutionInputs(
        tool=facts.tool,
        chain=chain,
        scope=None if session is None else session.scope,
        settings=facts.settings,
        counterparty=None if facts.tool is None else linked_counterparty(facts.tool, facts.entities),
    )
    action = resolve_action(request, presented, inputs, fingerprints, earlier=earlier)
    return ActionContext(request=request, facts=facts, session=session, action=action)


def decision_key(request: EvaluationRequest) -> DecisionKey:
    """Return the key under which the decision on the request is found again."""
    return DecisionKey(
        tenant=request.caller.tenant,
        session_id=request.session_id,
        caller=request.caller.subject,
        leaf_grant=request.leaf_grant_hash if request.delegated_hops else "",
        tool_call_id=request.action.tool_call_id,
        review_id=request.review_id,
    )


def _business_key(
    request: EvaluationRequest, derived: Derived, fingerprints: Fingerprints
) -> KeyHashes | None:
    if derived.business_key is None:
        return None
    return fingerprints.business_key(request.caller.tenant, derived.business_key)


def _prerequisites(
    request: EvaluationRequest, tool: Tool | None, derived: Derived, fingerprints: Fingerprints
) -> tuple[tuple[Prerequisite, PrerequisiteKey], ...]:
    if tool is None:
        return ()
    tenant, arguments = request.caller.tenant, derived.comparable
    return tuple(
        (rule, fingerprints.prerequisite_key(tenant, rule.tool, rule.same, arguments))
        for rule in tool.prerequisites
    )


def _boundaries(scope: SessionScope, chain: Chain) -> tuple[Boundary, ...]:
    """Return all boundaries that the action must lie within. The root grant's is the session's own."""
    own = (scope.boundary,) if scope.template is None else (scope.boundary, scope.template)
    return (*own, *(hop.boundary for hop in chain.hops[1:] if hop.verified))


def _has_more(names: tuple[Hashable, ...], known: tuple[Hashable, ...]) -> bool:
    return names != known and not set(names) <= set(known)
