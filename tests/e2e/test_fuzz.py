"""Odd requests to a running server; `make fuzz` sends more of them."""

from __future__ import annotations

from tests.fuzz.run import fuzz_of
from tests.support.stack import RealPdp

REQUESTS = 10_000


def test_odd_requests_are_refused_or_blocked_and_nothing_leaks(real_pdp: RealPdp) -> None:
    fuzz = fuzz_of(real_pdp)
    fuzz.run(REQUESTS)
    assert fuzz.different >= REQUESTS
    assert fuzz.different >= 0.9 * fuzz.sent
