"""A policy engine that a test tells what to answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import orjson

from pdp.errors import PolicyUnavailableError
from pdp.model import Effect, PolicyRevision, Reason, Verdict

REVISION = PolicyRevision(bundle="placet", revision="fake-1")

Judge = Callable[[dict[str, Any]], Verdict]


def verdict(effect: Effect, code: str, *, retry_after: timedelta | None = None) -> Verdict:
    """Return a verdict with one reason."""
    return Verdict(
        effect=effect,
        reasons=(Reason(code=code, effect=effect, message=f"Because of {code}."),),
        policy=REVISION,
        retry_after=retry_after,
    )


ALLOW = verdict(Effect.ALLOW, "task.within_boundary")
BLOCK = verdict(Effect.BLOCK, "boundary.tool")
ESCALATE = verdict(Effect.ESCALATE, "payment.large")


class FakePolicyEngine:
    """A `PolicyEngine` that applies a function to each document; `documents` are those that came in."""

    def __init__(self, judge: Judge | Verdict = ALLOW) -> None:
        self.documents: list[dict[str, Any]] = []
        self._judge: Judge = (lambda _: judge) if isinstance(judge, Verdict) else judge
        self._cause = ""
        # The policy that it says it judges by; verdicts name their own.
        self.serving = REVISION
        self._answers = asyncio.Event()
        self._answers.set()
        self._asked = asyncio.Event()

    def judge_by(self, judge: Judge | Verdict) -> None:
        """Answer by `judge` from now on; an engine that failed works again."""
        self._judge = (lambda _: judge) if isinstance(judge, Verdict) else judge
        self._cause = ""

    def fail(self, cause: str) -> None:
        """Fail every call from now on."""
        self._cause = cause

    def pause(self) -> None:
        """Answer nothing until `resume` is called."""
        self._answers.clear()

    def resume(self) -> None:
        self._answers.set()

    async def asked(self) -> None:
        """Return once a call has come in."""
        await self._asked.wait()

    async def policy(self, *, deadline: float) -> PolicyRevision:
        await asyncio.sleep(0)
        if deadline <= time.monotonic():
            raise PolicyUnavailableError("timeout")
        if self._cause:
            raise PolicyUnavailableError(self._cause)
        return self.serving

    async def decide(self, document: bytes, *, deadline: float, tenant: str = "") -> Verdict:
        try:
            parsed = orjson.loads(document)
        except ValueError as exc:
            raise PolicyUnavailableError("malformed", "the document is not JSON") from exc
        if not isinstance(parsed, dict):
            raise PolicyUnavailableError("malformed", "the document is not an object")
        self.documents.append(parsed)
        self._asked.set()
        try:
            async with asyncio.timeout(max(deadline - time.monotonic() - 0.005, 0)):
                await asyncio.sleep(0)
                await self._answers.wait()
        except TimeoutError as exc:
            raise PolicyUnavailableError("timeout") from exc
        if self._cause:
            raise PolicyUnavailableError(self._cause)
        return self._judge(parsed)
