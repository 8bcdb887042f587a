"""`guard`: run a tool on ALLOW only.

    @pdp.guard(session=session, tool="payments.create")
    def pay(invoice: str, amount: Decimal, currency: str = "EUR") -> str: ...

What happens when `pay` is called, in order:

1. The action is made of the bound arguments, defaults included.
2. The PDP is asked, as a new attempt; gRPC's own retries are the same attempt.
   Where the allow comes after an action that this client does not know to have been executed, the PDP
   is asked once whether somebody said so.
3. Anything but an allow of this very attempt raises `Blocked` or a subclass: a hook that a
   framework runs again on resume, under the same tool call id, executes nothing twice.
4. Right before running: the allow has not expired, and the arguments still are those that
   were judged.
5. The function runs. `current_decision()` is the allow that it runs on.
6. The PDP is told in the background what became of the call: `executed`, with what was
   returned where that is JSON; `not_executed` for `NotExecuted`; `unknown` for any other exception,
   which says nothing of whether there was an effect. An allow that is not acted on, and one that may
   have been given and never arrived, is voided. None of this delays or changes a result or an
   exception.

The id of the call is, first found: the keyword argument `tool_call_id` (passed on only if the
function has such a parameter); `with tool_call("…")`; what `tool_call_id=` of the guard
returns; else a new one for each call, so that nothing is ever a repeat.

Inside `with decided(decision)` the PDP is not asked in step 2: see `placet.decided`. Threads that others made
know of neither: see `placet.copy_context`.

What is judged is what the guarded function is called with. A decorator that converts values stands outside of
the guard, so that the guard sees what the function gets: `@validate` above `@pdp.guard(…)`.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar
from uuid import uuid4

from placet._calls.action import Hops
from placet._calls.jsontext import json_text, object_text
from placet._guard.carried import carried
from placet._guard.decided import check_decided, take_decided
from placet._guard.reports import Reports, output_text
from placet.errors import ArgumentsChanged, InvalidRequestError, NotExecuted, PlacetError
from placet.model import Action, Decision, Effect, Outcome, Session

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
# A value, or what returns it at each call.
Source: TypeAlias = T | Callable[[], T]

CALL_ID = "tool_call_id"
_CALL_ID: ContextVar[str | None] = carried(ContextVar("placet_tool_call_id", default=None))
_DECISION: ContextVar[Decision] = carried(ContextVar("placet_decision"))
# Failures after which there may be an allow that nobody knows of here.
_MAY_BE_ALLOWED = frozenset(
    {
        "client.deadline",
        "client.failed",
        "client.malformed",
        "client.receipt_mismatch",
        "client.unknown_effect",
        "client.unknown_obligation",
        "client.unreachable",
    }
)


class Guarded(Protocol):
    """A decorator that keeps the function's signature."""

    def __call__(self, function: F, /) -> F: ...


@contextmanager
def tool_call(tool_call_id: str) -> Iterator[None]:
    """Let guarded functions that are called inside be the framework's tool call `tool_call_id`."""
    token = _CALL_ID.set(tool_call_id)
    try:
        yield
    finally:
        _CALL_ID.reset(token)


