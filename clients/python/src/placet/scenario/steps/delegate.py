"""`delegate: NAME`: hand authority on to another agent, as the agent does who has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from placet.scenario.callers import Caller, runtime
from placet.scenario.document import Path
from placet.scenario.expect import Expect
from placet.scenario.fixture import Timed
from placet.scenario.made import MadeChain
from placet.scenario.model import JsonObject, Name, Text
from placet.scenario.outcome import Outcome
from placet.scenario.steps.step import Scope, Step

if TYPE_CHECKING:
    from placet.scenario.run import Run


class Delegate(Step, Timed):
    kind: ClassVar[str] = "delegate"

    delegate: Name
    """What later steps call the chain that ends with the new grant."""
    session: Name
    from_: Name | None = Field(default=None, alias="from")
    """The chain that is handed on; absent: the session's own agent does."""
    to: Text
    """The agent."""
    boundary: JsonObject | None = None
    """Absent: as wide as what is handed on."""
    narrow: JsonObject | None = None
    """In place of boundary: the members in which it differs from what is handed on; of amounts, the
    limits of each currency that is named."""
    purpose: str = ""
    as_: Caller | None = Field(default=None, alias="as")
    expect: Expect = Field(default_factory=Expect)

    def asked(self) -> str:
        return f"delegate to {self.to}"

    def faults(self, scope: Scope, path: Path) -> Iterator[tuple[Path, str]]:
        yield from scope.missing_session(self.session, (*path, "session"))
        if self.from_ is not None:
            yield from scope.missing_chain(self.from_, (*path, "from"))
        if self.boundary is not None and self.narrow is not None:
            yield (*path, "narrow"), "has boundary beside it; give one"
        if self.delegate in scope.chains:
            yield (*path, "delegate"), f"there is a chain {self.delegate!r} before this"
        if self.expect.error is None:
            scope.chains.add(self.delegate)

    def timed(self) -> bool:
        return self.has_expiry

    def wanted(self, parent: dict[str, Any]) -> dict[str, Any] | None:
        """Return the boundary that is asked for; None for the parent's."""
        return self.boundary if self.narrow is None else _narrow(parent, self.narrow)

    async def perform(self, run: Run) -> Outcome:
        from_ = run.made.root(self.session) if self.from_ is None else run.made.chain(self.from_)
        client = await run.client(self.as_ or runtime(from_.hops[-1].agent))
        wanted = self.wanted(from_.boundary)
        grant = await client.delegate(
            run.made.session(self.session),
            from_.hops,
            to_agent=self.to,
            boundary=wanted,
            purpose=self.purpose,
            expires_at=self.expiry(start=run.clock.start, now=run.clock.now()),
        )
        run.made.chains[self.delegate] = MadeChain(
            session=self.session,
            hops=grant.chain,
            grant_hash=grant.grant_hash,
            boundary=from_.boundary if wanted is None else wanted,
        )
        return Outcome(told=f"grant {grant.grant_hash[:12]}")


def _narrow(parent: dict[str, Any], narrow: dict[str, Any]) -> dict[str, Any]:
    wanted = parent | narrow
    outer, own = _by_currency(parent.get("amounts")), _by_currency(narrow.get("amounts"))
    if own and outer and any(len(limits) > 2 for limits in outer.values()):
        wanted["amounts"] = [outer.get(currency, {}) | limits for currency, limits in own.items()]
    return wanted


def _by_currency(amounts: Any) -> dict[str, dict[str, Any]] | None:
    """Return the limits of a file's boundary by currency; None if a client would not take them."""
    if isinstance(amounts, dict):
        return {currency: {"currency": currency, "per_action": most} for currency, most in amounts.items()}
    if not isinstance(amounts, list) or not all(isinstance(each, dict) for each in amounts):
        return None
    if not all(isinstance(each.get("currency"), str) for each in amounts):
        return None
    return {each["currency"]: each for each in amounts}
