"""ListAllowedTools: what the registry and a session leave an agent, asked for at a bounded rate."""

from __future__ import annotations

from pdp.delegation.chain import Chains
from pdp.model import Caller, Hop, Tool
from pdp.overload.rate import Rate
from pdp.ports import ControlPlane
from pdp.sessions.listing import may_be_allowed

_PAGE = 50


class Listing:
    def __init__(self, chains: Chains, registry: ControlPlane) -> None:
        self._chains = chains
        self._registry = registry
        self._rate = Rate(burst=20, per_second=5)

    async def allowed(
        self, caller: Caller, session_id: str, hops: tuple[Hop, ...], *, deadline: float
    ) -> tuple[list[Tool], int, int]:
        """Return tools by name, the registry's revision and the session's version.

        Raises `OverloadedError` for a caller that asks too often.
        """
        self._rate.charge(caller)
        known = await self._chains.known(caller, session_id, hops, deadline=deadline)
        session, leaf = known.session, known.chain.leaf
        if session is None:
            return [], 0, 0
        # What is not proven, or somebody else's, is blocked.
        if leaf is None or leaf.agent not in caller.agents:
            return [], 0, session.version
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
                return allowed, revision, session.version
            after = page[-1].name
