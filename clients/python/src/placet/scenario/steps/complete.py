"""`complete: SESSION`: say that the task is done; its boundary says what is still permitted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from placet._calls.plain import plain
from placet.scenario.callers import Caller
from placet.scenario.document import Path
from placet.scenario.expect import ExpectSession
from placet.scenario.model import Name
from placet.scenario.outcome import Outcome
from placet.scenario.steps.step import Scope, Step

if TYPE_CHECKING:
    from placet.scenario.run import Run


class Complete(Step):
    kind: ClassVar[str] = "complete"

    complete: Name
    """The session."""
    reason: str = ""
    as_: Caller | None = Field(default=None, alias="as")
    expect: ExpectSession = Field(default_factory=ExpectSession)

    def faults(self, scope: Scope, path: Path) -> Iterator[tuple[Path, str]]:
        yield from scope.missing_session(self.complete, (*path, "complete"))

    async def perform(self, run: Run) -> Outcome:
        client = await run.client(self.as_ or run.made.owner(self.complete))
        session = await client.complete_task(run.made.session(self.complete), reason=self.reason)
        return Outcome(session=session, values={"session": plain(session)}, told=session.state)
