"""`python -m bench`: measure the PDP beside plainer designs and peers, and say what came of it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import psycopg
import typer

from bench import cases, drive, report, stack
from bench.drive import ROOT


def main(
    profile: Annotated[str, typer.Option(metavar="|".join(cases.PROFILES))] = "full",
    output: Annotated[Path, typer.Option(help="Where the report goes, as JSON.")] = ROOT
    / "bench"
    / "results",
) -> None:
    """Run every case and print medians, ratios and targets; exit code 1 if a call failed unexpectedly."""
    if profile not in cases.PROFILES:
        raise typer.BadParameter(
            f"{profile!r} is none of {', '.join(cases.PROFILES)}", param_hint="--profile"
        )
    chosen = cases.PROFILES[profile]
    began = time.monotonic()
    generator = drive.build()
    results = cases.Results()
    with stack.running() as running:
        say(f"Measuring on {running.grpc} ({chosen.name}: {chosen.rounds} × {chosen.seconds:g} s a subject)")
        cases.run(cases.Bench(stack=running, generator=generator, profile=chosen, results=results, say=say))
        with psycopg.connect(running.database_url) as connection:
            row = connection.execute("SHOW server_version").fetchone()
            assert row is not None  # SHOW has one row
    described = report.described(results, chosen, row[0])
    print(report.text(described, report.targets(results, chosen)))
    file = report.write(described, output)
    say(f"\n{file}, after {time.monotonic() - began:.0f} s")
    failed = {
        f"{case}, {subject}": measured.failures
        for case, subjects in results.rounds.items()
        for subject, rounds in subjects.items()
        for measured in rounds
        # An overloaded PDP should turn callers away, so refusals are no failures there.
        if measured.failures and case != "overload"
    }
    if failed:
        say(f"calls failed: {failed}")
        raise typer.Exit(1)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)
