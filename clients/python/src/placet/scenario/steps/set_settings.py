"""`set_settings`: replace the tenant's settings, as an operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from placet.scenario.callers import OPERATOR, Caller
from placet.scenario.expect import Expect
from placet.scenario.model import JsonObject
from placet.scenario.outcome import Outcome
from placet.scenario.steps.step import Step

if TYPE_CHECKING:
    from placet.scenario.run import Run


class SetSettings(Step):
    kind: ClassVar[str] = "set_settings"

    set_settings: JsonObject
    as_: Caller | None = Field(default=None, alias="as")
    expect: Expect = Field(default_factory=Expect)

    def asked(self) -> str:
        return "set settings"

    async def perform(self, run: Run) -> Outcome:
        client = await run.client(self.as_ or OPERATOR)
        revision = await client.put_tenant(self.set_settings)
        return Outcome(told=f"revision {revision}")
