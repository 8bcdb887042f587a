"""placet.v1.EntityService."""

from __future__ import annotations

from typing import Any

from pdp.control.entities import EntityPoint
from pdp.server.identity.caller import current_caller
from pdp.server.messages import entities, fields
from pdp.server.messages.attribution import reason
from placet.v1 import entity_service_pb2 as messages
from placet.v1 import entity_service_pb2_grpc as stubs


class EntityService(stubs.EntityServiceServicer):
    def __init__(self, point: EntityPoint) -> None:
        self._point = point

    async def PutEntities(
        self, request: messages.PutEntitiesRequest, context: Any
    ) -> messages.PutEntitiesResponse:
        revision = await self._point.put(
            current_caller(),
            entities.entities(request),
            posted=entities.postings(request),
            reason=reason(request),
        )
        return messages.PutEntitiesResponse(revision=revision)

    async def PatchEntity(
        self, request: messages.PatchEntityRequest, context: Any
    ) -> messages.PatchEntityResponse:
        name = entities.entity_name(request.name)
        patch = entities.patch(request)
        version = await self._point.patch(
            current_caller(),
            name,
            set_=patch.set_,
            unset=patch.unset,
            check=entities.check_attributes,
            posted=patch.posted,
            reason=reason(request),
        )
        return messages.PatchEntityResponse(entity=entities.version_message(version))

    async def DeleteEntities(
        self, request: messages.DeleteEntitiesRequest, context: Any
    ) -> messages.DeleteEntitiesResponse:
        revision = await self._point.delete(current_caller(), entities.names(request), reason=reason(request))
        return messages.DeleteEntitiesResponse(revision=revision)

    async def GetEntity(self, request: messages.GetEntityRequest, context: Any) -> messages.GetEntityResponse:
        version = await self._point.get(
            current_caller(),
            entities.entity_name(request.name),
            revision=fields.revision(request.at_revision, "at_revision"),
        )
        return messages.GetEntityResponse(entity=entities.version_message(version))

    async def ListEntityHistory(
        self, request: messages.ListEntityHistoryRequest, context: Any
    ) -> messages.ListEntityHistoryResponse:
        versions = await self._point.history(
            current_caller(),
            entities.entity_name(request.name),
            before=fields.revision(request.before_revision, "before_revision"),
            limit=fields.limit(request.limit, default=20, most=100),
        )
        return messages.ListEntityHistoryResponse(
            versions=[entities.version_message(version) for version in versions]
        )
