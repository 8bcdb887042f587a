"""What was measured, as JSON and as text: medians of rounds, ratios of rounds that ran side by side."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.cases import NAIVE, OURS, OVERLOAD, Profile, Results
from bench.drive import ROOT, Measured

FLAT = 0.9
# The bound lets a decision with everything cost half as much again as a bare one.
DEARER = 0.67


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A promise about a ratio. `value` is None where it was not measured."""

    name: str
    value: float | None
    bound: float
    at_least: bool = True

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def line(self) -> str:
        word = {None: "not measured", True: "met", False: "MISSED"}[self.met]
        value = "-" if self.value is None else f"{self.value:.2f}"
        return f"{self.name:<52} {value:>6}  {'≥' if self.at_least else '≤'} {self.bound:<5} {word}"


def ratio(
    results: Results, above: tuple[str, str], below: tuple[str, str], of: Callable[[Measured], float | None]
) -> float | None:
    """Return the median over rounds of one subject's value divided by another's.

    `above` and `below` are (case, subject). None if no round measured both.
    """
    pairs = zip(_rounds(results, above), _rounds(results, below), strict=False)
    quotients = [a / b for x, y in pairs if (a := of(x)) is not None and (b := of(y))]
    return statistics.median(quotients) if quotients else None


def _rounds(results: Results, place: tuple[str, str]) -> Sequence[Measured]:
    return results.rounds.get(place[0], {}).get(place[1], ())


def rate(measured: Measured) -> float:
    return measured.rate


def p99(measured: Measured) -> float | None:
    return measured.p99


def targets(results: Results, profile: Profile) -> list[Target]:
    """Return the targets that the PDP is held to, with what was measured."""

    def beside(case: str, above: str, below: str) -> float | None:
        return ratio(results, (case, above), (case, below), rate)

    found = []
    for level, least in ((1, 0.85), (64, 1.4), (256, 1.5)):
        case = f"{level} in flight"
        found.append(Target(name=f"{case}: rate by naive's", value=beside(case, OURS, NAIVE), bound=least))
        worse = ratio(results, (case, OURS), (case, NAIVE), p99)
        found.append(Target(name=f"{case}: p99 by naive's", value=worse, bound=1.0, at_least=False))
    found.append(
        Target(name="stream: rate by unary's", value=beside("stream", "4 streams", "unary"), bound=2.0)
    )
    found.append(
        Target(
            name="context: rate with everything by bare",
            value=beside("context", "everything", "bare"),
            bound=DEARER,
        )
    )
    for case in ("history", "payments", "rules", "size"):
        subjects = list(results.rounds.get(case, {}))
        value = beside(case, subjects[-1], subjects[0]) if subjects else None
        name = f"{case}: rate at {subjects[-1]} by {subjects[0]}" if subjects else case
        found.append(Target(name=name, value=value, bound=FLAT))
    slower = ratio(results, ("changes", "redeem, operators write"), ("changes", "redeem"), p99)
    found.append(
        Target(
            name="changes: p99 of a redemption while operators write by not",
            value=slower,
            bound=2.0,
            at_least=False,
        )
    )
    goodput = results.rate("overload", OURS) / peak(results, profile)
    found.append(Target(name=f"overload {OVERLOAD}×: goodput by the peak", value=goodput, bound=0.6))
    return found


def peak(results: Results, profile: Profile) -> float:
    return max(results.rate(f"{level} in flight", OURS) for level in profile.levels)


def comparisons(results: Results, profile: Profile) -> dict[str, dict[str, float]]:
    """Return, by case, the PDP's rate divided by that of each other subject."""
    found: dict[str, dict[str, float]] = {}
    for level in profile.levels:
        case = f"{level} in flight"
        for subject in results.rounds[case]:
            value = ratio(results, (case, OURS), (case, subject), rate)
            if subject != OURS and value is not None:
                found.setdefault(subject, {})[case] = value
    return found


def median(rounds: Sequence[Measured]) -> Measured:
    """Return the median of each value by itself, and the sum of the failures."""

    def middle(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else None

    names = rounds[0].cpu_us
    failures: dict[str, int] = {}
    for measured in rounds:
        for name, number in measured.failures.items():
            failures[name] = failures.get(name, 0) + number
    return Measured(
        rate=statistics.median(m.rate for m in rounds),
        p50=middle([m.p50 for m in rounds]),
        p99=middle([m.p99 for m in rounds]),
        answers=sum(m.answers for m in rounds),
        answered=sum(m.answered for m in rounds),
        failures=failures,
        cpu_us={name: statistics.median(m.cpu_us[name] for m in rounds) for name in names},
    )


def described(results: Results, profile: Profile, postgres: str) -> dict[str, Any]:
    """Return the whole report as JSON values."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(postgres),
        "profile": asdict(profile),
        "cases": {
            case: {
                subject: {"median": asdict(median(rounds)), "rounds": [asdict(m) for m in rounds]}
                for subject, rounds in subjects.items()
            }
            for case, subjects in results.rounds.items()
        },
        "ratios": comparisons(results, profile),
        "targets": [{**asdict(target), "met": target.met} for target in targets(results, profile)],
        "left_out": results.left_out,
    }


def machine(postgres: str) -> dict[str, str]:
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
    cores = Path("/proc/cpuinfo").read_text(encoding="utf-8").count("processor\t")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "cpu": f"{cores} × {cpu}",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "grpcio": version("grpcio"),
        "postgres": postgres,
        "commit": commit.stdout.strip() or "unknown",
    }


def text(report: Mapping[str, Any], targets_: Sequence[Target]) -> str:
    """Return the report as text for a terminal."""
    lines = []
    for case, subjects in report["cases"].items():
        lines += ["", f"{case:<22}{'answers/s':>10}{'p50 ms':>9}{'p99 ms':>9}   CPU µs an answer"]
        for subject, found in subjects.items():
            lines.append(f"  {subject:<20}{_row(found['median'])}")
    lines += ["", "rate of placet by that of"]
    for subject, by_case in report["ratios"].items():
        lines.append(
            f"  {subject:<20}" + "   ".join(f"{case}: {value:.2f}" for case, value in by_case.items())
        )
    lines += [f"  {subject:<20}left out: {why}" for subject, why in report["left_out"].items()]
    lines += ["", "targets", *(f"  {target.line()}" for target in targets_)]
    return "\n".join(lines)


def _row(found: Mapping[str, Any]) -> str:
    cpu = "  ".join(f"{name} {spent:.0f}" for name, spent in found["cpu_us"].items())
    failed = f"   failures {found['failures']}" if found["failures"] else ""
    return f"{found['rate']:>10.0f}{number(found['p50']):>9}{number(found['p99']):>9}   {cpu}{failed}"


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def write(report: Mapping[str, Any], directory: Path) -> Path:
    """Write the report as JSON under its date; return the file."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{report['date'].replace(':', '').replace('+0000', 'Z')}.json"
    file.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return file
