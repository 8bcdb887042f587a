"""What all steps have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from placet.errors import PlacetError
from placet.scenario.document import Path
from placet.scenario.expect import Expect
from placet.scenario.model import Part
from placet.scenario.outcome import Outcome

if TYPE_CHECKING:
    from placet.scenario.run import Run


@dataclass(kw_only=True, slots=True)
class Scope:
    """What earlier steps make, and what the run has to work with."""

    sessions: set[str] = field(default_factory=set)
    calls: set[str] = field(default_factory=set)
    # Chains that were delegated.
    chains: set[str] = field(default_factory=set)
    # Components that were killed and not started again.
    down: set[str] = field(default_factory=set)
    # Whether there are keys to check receipts with.
    keys: bool = False
    # Whether the stack is the runner's own.
    stack: bool = False
    replicas: int = 1

    def of(self, sessions: Iterable[str]) -> Scope:
        """Return the scope of the first of several steps, for which these sessions are open."""
        return Scope(sessions=set(sessions), keys=self.keys, stack=self.stack, replicas=self.replicas)

    def missing_session(self, name: str, path: Path) -> Iterator[tuple[Path, str]]:
        if name not in self.sessions:
            yield path, f"no session {name!r} is opened before this; there are {_list(self.sessions)}"

    def missing_call(self, name: str, path: Path) -> Iterator[tuple[Path, str]]:
        if name not in self.calls:
            yield path, f"no call {name!r} is made before this; there are {_list(self.calls)}"

    def new_call(self, name: str | None, path: Path) -> Iterator[tuple[Path, str]]:
        if name is None:
            return
        if name in self.calls:
            yield path, f"there is a call {name!r} before this; repeat: asks it again"
        self.calls.add(name)

    def missing_chain(self, name: str, path: Path) -> Iterator[tuple[Path, str]]:
        if name not in self.chains:
            yield path, f"no chain {name!r} is delegated before this; there are {_list(self.chains)}"


def _list(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"


class Step(Part):
    """The key that names the kind holds the step's main value; the rest stands beside it."""

    kind: ClassVar[str]

    title: str = ""
    """What tables and reports call the step."""
    chapter: str = ""
    """A heading before the step."""

    def asked(self) -> str:
        """Return what the step does, in a few words."""
        return f"{self.kind} {getattr(self, self.kind)}"

    def faults(self, scope: Scope, path: Path) -> Iterator[tuple[Path, str]]:
        """Yield what makes no sense after the steps before, and add to the scope what this one makes."""
        yield from ()

    @abstractmethod
    async def perform(self, run: Run) -> Outcome:
        """Do what the step says. Raises `PlacetError`."""

    def expected(self) -> Part:
        """Return what the step must come out as."""
        expected: Part = getattr(self, "expect")  # noqa: B009 - kinds narrow its type
        return expected

    def differences(self, outcome: Outcome) -> list[str]:
        expected = self.expected()
        assert isinstance(expected, Expect)
        return list(expected.differences(outcome))

    def timed(self) -> bool:
        """Whether the step writes instants, so that the run must know the database's time."""
        return False

    async def perform_or_fail(self, run: Run) -> Outcome:
        """Do what the step says; an error is an outcome, too."""
        try:
            return await self.perform(run)
        except PlacetError as exc:
            return Outcome(error=exc)
