"""placet.v1.EntityService."""

from __future__ import annotations

from typing import Any

from pdp.errors import NotFoundError
from pdp.ports import EntityStore
from pdp.server.identity.roles import current_caller
from pdp.server.messages import convert
from pdp.server.messages import entities as convert_entities
from placet.v1 import entity_service_pb2 as messages
from placet.v1 import entity_service_pb2_grpc as stubs


class EntityService(stubs.EntityServiceServicer):
    def __init__(self, entities: EntityStore) -> None:
        self._entities = entities

    async def PutEntities(
        self, request: messages.PutEntitiesRequest, context: Any
    ) -> messages.PutEntitiesResponse:
        caller = current_caller()
        revision = await self._entities.put_entities(
            caller.tenant, convert_entities.entities(request), by=caller.subject
        )
        return messages.PutEntitiesResponse(revision=revision)

    async def PatchEntity(
        self, request: messages.PatchEntityRequest, context: Any
    ) -> messages.PatchEntityResponse:
        caller = current_caller()
        name = convert_entities.entity_name(request.name)
        given, unset = convert_entities.patch(request)
        version = await self._entities.patch_entity(
            caller.tenant,
            name,
            set_=given,
            unset=unset,
            check=convert_entities.check_attributes,
            by=caller.subject,
        )
        if version is None:
            raise NotFoundError(f"there is no {name}")
        return messages.PatchEntityResponse(entity=convert_entities.version_message(version))

    async def DeleteEntities(
        self, request: messages.DeleteEntitiesRequest, context: Any
    ) -> messages.DeleteEntitiesResponse:
        caller = current_caller()
        revision = await self._entities.delete_entities(
            caller.tenant, convert_entities.names(request), by=caller.subject
        )
        return messages.DeleteEntitiesResponse(revision=revision)

    async def GetEntity(self, request: messages.GetEntityRequest, context: Any) -> messages.GetEntityResponse:
        name = convert_entities.entity_name(request.name)
        version = await self._entities.entity_at(
            current_caller().tenant, name, revision=convert.revision(request.at_revision, "at_revision")
        )
        if version is None or version.attributes is None:
            raise NotFoundError(f"there is no {name}")
        return messages.GetEntityResponse(entity=convert_entities.version_message(version))

    async def ListEntityHistory(
        self, request: messages.ListEntityHistoryRequest, context: Any
    ) -> messages.ListEntityHistoryResponse:
        versions = await self._entities.entity_history(
            current_caller().tenant,
            convert_entities.entity_name(request.name),
            before=convert.revision(request.before_revision, "before_revision"),
            limit=convert.limit(request.limit, default=20, most=100),
        )
        return messages.ListEntityHistoryResponse(
            versions=[convert_entities.version_message(version) for version in versions]
        )
