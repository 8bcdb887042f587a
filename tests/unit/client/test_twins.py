"""`Client` and `AsyncClient` have the same calls: the same arguments, the same promises."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import placet
from placet import AsyncClient, Client
from placet._calls.stream import DecisionStream

# What can only be done with an event loop, and what only without one.
ONLY_ASYNC = {"stream"}
ONLY_SYNC = {"evaluate_many"}


def calls_of(kind: type) -> dict[str, Any]:
    return {name: member for name, member in inspect.getmembers(kind) if not name.startswith("_")}


def test_the_clients_have_the_same_calls() -> None:
    assert set(calls_of(AsyncClient)) - ONLY_ASYNC == set(calls_of(Client)) - ONLY_SYNC
    assert set(calls_of(AsyncClient)) >= ONLY_ASYNC
    assert set(calls_of(Client)) >= ONLY_SYNC


@pytest.mark.parametrize("name", [*sorted(set(calls_of(Client)) - ONLY_SYNC - {"unreported"}), "__init__"])
def test_a_call_has_the_same_signature_on_both_clients(name: str) -> None:
    sync, awaited = getattr(Client, name), getattr(AsyncClient, name)
    assert inspect.signature(sync) == inspect.signature(awaited)
    assert sync.__doc__
    assert inspect.iscoroutinefunction(awaited) == (name not in ("__init__", "guard"))
    if name != "guard":
        assert sync.__doc__ == awaited.__doc__


def test_a_stream_evaluates_as_the_client_does() -> None:
    assert inspect.signature(DecisionStream.evaluate) == inspect.signature(AsyncClient.evaluate)


def test_many_are_evaluated_with_arguments_of_evaluate() -> None:
    one = inspect.signature(Client.evaluate).parameters
    many = inspect.signature(Client.evaluate_many).parameters
    for name in set(many) - {"actions", "in_flight"}:
        assert many[name] == one[name]


def test_both_clients_are_found_where_they_were() -> None:
    from placet.async_client import AsyncClient as defined
    from placet.client import AsyncClient as named
    from placet.client import Client as made

    assert placet.AsyncClient is AsyncClient is defined is named
    assert placet.Client is Client is made
