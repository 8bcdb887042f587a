"""The `EntityStore` of the store in memory."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from pdp.authority.postings import find_payment, not_paid, post, posted_minor
from pdp.model import JSON, Attribution, Counter, Difference, EntityName, EntityVersion, Posting
from pdp.ports import NOTHING_POSTED, EntityStore
from pdp.postgres.rows import json_text
from tests.fakes.store.state import StoreState, TenantState


class FakeEntityStore:
    def __init__(self, state: StoreState) -> None:
        self._state = state

    async def put_entities(
        self,
        tenant: str,
        entities: Mapping[EntityName, Mapping[str, JSON]],
        *,
        by: Attribution,
        posted: Mapping[EntityName, Sequence[Posting]] = NOTHING_POSTED,
    ) -> int:
        self._state.check_up()
        state = self._state.tenant(tenant)
        wanted = [(name, posting) for name in entities for posting in posted.get(name, ())]
        said = {(name, posting.decision_id) for name, posting in wanted}
        gone = [
            (name, Posting(decision_id, Decimal(0)))
            for name, decision_id in state.postings
            if name in entities and (name, decision_id) not in said
        ]
        _post(state, [*wanted, *gone])
        return self._write(tenant, entities, by, posted)

    async def patch_entity(
        self,
        tenant: str,
        name: EntityName,
        *,
        set_: Mapping[str, JSON],
        unset: Sequence[str],
        check: Callable[[Mapping[str, JSON]], None],
        by: Attribution,
        posted: Sequence[Posting] = (),
    ) -> EntityVersion | None:
        self._state.check_up()
        state = self._state.tenants.get(tenant)
        before = None if state is None else state.known(name).attributes
        if state is None or before is None:
            return None
        after = {key: value for key, value in before.items() if key not in unset} | dict(set_)
        check(after)
        _post(state, [(name, posting) for posting in posted])
        self._write(tenant, {name: after}, by, {name: posted})
        return state.entities[name][-1]

    async def delete_entities(self, tenant: str, names: Sequence[EntityName], *, by: Attribution) -> int:
        self._state.check_up()
        state = self._state.tenant(tenant)
        there = [name for name in names if state.known(name).attributes is not None]
        return self._write(tenant, dict.fromkeys(there), by)

    async def preview(
        self,
        tenant: str,
        names: Sequence[EntityName],
        write: Callable[[EntityStore], Awaitable[object]],
    ) -> Sequence[Difference]:
        self._state.check_up()
        there = copy.deepcopy(self._state)
        before = _known(there, tenant, names)
        await write(FakeEntityStore(there))
        after = _known(there, tenant, names)
        return [
            Difference(name=str(name), before=before.get(name), after=after.get(name))
            for name in sorted({*before, *after}, key=str)
        ]

    async def entity_at(
        self, tenant: str, name: EntityName, *, revision: int | None = None
    ) -> EntityVersion | None:
        before = None if revision is None else revision + 1
        versions = await self.entity_history(tenant, name, before=before, limit=1)
        return versions[0] if versions else None

    async def entity_history(
        self, tenant: str, name: EntityName, *, before: int | None, limit: int
    ) -> Sequence[EntityVersion]:
        self._state.check_up()
        state = self._state.tenants.get(tenant)
        versions = [] if state is None else state.entities.get(name, [])
        return [v for v in reversed(versions) if before is None or v.revision < before][:limit]

    def _write(
        self,
        tenant: str,
        entities: Mapping[EntityName, Mapping[str, JSON] | None],
        by: Attribution,
        posted: Mapping[EntityName, Sequence[Posting]] = NOTHING_POSTED,
    ) -> int:
        self._state.check_up()
        state = self._state.tenant(tenant)
        state.revisions["entities"] += 1
        for name, attributes in entities.items():
            state.entities.setdefault(name, []).append(
                EntityVersion(
                    name=name,
                    revision=state.revisions["entities"],
                    attributes=attributes,
                    by=by,
                    written_at=self._state.moment,
                    posted={posting.decision_id: posting.amount for posting in posted.get(name, ())},
                )
            )
        return state.revisions["entities"]


def _post(state: TenantState, wanted: Sequence[tuple[EntityName, Posting]]) -> None:
    """Write postings, all or none. Raises `InvalidFieldError`."""
    stated = []
    for name, posting in wanted:
        hold = state.holds.get(posting.decision_id)
        payment = None if hold is None else find_payment(name, hold.record.totals)
        if hold is None or payment is None:
            raise not_paid(posting)
        terms = state.counters[payment.paid].terms
        minor = posted_minor(posting, terms) if posting.amount else 0
        stated.append((name, posting, hold, payment, minor))
    for name, posting, hold, payment, minor in stated:
        change = post(hold.record.totals, payment, minor, hold.record.state)
        counter = state.counters.get(payment.posted, Counter())
        state.counters[payment.posted] = counter._replace(total=max(0, counter.total + change.add))
        hold.record = replace(hold.record, totals=change.totals, version=hold.record.version + 1)
        state.postings.discard((name, posting.decision_id))
        if payment.posted in dict(change.totals):
            state.postings.add((name, posting.decision_id))


def _known(state: StoreState, tenant: str, names: Sequence[EntityName]) -> dict[EntityName, str]:
    """Return the attributes, as JSON text, of those that exist."""
    found = state.tenants.get(tenant)
    known = {name: None if found is None else found.known(name).attributes for name in names}
    return {name: json_text(attributes) for name, attributes in known.items() if attributes is not None}
