"""Measured ports answer as the port does that they stand around, and show what it took."""

from __future__ import annotations

import pytest

from pdp.errors import PolicyUnavailableError
from pdp.metrics import Metrics
from pdp.proxies.measured import MeasuredEngine, MeasuredInformationPoint, MeasuredLedger
from tests.fakes.engine import FakePolicyEngine
from tests.fakes.store import FakeStore
from tests.support import builders
from tests.support.builders import TENANT


def shown(metrics: Metrics, line: str) -> bool:
    return line in metrics.render().decode().splitlines()


async def test_facts_and_recordings_are_those_of_the_store_and_are_timed() -> None:
    store, metrics = FakeStore(), Metrics()
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)
    session = (await store.sessions.open(TENANT, builders.session(now=await store.clock.now()))).session
    request = builders.facts_request(builders.key(session.session_id))
    facts = await MeasuredInformationPoint(store.information_point, metrics).gather(request)
    assert facts == await store.information_point.gather(request)
    assert shown(metrics, 'placet_stage_duration_seconds_count{stage="enrich"} 1.0')

    ledger = MeasuredLedger(store.ledger, metrics)
    first, second = (
        builders.recording(builders.key(session.session_id), epoch=facts.epoch) for _ in range(2)
    )
    position = await ledger.record(first)
    assert [position, *await ledger.record_together([second])] == [
        recorded.position
        for each in (first, second)
        if (recorded := await ledger.decision(TENANT, each.decision.decision_id)) is not None
    ]
    assert shown(metrics, 'placet_stage_duration_seconds_count{stage="record"} 2.0')


async def test_verdict_is_the_engines_and_names_the_bundle_in_force() -> None:
    metrics = Metrics()
    verdict = await MeasuredEngine(FakePolicyEngine(), metrics).decide(b"{}", deadline=builders.deadline())
    assert shown(metrics, f'placet_bundle_info{{revision="{verdict.policy.revision}"}} 1.0')
    assert shown(metrics, 'placet_stage_duration_seconds_count{stage="decide"} 1.0')


async def test_engine_that_fails_is_counted_by_its_cause_and_still_fails() -> None:
    engine, metrics = FakePolicyEngine(), Metrics()
    engine.fail("status")
    with pytest.raises(PolicyUnavailableError):
        await MeasuredEngine(engine, metrics).decide(b"{}", deadline=builders.deadline())
    assert shown(metrics, 'placet_fail_closed_total{cause="policy_status"} 1.0')
    assert shown(metrics, 'placet_stage_duration_seconds_count{stage="decide"} 1.0')
