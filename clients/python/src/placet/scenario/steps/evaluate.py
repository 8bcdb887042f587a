"""`evaluate: TOOL`: ask for an action, as the session's agent does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from placet import requests
from placet.scenario.callers import Caller
from placet.scenario.document import Path
from placet.scenario.expect import ExpectDecision
from placet.scenario.fixture import refused
from placet.scenario.model import JsonObject, Name, Text
from placet.scenario.outcome import Outcome
from placet.scenario.steps.step import Scope, Step

if TYPE_CHECKING:
    from placet.scenario.run import Run


class Evaluate(Step):
    kind: ClassVar[str] = "evaluate"

    evaluate: Text
    """The tool."""
    session: Name
    arguments: JsonObject = Field(default_factory=dict)
    call: Name | None = None
    """What later steps call this call; times in parallel that have one are one call."""
    intent: str = ""
    resource: str = ""
    """What the agent says it is about, for example invoice:INV-1001."""
    provenance: JsonObject | None = None
    chain: list[Text | JsonObject] = Field(default_factory=list)
    """Hops, root first: agents, or {agent, grant}."""
    audience: str = ""
    as_: Caller | None = Field(default=None, alias="as")
    replica: Annotated[int, Field(ge=1)] | None = None
    """Which --target is asked, from 1."""
    expect: ExpectDecision = Field(default_factory=ExpectDecision)

    def action(self, tool_call_id: str) -> dict[str, Any]:
        action: dict[str, Any] = {
            "tool": self.evaluate,
            "arguments": self.arguments,
            "tool_call_id": tool_call_id,
            "intent": self.intent,
            "resource": self.resource,
        }
        return action | ({"provenance": self.provenance} if self.provenance is not None else {})

    def faults(self, scope: Scope, path: Path) -> Iterator[tuple[Path, str]]:
        yield from scope.missing_session(self.session, (*path, "session"))
        if self.expect.error is None:
            yield from refused(path, "action", lambda: requests.action(self.action("call")))
            yield from refused((*path, "chain"), "chain.hops", lambda: requests.chain(self.chain))
        yield from decision_faults(self.expect, self.replica, scope, path)
        if self.call is not None:
            if self.call in scope.calls:
                yield (*path, "call"), f"there is a call {self.call!r} before this; repeat: asks it again"
            scope.calls.add(self.call)

    async def perform(self, run: Run) -> Outcome:
        return await run.evaluate(self)


def decision_faults(
    expect: ExpectDecision, replica: int | None, scope: Scope, path: Path
) -> Iterator[tuple[Path, str]]:
    if replica is not None and replica > scope.replicas:
        yield (*path, "replica"), f"there are {scope.replicas} replicas"
    if expect.receipt is None:
        return
    place = (*path, "expect", "receipt")
    if expect.receipt.needs_keys and not scope.keys:
        yield place, "needs the published keys: give --jwks, or --stack"
    if expect.receipt.differs_from is not None:
        yield from scope.missing_call(expect.receipt.differs_from.call, (*place, "differs_from", "call"))
    if expect.receipt.same_as:
        yield from scope.missing_call(expect.receipt.same_as, (*place, "same_as"))
