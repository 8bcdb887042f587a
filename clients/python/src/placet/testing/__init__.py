"""A PDP in the test's own process: scripted decisions over real gRPC.

    def test_payment_is_refused(fake_pdp):
        fake_pdp.block("payments.create", code="payment.limit")
        with fake_pdp.client() as pdp: ...

The fixture `fake_pdp` comes with the wheel. The fake keeps the promises that a caller can see:
sessions, idempotency, receipts, errors. What policy would say is the script's to say, and
what no script mentions is blocked.
"""

from __future__ import annotations

from placet.testing.fake import FakePdp
from placet.testing.script import Received, Verdict

__all__ = ["FakePdp", "Received", "Verdict"]
