"""`copy_context`: what guards know of where they are called, carried to where context variables do not go.

    with tool_call("call-2"), ThreadPoolExecutor() as pool:
        pool.submit(copy_context().run, pay, "INV-1001", Decimal("1200.00"))

A new thread, a thread pool and `run_in_executor` begin without the context variables of whoever handed them
work. A guarded function that is called there knows of no `tool_call()` and no `decided()`: its call is a new
one, and one that a framework repeats would run the tool again. Tasks of an event loop, and
`asyncio.to_thread`, carry the variables by themselves.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

# The variables that are carried: each guard's module names its own.
_CARRIED: list[ContextVar[Any]] = []


def carried(variable: ContextVar[T]) -> ContextVar[T]:
    """Have `copy_context` carry the variable, and return it."""
    _CARRIED.append(variable)
    return variable


class CopiedContext:
    """What guards knew where `copy_context` was called. Any number of threads may use it at once."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        missing = object()
        values = ((variable, variable.get(missing)) for variable in _CARRIED)
        self._values = tuple((variable, value) for variable, value in values if value is not missing)

    def run(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Call the function with what guards knew, and return its result.

        A coroutine that it returns runs with that too. Other context variables are left as they are.
        """
        with self._entered():
            result = function(*args, **kwargs)
        if inspect.iscoroutine(result):
            return self._run_coroutine(result)  # type: ignore[return-value]  # a coroutine for a coroutine
        return result

    async def _run_coroutine(self, coroutine: Any) -> Any:
        with self._entered():
            return await coroutine

    @contextmanager
    def _entered(self) -> Iterator[None]:
        tokens = [(variable, variable.set(value)) for variable, value in self._values]
        try:
            yield
        finally:
            for variable, token in reversed(tokens):
                variable.reset(token)


def copy_context() -> CopiedContext:
    """Return what `tool_call()`, `decided()` and `current_decision()` are here: `run` takes it elsewhere."""
    return CopiedContext()
