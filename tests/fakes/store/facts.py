"""The `InformationPoint` of the store in memory."""

from __future__ import annotations

from collections.abc import Sequence

from pdp.action.templates import identifier
from pdp.authority.order_use import PAID, POSTED, entity_scope
from pdp.model import (
    JSON,
    CounterKey,
    EntityName,
    EntityQuery,
    Facts,
    FactsRequest,
    KnownEntity,
    PriorDecision,
)
from tests.fakes.store.state import StoreState, TenantState


class FakeInformationPoint:
    def __init__(self, state: StoreState) -> None:
        self._state = state

    async def gather(self, request: FactsRequest) -> Facts:
        self._state.check_deadline(request.deadline)
        self._state.check_up()
        key = request.key
        tenant = self._state.tenant(key.tenant)
        session = self._state.sessions.get((key.tenant, key.session_id))
        wanted = {*request.agents, *([session.agent] if session is not None else [])}
        prior = None
        if key in self._state.keys:
            recording, position = self._state.decisions[key.tenant, self._state.keys[key]]
            prior = PriorDecision(
                decision_id=recording.decision.decision_id,
                effect=recording.decision.effect,
                action_fingerprint=recording.action_fingerprint,
                recorded_at=self._state.recorded_at[recording.decision.decision_id],
                expires_at=recording.decision.expires_at,
                retryable=recording.decision.retryable,
                token=recording.receipt.token,
                position=position,
                has_outcome=(held := tenant.holds.get(recording.decision.decision_id)) is not None
                and held.record.outcome is not None,
                revoked=not key.leaf_grant
                and any(row.revoked_at is not None for row in tenant.grant_path(recording.acted_on)),
            )
        return Facts(
            now=self._state.moment,
            epoch=tenant.epoch,
            settings=dict(tenant.settings),
            data_revisions={kind: of for kind, of in tenant.revisions.items() if kind != "issuers"},
            session=session,
            tool=tenant.tools.get(request.tool),
            agents={name: tenant.agents[name] for name in wanted if name in tenant.agents},
            signals={
                signal.name: signal.value
                for signal in tenant.signals.values()
                if signal.expires_at is None or signal.expires_at > self._state.moment
            },
            prior=prior,
            entities=_entities(tenant, request.entities),
            listed={name: tenant.known(name) for name in request.listed},
            counters={
                key: tenant.counters[key]
                for key in (*request.counters, *_measured(tenant, request.entities))
                if key in tenant.counters
            },
            holds=tuple(
                seen
                for decision_id, hold in tenant.holds.items()
                if hold.record.key is not None and hold.record.key == request.business_key
                if (seen := hold.seen_at(decision_id, self._state.moment)) is not None
            ),
            key_version=tenant.keys.get(request.business_key or "", 0),
            prerequisites={
                wanted: answer
                for wanted in request.prerequisites
                if (answer := tenant.answer(key.session_id, wanted, self._state.moment)) is not None
            },
            prerequisite_of=tuple(
                sorted(
                    {
                        tuple(sorted(rule.same))
                        for tool in tenant.tools.values()
                        for rule in tool.prerequisites
                        if rule.tool == request.tool
                    }
                )
            ),
            token_lives=request.session_token_hash
            in self._state.tokens.get((key.tenant, key.session_id), ()),
            grants={name: tenant.grants[name] for name in request.grants if name in tenant.grants},
        )


def _measured(tenant: TenantState, queries: Sequence[EntityQuery]) -> list[CounterKey]:
    """Return the counters of what was paid on the entities, as far as the queries ask for them."""
    found = _entities(tenant, queries)
    return [
        CounterKey(entity_scope(found[query.name].name), f"{counted}:{query.measure}")
        for query in queries
        if query.measure is not None and query.name in found
        for counted in (PAID, POSTED)
    ]


def _entities(tenant: TenantState, queries: Sequence[EntityQuery]) -> dict[str, KnownEntity]:
    found = {}
    for query in queries:
        entity_id: JSON = query.id
        if query.via is not None:
            attributes = tenant.known(EntityName(type=query.of, id=query.id)).attributes
            entity_id = None if attributes is None else attributes.get(query.via)
        if isinstance(entity_id, str) and identifier(entity_id) is not None:
            found[query.name] = tenant.known(EntityName(type=query.type, id=entity_id))
    return found
