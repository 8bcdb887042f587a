"""The cases that are measured.

Each case drives its subjects in turn, round after round, so that a machine that slows down slows them all.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg

from bench import cerbos, changes, context, drive, parts, rules, seed, stack, workload
from bench.drive import Load, Measured, Target
from bench.stack import Stack

OURS, NAIVE, OPA, CERBOS, CERBOS_AUDIT = "placet", "naive", "opa alone", "cerbos", "cerbos, file audit"
OPA_PATH = "/v1/data/placet/decision/decision?strict-builtin-errors=true&provenance=true"
OVERLOAD = 5
# How many allows are redeemed in a second while operators write, and while not.
REDEMPTIONS = 30.0
# How long a caller of an overloaded PDP waits, in seconds. Answers that come later are not counted.
PATIENCE = 1.0
# Seconds for which each subject is driven before anything is measured: connections, caches, plans.
WARMING = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """How much is measured. Times are in seconds and for one round."""

    name: str
    rounds: int
    seconds: float
    warmup: float
    levels: tuple[int, ...]
    sessions: int
    # How many actions each session has, and how many such sessions there are.
    history: tuple[int, ...]
    history_sessions: int
    # How many rules are measured beside the product's own number of them.
    rules: tuple[int, ...]
    # How many more entities and open sessions the full database holds.
    entities: int
    open_sessions: int
    # Whether peers that have to be fetched take part.
    peers: bool = True


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="full",
            rounds=3,
            seconds=3.0,
            warmup=0.5,
            levels=(1, 16, 64, 256),
            sessions=1024,
            history=(1, 100, 10_000),
            history_sessions=8,
            rules=(150, 1500),
            entities=1_000_000,
            open_sessions=100_000,
        ),
        Profile(
            name="quick",
            rounds=1,
            seconds=1.0,
            warmup=0.3,
            levels=(1, 64),
            sessions=256,
            history=(1, 1_000),
            history_sessions=8,
            rules=(150,),
            entities=50_000,
            open_sessions=5_000,
        ),
        # For the bench's own test: every case, and nothing to conclude from.
        Profile(
            name="smoke",
            rounds=1,
            seconds=0.2,
            warmup=0.0,
            levels=(1, 4),
            sessions=8,
            history=(1, 20),
            history_sessions=4,
            rules=(30,),
            entities=100,
            open_sessions=20,
            peers=False,
        ),
    )
}


@dataclass(slots=True)
class Results:
    """The measurements of every round, by case and subject, and the reason for each that is missing."""

    rounds: dict[str, dict[str, list[Measured]]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def rate(self, case: str, subject: str) -> float:
        """Return the subject's median rate over the rounds, in answers a second."""
        return statistics.median(measured.rate for measured in self.rounds[case][subject])


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """A stack, and how to drive it."""

    stack: Stack
    generator: Path
    profile: Profile
    results: Results
    say: Callable[[str], None]

    def load(self, in_flight: int, rate: float | None = None, timeout: float = 30.0) -> Load:
        profile = self.profile
        return Load(
            in_flight=in_flight, rate=rate, seconds=profile.seconds, warmup=profile.warmup, timeout=timeout
        )

    def measure(self, case: str, subjects: Mapping[str, tuple[Target, Load]], *, times: int = 1) -> None:
        """Drive the subjects in turn; each round adds to the results. `times` as many rounds as usual."""
        into = self.results.rounds.setdefault(case, {})
        for _ in range(times * self.profile.rounds):
            for subject, (target, load) in subjects.items():
                measured = drive.drive(self.generator, target, load)
                into.setdefault(subject, []).append(measured)
                self.say(f"  {case:<18} {subject:<20} {drive.shown(measured)}")


