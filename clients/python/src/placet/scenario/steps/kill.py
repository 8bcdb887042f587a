"""`kill: opa`: kill a component of the stack; it stays down until it is restarted. Needs --stack."""

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


class Kill(Step):
    kind: ClassVar[str] = "kill"

    kill: Component
    """opa, postgres, pdp (every replica), or one of them: pdp-1, pdp-2 …"""
    expect: Expect = Field(default_factory=Expect)

    def faults(self, scope: Scope, path: Path) -> Iterator[tuple[Path, str]]:
        place = (*path, "kill")
        if not scope.stack:
            yield place, "needs a stack of the runner's own: give --stack"
        elif self.kill.startswith("pdp-") and int(self.kill[4:]) > scope.replicas:
            yield place, f"there are {scope.replicas} replicas"
        if self.kill in scope.down:
            yield place, f"{self.kill} is down already"
        scope.down.add(self.kill)

    async def perform(self, run: Run) -> Outcome:
        await run.kill(self.kill)
        return Outcome(told="down")