def current_decision() -> Decision:
    """Return the allow that the guarded function runs on, to hand its receipt on.

    Raises LookupError outside of a guarded function.
    """
    return _DECISION.get()


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardOptions:
    """What `guard` was given.

    `exclude` names parameters that are no part of the action: connections, contexts. The first
    parameter of a method, `self` or `cls`, is excluded by itself.
    """

    session: Source[Session | str]
    tool: str
    chain: Source[Hops]
    intent: Source[str]
    resource: Source[str]
    audience: str
    tool_call_id: Callable[[], str] | None
    exclude: Iterable[str]
    timeout: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Invocation:
    """One call of a guarded function."""

    spec: _GuardSpec
    args: tuple[Any, ...]
    # `tool_call_id` is among them only if the function has such a parameter.
    kwargs: dict[str, Any]
    tool_call_id: str
    attempt_id: str
    # The decision to run on, if there is one already (`placet._guard.decided`).
    decision: Decision | None

    def arguments(self) -> Mapping[str, Any]:
        """Return the bound arguments by name; what `**kwargs` takes has its own names."""
        bound = self.spec.signature.bind(*self.args, **self.kwargs)
        bound.apply_defaults()
        named: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            if name in self.spec.excluded:
                continue
            if self.spec.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                for key, item in value.items():
                    if key in self.spec.signature.parameters:
                        raise TypeError(f"{self.spec.name}() has {key!r} both as parameter and in **{name}")
                    if key not in self.spec.excluded:
                        named[key] = item
            else:
                named[name] = value
        return named

    def question(self) -> dict[str, Any]:
        """Return the keyword arguments of `evaluate`."""
        options = self.spec.options
        chain = _value(options.chain)
        return {
            "action": Action(
                tool=options.tool,
                arguments=self.arguments(),
                tool_call_id=self.tool_call_id,
                intent=_value(options.intent),
                resource=_value(options.resource),
            ),
            "session": _value(options.session),
            # It is sent again with the report.
            "chain": tuple(chain) if isinstance(chain, Iterator) else chain,
            "attempt_id": self.attempt_id,
            "audience": options.audience,
            "timeout": options.timeout,
        }

    def check(self, decision: Decision, judged: bytes) -> None:
        """Raise unless the function may run now, as it was judged."""
        decision.require_allowed()
        if decision.attempt_id != self.attempt_id:
            raise AssertionError("an allow of another attempt is never allowed")
        try:
            unchanged = json_text(self.arguments(), "action.arguments") == judged
        except InvalidRequestError:
            unchanged = False
        if not unchanged:
            raise ArgumentsChanged("the arguments were changed while the PDP judged them", decision=decision)

    @contextmanager
    def asking(self, question: Mapping[str, Any], judged: bytes, reports: Reports) -> Iterator[_Answer]:
        """Ask inside, and check the answer. An allow that will not be acted on is voided."""
        answer = _Answer()
        try:
            yield answer
            if answer.decision is not None:
                self.check(answer.decision, judged)
        except BaseException:
            # A decision that was given may still be acted on, in its turn.
            if self.decision is None and (answer.decision is None or _may_stand(answer.decision)):
                reports.void(question["session"], question["chain"], self.tool_call_id, self.attempt_id)
            raise

    def check_given(self, question: Mapping[str, Any]) -> None:
        """Raise `Blocked` if there was a decision already, and it does not permit this call."""
        if self.decision is not None:
            check_decided(self.decision, question)

    @contextmanager
    def running(self, decision: Decision, question: Mapping[str, Any], reports: Reports) -> Iterator[_Run]:
        """Run the function inside, on the decision; what becomes of it is reported."""
        run, token = _Run(), _DECISION.set(decision)
        report = partial(
            reports.outcome, decision.decision_id, session=question["session"], chain=question["chain"]
        )
        try:
            yield run
        except NotExecuted:
            report(Outcome.NOT_EXECUTED)
            raise
        except BaseException:
            report(Outcome.UNKNOWN)
            raise
        finally:
            _DECISION.reset(token)
        decision.executed.add(decision.decision_id)
        report(Outcome.EXECUTED, output_text(run.result))


@dataclass(slots=True)
class _Answer:
    # None: there was no answer, for example because whoever asked was interrupted.
    decision: Decision | None = None


@dataclass(slots=True)
class _Run:
    result: Any = None


