"""AdminService of the fake: what is written is checked and counted; it keeps tools' audiences and secrets."""

from __future__ import annotations

from typing import Any, NoReturn

from placet.canonical import CanonicalError, parse_value
from placet.testing.script import Caller
from placet.testing.services.refusals import check_tenant, denied, handle, invalid, refuse_unknown
from placet.testing.services.requests import check_name, check_reason, read_object
from placet.testing.state import FakeState
from placet.v1 import admin_service_pb2 as admin
from placet.v1 import admin_service_pb2_grpc as stubs


class AdminService(stubs.AdminServiceServicer):
    """What tools and agents are is for the scripts to know."""

    def __init__(self, state: FakeState) -> None:
        self._state = state

    def PutTenant(self, request: admin.PutTenantRequest, context: Any) -> admin.PutTenantResponse:
        def answer(caller: Caller) -> admin.PutTenantResponse:
            if request.tenant and check_name(request.tenant, "tenant") != caller.tenant:
                raise denied("a caller writes its own tenant only")
            settings = read_object(request.settings, "settings") if request.settings else {}
            if settings.get("session_proof", "token") not in ("token", "id"):
                raise invalid("settings.session_proof", "must be token or id")
            check_reason(request.reason)
            self._state.take_ids(caller.tenant, settings.get("session_proof") == "id")
            return admin.PutTenantResponse(settings_revision=self._state.put("settings", caller.tenant))

        return handle(self._state, context, "PutTenant", {"operator"}, answer)

    def PutAgents(self, request: admin.PutAgentsRequest, context: Any) -> admin.PutAgentsResponse:
        def answer(caller: Caller) -> admin.PutAgentsResponse:
            if not request.agents:
                raise invalid("agents", "has 0 entries; from 1 to 1000")
            for index, agent in enumerate(request.agents):
                check_name(agent.agent, f"agents[{index}].agent")
                if agent.HasField("trust") and not 0 <= agent.trust <= 1:
                    raise invalid(f"agents[{index}].trust", "must be a number from 0 to 1")
            check_reason(request.reason)
            check_tenant(self._state, caller)
            return admin.PutAgentsResponse(agents_revision=self._state.put("agents", caller.tenant))

        return handle(self._state, context, "PutAgents", {"operator"}, answer)

    def PutTools(self, request: admin.PutToolsRequest, context: Any) -> admin.PutToolsResponse:
        def answer(caller: Caller) -> admin.PutToolsResponse:
            if not request.tools:
                raise invalid("tools", "has 0 entries; from 1 to 1000")
            for index, tool in enumerate(request.tools):
                check_name(tool.name, f"tools[{index}].name")
                if tool.arguments_schema:
                    read_object(tool.arguments_schema, f"tools[{index}].arguments_schema")
                if tool.redeem == admin.REDEEM_RULE_REQUIRED and not tool.audience:
                    raise invalid(f"tools[{index}].audience", "is required where redeem is")
            check_reason(request.reason)
            check_tenant(self._state, caller)
            for tool in request.tools:
                secret = {n for n, role in tool.argument_roles.items() if role == admin.ARGUMENT_ROLE_SECRET}
                self._state.put_tool(
                    caller.tenant,
                    tool.name,
                    audience=tool.audience,
                    secret_paths=tuple(sorted({*tool.secret_arguments, *secret})),
                )
            return admin.PutToolsResponse(tools_revision=self._state.put("tools", caller.tenant))

        return handle(self._state, context, "PutTools", {"operator"}, answer)

    def PatchTenant(self, request: admin.PatchTenantRequest, context: Any) -> NoReturn:
        refuse_unknown(context, "PatchTenant", "settings")

    def PreviewWrite(self, request: admin.PreviewWriteRequest, context: Any) -> NoReturn:
        refuse_unknown(context, "PreviewWrite", "changes")

    def GetChange(self, request: admin.GetChangeRequest, context: Any) -> NoReturn:
        refuse_unknown(context, "GetChange", "changes")

    def GetSettings(self, request: admin.GetSettingsRequest, context: Any) -> NoReturn:
        refuse_unknown(context, "GetSettings", "settings")

    def ListAgents(self, request: admin.ListAgentsRequest, context: Any) -> NoReturn:
        refuse_unknown(context, "ListAgents", "agents")

    def ListSignals(self, request: admin.ListSignalsRequest, context: Any) -> NoReturn:
        refuse_unknown(context, "ListSignals", "signals")

    def ListChanges(self, request: admin.ListChangesRequest, context: Any) -> NoReturn:
        refuse_unknown(context, "ListChanges", "changes")

    def CheckTools(self, request: admin.CheckToolsRequest, context: Any) -> NoReturn:
        refuse_unknown(context, "CheckTools", "tools")

    def ListTools(self, request: admin.ListToolsRequest, context: Any) -> NoReturn:
        refuse_unknown(context, "ListTools", "tools")

    def ListToolHistory(self, request: admin.ListToolHistoryRequest, context: Any) -> NoReturn:
        refuse_unknown(context, "ListToolHistory", "tools")

    def RollbackTools(self, request: admin.RollbackToolsRequest, context: Any) -> NoReturn:
        refuse_unknown(context, "RollbackTools", "tools")

    def PutIssuerKeys(self, request: admin.PutIssuerKeysRequest, context: Any) -> admin.PutIssuerKeysResponse:
        def answer(caller: Caller) -> admin.PutIssuerKeysResponse:
            check_name(request.issuer, "issuer")
            read_object(request.jwks, "jwks")
            check_reason(request.reason)
            check_tenant(self._state, caller)
            return admin.PutIssuerKeysResponse(issuers_revision=self._state.put("issuers", caller.tenant))

        return handle(self._state, context, "PutIssuerKeys", {"operator"}, answer)

    def ListIssuerKeys(self, request: admin.ListIssuerKeysRequest, context: Any) -> NoReturn:
        refuse_unknown(context, "ListIssuerKeys", "keys of issuers")

    def PutSignals(self, request: admin.PutSignalsRequest, context: Any) -> admin.PutSignalsResponse:
        def answer(caller: Caller) -> admin.PutSignalsResponse:
            if not request.signals:
                raise invalid("signals", "has 0 entries; from 1 to 1000")
            for index, signal in enumerate(request.signals):
                check_name(signal.name, f"signals[{index}].name")
                try:
                    parse_value(signal.value, field=f"signals[{index}].value")
                except CanonicalError as exc:
                    raise invalid(exc.field, exc.reason) from exc
            check_reason(request.reason)
            check_tenant(self._state, caller)
            return admin.PutSignalsResponse(signals_revision=self._state.put("signals", caller.tenant))

        return handle(self._state, context, "PutSignals", {"operator"}, answer)
