"""Files to scenarios, or all their faults."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from placet.scenario.document import Document, Fault, Path
from placet.scenario.fixture import Fixture
from placet.scenario.scenario import Scenario
from placet.scenario.steps.choice import PREFIX
from placet.scenario.steps.step import Scope, Step
from placet.scenario.steps.union import AnyStep

_STEP: TypeAdapter[Step] = TypeAdapter(AnyStep)


def load(text: str, file: str, scope: Scope) -> Scenario | list[Fault]:
    """Return the scenario, or every fault of the file, by line. `scope` says what it will run with."""
    document = Document(text, file)
    if document.faults:
        return document.faults
    try:
        scenario = Scenario.model_validate(document.value)
    except ValidationError as exc:
        told = [_told(error) for error in exc.errors(include_url=False)]
        told += _of_what_is_whole(document.value, scope)
    else:
        told = list(scenario.faults(scope))
        if not told:
            return scenario
    faults = {document.fault(path, message) for path, message in told}
    return sorted(faults, key=lambda fault: (fault.line, fault.path))


def _told(error: ErrorDetails) -> tuple[Path, str]:
    path = tuple(part for part in error["loc"] if not str(part).startswith(PREFIX))
    if error["type"] == "extra_forbidden":
        return path, "is unknown"
    if error["type"] == "missing":
        return path, "is missing"
    return path, error["msg"].removeprefix("Value error, ")


def _of_what_is_whole(value: Any, scope: Scope) -> Iterator[tuple[Path, str]]:
    """Faults of the parts that have their form, in a file that has not.

    What a malformed part would have made counts as made, so that one mistake is one fault.
    """
    if not isinstance(value, dict):
        return
    fixture = value.get("fixture", {})
    with contextlib.suppress(ValidationError):
        yield from Fixture.model_validate(fixture).faults(("fixture",))
    if isinstance(fixture, dict) and isinstance(fixture.get("sessions"), dict):
        scope.sessions |= fixture["sessions"].keys()
    steps = value.get("steps")
    for number, step in enumerate(steps if isinstance(steps, list) else ()):
        try:
            yield from _STEP.validate_python(step).faults(scope, ("steps", number))
        except ValidationError:
            _guess(step, scope)


def _guess(step: Any, scope: Scope) -> None:
    if not isinstance(step, dict):
        return
    for key, made in (("open", scope.sessions), ("call", scope.calls)):
        if isinstance(step.get(key), str):
            made.add(step[key])
    _guess(step.get("step"), scope)
