"""`set_signals`: create or replace signals, as an operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from placet.scenario.callers import OPERATOR, Caller
from placet.scenario.expect import Expect
from placet.scenario.fixture import Signal
from placet.scenario.outcome import Outcome
from placet.scenario.steps.step import Step

if TYPE_CHECKING:
    from placet.scenario.run import Run


class SetSignals(Step):
    kind: ClassVar[str] = "set_signals"

    set_signals: list[Signal]
    as_: Caller | None = Field(default=None, alias="as")
    expect: Expect = Field(default_factory=Expect)

    def asked(self) -> str:
        return "set signals"

    def timed(self) -> bool:
        return any(signal.has_expiry for signal in self.set_signals)

    async def perform(self, run: Run) -> Outcome:
        client = await run.client(self.as_ or OPERATOR)
        revision = await client.put_signals(run.signals(self.set_signals))
        return Outcome(told=f"revision {revision}")
