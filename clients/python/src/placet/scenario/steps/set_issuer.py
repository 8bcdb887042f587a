"""`set_issuer: NAME`: give an issuer of signed tasks a new key, or none, as an operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from placet.scenario.callers import OPERATOR, Caller
from placet.scenario.expect import Expect
from placet.scenario.model import Text
from placet.scenario.outcome import Outcome
from placet.scenario.steps.step import Step

if TYPE_CHECKING:
    from placet.scenario.run import Run


class SetIssuer(Step):
    kind: ClassVar[str] = "set_issuer"

    set_issuer: Text
    revoked: bool = False
    """It has no key from now on. `signed_by` goes on signing with the last one."""
    as_: Caller | None = Field(default=None, alias="as")
    expect: Expect = Field(default_factory=Expect)

    async def perform(self, run: Run) -> Outcome:
        revision = await run.set_issuer(self.set_issuer, self.as_ or OPERATOR, revoked=self.revoked)
        return Outcome(told=f"revision {revision}")
