"""The `EntityStore` of the store in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pdp.model import JSON, Attribution, EntityName, EntityVersion
from tests.fakes.store.state import StoreState


class FakeEntityStore:
    def __init__(self, state: StoreState) -> None:
        self._state = state

    async def put_entities(
        self, tenant: str, entities: Mapping[EntityName, Mapping[str, JSON]], *, by: Attribution
    ) -> int:
        return self._write(tenant, entities, by)

    async def patch_entity(
        self,
        tenant: str,
        name: EntityName,
        *,
        set_: Mapping[str, JSON],
        unset: Sequence[str],
        check: Callable[[Mapping[str, JSON]], None],
        by: Attribution,
    ) -> EntityVersion | None:
        self._state.check_up()
        state = self._state.tenants.get(tenant)
        before = None if state is None else state.known(name).attributes
        if state is None or before is None:
            return None
        after = {key: value for key, value in before.items() if key not in unset} | dict(set_)
        check(after)
        self._write(tenant, {name: after}, by)
        return state.entities[name][-1]

    async def delete_entities(self, tenant: str, names: Sequence[EntityName], *, by: Attribution) -> int:
        self._state.check_up()
        state = self._state.tenant(tenant)
        there = [name for name in names if state.known(name).attributes is not None]
        return self._write(tenant, dict.fromkeys(there), by)

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
        self, tenant: str, entities: Mapping[EntityName, Mapping[str, JSON] | None], by: Attribution
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
                )
            )
        return state.revisions["entities"]
