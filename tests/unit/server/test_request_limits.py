"""The limits of a request that docs/api.md states are the code's own."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator

import pdp.server.messages
from pdp.server.grpc.evaluate_stream import MAX_UNANSWERED
from tests.support.markdown import section, text_of
from tests.support.request_limits import LIMITS, read_documented

# Where limits on what callers send stand, beside the converters.
MODULES = (
    "pdp.authority.boundary",
    "pdp.delegation.grant",
    "pdp.delegation.point",
    "pdp.authority.counters",
    "pdp.money",
    "pdp.names",
    "pdp.action.derivation",
    "pdp.authority.settings",
    "pdp.server.grpc.evaluate_stream",
    "placet.canonical",
)
# These refuse no request: sums that nothing reaches, sizes of our own answers, what canonical form
# does with a number, and how much a stream takes before it reads no further.
NO_LIMITS = {
    # It bounds what an answer says of a fault.
    "pdp.action.derivation._MAX_REASON",
    "pdp.authority.counters.MAX_TOTAL",
    "pdp.server.grpc.evaluate_stream.MAX_UNANSWERED",
    # It bounds an answer, which says how much it left out.
    "pdp.server.messages.control_plane.MAX_PREVIEW",
    "pdp.server.grpc.evaluate_stream._MAX_ANSWERS_BYTES",
    "placet.canonical._MAX_NUMBER_TEXT",
    "placet.canonical._MAX_EXACT",
}


def constants() -> Iterator[str]:
    """The full names of the limits that the modules define themselves."""
    converters = [
        f"pdp.server.messages.{module.name}" for module in pkgutil.iter_modules(pdp.server.messages.__path__)
    ]
    assert converters
    for name in (*MODULES, *converters):
        module = importlib.import_module(name)
        assert module.__file__ is not None
        source = text_of(module.__file__)
        for constant in re.findall(r"^(_?MAX_[A-Z_]+)\b.*=", source, re.MULTILINE):
            yield f"{name}.{constant}"
        for constant in re.findall(r"^_?MAX_[A-Z_]+, (_?MAX_[A-Z_]+) =", source, re.MULTILINE):
            yield f"{name}.{constant}"


def test_every_limit_that_is_stated_is_tried() -> None:
    assert set(read_documented()) == set(LIMITS)


def test_every_limit_of_the_code_is_stated() -> None:
    """A new one needs a row in docs/api.md, and one in tests/support/request_limits.py that tries it."""
    named = {constant for limit in LIMITS.values() for constant in limit.constants}
    assert set(constants()) <= named | NO_LIMITS


def test_numbers_are_those_of_the_code() -> None:
    numbers = read_documented()
    for row, limit in LIMITS.items():
        for constant in limit.constants:
            module, _, name = constant.rpartition(".")
            assert getattr(importlib.import_module(module), name) == numbers[row], row


def test_number_of_a_streams_actions_is_stated() -> None:
    assert f"- {MAX_UNANSWERED} actions of a stream" in section(
        text_of("docs/api.md"), "Many actions on one stream"
    )
