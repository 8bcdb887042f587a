"""ListAllowedTools: what the registry and a session leave an agent, asked for at a bounded rate."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from pdp.chain import Chains
from pdp.errors import OverloadedError
from pdp.listing import may_be_allowed
from pdp.model import Caller, Hop, Tool
from pdp.ports import Registry

# Calls that a caller may make at once, and how many more each second.
BURST, RATE = 20.0, 5.0
_MAX_CALLERS = 4096
_PAGE = 50


class Listing:
    def __init__(
        self, chains: Chains, registry: Registry, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._chains = chains
        self._registry = registry
        self._clock = clock
        # What is left of each caller's burst, and when that was.
        self._left: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    async def allowed(
        self, caller: Caller, session_id: str, hops: tuple[Hop, ...], *, deadline: float
    ) -> tuple[list[Tool], int, int]:
        """Return tools by name, the registry's revision and the session's version.

        Raises `OverloadedError` for a caller that asks too often.
        """
        self._charge(caller)
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

    def _charge(self, caller: Caller) -> None:
        key, now = (caller.tenant, caller.subject), self._clock()
        left, at = self._left.pop(key, (BURST, now))
        left = min(BURST, left + (now - at) * RATE)
        self._left[key] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > _MAX_CALLERS:
            self._left.popitem(last=False)
        if left < 1:
            raise OverloadedError((1 - left) / RATE)
