"""`redeem: CALL`: use an allow, once, as the tool's own side does before it acts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from placet.scenario.callers import Caller, tool_server
from placet.scenario.document import Path
from placet.scenario.expect import Expect
from placet.scenario.model import JsonObject, Name, Text
from placet.scenario.outcome import Outcome
from placet.scenario.receipts import audience_of
from placet.scenario.steps.step import Scope, Step

if TYPE_CHECKING:
    from placet.scenario.run import Run


class Redeem(Step):
    kind: ClassVar[str] = "redeem"

    redeem: Name
    """The `call` of an earlier evaluate."""
    tool: Text | None = None
    """What the tool's side is about to run, where that is another than was asked for."""
    arguments: JsonObject | None = None
    audience: str | None = None
    as_: Caller | None = Field(default=None, alias="as")
    expect: Expect = Field(default_factory=Expect)

    def faults(self, scope: Scope, path: Path) -> Iterator[tuple[Path, str]]:
        yield from scope.missing_call(self.redeem, (*path, "redeem"))

    async def perform(self, run: Run) -> Outcome:
        call, decision = run.made.decided(self.redeem)
        audience = audience_of(decision)
        client = await run.client(self.as_ or tool_server(call.step.evaluate, audience))
        await client.redeem(
            decision.decision_id,
            tool=call.step.evaluate if self.tool is None else self.tool,
            arguments=call.step.arguments if self.arguments is None else self.arguments,
            audience=audience if self.audience is None else self.audience,
        )
        return Outcome(told="redeemed")
