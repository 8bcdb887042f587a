"""`open: NAME`: open a task's session, by its issuer, or with what an issuer has signed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from placet._calls.plain import plain
from placet.scenario.callers import Caller
from placet.scenario.document import Path
from placet.scenario.expect import ExpectSession
from placet.scenario.fixture import Terms
from placet.scenario.model import Name
from placet.scenario.outcome import Outcome
from placet.scenario.steps.step import Scope, Step

if TYPE_CHECKING:
    from placet.scenario.run import Run


class Open(Step, Terms):
    kind: ClassVar[str] = "open"

    open: Name
    """What later steps call the session."""
    as_: Caller | None = Field(default=None, alias="as")
    expect: ExpectSession = Field(default_factory=ExpectSession)

    def faults(self, scope: Scope, path: Path) -> Iterator[tuple[Path, str]]:
        # A boundary that the client refuses may be what the step is about.
        if self.expect.error is None:
            yield from Terms.terms_faults(self, path, self.open)
        scope.sessions.add(self.open)

    def timed(self) -> bool:
        return self.has_instants

    async def perform(self, run: Run) -> Outcome:
        session = await run.open(self.open, self, self.as_)
        return Outcome(session=session, values={"session": plain(session)}, told=session.state)
