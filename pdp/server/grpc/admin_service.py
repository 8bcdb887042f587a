"""placet.v1.AdminService, and DevService for a clock that can be moved."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from pdp.control.entities import EntityPoint
from pdp.control.point import ControlPoint
from pdp.errors import InvalidFieldError
from pdp.model import Caller, ControlKind, Difference, EntityName
from pdp.ports import Clock
from pdp.server.identity.caller import current_caller
from pdp.server.messages import control_plane, entities, fields, tools
from pdp.server.messages.attribution import reason
from pdp.sessions.task_tokens import issuer_keys, issuer_name
from placet.v1 import admin_service_pb2 as messages
from placet.v1 import admin_service_pb2_grpc as stubs
from placet.v1 import dev_service_pb2 as dev_messages
from placet.v1 import dev_service_pb2_grpc as dev_stubs


class _Write(NamedTuple):
    """A write that can be previewed."""

    rpc: str
    kind: ControlKind


# By their names in PreviewWriteRequest.
_WRITES = {
    "put_tenant": _Write("PutTenant", ControlKind.SETTINGS),
    "patch_tenant": _Write("PatchTenant", ControlKind.SETTINGS),
    "put_agents": _Write("PutAgents", ControlKind.AGENTS),
    "put_tools": _Write("PutTools", ControlKind.TOOLS),
    "roll_back_tools": _Write("RollbackTools", ControlKind.TOOLS),
    "put_signals": _Write("PutSignals", ControlKind.SIGNALS),
    "put_issuer_keys": _Write("PutIssuerKeys", ControlKind.ISSUERS),
}


def _entity_write(
    request: messages.PreviewWriteRequest,
) -> tuple[Sequence[EntityName], Callable[[Caller, EntityPoint], Awaitable[object]]]:
    """Return which entities a write is about, and the write."""
    if request.HasField("put_entities"):
        put = request.put_entities
        found, posted, why = entities.entities(put), entities.postings(put), reason(put)
        return list(found), lambda caller, point: point.put(caller, found, posted=posted, reason=why)
    if request.HasField("delete_entities"):
        names, why = entities.names(request.delete_entities), reason(request.delete_entities)
        return names, lambda caller, point: point.delete(caller, names, reason=why)
    name, patch = entities.entity_name(request.patch_entity.name), entities.patch(request.patch_entity)
    why = reason(request.patch_entity)
    return [name], lambda caller, point: point.patch(
        caller,
        name,
        set_=patch.set_,
        unset=patch.unset,
        check=entities.check_attributes,
        posted=patch.posted,
        reason=why,
    )


class AdminService(stubs.AdminServiceServicer):
    def __init__(self, point: ControlPoint, entity_point: EntityPoint) -> None:
        self._point = point
        self._entity_point = entity_point

    async def PutTenant(self, request: messages.PutTenantRequest, context: Any) -> messages.PutTenantResponse:
        revision = await self._point.put_settings(
            current_caller(),
            control_plane.tenant(request),
            control_plane.settings(request),
            reason=reason(request),
        )
        return messages.PutTenantResponse(settings_revision=revision)

    async def PatchTenant(
        self, request: messages.PatchTenantRequest, context: Any
    ) -> messages.PatchTenantResponse:
        version = await self._point.patch_settings(
            current_caller(),
            fields.json_object(request.settings, "settings", required=True),
            reason=reason(request),
        )
        return messages.PatchTenantResponse(settings_revision=version.revision, settings=version.settings)

    async def GetSettings(
        self, request: messages.GetSettingsRequest, context: Any
    ) -> messages.GetSettingsResponse:
        version = await self._point.settings(
            current_caller(), revision=fields.revision(request.at_revision, "at_revision")
        )
        return control_plane.settings_message(version)

    async def ListAgents(
        self, request: messages.ListAgentsRequest, context: Any
    ) -> messages.ListAgentsResponse:
        page = await self._point.agents(
            current_caller(),
            revision=fields.revision(request.at_revision, "at_revision"),
            after=request.after,
            limit=fields.limit(request.limit, default=100, most=100),
        )
        return messages.ListAgentsResponse(
            agents=[control_plane.agent_message(agent) for agent in page.agents],
            agents_revision=page.revision,
        )

    async def ListSignals(
        self, request: messages.ListSignalsRequest, context: Any
    ) -> messages.ListSignalsResponse:
        page = await self._point.signals(
            current_caller(),
            revision=fields.revision(request.at_revision, "at_revision"),
            after=request.after,
            limit=fields.limit(request.limit, default=100, most=100),
        )
        return messages.ListSignalsResponse(
            signals=[control_plane.signal_message(signal) for signal in page.signals],
            signals_revision=page.revision,
        )

    async def ListChanges(
        self, request: messages.ListChangesRequest, context: Any
    ) -> messages.ListChangesResponse:
        changes = await self._point.history(
            current_caller(),
            control_plane.kind(request),
            before=fields.revision(request.before_revision, "before_revision"),
            limit=fields.limit(request.limit, default=20, most=100),
        )
        return messages.ListChangesResponse(
            changes=[control_plane.change_message(change) for change in changes]
        )

    async def GetChange(self, request: messages.GetChangeRequest, context: Any) -> messages.GetChangeResponse:
        revision = fields.revision(request.revision, "revision")
        if revision is None:
            raise InvalidFieldError("revision", "is required")
        change, differences = await self._point.change(
            current_caller(),
            control_plane.kind(request),
            revision,
            after=request.after,
            limit=fields.limit(request.limit, default=20, most=20),
        )
        return messages.GetChangeResponse(
            change=control_plane.change_message(change),
            differences=[control_plane.difference_message(item) for item in differences],
        )

    async def PreviewWrite(
        self, request: messages.PreviewWriteRequest, context: Any
    ) -> messages.PreviewWriteResponse:
        return control_plane.preview_message(await self._previewed(current_caller(), request))

    async def _previewed(self, caller: Caller, request: messages.PreviewWriteRequest) -> Sequence[Difference]:
        named = request.WhichOneof("write")
        if named in ("put_entities", "patch_entity", "delete_entities"):
            names, change = _entity_write(request)
            return await self._entity_point.preview(caller, names, lambda point: change(caller, point))
        if named is None:
            raise InvalidFieldError("write", "is required")
        given = getattr(request, named)

        def write(point: ControlPoint) -> Awaitable[object]:
            # The very service that the write would come to, on a point whose writes are undone.
            service = AdminService(point, self._entity_point)
            return getattr(service, _WRITES[named].rpc)(given, context=None)  # type: ignore[no-any-return]

        return await self._point.preview(caller, _WRITES[named].kind, write)

    async def PutAgents(self, request: messages.PutAgentsRequest, context: Any) -> messages.PutAgentsResponse:
        revision = await self._point.put_agents(
            current_caller(), control_plane.agents(request), reason=reason(request)
        )
        return messages.PutAgentsResponse(agents_revision=revision)

    async def PutTools(self, request: messages.PutToolsRequest, context: Any) -> messages.PutToolsResponse:
        done = await self._point.put_tools(current_caller(), tools.tools(request), reason=reason(request))
        return messages.PutToolsResponse(
            tools_revision=done.revision, warnings=tools.finding_messages(done.warnings, most=200)
        )

    async def CheckTools(
        self, request: messages.CheckToolsRequest, context: Any
    ) -> messages.CheckToolsResponse:
        found = await self._point.check_tools(current_caller(), tools.tools(request))
        return messages.CheckToolsResponse(findings=tools.finding_messages(found, most=1000))

    async def ListTools(self, request: messages.ListToolsRequest, context: Any) -> messages.ListToolsResponse:
        page = await self._point.tools(
            current_caller(),
            revision=fields.revision(request.at_revision, "at_revision"),
            after=request.after,
            limit=fields.limit(request.limit, default=50, most=50),
        )
        return messages.ListToolsResponse(
            tools=[tools.tool_message(tool) for tool in page.tools], tools_revision=page.revision
        )

    async def ListToolHistory(
        self, request: messages.ListToolHistoryRequest, context: Any
    ) -> messages.ListToolHistoryResponse:
        history = await self._point.history(
            current_caller(),
            ControlKind.TOOLS,
            before=fields.revision(request.before_revision, "before_revision"),
            limit=fields.limit(request.limit, default=20, most=100),
        )
        return messages.ListToolHistoryResponse(
            revisions=[control_plane.tool_revision_message(revision) for revision in history]
        )

    async def RollbackTools(
        self, request: messages.RollbackToolsRequest, context: Any
    ) -> messages.RollbackToolsResponse:
        to = fields.revision(request.to_revision, "to_revision")
        if to is None:
            raise InvalidFieldError("to_revision", "is required")
        done = await self._point.roll_back_tools(current_caller(), to, reason=reason(request))
        return messages.RollbackToolsResponse(
            tools_revision=done.revision, warnings=tools.finding_messages(done.warnings, most=200)
        )

    async def PutSignals(
        self, request: messages.PutSignalsRequest, context: Any
    ) -> messages.PutSignalsResponse:
        revision = await self._point.put_signals(
            current_caller(), control_plane.signals(request), reason=reason(request)
        )
        return messages.PutSignalsResponse(signals_revision=revision)

    async def PutIssuerKeys(
        self, request: messages.PutIssuerKeysRequest, context: Any
    ) -> messages.PutIssuerKeysResponse:
        revision = await self._point.put_issuer_keys(
            current_caller(), issuer_name(request.issuer), issuer_keys(request.jwks), reason=reason(request)
        )
        return messages.PutIssuerKeysResponse(issuers_revision=revision)

    async def ListIssuerKeys(
        self, request: messages.ListIssuerKeysRequest, context: Any
    ) -> messages.ListIssuerKeysResponse:
        revision, issuers = await self._point.issuer_keys(current_caller())
        return messages.ListIssuerKeysResponse(
            issuers=[control_plane.issuer_keys_message(issuer) for issuer in issuers],
            issuers_revision=revision,
        )


class DevService(dev_stubs.DevServiceServicer):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def AdvanceClock(
        self, request: dev_messages.AdvanceClockRequest, context: Any
    ) -> dev_messages.AdvanceClockResponse:
        by = fields.duration(request.by, "by", most=timedelta(days=366))
        now = await self._clock.advance(by.total_seconds())
        return dev_messages.AdvanceClockResponse(now=fields.timestamp(now))
