"""`close: SESSION`: end a session for good; everything after it is blocked."""

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


class Close(Step):
    kind: ClassVar[str] = "close"

    close: Name
    """The session."""
    reason: str = ""
    as_: Caller | None = Field(default=None, alias="as")
    expect: ExpectSession = Field(default_factory=ExpectSession)

    def faults(self, scope: Scope, path: Path) -> Iterator[tuple[Path, str]]:
        yield from scope.missing_session(self.close, (*path, "close"))

    async def perform(self, run: Run) -> Outcome:
        client = await run.client(self.as_ or run.made.owner(self.close))
        session = await client.close_session(run.made.session(self.close), reason=self.reason)
        return Outcome(session=session, values={"session": plain(session)}, told=session.state)
