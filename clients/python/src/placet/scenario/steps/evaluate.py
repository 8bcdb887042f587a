"""`evaluate: TOOL`: ask for an action, as the session's agent does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from placet._calls.action import chain_message, checked_action
from placet.scenario import calls
from placet.scenario.callers import Caller
from placet.scenario.document import Path
from placet.scenario.expect import Expect, ExpectDecision
from placet.scenario.fixture import find_refusals
from placet.scenario.forge import Forgery
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
    chain: list[Text | JsonObject] | Name = Field(default_factory=list)
    """A chain that was delegated, by its name; or hops, root first: agents, or {agent, grant}."""
    forge: Forgery | None = None
    """How the delegated chain is spoilt before it is sent."""
    forged: JsonObject = Field(default_factory=dict)
    """With self_signed: the claims in which the forged grant differs, for example boundary."""
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
            yield from find_refusals(path, "action", lambda: checked_action(self.action("call")))
        yield from chain_faults(self.chain, self.expect, scope, path)
        if self.forge is not None and not isinstance(self.chain, str):
            yield (*path, "forge"), "needs the name of a chain that was delegated"
        if self.forged and self.forge != "self_signed":
            yield (*path, "forged"), "is for self_signed only"
        yield from decision_faults(self.expect, self.replica, scope, path)
        yield from scope.new_call(self.call, (*path, "call"))

    async def perform(self, run: Run) -> Outcome:
        return await calls.evaluate(run, self)


def chain_faults(
    chain: list[Any] | str, expect: Expect, scope: Scope, path: Path
) -> Iterator[tuple[Path, str]]:
    if isinstance(chain, str):
        yield from scope.missing_chain(chain, (*path, "chain"))
    elif expect.error is None:
        yield from find_refusals((*path, "chain"), "chain.hops", lambda: chain_message(chain))


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
