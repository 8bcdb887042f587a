"""`plan: SESSION`: ask about several actions of a session in one call, in order."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from placet._calls.action import checked_action
from placet.scenario import calls
from placet.scenario.callers import Caller
from placet.scenario.document import Path
from placet.scenario.expect import Expect, ExpectDecision
from placet.scenario.fixture import find_refusals
from placet.scenario.model import JsonObject, Name, Part, Text
from placet.scenario.outcome import Outcome
from placet.scenario.steps.evaluate import Evaluate, chain_faults, decision_faults
from placet.scenario.steps.step import Scope, Step

if TYPE_CHECKING:
    from placet.scenario.run import Run


class Item(Part):
    """One action of a plan: what `evaluate` has of it."""

    evaluate: Text
    """The tool."""
    arguments: JsonObject = Field(default_factory=dict)
    call: Name | None = None
    """What later steps call this call."""
    intent: str = ""
    resource: str = ""
    provenance: JsonObject | None = None
    expect: ExpectDecision = Field(default_factory=ExpectDecision)


class Plan(Step):
    kind: ClassVar[str] = "plan"

    plan: Name
    """The session."""
    items: Annotated[list[Item], Field(min_length=1, max_length=32)]
    all_or_nothing: bool = False
    chain: list[Text | JsonObject] | Name = Field(default_factory=list)
    """A chain that was delegated, by its name; or hops, root first: agents, or {agent, grant}."""
    audience: str = ""
    as_: Caller | None = Field(default=None, alias="as")
    replica: Annotated[int, Field(ge=1)] | None = None
    """Which --target is asked, from 1."""
    expect: Expect = Field(default_factory=Expect)
    """What is expected of the call as a whole: an error."""

    def asked(self) -> str:
        return f"plan of {len(self.items)} in {self.plan}"

    def evaluations(self) -> list[Evaluate]:
        """The items as steps of their own."""
        shared = {"session": self.plan, "chain": self.chain, "audience": self.audience}
        return [Evaluate.model_validate(item.given() | shared | {"as": self.as_}) for item in self.items]

    def faults(self, scope: Scope, path: Path) -> Iterator[tuple[Path, str]]:
        yield from scope.missing_session(self.plan, (*path, "plan"))
        if self.replica is not None and self.replica > scope.replicas:
            yield (*path, "replica"), f"there are {scope.replicas} replicas"
        yield from chain_faults(self.chain, self.expect, scope, path)
        for number, step in enumerate(self.evaluations()):
            place = (*path, "items", number)
            if self.expect.error is None:
                yield from find_refusals(place, "action", partial(checked_action, step.action("call")))
            if step.expect.error is not None:
                yield (*place, "expect", "error"), "say beside plan that the call fails"
            yield from decision_faults(step.expect, None, scope, place)
            yield from scope.new_call(step.call, (*place, "call"))

    async def perform(self, run: Run) -> Outcome:
        return await calls.plan(run, self)

    def differences(self, outcome: Outcome) -> list[str]:
        found = super().differences(outcome)
        for number, (item, answer) in enumerate(zip(self.items, outcome.many, strict=False)):
            found += [f"items[{number}].{difference}" for difference in item.expect.differences(answer)]
        return found
