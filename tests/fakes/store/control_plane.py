"""The `ControlPlane` of the store in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from pdp.errors import InvalidFieldError
from pdp.model import (
    Agent,
    Attribution,
    IssuerKeys,
    IssuerKeysSnapshot,
    IssuerList,
    Signal,
    Tool,
    ToolPage,
    ToolRevision,
)
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
        if tenant not in self._state.tenants:
            self._state.tenants[tenant] = TenantState(settings=parsed)
            return 1
        existing = self._state.tenants[tenant]
        existing.settings = parsed
        return existing.move("settings")

    async def put_agents(self, tenant: str, agents: Sequence[Agent], *, by: Attribution) -> int:
        self._state.check_up()
        state = self._state.tenant(tenant)
        revision = state.move("agents")
        state.agents.update({agent.agent: replace(agent, revision=revision) for agent in agents})
        return revision

    async def put_tools(self, tenant: str, tools: Sequence[Tool], *, by: Attribution) -> int:
        self._state.check_up()
        state = self._state.tenant(tenant)
        return self._say_tools(state, {tool.name: tool for tool in tools}, by)

    async def tools(
        self, tenant: str, *, revision: int | None = None, after: str = "", limit: int = 50
    ) -> ToolPage:
        self._state.check_up()
        state = self._state.tenant(tenant)
        of = state.revisions["tools"] if revision is None else min(revision, state.revisions["tools"])
        tools = state.tools_at(of)
        return ToolPage(of, [tools[name] for name in sorted(tools) if name > after][:limit])

    async def tool_history(self, tenant: str, *, before: int | None, limit: int) -> Sequence[ToolRevision]:
        self._state.check_up()
        history = self._state.tenants[tenant].tool_history if tenant in self._state.tenants else []
        return [
            ToolRevision(
                revision=revision,
                written_at=at,
                written=tuple(sorted(name for name, tool in said.items() if tool is not None)),
                removed=tuple(sorted(name for name, tool in said.items() if tool is None)),
                by=by,
            )
            for revision, at, said, by in reversed(history)
            if said and (before is None or revision < before)
        ][:limit]

    async def roll_back_tools(self, tenant: str, revision: int, *, by: Attribution) -> int | None:
        self._state.check_up()
        state = self._state.tenant(tenant)
        if not 1 <= revision <= state.revisions["tools"]:
            return None
        wanted = state.tools_at(revision)
        said: dict[str, Tool | None] = dict.fromkeys(set(state.tools) - set(wanted))
        return self._say_tools(state, said | wanted, by)

    def _say_tools(self, state: TenantState, said: Mapping[str, Tool | None], by: Attribution) -> int:
        revision = state.move("tools")
        new = {
            name: None if tool is None else replace(tool, revision=revision) for name, tool in said.items()
        }
        state.tool_history.append((revision, self._state.moment, new, by))
        state.tools = state.tools_at(revision)
        return revision

    async def put_signals(self, tenant: str, signals: Sequence[Signal], *, by: Attribution) -> int:
        self._state.check_up()
        state = self._state.tenant(tenant)
        revision = state.move("signals")
        state.signals.update({signal.name: signal for signal in signals})
        return revision

    async def put_issuer_keys(
        self, tenant: str, issuer: str, keys: Sequence[Mapping[str, str]], *, by: Attribution
    ) -> int:
        self._state.check_up()
        state = self._state.tenant(tenant)
        if issuer not in state.issuers and len(state.issuers) >= MAX_ISSUERS:
            raise InvalidFieldError("issuer", "would be one too many")
        revision = state.move("issuers")
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
