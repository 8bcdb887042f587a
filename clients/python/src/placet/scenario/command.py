"""Loads files and runs them as the command line says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from placet.scenario.credentials import Credentials
from placet.scenario.document import Fault
from placet.scenario.load import load
from placet.scenario.own_stack import own_stack
from placet.scenario.report import ScenarioResult, StepResult
from placet.scenario.run import Pdp
from placet.scenario.runner import run_scenario
from placet.scenario.scenario import Scenario
from placet.scenario.steps.step import Scope
from placet.verify import RefreshingVerifier, fetch_jwks


class FaultsError(Exception):
    """Files do not have the format of scenarios, and nothing has run."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = tuple(faults)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What scenarios run on: the `targets` of a running PDP, or a stack of the runner's own.

    `timeout` is in seconds. `credentials` prove who calls, for a PDP that is not in --insecure-dev;
    all of them belong to `tenant`.
    """

    targets: tuple[str, ...]
    own_stack: bool
    replicas: int
    tenant: str
    timeout: float
    jwks: str
    credentials: Credentials | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Listener:
    """Functions that are called as a run goes on."""

    begins: Callable[[Scenario, str], None]
    step: Callable[[StepResult], None]
    ends: Callable[[ScenarioResult], None]


def load_all(texts: Sequence[tuple[str, str]], options: Options) -> list[tuple[str, Scenario]]:
    """Return the scenarios of (file, text), each with its file.

    Raises `FaultsError` with the faults of all files.
    """
    loaded: list[tuple[str, Scenario]] = []
    faults: list[Fault] = []
    for file, text in texts:
        scope = Scope(
            keys=bool(options.jwks) or options.own_stack,
            stack=options.own_stack,
            replicas=options.replicas if options.own_stack else len(options.targets),
        )
        found = load(text, file, scope)
        if isinstance(found, Scenario):
            loaded.append((file, found))
        else:
            faults += found
    if faults:
        raise FaultsError(faults)
    return loaded


async def run_all(
    scenarios: Sequence[tuple[str, Scenario]], options: Options, listener: Listener
) -> list[ScenarioResult]:
    """Run the scenarios one after another. Raises `StackError` if there is no stack to run on."""
    results = []
    async with AsyncExitStack() as opened:
        targets, jwks = options.targets, options.jwks
        stack = None
        if options.own_stack:
            stack = await opened.enter_async_context(own_stack(options.replicas))
            targets, jwks = stack.targets, stack.jwks_url
        verifier = RefreshingVerifier(partial(fetch_jwks, jwks), pause=0) if jwks else None
        pdp = Pdp(
            targets=targets,
            credentials=options.credentials,
            timeout=options.timeout,
            verifier=verifier,
            stack=stack,
        )
        for file, scenario in [(file, each) for file, loaded in scenarios for each in loaded.each()]:
            listener.begins(scenario, file)
            result = await run_scenario(scenario, pdp, file=file, tenant=options.tenant, told=listener.step)
            listener.ends(result)
            results.append(result)
    return results
