"""What the registry and a session leave an agent to use, asked for at a bounded rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pdp.delegation.chain import Chains
from pdp.errors import SessionUnprovenError
from pdp.model import Caller, SessionProof, Tool
from pdp.overload.rate import Rate
from pdp.ports import ControlPlane
from pdp.sessions.tool_filter import may_be_allowed

_PAGE = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class AllowedTools:
    """The tools that are not certain to be blocked, by name, and what that was judged on."""

    tools: Sequence[Tool]
    # The registry's revision; 0 where the registry was not asked.
    tools_revision: int = 0
    # 0: there is no such session, or it does not exist for the caller.
    session_version: int = 0


class Listing:
    """Lists the tools that a session's agent may still use."""

    def __init__(self, chains: Chains, registry: ControlPlane) -> None:
        self._chains = chains
        self._registry = registry
        self._rate = Rate(name="list_allowed_tools", what="lists of tools", burst=20, per_second=5)

    async def allowed(
        self, caller: Caller, session_id: str, proof: SessionProof, *, deadline: float
    ) -> AllowedTools:
        """Return what is left to the agent that acts on the chain that it shows.

        `deadline` is an instant of `time.monotonic()`. Raises `OverloadedError` for a caller that asks
        too often, `SessionUnprovenError` for an agent that does not prove its part in the session,
        `TenantUnknownError`, `StoreUnavailableError` and `DeadlineExceededError`.
        """
        self._rate.charge(caller)
        known = await self._chains.read_context(caller, session_id, proof, deadline=deadline)
        session, leaf = known.session, known.chain.leaf
        if known.unproven:
            raise SessionUnprovenError
        if session is None:
            return AllowedTools(tools=())
        # What is asked on an unproven chain, or on somebody else's, is blocked.
        if leaf is None or leaf.agent not in caller.agents:
            return AllowedTools(tools=(), session_version=session.version)
        boundaries = (
            session.boundary,
            *(() if session.template is None else (session.template,)),
            *(hop.boundary for hop in known.chain.hops[1:]),
        )
        state, after = session.state_at(known.facts.now), ""
        allowed: list[Tool] = []
        revision: int | None = None
        while True:
            revision, page = await self._registry.tools(
                caller.tenant, revision=revision, after=after, limit=_PAGE
            )
            allowed.extend(tool for tool in page if may_be_allowed(tool, boundaries, state))
            if len(page) < _PAGE:
                return AllowedTools(tools=allowed, tools_revision=revision, session_version=session.version)
            after = page[-1].name
