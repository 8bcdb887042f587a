"""`set_entities`: create or replace entities, all or none, as an operator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from placet._calls.entities import put_entities
from placet.scenario.callers import OPERATOR, Caller
from placet.scenario.document import Path
from placet.scenario.expect import Expect
from placet.scenario.fixture import find_refusals
from placet.scenario.model import JsonObject
from placet.scenario.outcome import Outcome
from placet.scenario.steps.step import Scope, Step

if TYPE_CHECKING:
    from placet.scenario.run import Run


class SetEntities(Step):
    kind: ClassVar[str] = "set_entities"

    set_entities: list[JsonObject]
    as_: Caller | None = Field(default=None, alias="as")
    expect: Expect = Field(default_factory=Expect)

    def asked(self) -> str:
        return "set entities"

    def faults(self, scope: Scope, path: Path) -> Iterator[tuple[Path, str]]:
        if self.expect.error is None:
            place = (*path, "set_entities")
            yield from find_refusals(place, "entities", lambda: put_entities(self.set_entities))

    async def perform(self, run: Run) -> Outcome:
        client = await run.client(self.as_ or OPERATOR)
        revision = await client.put_entities(self.set_entities)
        return Outcome(told=f"revision {revision}")
