"""`advance: 30m`: move the clock of a PDP with `--clock manual` forward."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from placet.scenario.expect import Expect
from placet.scenario.outcome import Outcome
from placet.scenario.steps.step import Step
from placet.scenario.times import Span

if TYPE_CHECKING:
    from placet.scenario.run import Run


class Advance(Step):
    kind: ClassVar[str] = "advance"

    advance: Span
    expect: Expect = Field(default_factory=Expect)

    def timed(self) -> bool:
        return True

    async def perform(self, run: Run) -> Outcome:
        now = await run.advance(self.advance)
        return Outcome(told=f"it is {now:%Y-%m-%d %H:%M:%S} UTC")
