"""Runs a scenario, step by step."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from placet.errors import PlacetError
from placet.scenario.expect import describe_error
from placet.scenario.report import ScenarioResult, StepResult
from placet.scenario.run import Pdp, Run, fresh_tenant
from placet.scenario.scenario import Scenario
from placet.scenario.steps.step import Step


async def run_scenario(
    scenario: Scenario,
    pdp: Pdp,
    *,
    file: str,
    tenant: str = "",
    told: Callable[[StepResult], None] = lambda result: None,
) -> ScenarioResult:
    """Run the scenario in `tenant`, or in one of its own, and call `told` with the result of each step.

    A step that differs does not end the run, so that a report shows everything. Whatever was killed
    is started again at the end.
    """
    steps: list[StepResult] = []
    run = Run(
        pdp=pdp,
        tenant=tenant or fresh_tenant(scenario.tenant),
        suffix=f"-{secrets.token_hex(3)}" if tenant else "",
    )
    began = time.perf_counter()

    def tell(result: StepResult) -> None:
        steps.append(result)
        told(result)

    async with run:
        try:
            await run.prepare(scenario.fixture, timed=scenario.timed)
        except PlacetError as exc:
            tell(_result_of_failure("fixture", exc))
        else:
            for step in scenario.steps:
                tell(await _perform(step, run))
        try:
            await run.restore()
        except PlacetError as exc:
            tell(
                StepResult(
                    title="restart what is down",
                    answer="error",
                    because="",
                    differences=(describe_error(exc),),
                )
            )
    return ScenarioResult(
        file=file,
        name=scenario.name,
        tenant=run.tenant,
        steps=tuple(steps),
        seconds=time.perf_counter() - began,
    )


async def _perform(step: Step, run: Run) -> StepResult:
    began = time.perf_counter()
    outcome = await step.perform_or_fail(run)
    return StepResult(
        title=step.title or step.asked(),
        chapter=step.chapter,
        answer=outcome.answer,
        because=outcome.because,
        seconds=time.perf_counter() - began,
        differences=tuple(step.differences(outcome)),
    )


def _result_of_failure(title: str, error: PlacetError) -> StepResult:
    return StepResult(title=title, answer="error", because="", differences=(describe_error(error),))
