"""`set_entity: TYPE:ID`: change attributes of an entity, as an operator; those not named stay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from placet._calls.entities import entity_name
from placet.scenario.callers import OPERATOR, Caller
from placet.scenario.document import Path
from placet.scenario.expect import Expect
from placet.scenario.fixture import find_refusals
from placet.scenario.model import JsonObject, Name, Text
from placet.scenario.outcome import Outcome
from placet.scenario.steps.step import Scope, Step

if TYPE_CHECKING:
    from placet.scenario.run import Run


class SetEntity(Step):
    kind: ClassVar[str] = "set_entity"

    set_entity: Text
    """vendor:V-1"""
    attributes: JsonObject = Field(default_factory=dict)
    """The attributes to set."""
    unset: list[Text] = Field(default_factory=list)
    """The names of the attributes to remove."""
    posted: dict[Name, Text] = Field(default_factory=dict)
    """What the figures contain now of earlier calls: an amount, as text, by the `call` of each."""
    as_: Caller | None = Field(default=None, alias="as")
    expect: Expect = Field(default_factory=Expect)

    def faults(self, scope: Scope, path: Path) -> Iterator[tuple[Path, str]]:
        if self.expect.error is None:
            place = (*path, "set_entity")
            yield from find_refusals(place, "name", lambda: entity_name(self.set_entity))
        for call in self.posted:
            yield from scope.missing_call(call, (*path, "posted", call))

    async def perform(self, run: Run) -> Outcome:
        client = await run.client(self.as_ or OPERATOR)
        posted = {run.made.decided(call)[1].decision_id: amount for call, amount in self.posted.items()}
        entity = await client.patch_entity(self.set_entity, self.attributes, unset=self.unset, posted=posted)
        return Outcome(told=f"revision {entity.revision}")
