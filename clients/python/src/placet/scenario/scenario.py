"""A scenario: a fixture, and steps with what is expected of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from placet.scenario.document import Path
from placet.scenario.fixture import Fixture
from placet.scenario.model import Part, Text
from placet.scenario.steps.step import Scope
from placet.scenario.steps.union import AnyStep


class Scenario(Part):
    """What a policy decision point is asked, in order, and what it must answer."""

    name: Text
    description: str = ""
    tenant: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")] = "scenario"
    """Each run has a tenant of its own, whose name begins so."""
    fixture: Fixture = Field(default_factory=Fixture)
    steps: Annotated[list[AnyStep], Field(min_length=1)]

    def faults(self, scope: Scope) -> Iterator[tuple[Path, str]]:
        """What makes no sense, though every part has its form."""
        yield from self.fixture.faults(("fixture",))
        scope.sessions |= set(self.fixture.sessions)
        for number, step in enumerate(self.steps):
            yield from step.faults(scope, ("steps", number))

    @property
    def timed(self) -> bool:
        return self.fixture.timed() or any(step.timed() for step in self.steps)


def json_schema() -> dict[str, Any]:
    """JSON Schema of the format, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Scenario.model_json_schema()