class _GuardSpec:
    """What is known of a guarded function before it is called."""

    def __init__(self, function: Callable[..., Any], options: GuardOptions) -> None:
        self.options = options
        self.name = getattr(function, "__name__", type(function).__name__)
        if isinstance(options.exclude, str):
            raise TypeError("exclude must be a list of names, not one string")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{self.name} is a generator: its body runs later, when the allow may be void")
        self.signature = inspect.signature(function)
        self.passes_call_id = CALL_ID in self.signature.parameters
        first = next(iter(self.signature.parameters), None)
        excluded = {CALL_ID, *options.exclude}
        if first in ("self", "cls"):
            excluded.add(first)
        self.excluded = frozenset(excluded)
        for name, parameter in self.signature.parameters.items():
            named = parameter.kind is not inspect.Parameter.VAR_KEYWORD and name not in self.excluded
            if named and not name.isascii():
                raise TypeError(
                    f"{self.name} has the parameter {name!r}: names of arguments are ASCII, so every call "
                    "would be blocked; rename it, or exclude it"
                )

    def invoke(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Invocation:
        """Return one call of the function. Raises TypeError for arguments that it does not take."""
        given = kwargs.get(CALL_ID)
        if not self.passes_call_id:
            kwargs = {name: value for name, value in kwargs.items() if name != CALL_ID}
        bound = self.signature.bind(*args, **kwargs)
        if self.passes_call_id:
            given = bound.arguments.get(CALL_ID)
        decision = take_decided()
        call_id = given or _CALL_ID.get()
        if decision is not None:
            call_id = given or decision.tool_call_id
        if not call_id and self.options.tool_call_id is not None:
            call_id = self.options.tool_call_id()
        return _Invocation(
            spec=self,
            args=args,
            kwargs=kwargs,
            tool_call_id=call_id or f"call-{uuid4().hex}",
            attempt_id=uuid4().hex if decision is None else decision.attempt_id,
            decision=decision,
        )


def guard_sync(
    evaluate: Callable[..., Decision],
    look_up: Callable[..., Decision],
    options: GuardOptions,
    reports: Reports,
) -> Guarded:
    """Return the guard of a `Client`. A coroutine function asks on a thread of its own.

    `look_up` reads a decision, and notes whether its action was executed.
    """

    def decorate(function: F) -> F:
        spec = _GuardSpec(function, options)
        if _is_async(function):

            async def ask(**question: Any) -> Decision:
                return await asyncio.to_thread(evaluate, **question)

            async def look(decision_id: str, **asking: Any) -> Decision:
                return await asyncio.to_thread(look_up, decision_id, **asking)

            return _guarded_async(function, spec, ask, look, reports)

        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            invocation = spec.invoke(args, kwargs)
            question, judged = _freeze(invocation)
            with invocation.asking(question, judged, reports) as answer:
                answer.decision = decision = invocation.decision or evaluate(**question)
                for earlier in _unknown(decision):
                    with suppress(PlacetError):
                        look_up(earlier, **_asking(question))
                invocation.check_given(question)
            with invocation.running(decision, question, reports) as run:
                run.result = _refuse_coroutine(function(*invocation.args, **invocation.kwargs), spec)
            return run.result

        return guarded  # type: ignore[return-value]  # the wrapper has the function's signature

    return decorate


def guard_async(
    evaluate: Callable[..., Awaitable[Decision]],
    look_up: Callable[..., Awaitable[Decision]],
    options: GuardOptions,
    reports: Reports,
) -> Guarded:
    """Return the guard of an `AsyncClient`, for coroutine functions only. `look_up` as for `guard_sync`."""

    def decorate(function: F) -> F:
        if not _is_async(function):
            raise TypeError("an AsyncClient guards coroutine functions; use a Client for this one")
        return _guarded_async(function, _GuardSpec(function, options), evaluate, look_up, reports)

    return decorate


def _guarded_async(
    function: F,
    spec: _GuardSpec,
    evaluate: Callable[..., Awaitable[Decision]],
    look_up: Callable[..., Awaitable[Decision]],
    reports: Reports,
) -> F:
    @functools.wraps(function)
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        invocation = spec.invoke(args, kwargs)
        question, judged = _freeze(invocation)
        with invocation.asking(question, judged, reports) as answer:
            answer.decision = decision = invocation.decision or await evaluate(**question)
            for earlier in _unknown(decision):
                with suppress(PlacetError):
                    await look_up(earlier, **_asking(question))
            invocation.check_given(question)
        with invocation.running(decision, question, reports) as run:
            run.result = await function(*invocation.args, **invocation.kwargs)
        return run.result

    return guarded  # type: ignore[return-value]  # the wrapper has the function's signature


def _unknown(decision: Decision) -> tuple[str, ...]:
    """Return what an allow comes after and nobody here knows to have been executed."""
    if decision.effect is not Effect.ALLOW or decision.failure is not None or not decision.after:
        return ()
    return tuple(earlier for earlier in decision.after if earlier not in decision.executed)


def _asking(question: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of `get_decision` for who asks this question."""
    return {name: question[name] for name in ("session", "chain", "timeout")}


def _freeze(invocation: _Invocation) -> tuple[dict[str, Any], bytes]:
    """Return the question with its arguments frozen as text, and that text: what is sent is what is compared.

    Arguments that have no text are left as they are, for `evaluate` to make a block of.
    """
    question = invocation.question()
    action: Action = question["action"]
    try:
        judged = object_text(action.arguments, "action.arguments")
    except InvalidRequestError:
        return question, b""
    return question | {"action": replace(action, arguments=judged)}, judged


def _may_stand(decision: Decision) -> bool:
    """Return whether the PDP may hold an allow of this attempt, though nobody will act on it."""
    if decision.failure is not None:
        return decision.reasons[0].code in _MAY_BE_ALLOWED
    return decision.effect is Effect.ALLOW and decision.valid_until != -math.inf


def _refuse_coroutine(result: Any, spec: _GuardSpec) -> Any:
    """Refuse a coroutine: the function that returned it has not run yet."""
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError(f"{spec.name} returns a coroutine; guard the coroutine function itself")
    return result


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object whose __call__ is a coroutine function
    )


def _value(source: Any) -> Any:
    return source() if callable(source) else source
