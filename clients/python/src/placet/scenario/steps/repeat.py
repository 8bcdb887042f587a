"""`repeat: CALL`: ask for the same call once more, as after a lost answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from placet.scenario import calls
from placet.scenario.document import Path
from placet.scenario.expect import ExpectDecision
from placet.scenario.model import JsonObject, Name
from placet.scenario.outcome import Outcome
from placet.scenario.steps.evaluate import decision_faults
from placet.scenario.steps.step import Scope, Step

if TYPE_CHECKING:
    from placet.scenario.run import Run


class Repeat(Step):
    kind: ClassVar[str] = "repeat"

    repeat: Name
    """The `call` of an earlier evaluate."""
    arguments: JsonObject | None = None
    """Other arguments under the same id."""
    replica: Annotated[int, Field(ge=1)] | None = None
    expect: ExpectDecision = Field(default_factory=ExpectDecision)

    def faults(self, scope: Scope, path: Path) -> Iterator[tuple[Path, str]]:
        yield from scope.missing_call(self.repeat, (*path, "repeat"))
        yield from decision_faults(self.expect, self.replica, scope, path)

    async def perform(self, run: Run) -> Outcome:
        return await calls.repeat(run, self)
