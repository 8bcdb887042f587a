"""What operators write of entities and read back, whatever protocol they speak."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from pdp.control.writing import attribution, log_nothing, log_write, new_preview_rate
from pdp.errors import NotFoundError
from pdp.model import JSON, Caller, Difference, EntityName, EntityVersion, Posting
from pdp.ports import NOTHING_POSTED, EntityStore


class EntityPoint:
    """Writes and shows entities of the caller's own tenant.

    Each write keeps the caller and `reason` in the history, and is logged once it has committed. Every
    method raises `StoreUnavailableError` when the database does not answer, and each write
    `TenantUnknownError` for a tenant that nobody created.
    """

    def __init__(self, store: EntityStore, *, logged: bool = True) -> None:
        """Without `logged`, writes leave no line in the log: they are to be undone."""
        self._store = store
        self._log = log_write if logged else log_nothing
        self._previews = new_preview_rate()

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
        self._log(caller, "entities", revision, by=by, count=len(entities))
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
        self._log(caller, "entities", version.revision, by=by)
        return version

    async def delete(self, caller: Caller, names: Sequence[EntityName], *, reason: str) -> int:
        """Remove the entities, all or none; one may be missing already. Return the revision."""
        by = attribution(caller, reason)
        revision = await self._store.delete_entities(caller.tenant, names, by=by)
        self._log(caller, "entities", revision, by=by, count=len(names))
        return revision

    async def preview(
        self,
        caller: Caller,
        names: Sequence[EntityName],
        write: Callable[[EntityPoint], Awaitable[object]],
    ) -> Sequence[Difference]:
        """Return what a write would change of the entities, by name, and leave no trace of it.

        `write` makes it at the point that it gets. Raises what the write raises, and `QuotaExceededError` for
        a caller that asks too often.
        """
        self._previews.charge(caller)
        return await self._store.preview(
            caller.tenant, names, lambda store: write(EntityPoint(store, logged=False))
        )

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
