"""Put a report into the documents: `python -m bench.page bench/results/….json`.

Copies it to docs/performance.json, and from it writes the measured part of docs/performance.md and
the plot beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.drive import ROOT
from bench.report import number

DOCS = ROOT / "docs"
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
COLOURS = ("#1b6ca8", "#9aa5b1", "#d9a441", "#6a9f58", "#a3c293")
WIDTH, LEFT, BAR, GAP = 760, 90, 16, 18


def main(
    report_file: Annotated[
        Path, typer.Argument(metavar="REPORT", help="A report as `python -m bench` wrote it.")
    ],
) -> None:
    """Make the documents say what a report says."""
    content = report_file.read_text(encoding="utf-8")
    report = json.loads(content)
    page = DOCS / "performance.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{measured(report)}{END}{after}", encoding="utf-8")
    (DOCS / "performance.svg").write_text(plot(report), encoding="utf-8")
    (DOCS / "performance.json").write_text(content, encoding="utf-8")


def measured(report: Mapping[str, Any]) -> str:
    """Markdown: when and where, the targets, a table of every case."""
    machine, profile = report["machine"], report["profile"]
    lines = [
        "",
        f"{report['date'][:10]}, commit {machine['commit']}. {machine['cpu']}; {machine['system']}; "
        f"Python {machine['python']}; grpcio {machine['grpcio']}; PostgreSQL {machine['postgres']}. "
        f"Medians of {profile['rounds']} rounds of {profile['seconds']:g} s.",
        "",
        "| target | measured | bound | |",
        "| --- | --- | --- | --- |",
    ]
    for target in report["targets"]:
        word = {None: "not measured", True: "met", False: "**missed**"}[target["met"]]
        value = "–" if target["value"] is None else f"{target['value']:.2f}"
        sign = "≥" if target["at_least"] else "≤"
        lines.append(f"| {target['name']} | {value} | {sign} {target['bound']:g} | {word} |")
    lines += [
        "",
        "| case | subject | answers/s | p50 ms | p99 ms | CPU µs an answer, by process |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for case, subjects in report["cases"].items():
        for subject, found in subjects.items():
            median = found["median"]
            cpu = ", ".join(f"{name} {spent:.0f}" for name, spent in median["cpu_us"].items())
            p50, p99 = number(median["p50"]), number(median["p99"])
            lines.append(f"| {case} | {subject} | {median['rate']:,.0f} | {p50} | {p99} | {cpu} |")
    lines += [f"| {subject} | left out: {why} | | | | |" for subject, why in report["left_out"].items()]
    return "\n".join([*lines, ""])


def plot(report: Mapping[str, Any]) -> str:
    """SVG: answers a second of every subject, by calls in flight."""
    cases = {case: found for case, found in report["cases"].items() if case.endswith("in flight")}
    subjects = list(next(iter(cases.values())))
    most = max(found["median"]["rate"] for case in cases.values() for found in case.values())
    marks, y = [], 46
    for case, found in cases.items():
        middle = y + len(found) * BAR / 2 + 4
        marks.append(f'<text x="{LEFT - 8}" y="{middle:.0f}" text-anchor="end">{escape(case)}</text>')
        for subject, at in found.items():
            rate = at["median"]["rate"]
            width = rate / most * (WIDTH - LEFT - 70)
            colour = COLOURS[subjects.index(subject) % len(COLOURS)]
            marks.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR - 2}" fill="{colour}"/>')
            marks.append(f'<text x="{LEFT + width + 5:.1f}" y="{y + 11}">{rate:,.0f}</text>')
            y += BAR
        y += GAP
    legend = [
        f'<rect x="{LEFT + n * 130}" y="14" width="11" height="11" fill="{COLOURS[n % len(COLOURS)]}"/>'
        f'<text x="{LEFT + n * 130 + 16}" y="24">{escape(subject)}</text>'
        for n, subject in enumerate(subjects)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" font-family="sans-serif" '
            'font-size="11" fill="#333">',
            "<title>Answers a second, by calls in flight</title>",
            f'<rect width="{WIDTH}" height="{y}" fill="#fff"/>',
            *legend,
            *marks,
            "</svg>",
            "",
        ]
    )


if __name__ == "__main__":
    typer.run(main)
