"""The first story, played on a running stack: scenarios/story.yaml.

In a checkout the file stands beside the package, in the wheel inside it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pdp.dev.control import Control
from pdp.dev.stack import Stack
from pdp.dev.terminal import BOLD, DIM, GREEN, RED, YELLOW, Terminal
from placet.scenario.load import load
from placet.scenario.report import StepResult
from placet.scenario.run import Pdp
from placet.scenario.runner import run_scenario
from placet.scenario.scenario import Scenario
from placet.scenario.steps.step import Scope
from placet.verify import RefreshingVerifier, fetch_jwks

COLOURS = {"allow": GREEN, "block": RED, "escalate": YELLOW, "error": RED}
# Widths of what was asked, the answer and the time; and of chapters.
ASKED, ANSWER, TAKEN = 36, 9, 9
NAME = Path("scenarios") / "story.yaml"


def story(replicas: int = 1) -> Scenario:
    """Return the story's file. Raises FileNotFoundError if it was not installed."""
    package = Path(__file__).resolve().parents[1]
    file = next((file for file in (package / NAME, package.parent / NAME) if file.is_file()), None)
    if file is None:
        raise FileNotFoundError(package / NAME)
    found = load(file.read_text(encoding="utf-8"), str(NAME), Scope(keys=True, stack=True, replicas=replicas))
    if not isinstance(found, Scenario):
        raise ValueError("\n".join(map(str, found)))
    return found


async def play(stack: Stack, terminal: Terminal) -> bool:
    """Tell the story in the tenant that it names; return whether everything came out as expected."""
    told = story(len(stack.replicas))
    keys = f"{stack.replicas[0].http_url}/.well-known/jwks.json"
    pdp = Pdp(
        targets=tuple(replica.grpc_address for replica in stack.replicas),
        verifier=RefreshingVerifier(partial(fetch_jwks, keys), pause=0),
        stack=Control(stack),
    )
    result = await run_scenario(told, pdp, file=str(NAME), tenant=told.tenant, told=partial(tell, terminal))
    terminal.blank()
    steps = len(result.steps)
    if result.ok:
        terminal.line(terminal.paint(f"  All {steps} steps came out as expected.", BOLD, GREEN))
    else:
        terminal.error(f"{result.different} of {steps} steps came out otherwise than expected")
    return result.ok


def tell(terminal: Terminal, step: StepResult) -> None:
    if step.chapter:
        terminal.blank()
        terminal.line(terminal.wrapped(step.chapter))
    colour = COLOURS.get(step.answer, GREEN)
    taken = f"{step.seconds * 1000:.1f} ms"
    terminal.line(
        f"  {step.title:<{ASKED}}{terminal.paint(f'{step.answer.upper():<{ANSWER}}', BOLD, colour)}"
        f"{terminal.paint(f'{taken:>{TAKEN}}', DIM)}  "
        f"{terminal.cut(step.because, 2 + ASKED + ANSWER + TAKEN + 2)}"
    )
    for difference in step.differences:
        terminal.line(terminal.paint(f"  {'':<{ASKED}}DIFFERS: {difference}", BOLD, RED))
