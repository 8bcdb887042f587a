"""What Prometheus sees. No metric is labelled by tenant, agent, session or argument."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from pdp.overload.queue_stats import QueueStats

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """One registry a process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._evaluations = Counter(
            "placet_evaluate_requests",
            "Evaluate calls and plans' items by effect and leading code; effect `error` had no decision.",
            ("effect", "code"),
            registry=self.registry,
        )
        self._evaluate_seconds = Histogram(
            "placet_evaluate_duration_seconds",
            "Time from receiving an Evaluate call to its answer.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._stage_seconds = Histogram(
            "placet_stage_duration_seconds",
            "Time spent in a stage of the pipeline.",
            ("stage",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        # `labels()` looks its labels over at every call; these are few and always the same.
        self._stages = {name: self._stage_seconds.labels(name) for name in ("enrich", "decide", "record")}
        self._fail_closed = Counter(
            "placet_fail_closed",
            "Actions that were not allowed because something failed.",
            ("cause",),
            registry=self.registry,
        )
        self._bundle = Gauge(
            "placet_bundle_info", "Policy bundle in force.", ("revision",), registry=self.registry
        )
        self._rpcs = Histogram(
            "placet_rpc_duration_seconds",
            "Time of calls other than Evaluate.",
            ("method", "code"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._credentials = Counter(
            "placet_credentials_reads",
            "Readings of what callers are checked with, by source and outcome.",
            ("source", "outcome"),
            registry=self.registry,
        )
        self._outcomes = Counter(
            "placet_outcomes",
            "Reports of what became of allows; `conflict`: contradicts the first.",
            ("outcome", "conflict"),
            registry=self.registry,
        )
        self._open = Gauge(
            "placet_open_decisions",
            "Expired allows whose outcome nobody reported; NaN while that is not known.",
            registry=self.registry,
        )
        self._open.set(math.nan)
        self._certificate = Gauge(
            "placet_certificate_expiry_timestamp_seconds",
            "When the server's certificate ends (Unix time); 0 without TLS.",
            registry=self.registry,
        )
        self._clock = Gauge(
            "placet_clock_ahead_seconds",
            "How far this machine's clock is ahead of the database's; NaN while that is not known.",
            registry=self.registry,
        )
        self._clock.set(math.nan)
        self._apart = Gauge(
            "placet_engine_tenants_apart",
            "Tenants that are judged singly, because a document of theirs broke a batch.",
            registry=self.registry,
        )
        self._revision = ""
        self._loads = _Loads()
        self.registry.register(self._loads)

    def watch(self, stage: str, load: Callable[[], QueueStats]) -> None:
        """Show what waits and what is dropped at a stage, read when somebody looks."""
        self._loads.sources[stage] = load

    def watch_apart(self, count: Callable[[], int]) -> None:
        """Show how many tenants the engine judges singly."""
        self._apart.set_function(count)

    def count_evaluation(self, effect: str, code: str, seconds: float) -> None:
        """Count a decision by its effect and its first reason's code, and the time that it took."""
        self._evaluations.labels(effect, code).inc()
        self._evaluate_seconds.observe(seconds)

    def count_outcome(self, outcome: str, conflict: bool) -> None:
        """Count a report that was recorded; `conflict`: it contradicts an earlier one."""
        self._outcomes.labels(outcome, "yes" if conflict else "no").inc()

    def open_decisions(self, count: float) -> None:
        """Show how many expired allows have no outcome; NaN while that is not known."""
        self._open.set(count)

    def count_refusal(self, reason: str, seconds: float) -> None:
        """Count an Evaluate call that got no decision.

        `reason` is an ErrorReason in lower case, or `caller_gone` for a call whose caller did not wait:
        its deadline passed, or it hung up.
        """
        self._evaluations.labels("error", reason).inc()
        self._evaluate_seconds.observe(seconds)
        self._fail_closed.labels(reason).inc()

    def failed_closed(self, cause: str) -> None:
        """Count an action, or a plan, that was not allowed because something failed."""
        self._fail_closed.labels(cause).inc()

    def rpc(self, method: str, code: str, seconds: float) -> None:
        """Count a call other than Evaluate. `method` is its path, `code` the name of its gRPC status."""
        self._rpcs.labels(method.rpartition("/")[2], code).observe(seconds)

    def bundle(self, revision: str) -> None:
        """Note the revision that judged last. Only the one in force has a series."""
        if revision != self._revision:
            self._bundle.clear()
            self._bundle.labels(revision).set(1)
            self._revision = revision

    def credentials_read(self, source: str, *, ok: bool) -> None:
        """Note a reading of certificate files (`tls`) or of an issuer's keys (`jwks`)."""
        self._credentials.labels(source, "ok" if ok else "failed").inc()

    def certificate(self, ends_at: float) -> None:
        """Show when the server's certificate ends, in Unix seconds."""
        self._certificate.set(ends_at)

    def clock_ahead(self, seconds: float) -> None:
        """Show how far this machine's clock is ahead of the database's; NaN while that is not known."""
        self._clock.set(seconds)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the time that the block takes: `enrich`, `decide` or `record`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._stages[name].observe(time.perf_counter() - started)

    def render(self) -> bytes:
        """Return the exposition, in `CONTENT_TYPE`."""
        return generate_latest(self.registry)


class _Loads(Collector):
    """Queues by stage. Stage `admission` is the whole pipeline: what is in flight."""

    def __init__(self) -> None:
        self.sources: dict[str, Callable[[], QueueStats]] = {}

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        in_flight = GaugeMetricFamily("placet_in_flight", "Decisions in flight.")
        waiting = GaugeMetricFamily("placet_queue_depth", "Calls that wait before a stage.", labels=["stage"])
        dropped = CounterMetricFamily(
            "placet_dropped", "Calls that were turned away or dropped unbegun.", labels=["stage", "reason"]
        )
        for stage, source in self.sources.items():
            load = source()
            if stage == "admission":
                in_flight.add_metric([], load.waiting)
            else:
                waiting.add_metric([stage], load.waiting)
            for reason in ("full", "gone", "late"):
                dropped.add_metric([stage, reason], load.dropped.get(reason, 0))
        return iter((in_flight, waiting, dropped))