def run(bench: Bench) -> None:
    """Measure every case."""
    asyncio.run(workload.prepare(bench.stack.grpc))
    sessions = asyncio.run(workload.open_sessions(bench.stack.grpc, bench.profile.sessions))
    ours = workload.target(bench.stack, sessions)
    # These documents to judge are the PDP's own, from one short run.
    drive.drive(bench.generator, ours, Load(in_flight=4, seconds=0.2, warmup=0.0))
    documents = input_documents(bench.stack)
    with contextlib.ExitStack() as running:
        found = subjects(bench, ours, documents, running)
        for target in found.values():
            drive.drive(bench.generator, target, Load(in_flight=16, seconds=WARMING, warmup=0.0))
        compare(bench, found)
    streams(bench, ours)
    spread(bench, ours)
    history(bench, ours)
    with contextlib.ExitStack() as running:
        many_rules(bench, ours, running)
    full_context(bench, ours)
    changing(bench)
    overload(bench, ours)


def subjects(
    bench: Bench, ours: Target, documents: list[bytes], running: contextlib.ExitStack
) -> dict[str, Target]:
    """The PDP and what it is compared with."""
    stack = bench.stack
    shipped = running.enter_context(parts.opa(stack, "opa-shipped", shipped=True))
    naive = running.enter_context(parts.naive(stack, shipped))
    token = (stack.directory / "keys" / "opa-decision.token").read_text(encoding="ascii").strip()
    found = {
        OURS: ours,
        NAIVE: replace(
            ours,
            address=naive.address,
            pids={**stack.pids, "pdp": naive.pid, "opa": shipped.pid},
        ),
        OPA: Target(
            address=f"unix:{stack.opa_socket}",
            method=OPA_PATH,
            bodies=[b'{"input":%b}' % document for document in documents],
            metadata=(("Authorization", f"Bearer {token}"),),
            expect=('"effect":"allow"',),
            http=True,
            pids={"opa": stack.opa_pid},
        ),
    }
    try:
        binary = cerbos.install(fetch=bench.profile.peers)
    except cerbos.PeerUnavailableError as exc:
        bench.results.left_out[CERBOS] = str(exc)
        bench.say(f"  {CERBOS} is left out: {exc}")
        return found
    for subject, audit in ((CERBOS, False), (CERBOS_AUDIT, True)):
        part = running.enter_context(cerbos.running(binary, stack.directory, rules=rules.own(), audit=audit))
        found[subject] = cerbos.target(part, documents)
    return found


def compare(bench: Bench, found: Mapping[str, Target]) -> None:
    for level in bench.profile.levels:
        bench.measure(
            f"{level} in flight", {name: (target, bench.load(level)) for name, target in found.items()}
        )
    # Each subject is driven at half of its own peak.
    halves = {
        name: max(bench.results.rate(f"{level} in flight", name) for level in bench.profile.levels) / 2
        for name in (OURS, NAIVE)
    }
    bench.measure(
        "half the peak", {name: (found[name], bench.load(1, rate=rate)) for name, rate in halves.items()}
    )


def streams(bench: Bench, ours: Target) -> None:
    busy = bench.load(max(bench.profile.levels[:3]))
    over_streams = replace(
        ours,
        method=workload.STREAM_METHOD,
        streams=4,
        bodies=[workload.stream_body(body) for body in ours.bodies],
    )
    bench.measure("stream", {"unary": (ours, busy), "4 streams": (over_streams, busy)})


def spread(bench: Bench, ours: Target) -> None:
    """One session takes its actions one after the other; many do not wait for each other."""
    load = bench.load(min(16, max(bench.profile.levels)))
    bench.measure(
        "sessions",
        {"many sessions": (ours, load), "one session": (replace(ours, bodies=ours.bodies[:1]), load)},
    )


