"""`parallel: N`: a step N times at once, spread over all replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from placet.scenario.document import Path
from placet.scenario.expect import ExpectMany
from placet.scenario.outcome import Outcome
from placet.scenario.steps.single import Single
from placet.scenario.steps.step import Scope, Step

if TYPE_CHECKING:
    from placet.scenario.run import Run


class Parallel(Step):
    kind: ClassVar[str] = "parallel"

    parallel: Annotated[int, Field(ge=1, le=1000)]
    """How many times."""
    step: Single
    """Its own `expect` must be empty: it is `expect` beside `parallel` that counts."""
    expect: ExpectMany = Field(default_factory=ExpectMany)

    def asked(self) -> str:
        return f"{self.parallel} times: {self.step.title or self.step.asked()}"

    def faults(self, scope: Scope, path: Path) -> Iterator[tuple[Path, str]]:
        if self.step.expected().given():
            yield (*path, "step", "expect"), "say beside parallel what is expected: counts, distinct"
        yield from self.step.faults(scope, (*path, "step"))

    def timed(self) -> bool:
        return self.step.timed()

    async def perform(self, run: Run) -> Outcome:
        many = await asyncio.gather(
            *(self.step.perform_or_fail(run.on(number)) for number in range(self.parallel))
        )
        counts: dict[str, int] = {}
        for outcome in many:
            counts[outcome.answer] = counts.get(outcome.answer, 0) + 1
        told = ", ".join(f"{count} {answer}" for answer, count in sorted(counts.items()))
        return Outcome(many=list(many), told=told)

    def differences(self, outcome: Outcome) -> list[str]:
        return list(self.expect.differences(outcome.many))
