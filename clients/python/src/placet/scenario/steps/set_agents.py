"""`set_agents`: create or replace agents, as an operator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from placet._calls.registry import put_agents
from placet.scenario.callers import OPERATOR, Caller
from placet.scenario.document import Path
from placet.scenario.expect import Expect
from placet.scenario.fixture import find_refusals
from placet.scenario.model import JsonObject
from placet.scenario.outcome import Outcome
from placet.scenario.steps.step import Scope, Step

if TYPE_CHECKING:
    from placet.scenario.run import Run


class SetAgents(Step):
    kind: ClassVar[str] = "set_agents"

    set_agents: list[JsonObject]
    as_: Caller | None = Field(default=None, alias="as")
    expect: Expect = Field(default_factory=Expect)

    def asked(self) -> str:
        return "set agents"

    def faults(self, scope: Scope, path: Path) -> Iterator[tuple[Path, str]]:
        if self.expect.error is None:
            place = (*path, "set_agents")
            yield from find_refusals(place, "agents", lambda: put_agents(self.set_agents))

    async def perform(self, run: Run) -> Outcome:
        client = await run.client(self.as_ or OPERATOR)
        revision = await client.put_agents(self.set_agents)
        return Outcome(told=f"revision {revision}")
