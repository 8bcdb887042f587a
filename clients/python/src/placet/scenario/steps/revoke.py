"""`revoke: NAME`: revoke the last grant of a chain, and with it all that was delegated from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from placet.scenario.callers import Caller
from placet.scenario.document import Path
from placet.scenario.expect import Expect
from placet.scenario.model import Name
from placet.scenario.outcome import Outcome
from placet.scenario.steps.step import Scope, Step

if TYPE_CHECKING:
    from placet.scenario.run import Run


class Revoke(Step):
    kind: ClassVar[str] = "revoke"

    revoke: Name
    """The name that a delegate gave the chain."""
    reason: str = ""
    as_: Caller | None = Field(default=None, alias="as")
    expect: Expect = Field(default_factory=Expect)

    def faults(self, scope: Scope, path: Path) -> Iterator[tuple[Path, str]]:
        yield from scope.missing_chain(self.revoke, (*path, "revoke"))

    async def perform(self, run: Run) -> Outcome:
        chain = run.made.chain(self.revoke)
        client = await run.client(self.as_ or run.made.owner(chain.session))
        await client.revoke_grant(run.made.session(chain.session), chain.grant_hash, reason=self.reason)
        return Outcome(told="revoked")
