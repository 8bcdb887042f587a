"""Reads files as scenarios, or finds all their faults."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
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
        told = [_worded(error) for error in exc.errors(include_url=False)]
        told += _faults_of_whole_parts(document.value, scope)
    else:
        told = list(scenario.faults(scope))
        if not told:
            return scenario
    faults = {document.fault(path, message) for path, message in told}
    return sorted(faults, key=lambda fault: (fault.line, fault.path))


def _worded(error: ErrorDetails) -> tuple[Path, str]:
    path = tuple(part for part in error["loc"] if not str(part).startswith(PREFIX))
    if error["type"] == "extra_forbidden":
        return path, "is unknown"
    if error["type"] == "missing":
        return path, "is missing"
    return path, error["msg"].removeprefix("Value error, ")


def _faults_of_whole_parts(value: Any, scope: Scope) -> Iterator[tuple[Path, str]]:
    """Yield the faults of well-formed parts in a file that as a whole is malformed.

    What a malformed step would have made counts as made, so that one mistake is one fault.
    """
    if not isinstance(value, dict):
        return
    fixture = value.get("fixture")
    yield from _faults_of_fixture(fixture, ("fixture",))
    yield from _faults_of_steps(value.get("steps"), scope.of(_sessions(fixture)), ("steps",))
    cases = value.get("cases")
    for number, case in enumerate(cases if isinstance(cases, list) else ()):
        if isinstance(case, dict):
            place, own = ("cases", number), case.get("fixture")
            yield from _faults_of_fixture(own, (*place, "fixture"))
            names = {*_sessions(fixture), *_sessions(own)}
            yield from _faults_of_steps(case.get("steps"), scope.of(names), (*place, "steps"))


def _faults_of_steps(steps: Any, scope: Scope, path: Path) -> Iterator[tuple[Path, str]]:
    for number, step in enumerate(steps if isinstance(steps, list) else ()):
        whole = _without_malformed_fields(step)
        if whole is not None:
            yield from whole.faults(scope, (*path, number))
        _add_what_it_would_make(step, scope)


def _sessions(fixture: Any) -> Iterable[str]:
    sessions = fixture.get("sessions") if isinstance(fixture, dict) else None
    return sessions if isinstance(sessions, dict) else ()


def _faults_of_fixture(fixture: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if not isinstance(fixture, dict):
        return
    parts = [{name: part} for name, part in fixture.items() if name != "sessions"]
    names = _sessions(fixture)
    parts += [{"sessions": {name: fixture["sessions"][name]}} for name in names]
    for part in parts:
        with contextlib.suppress(ValidationError):
            yield from Fixture.model_validate(part).faults(path)


def _without_malformed_fields(step: Any) -> Step | None:
    """Return the step without its malformed fields; None if the rest is no step."""
    if not isinstance(step, dict):
        return None
    try:
        return _STEP.validate_python(step)
    except ValidationError as exc:
        # The first part of a location names the kind of step, the second the field.
        malformed = {error["loc"][1] for error in exc.errors() if len(error["loc"]) > 1}
        left = {name: value for name, value in step.items() if name not in malformed}
        if "expect" in malformed:
            # It may have expected a refusal: what the client would refuse is no fault then.
            left["expect"] = {"error": {"code": "any"}}
    try:
        return _STEP.validate_python(left)
    except ValidationError:
        return None


def _add_what_it_would_make(step: Any, scope: Scope) -> None:
    if not isinstance(step, dict):
        return
    for key, made in (("open", scope.sessions), ("call", scope.calls), ("delegate", scope.chains)):
        if isinstance(step.get(key), str):
            made.add(step[key])
    _add_what_it_would_make(step.get("step"), scope)
