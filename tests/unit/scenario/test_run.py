"""What a run does to the stack that it has."""

from __future__ import annotations

from placet.scenario.run import Pdp, Run


class RecordingStack:
    """A `Stack` that notes what it restarts."""

    def __init__(self) -> None:
        self.restarted: list[str] = []

    async def kill(self, component: str) -> None:
        pass

    async def restart(self, component: str) -> None:
        self.restarted.append(component)


async def test_replicas_are_restored_after_what_they_do_not_start_without() -> None:
    stack = RecordingStack()
    async with Run(pdp=Pdp(targets=("localhost:1",), stack=stack), tenant="t") as run:
        for component in ("pdp-1", "postgres", "opa"):
            await run.kill(component)
        await run.restore()
    assert stack.restarted == ["opa", "postgres", "pdp-1"]
