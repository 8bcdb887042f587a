"""The `ControlPlane` of the store in memory."""

from __future__ import annotations

import copy
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from pdp.errors import InvalidFieldError
from pdp.model import (
    Agent,
    AgentPage,
    Attribution,
    ControlKind,
    ControlRevision,
    Difference,
    IssuerKeys,
    IssuerKeysSnapshot,
    IssuerList,
    RegistryOutline,
    SettingsVersion,
    Signal,
    SignalPage,
    Tool,
    ToolOutline,
    ToolPage,
)
from pdp.ports import ControlPlane
from pdp.postgres.registry_history import agent_text, signal_text
from pdp.postgres.rows import json_text, tool_text
from pdp.sessions.task_tokens import MAX_ISSUERS
from tests.fakes.store.state import StoreState, TenantState


class FakeControlPlane:
    def __init__(self, state: StoreState) -> None:
        self._state = state

    async def put_tenant(self, tenant: str, settings: bytes, *, by: Attribution) -> int:
        self._state.check_up()
        try:
            parsed: Any = json.loads(settings, parse_float=Decimal)
        except ValueError as exc:
            raise InvalidFieldError("settings", "is not JSON") from exc
        if not isinstance(parsed, dict):
            raise InvalidFieldError("settings", "is not a JSON object")
        said = {"": settings}
        if tenant not in self._state.tenants:
            state = self._state.tenants[tenant] = TenantState(settings=parsed)
            state.keep(ControlKind.SETTINGS, 1, said, at=self._state.moment, by=by)
            return 1
        state = self._state.tenants[tenant]
        state.settings = parsed
        return state.say(ControlKind.SETTINGS, said, at=self._state.moment, by=by)

    async def patch_settings(
        self, tenant: str, patch: Callable[[bytes], bytes], *, by: Attribution
    ) -> SettingsVersion:
        now = await self.settings(tenant)
        assert now is not None
        await self.put_tenant(tenant, patch(now.settings), by=by)
        patched = await self.settings(tenant)
        assert patched is not None
        return patched

    async def put_agents(self, tenant: str, agents: Sequence[Agent], *, by: Attribution) -> int:
        self._state.check_up()
        state = self._state.tenant(tenant)
        revision = state.revisions["agents"] + 1
        said = {agent.agent: replace(agent, revision=revision) for agent in agents}
        state.agents.update(said)
        return state.say(ControlKind.AGENTS, said, at=self._state.moment, by=by)

    async def put_tools(self, tenant: str, tools: Sequence[Tool], *, by: Attribution) -> int:
        self._state.check_up()
        state = self._state.tenant(tenant)
        return self._say_tools(state, {tool.name: tool for tool in tools}, by)

    async def tools(
        self, tenant: str, *, revision: int | None = None, after: str = "", limit: int = 50
    ) -> ToolPage:
        return ToolPage(*self._page(tenant, ControlKind.TOOLS, revision, after, limit))

    async def preview(
        self, tenant: str, kind: ControlKind, write: Callable[[ControlPlane], Awaitable[object]]
    ) -> Sequence[Difference]:
        there = copy.deepcopy(self._state)
        plane = FakeControlPlane(there)
        before = there.tenants.get(tenant)
        revision = 0 if before is None else before.revisions[kind]
        await write(plane)
        now = there.tenants[tenant].revisions[kind]
        return () if now == revision and before is not None else await plane.differences(tenant, kind, now)

    async def outline(self, tenant: str, agent: str) -> RegistryOutline:
        self._state.check_up()
        state = self._state.tenants.get(tenant, TenantState(settings={}))
        return RegistryOutline(
            agent_known=agent in state.agents,
            tools=[
                ToolOutline(name=tool.name, effect=tool.effect, resource=tool.resource, amount=tool.amount)
                for tool in state.tools.values()
            ],
        )

    async def settings(self, tenant: str, *, revision: int | None = None) -> SettingsVersion | None:
        of, _ = self._page(tenant, ControlKind.SETTINGS, revision, "", 1)
        change, said = self._state.tenant(tenant).histories[ControlKind.SETTINGS][of - 1]
        return SettingsVersion(revision=of, settings=said[""], written_at=change.written_at, by=change.by)

    async def agents(
        self, tenant: str, *, revision: int | None = None, after: str = "", limit: int = 100
    ) -> AgentPage:
        return AgentPage(*self._page(tenant, ControlKind.AGENTS, revision, after, limit))

    async def signals(
        self, tenant: str, *, revision: int | None = None, after: str = "", limit: int = 100
    ) -> SignalPage:
        return SignalPage(*self._page(tenant, ControlKind.SIGNALS, revision, after, limit))

    async def history(
        self, tenant: str, kind: ControlKind, *, before: int | None, limit: int
    ) -> Sequence[ControlRevision]:
        self._state.check_up()
        state = self._state.tenants.get(tenant)
        found = [] if state is None else state.histories.get(kind, [])
        return [
            change
            for change, said in reversed(found)
            if said and (before is None or change.revision < before)
        ][:limit]

    async def differences(
        self, tenant: str, kind: ControlKind, revision: int, *, after: str = "", limit: int = 20
    ) -> Sequence[Difference]:
        self._state.check_up()
        state = self._state.tenants.get(tenant)
        found = [] if state is None else state.histories.get(kind, [])
        said = next((said for change, said in found if change.revision == revision), {})
        before = {} if state is None else state.standing(kind, revision - 1)
        return [
            Difference(name=name, before=_text(kind, before.get(name)), after=_text(kind, said[name]))
            for name in sorted(said)
            if name > after or not name
        ][:limit]

    def _page(
        self, tenant: str, kind: ControlKind, revision: int | None, after: str, limit: int
    ) -> tuple[int, list[Any]]:
        self._state.check_up()
        state = self._state.tenant(tenant)
        of = state.revisions[kind] if revision is None else min(revision, state.revisions[kind])
        found = state.standing(kind, of)
        return of, [found[name] for name in sorted(found) if name > after][:limit]

    async def roll_back_tools(self, tenant: str, revision: int, *, by: Attribution) -> int | None:
        self._state.check_up()
        state = self._state.tenant(tenant)
        if not 1 <= revision <= state.revisions["tools"]:
            return None
        wanted = state.standing(ControlKind.TOOLS, revision)
        said: dict[str, Tool | None] = dict.fromkeys(set(state.tools) - set(wanted))
        return self._say_tools(state, said | wanted, by)

    def _say_tools(self, state: TenantState, said: Mapping[str, Tool | None], by: Attribution) -> int:
        new = state.revisions["tools"] + 1
        tools = {name: None if tool is None else replace(tool, revision=new) for name, tool in said.items()}
        revision = state.say(ControlKind.TOOLS, tools, at=self._state.moment, by=by)
        state.tools = state.standing(ControlKind.TOOLS, revision)
        return revision

    async def put_signals(self, tenant: str, signals: Sequence[Signal], *, by: Attribution) -> int:
        self._state.check_up()
        state = self._state.tenant(tenant)
        said = {signal.name: signal for signal in signals}
        state.signals.update(said)
        return state.say(ControlKind.SIGNALS, said, at=self._state.moment, by=by)

    async def put_issuer_keys(
        self, tenant: str, issuer: str, keys: Sequence[Mapping[str, str]], *, by: Attribution
    ) -> int:
        self._state.check_up()
        state = self._state.tenant(tenant)
        if issuer not in state.issuers and len(state.issuers) >= MAX_ISSUERS:
            raise InvalidFieldError("issuer", "would be one too many")
        revision = state.say(ControlKind.ISSUERS, {issuer: tuple(keys)}, at=self._state.moment, by=by)
        state.issuers[issuer] = IssuerKeys(
            issuer=issuer, keys=tuple(keys), revision=revision, written_at=self._state.moment, by=by
        )
        return revision

    async def issuer_keys(self, tenant: str) -> IssuerList:
        self._state.check_up()
        state = self._state.tenant(tenant)
        return IssuerList(state.revisions["issuers"], [state.issuers[name] for name in sorted(state.issuers)])

    async def keys_of(self, tenant: str, issuer: str) -> IssuerKeysSnapshot:
        self._state.check_up()
        state = self._state.tenant(tenant)
        return IssuerKeysSnapshot(state.issuers.get(issuer), state.epoch)


def _text(kind: ControlKind, value: Any) -> str | None:
    """Return what the history of a real store says of a value."""
    if value is None:
        return None
    match kind:
        case ControlKind.SETTINGS:
            return str(value.decode())
        case ControlKind.AGENTS:
            return agent_text(value)
        case ControlKind.TOOLS:
            return tool_text(value)
        case ControlKind.SIGNALS:
            return signal_text(value)
        case ControlKind.ISSUERS:
            return json_text(list(value))
