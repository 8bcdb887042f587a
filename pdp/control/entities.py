"""What operators write of entities and read back, whatever protocol they speak."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pdp.control.writing import attribution, log_write
from pdp.errors import NotFoundError
from pdp.jsontext import arguments_json
from pdp.model import JSON, Caller, Difference, EntityName, EntityVersion, Posting
from pdp.ports import NOTHING_POSTED, EntityStore


class EntityPoint:
    """Writes and shows entities of the caller's own tenant.

    Each write keeps the caller and `reason` in the history, and is logged once it has committed. Every
    method raises `StoreUnavailableError` when the database does not answer, and each write
    `TenantUnknownError` for a tenant that nobody created.
    """

    def __init__(self, store: EntityStore) -> None:
        self._store = store

    async def put(
        self,
        caller: Caller,
        entities: Mapping[EntityName, Mapping[str, JSON]],
        *,
        posted: Mapping[EntityName, Sequence[Posting]] = NOTHING_POSTED,
        reason: str,
    ) -> int:
        """Create the entities, or replace their attributes, all or none; return the revision.

        Their figures contain what `posted` says, and nothing else. Raises `InvalidFieldError`.
        """
        by = attribution(caller, reason)
        revision = await self._store.put_entities(caller.tenant, entities, by=by, posted=posted)
        log_write(caller, "entities", revision, by=by, count=len(entities))
        return revision

    async def patch(
        self,
        caller: Caller,
        name: EntityName,
        *,
        set_: Mapping[str, JSON],
        unset: Sequence[str],
        check: Callable[[Mapping[str, JSON]], None],
        posted: Sequence[Posting] = (),
        reason: str,
    ) -> EntityVersion:
        """Set and remove attributes, and leave the others; return what the entity is then.

        Its figures contain what `posted` says of each decision, and of others what they did.

        `check` gets the result before it is written; what it raises is raised. Raises `NotFoundError`.
        """
        by = attribution(caller, reason)
        version = await self._store.patch_entity(
            caller.tenant, name, set_=set_, unset=unset, check=check, by=by, posted=posted
        )
        if version is None:
            raise NotFoundError(f"there is no {name}")
        log_write(caller, "entities", version.revision, by=by)
        return version

    async def delete(self, caller: Caller, names: Sequence[EntityName], *, reason: str) -> int:
        """Remove the entities, all or none; one may be missing already. Return the revision."""
        by = attribution(caller, reason)
        revision = await self._store.delete_entities(caller.tenant, names, by=by)
        log_write(caller, "entities", revision, by=by, count=len(names))
        return revision

    async def preview_put(
        self, caller: Caller, entities: Mapping[EntityName, Mapping[str, JSON]]
    ) -> Sequence[Difference]:
        """Return what `put` would change, by name. This and the two below write nothing."""
        before = await self._store.attributes_of(caller.tenant, list(entities))
        return _differences({name: (before.get(name), after) for name, after in entities.items()})

    async def preview_patch(
        self,
        caller: Caller,
        name: EntityName,
        *,
        set_: Mapping[str, JSON],
        unset: Sequence[str],
        check: Callable[[Mapping[str, JSON]], None],
    ) -> Sequence[Difference]:
        """Return what `patch` would change; raises what it would."""
        before = (await self._store.attributes_of(caller.tenant, [name])).get(name)
        if before is None:
            raise NotFoundError(f"there is no {name}")
        after = {key: value for key, value in before.items() if key not in unset} | dict(set_)
        check(after)
        return _differences({name: (before, after)})

    async def preview_delete(self, caller: Caller, names: Sequence[EntityName]) -> Sequence[Difference]:
        """Return what `delete` would remove."""
        before = await self._store.attributes_of(caller.tenant, names)
        return _differences({name: (attributes, None) for name, attributes in before.items()})

    async def get(self, caller: Caller, name: EntityName, *, revision: int | None) -> EntityVersion:
        """Return the entity as it is, or as it was known at `revision`.

        Raises `NotFoundError` if it did not exist.
        """
        version = await self._store.entity_at(caller.tenant, name, revision=revision)
        if version is None or version.attributes is None:
            raise NotFoundError(f"there is no {name}")
        return version

    async def history(
        self, caller: Caller, name: EntityName, *, before: int | None, limit: int
    ) -> Sequence[EntityVersion]:
        """Return what was written of the entity before revision `before`, latest first."""
        return await self._store.entity_history(caller.tenant, name, before=before, limit=limit)


def _differences(
    found: Mapping[EntityName, tuple[Mapping[str, JSON] | None, Mapping[str, JSON] | None]],
) -> Sequence[Difference]:
    """Return each entity with what is said of it before and after, by name."""
    return [
        Difference(name=str(name), before=_text(before), after=_text(after))
        for name, (before, after) in sorted(found.items(), key=lambda item: str(item[0]))
    ]


def _text(attributes: Mapping[str, JSON] | None) -> str | None:
    return None if attributes is None else arguments_json(attributes).decode()
