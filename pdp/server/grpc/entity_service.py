"""placet.v1.EntityService."""

from __future__ import annotations

from typing import Any

from pdp.errors import NotFoundError
from pdp.ports import EntityStore
from pdp.server.identity.caller import current_caller
from pdp.server.messages import entities, fields
from placet.v1 import entity_service_pb2 as messages
from placet.v1 import entity_service_pb2_grpc as stubs


class EntityService(stubs.EntityServiceServicer):
    def __init__(self, store: EntityStore) -> None:
        self._store = store

    async def PutEntities(
        self, request: messages.PutEntitiesRequest, context: Any
    ) -> messages.PutEntitiesResponse:
        caller = current_caller()
        revision = await self._store.put_entities(
            caller.tenant, entities.entities(request), by=caller.subject
        )
        return messages.PutEntitiesResponse(revision=revision)

    async def PatchEntity(
        self, request: messages.PatchEntityRequest, context: Any
    ) -> messages.PatchEntityResponse:
        caller = current_caller()
        name = entities.entity_name(request.name)
        patch = entities.patch(request)
        version = await self._store.patch_entity(
            caller.tenant,
            name,
            set_=patch.set_,
            unset=patch.unset,
            check=entities.check_attributes,
            by=caller.subject,
        )
        if version is None:
            raise NotFoundError(f"there is no {name}")
        return messages.PatchEntityResponse(entity=entities.version_message(version))

    async def DeleteEntities(
        self, request: messages.DeleteEntitiesRequest, context: Any
    ) -> messages.DeleteEntitiesResponse:
        caller = current_caller()
        revision = await self._store.delete_entities(
            caller.tenant, entities.names(request), by=caller.subject
        )
        return messages.DeleteEntitiesResponse(revision=revision)

    async def GetEntity(self, request: messages.GetEntityRequest, context: Any) -> messages.GetEntityResponse:
        name = entities.entity_name(request.name)
        version = await self._store.entity_at(
            current_caller().tenant, name, revision=fields.revision(request.at_revision, "at_revision")
        )
        if version is None or version.attributes is None:
            raise NotFoundError(f"there is no {name}")
        return messages.GetEntityResponse(entity=entities.version_message(version))

    async def ListEntityHistory(
        self, request: messages.ListEntityHistoryRequest, context: Any
    ) -> messages.ListEntityHistoryResponse:
        versions = await self._store.entity_history(
            current_caller().tenant,
            entities.entity_name(request.name),
            before=fields.revision(request.before_revision, "before_revision"),
            limit=fields.limit(request.limit, default=20, most=100),
        )
        return messages.ListEntityHistoryResponse(
            versions=[entities.version_message(version) for version in versions]
        )
