"""The results of scenarios, and their forms as JSON and JUnit XML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    title: str
    answer: str
    because: str
    chapter: str = ""
    seconds: float = 0.0
    # How it differs from what is expected; empty if it does not.
    differences: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.differences


@dataclass(frozen=True, kw_only=True, slots=True)
class ScenarioResult:
    file: str
    name: str
    tenant: str
    steps: tuple[StepResult, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        return self.different == 0

    @property
    def different(self) -> int:
        """The number of steps that came out otherwise than expected."""
        return sum(not step.ok for step in self.steps)


def as_json(results: Sequence[ScenarioResult]) -> dict[str, Any]:
    return {
        "ok": all(result.ok for result in results),
        "scenarios": [
            {
                "file": result.file,
                "name": result.name,
                "tenant": result.tenant,
                "ok": result.ok,
                "seconds": round(result.seconds, 6),
                "steps": [
                    {
                        "title": step.title,
                        "ok": step.ok,
                        "answer": step.answer,
                        "because": step.because,
                        "seconds": round(step.seconds, 6),
                        "differences": list(step.differences),
                    }
                    for step in result.steps
                ],
            }
            for result in results
        ],
    }


def as_junit(results: Sequence[ScenarioResult]) -> bytes:
    """Return JUnit XML with a suite for each scenario and a case for each step."""
    root = ElementTree.Element("testsuites")
    for result in results:
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=_legal(result.name),
            tests=str(len(result.steps)),
            failures=str(result.different),
            errors="0",
            time=f"{result.seconds:.6f}",
        )
        for number, step in enumerate(result.steps, start=1):
            case = ElementTree.SubElement(
                suite,
                "testcase",
                classname=_legal(result.file),
                name=_legal(f"{number}. {step.title}"),
                time=f"{step.seconds:.6f}",
            )
            if not step.ok:
                failure = ElementTree.SubElement(case, "failure", message=_legal(step.differences[0]))
                failure.text = _legal("\n".join((*step.differences, f"{step.answer}: {step.because}")))
    xml: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return xml


def _legal(text: str) -> str:
    """Return the text without the characters that XML 1.0 cannot hold."""
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text)
