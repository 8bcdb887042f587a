"""What a test tells the fake to answer: scripts, failures, silence."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from placet.model import Action, Effect, Figures, Hop, Obligation, Reason, Remedy, SchemaViolation

if TYPE_CHECKING:
    import grpc

    from placet.v1 import decision_service_pb2 as decisions


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who calls, as the metadata of the call says; the fake believes it."""

    tenant: str
    subject: str
    roles: frozenset[str]
    agents: frozenset[str]
    tools: frozenset[str] = frozenset()
    audiences: frozenset[str] = frozenset()

    def serves(self, tool: str, audience: str) -> bool:
        """Return whether the caller is the side of this tool and audience; empty: receipts are for nobody."""
        names = any(tool == n or (n.endswith("*") and tool.startswith(n[:-1])) for n in self.tools)
        return "tool" in self.roles and names and (not audience or audience in self.audiences)


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """A request to Evaluate, as the fake received it. `action.arguments` is parsed."""

    caller: Caller
    action: Action
    session_id: str
    hops: tuple[Hop, ...]
    review_id: str
    attempt_id: str
    audience: str
    # What was left of the caller's deadline, in seconds; None: the caller set none.
    time_remaining: float | None
    # The session token that the request showed; empty without one.
    session_token: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a script says. `resource` is what the registry would derive: "invoice:INV-1".

    The members from `at` on are those of the decision's only reason.
    """

    effect: Effect
    code: str
    message: str = "Scripted."
    obligations: tuple[Obligation, ...] = ()
    retry_after: timedelta | None = None
    retryable: bool = False
    resource: str = ""
    at: str = ""
    remediation: str = ""
    remedy: Remedy | None = None
    figures: tuple[Figures, ...] = ()
    violations: tuple[SchemaViolation, ...] = ()

    @property
    def reason(self) -> Reason:
        """The decision's only reason."""
        return Reason(
            code=self.code,
            effect=self.effect,
            message=self.message,
            at=self.at,
            remediation=self.remediation,
            remedy=self.remedy,
            figures=self.figures,
            violations=self.violations,
        )


Script = Callable[[Received], Verdict]


@dataclass(kw_only=True, slots=True)
class _Failure:
    code: grpc.StatusCode
    times: int


class Scripts:
    """Everything that a test has told the fake. Not safe to share: the fake holds its lock."""

    def __init__(self) -> None:
        self._by_tool: dict[str, Script] = {}
        self._otherwise: Script = lambda _: Verdict(
            effect=Effect.BLOCK, code="pdp.no_applicable_rule", message="No rule allows this."
        )
        self._failures: dict[str, _Failure] = {}
        # While it is not set, no Evaluate is answered.
        self.gate = threading.Event()
        self.gate.set()
        # Called with each answer of Evaluate, and of EvaluateBatch, before it is sent.
        self.alter: Callable[[decisions.EvaluateResponse], None] | None = None
        self.alter_plan: Callable[[decisions.EvaluateBatchResponse], None] | None = None

    def answer(self, tools: Iterable[str], verdict: Verdict) -> None:
        """Give this verdict on every call of these tools; without tools, of every one that has no script."""
        named = tuple(tools)
        if not named:
            self._otherwise = lambda _: verdict
        for tool in named:
            self._by_tool[tool] = lambda _: verdict

    def set_script(self, tool: str, script: Script) -> None:
        self._by_tool[tool] = script

    def judge(self, received: Received) -> Verdict:
        """Return what the tool's script says; a block if there is none."""
        return self._by_tool.get(received.action.tool, self._otherwise)(received)

    def tools(self) -> list[str]:
        """Return the tools that have a script, by name."""
        return sorted(self._by_tool)

    def fail(self, method: str, code: grpc.StatusCode, times: int) -> None:
        """Fail the next `times` calls of a method."""
        self._failures[method] = _Failure(code=code, times=times)

    def take_failure(self, method: str) -> grpc.StatusCode | None:
        """Return how the call that has just come in shall fail; None if it shall not."""
        failure = self._failures.get(method)
        if failure is None or failure.times == 0:
            return None
        failure.times -= 1
        return failure.code
