"""What operators write for a tenant and read back, whatever protocol they speak."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

import orjson

from pdp.action.lint import Judged, lint_registrations, refuse_errors
from pdp.authority.settings import parse_settings
from pdp.control.merging import merge
from pdp.control.writing import attribution, log_nothing, log_write, new_preview_rate
from pdp.errors import NotFoundError, PermissionDeniedError
from pdp.jsontext import exact_number
from pdp.model import (
    JSON,
    Agent,
    AgentPage,
    Caller,
    ControlKind,
    ControlRevision,
    Difference,
    IssuerList,
    SettingsVersion,
    Signal,
    SignalPage,
    Tool,
    ToolPage,
)
from pdp.ports import ControlPlane
from placet.canonical import parse_object

# So many tools are read at once.
_PAGE = 500


class ToolsWritten(NamedTuple):
    """A revision of the registry, and what is doubtful in the tools that it wrote."""

    revision: int
    warnings: Sequence[Judged]


async def _judge(tools: Sequence[Tool], registered: Sequence[Tool]) -> list[Judged]:
    """Return what is found in tools; between two of them others work."""
    found: list[Judged] = []
    for of_one in lint_registrations(tools, registered=registered):
        found += of_one
        await asyncio.sleep(0)
    return found


class ControlPoint:
    """Writes and shows settings, agents, tools, signals and issuers of the caller's own tenant.

    Each write returns its revision, keeps the caller and `reason` in the history, and is logged once it has
    committed. Every method raises `TenantUnknownError` for a tenant that nobody created (`put_settings`
    creates it), and `StoreUnavailableError` when the database does not answer.
    """

    def __init__(self, store: ControlPlane, *, logged: bool = True) -> None:
        """Without `logged`, writes leave no line in the log: they are to be undone."""
        self._store = store
        self._log = log_write if logged else log_nothing
        self._previews = new_preview_rate()

    async def put_settings(self, caller: Caller, tenant: str, settings: bytes, *, reason: str) -> int:
        """Create `tenant`, or replace its settings (a checked JSON object); empty is the caller's own.

        Raises `PermissionDeniedError` for another tenant.
        """
        if tenant not in ("", caller.tenant):
            raise PermissionDeniedError("a caller writes its own tenant only")
        by = attribution(caller, reason)
        revision = await self._store.put_tenant(caller.tenant, settings, by=by)
        self._log(caller, "settings", revision, by=by)
        return revision

    async def patch_settings(
        self, caller: Caller, patch: Mapping[str, JSON], *, reason: str
    ) -> SettingsVersion:
        """Merge a JSON Merge Patch (RFC 7396) into the settings; return those that came out.

        Raises `InvalidFieldError` if nobody could have put them so.
        """

        def merged(before: bytes) -> bytes:
            text = orjson.dumps(merge(parse_object(before, field="settings"), patch), default=exact_number)
            parse_settings(text)
            return text

        by = attribution(caller, reason)
        version = await self._store.patch_settings(caller.tenant, merged, by=by)
        self._log(caller, "settings", version.revision, by=by)
        return version

    async def put_agents(self, caller: Caller, agents: Sequence[Agent], *, reason: str) -> int:
        """Create or replace agents."""
        by = attribution(caller, reason)
        revision = await self._store.put_agents(caller.tenant, agents, by=by)
        self._log(caller, "agents", revision, by=by, count=len(agents))
        return revision

    async def check_tools(self, caller: Caller, tools: Sequence[Tool]) -> list[Judged]:
        """Return what `put_tools` would find in these tools, beside those that are registered.

        A registered tool that has one of them as a prerequisite may be unable to pass beside them, too.
        """
        return await _judge(tools, await self._every_tool(caller.tenant, None))

    async def put_tools(self, caller: Caller, tools: Sequence[Tool], *, reason: str) -> ToolsWritten:
        """Register tools, or replace their registrations.

        Raises `InvalidFieldError` that names every field which could never let a call pass, or would show a
        secret.
        """
        warnings = refuse_errors(await self.check_tools(caller, tools))
        by = attribution(caller, reason)
        revision = await self._store.put_tools(caller.tenant, tools, by=by)
        self._log(caller, "tools", revision, by=by, count=len(tools))
        return ToolsWritten(revision, warnings)

    async def roll_back_tools(self, caller: Caller, to_revision: int, *, reason: str) -> ToolsWritten:
        """Make every tool what it was at a revision.

        Raises `NotFoundError` for one that never was, and `InvalidFieldError` as `put_tools` does.
        """
        missing = NotFoundError(f"there is no revision {to_revision} of the tools")
        latest = await self._store.history(caller.tenant, ControlKind.TOOLS, before=None, limit=1)
        if latest and to_revision > latest[0].revision:
            # What stands now would be judged in its place.
            raise missing
        found = await _judge(await self._every_tool(caller.tenant, to_revision), [])
        warnings = refuse_errors(found)
        by = attribution(caller, reason)
        revision = await self._store.roll_back_tools(caller.tenant, to_revision, by=by)
        if revision is None:
            raise missing
        self._log(caller, "tools", revision, by=by)
        return ToolsWritten(revision, warnings)

    async def _every_tool(self, tenant: str, revision: int | None) -> list[Tool]:
        """Return all tools as they are, or as they were at a revision."""
        every: list[Tool] = []
        while True:
            after = every[-1].name if every else ""
            page = await self._store.tools(tenant, revision=revision, after=after, limit=_PAGE)
            every += page.tools
            if len(page.tools) < _PAGE:
                return every

    async def put_signals(self, caller: Caller, signals: Sequence[Signal], *, reason: str) -> int:
        """Set signals, or replace their values."""
        by = attribution(caller, reason)
        revision = await self._store.put_signals(caller.tenant, signals, by=by)
        self._log(caller, "signals", revision, by=by, count=len(signals))
        return revision

    async def put_issuer_keys(
        self, caller: Caller, issuer: str, keys: Sequence[Mapping[str, str]], *, reason: str
    ) -> int:
        """Replace an issuer's keys. Raises `InvalidFieldError` for more issuers than a tenant may have."""
        by = attribution(caller, reason)
        revision = await self._store.put_issuer_keys(caller.tenant, issuer, keys, by=by)
        self._log(caller, "issuers", revision, by=by)
        return revision

    async def preview(
        self, caller: Caller, kind: ControlKind, write: Callable[[ControlPoint], Awaitable[object]]
    ) -> Sequence[Difference]:
        """Return what a write of a kind would change, by name, and leave no trace of it.

        `write` makes it at the point that it gets. Raises what the write raises, and `QuotaExceededError` for
        a caller that asks too often.
        """
        # It holds up every decision of its tenant for a moment, as the write does.
        self._previews.charge(caller)
        return await self._store.preview(
            caller.tenant, kind, lambda store: write(ControlPoint(store, logged=False))
        )

    async def tools(self, caller: Caller, *, revision: int | None, after: str, limit: int) -> ToolPage:
        """Return at most `limit` tools by name after `after`, as they are or as they were at `revision`."""
        return await self._store.tools(caller.tenant, revision=revision, after=after, limit=limit)

    async def settings(self, caller: Caller, *, revision: int | None) -> SettingsVersion:
        """Return the settings as they are, or as they were at `revision`.

        Raises `NotFoundError` where nothing was kept of that revision.
        """
        found = await self._store.settings(caller.tenant, revision=revision)
        if found is None:
            raise NotFoundError(f"nothing is known of the settings of revision {revision}")
        return found

    async def agents(self, caller: Caller, *, revision: int | None, after: str, limit: int) -> AgentPage:
        """Return at most `limit` agents by name after `after`, as they are or as they were at `revision`."""
        return await self._store.agents(caller.tenant, revision=revision, after=after, limit=limit)

    async def signals(self, caller: Caller, *, revision: int | None, after: str, limit: int) -> SignalPage:
        """Return at most `limit` signals by name after `after`, as they are or as they were at `revision`."""
        return await self._store.signals(caller.tenant, revision=revision, after=after, limit=limit)

    async def history(
        self, caller: Caller, kind: ControlKind, *, before: int | None, limit: int
    ) -> Sequence[ControlRevision]:
        """Return the changes of a kind before revision `before`, latest first."""
        return await self._store.history(caller.tenant, kind, before=before, limit=limit)

    async def change(
        self, caller: Caller, kind: ControlKind, revision: int, *, after: str, limit: int
    ) -> tuple[ControlRevision, Sequence[Difference]]:
        """Return a revision, with at most `limit` of the things that it replaced, by name after `after`.

        Raises `NotFoundError` if there is no such revision.
        """
        found = await self._store.history(caller.tenant, kind, before=revision + 1, limit=1)
        if not found or found[0].revision != revision:
            raise NotFoundError(f"there is no revision {revision} of the {kind}")
        differences = await self._store.differences(caller.tenant, kind, revision, after=after, limit=limit)
        return found[0], differences

    async def issuer_keys(self, caller: Caller) -> IssuerList:
        """Return the issuers of task tokens with their keys, by name."""
        return await self._store.issuer_keys(caller.tenant)
