"""A scenario: a fixture, and steps with what is expected of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import Field, model_validator

from placet.scenario.document import Path
from placet.scenario.fixture import Fixture
from placet.scenario.model import Part, Text
from placet.scenario.steps.step import Scope, Step
from placet.scenario.steps.union import AnyStep


class Case(Part):
    """A scenario of its own, on what all cases of a file find and what this one adds."""

    name: Text
    fixture: Fixture = Field(default_factory=Fixture)
    """What has the name of something in the common fixture replaces it."""
    steps: Annotated[list[AnyStep], Field(min_length=1)]


class Scenario(Part):
    """What a policy decision point is asked, in order, and what it must answer."""

    name: Text
    description: str = ""
    tenant: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")] = "scenario"
    """Each run has a tenant of its own, whose name begins so."""
    fixture: Fixture = Field(default_factory=Fixture)
    steps: list[AnyStep] = Field(default_factory=list)
    cases: list[Case] = Field(default_factory=list)
    """In place of steps. Each runs by itself, in a tenant of its own."""

    @model_validator(mode="after")
    def _steps_or_cases(self) -> Scenario:
        if bool(self.steps) == bool(self.cases):
            raise ValueError("needs steps, or cases, at least one")
        return self

    def each(self) -> list[Scenario]:
        """Return the scenarios that are run: this one, or one for each case."""
        if not self.cases:
            return [self]
        return [
            Scenario(
                name=f"{self.name}: {case.name}",
                description=self.description,
                tenant=self.tenant,
                fixture=self.fixture.merge(case.fixture),
                steps=case.steps,
            )
            for case in self.cases
        ]

    def faults(self, scope: Scope) -> Iterator[tuple[Path, str]]:
        """Yield what makes no sense in a file whose every part is well formed."""
        yield from self.fixture.faults(("fixture",))
        yield from steps_faults(self.steps, scope.of(self.fixture.sessions), ("steps",))
        for number, case in enumerate(self.cases):
            place = ("cases", number)
            yield from case.fixture.faults((*place, "fixture"))
            names = {*self.fixture.sessions, *case.fixture.sessions}
            yield from steps_faults(case.steps, scope.of(names), (*place, "steps"))

    @property
    def timed(self) -> bool:
        return self.fixture.timed() or any(step.timed() for step in self.steps)


def steps_faults(steps: Sequence[Step], scope: Scope, path: Path) -> Iterator[tuple[Path, str]]:
    for number, step in enumerate(steps):
        yield from step.faults(scope, (*path, number))


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the format, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Scenario.model_json_schema()
