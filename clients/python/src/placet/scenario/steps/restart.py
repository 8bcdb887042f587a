"""`restart: opa`: start what was killed again, or kill and start it. Needs --stack."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from placet.scenario.document import Path
from placet.scenario.expect import Expect
from placet.scenario.outcome import Outcome
from placet.scenario.stack import Component
from placet.scenario.steps.step import Scope, Step

if TYPE_CHECKING:
    from placet.scenario.run import Run


class Restart(Step):
    kind: ClassVar[str] = "restart"

    restart: Component
    """opa, postgres, pdp (every replica), or one of them: pdp-1, pdp-2 …"""
    expect: Expect = Field(default_factory=Expect)

    def faults(self, scope: Scope, path: Path) -> Iterator[tuple[Path, str]]:
        place = (*path, "restart")
        if not scope.stack:
            yield place, "needs a stack of the runner's own: give --stack"
        elif self.restart.startswith("pdp-") and int(self.restart[4:]) > scope.replicas:
            yield place, f"there are {scope.replicas} replicas"
        scope.down.discard(self.restart)

    async def perform(self, run: Run) -> Outcome:
        await run.restart(self.restart)
        return Outcome(told="serves again")
