"""`outcome: CALL`: say what became of an allow, as the tool's own side does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from placet import model
from placet._calls.jsontext import json_text
from placet.scenario import calls
from placet.scenario.callers import Caller, tool_server
from placet.scenario.document import Path
from placet.scenario.expect import ExpectHold
from placet.scenario.model import Json, Name
from placet.scenario.outcome import Outcome
from placet.scenario.receipts import audience_of
from placet.scenario.steps.step import Scope, Step

if TYPE_CHECKING:
    from placet.scenario.run import Run


class ReportOutcome(Step):
    kind: ClassVar[str] = "outcome"

    outcome: Name
    """The `call` of an earlier evaluate."""
    result: Literal["executed", "failed", "not_executed", "unknown", "voided"] = "executed"
    output: Json = None
    """What the tool returned, as JSON."""
    by_agent: bool = False
    """The agent says so, who asked for the call."""
    as_: Caller | None = Field(default=None, alias="as")
    expect: ExpectHold = Field(default_factory=ExpectHold)

    def asked(self) -> str:
        return f"outcome {self.outcome}: {self.result}"

    def faults(self, scope: Scope, path: Path) -> Iterator[tuple[Path, str]]:
        yield from scope.missing_call(self.outcome, (*path, "outcome"))
        if self.by_agent and self.as_ is not None:
            yield (*path, "as"), "has by_agent beside it; give one"

    async def perform(self, run: Run) -> Outcome:
        call, decision = run.made.decided(self.outcome)
        asking = call.caller if self.by_agent else None
        served = tool_server(call.step.evaluate, audience_of(decision))
        client = await run.client(self.as_ or asking or served)
        output = b"" if self.output is None else json_text(self.output, "output")
        reported = await client.report_outcome(
            decision.decision_id,
            model.Outcome(self.result),
            session=run.made.session(call.step.session) if call.step.session in run.made.sessions else "",
            chain=calls.given_hops(run, call.step.chain),
            output=output,
        )
        hold, conflict = reported.hold.value, reported.conflict
        return Outcome(
            values={"hold": hold, "conflict": conflict}, told=f"{hold}, conflict" if conflict else hold
        )