def history(bench: Bench, ours: Target) -> None:
    """Measure sessions that have a history.

    A history of approvals makes decisions look at counters, one of payments at windows too.
    """
    load = bench.load(bench.profile.history_sessions)
    seeded = {
        f"{actions:,} before": asyncio.run(
            seed.seed(bench.stack, sessions=bench.profile.history_sessions, history=actions, say=bench.say)
        )
        for actions in bench.profile.history
    }
    for case, tool in (("history", "invoices.approve"), ("payments", "payments.create")):
        found = {
            name: (replace(ours, bodies=[workload.body(session, tool=tool) for session in sessions]), load)
            for name, sessions in seeded.items()
        }
        bench.measure(case, found)


def many_rules(bench: Bench, ours: Target, running: contextlib.ExitStack) -> None:
    found = {f"{rules.own():,} rules": (ours, bench.load(max(bench.profile.levels[:3])))}
    directory = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="placet-bench-")))
    for number in bench.profile.rules:
        bench.say(f"  building a policy of {number:,} rules")
        opa = running.enter_context(
            parts.opa(bench.stack, f"opa-{number}", sources=rules.write(directory, number))
        )
        replica = running.enter_context(parts.pdp(bench.stack, opa, f"pdp-rules-{number}"))
        pids = {**bench.stack.pids, "pdp": replica.pid, "opa": opa.pid}
        target = replace(ours, address=replica.address, pids=pids)
        found[f"{number:,} rules"] = (target, bench.load(max(bench.profile.levels[:3])))
    bench.measure("rules", found)


def full_context(bench: Bench, ours: Target) -> None:
    """What a decision costs with all that a task can have around it; and in a database that is full."""
    load = bench.load(max(bench.profile.levels[:3]))
    everything = context.target(bench.stack, bench.profile.sessions)
    # Single rounds differ by more than what is left to the bound.
    bench.measure("context", {"bare": (ours, load), "everything": (everything, load)}, times=3)
    with stack.running() as other:
        full = context.target(other, bench.profile.sessions)
        context.fill(
            other,
            entities=bench.profile.entities,
            sessions=bench.profile.open_sessions,
            say=bench.say,
        )
        more = f"{bench.profile.entities:,} entities, {bench.profile.open_sessions:,} sessions"
        bench.measure("size", {"a few": (everything, load), more: (full, load)})


def changing(bench: Bench) -> None:
    """Measure redemptions, and decisions, while operators write and while they do not."""
    sessions = changes.prepare(bench.stack)
    loads = {
        "redeem": bench.load(1, rate=REDEMPTIONS),
        "evaluate": bench.load(min(16, max(bench.profile.levels))),
    }
    into = bench.results.rounds.setdefault("changes", {})
    for _ in range(bench.profile.rounds):
        for asked, load in loads.items():
            for writes in (False, True):
                subject = f"{asked}, operators write" if writes else asked
                if asked == "redeem":
                    # One more than can be due, for each moment at which a load begins or ends.
                    number = int(REDEMPTIONS * (load.seconds + load.warmup)) + 2
                    target = changes.redemptions(bench.stack, sessions, number)
                else:
                    target = changes.decisions(bench.stack, sessions)
                with changes.writing(bench.stack) if writes else contextlib.nullcontext():
                    measured = drive.drive(bench.generator, target, load)
                into.setdefault(subject, []).append(measured)
                bench.say(f"  {'changes':<18} {subject:<24} {drive.shown(measured)}")


def overload(bench: Bench, ours: Target) -> None:
    peak = max(bench.results.rate(f"{level} in flight", OURS) for level in bench.profile.levels)
    bench.measure("overload", {OURS: (ours, bench.load(1, rate=OVERLOAD * peak, timeout=PATIENCE))})


def input_documents(stack: Stack) -> list[bytes]:
    """Documents that the PDP has had judged, from the ledger."""
    with psycopg.connect(stack.database_url) as connection:
        rows = connection.execute(
            "SELECT input_document FROM placet.decision_details WHERE tenant = %s LIMIT 64", [workload.TENANT]
        ).fetchall()
    return [zlib.decompress(row[0]) for row in rows]
