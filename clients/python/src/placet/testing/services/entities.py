"""EntityService of the fake: it keeps no entities, and says so."""

from __future__ import annotations

from typing import Any, NoReturn

from placet.testing.services.refusals import refuse_unknown
from placet.v1 import entity_service_pb2 as entities
from placet.v1 import entity_service_pb2_grpc as stubs


class EntityService(stubs.EntityServiceServicer):
    """What entities are is for the scripts to know."""

    def PutEntities(self, request: entities.PutEntitiesRequest, context: Any) -> NoReturn:
        refuse_unknown(context, "PutEntities", "entities")

    def PatchEntity(self, request: entities.PatchEntityRequest, context: Any) -> NoReturn:
        refuse_unknown(context, "PatchEntity", "entities")

    def DeleteEntities(self, request: entities.DeleteEntitiesRequest, context: Any) -> NoReturn:
        refuse_unknown(context, "DeleteEntities", "entities")

    def GetEntity(self, request: entities.GetEntityRequest, context: Any) -> NoReturn:
        refuse_unknown(context, "GetEntity", "entities")

    def ListEntityHistory(self, request: entities.ListEntityHistoryRequest, context: Any) -> NoReturn:
        refuse_unknown(context, "ListEntityHistory", "entities")
