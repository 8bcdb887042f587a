"""A PDP in the test's own process: scripted decisions over real gRPC.

    def test_payment_is_refused(fake_pdp):
        fake_pdp.block("payments.create", code="payment.limit")
        with fake_pdp.client() as pdp: ...

The fixture `fake_pdp` comes with the wheel. The fake keeps the promises that a caller can see:
sessions, repeats, receipts, errors. The test's scripts say what policy would say, and a tool that no
script mentions is blocked. `FakePdp` says what else it does, and what it never does.
"""

from __future__ import annotations

from placet.testing.fake import FakePdp
from placet.testing.script import Received, Verdict

__all__ = ["FakePdp", "Received", "Verdict"]
