"""For tool servers: let in what a receipt permits, and nothing else, once.

    gate = Gate(audience="erp", tenant="acme", verifier=verifier)
    gate.admit(receipt, tool="payments.create", arguments=body)

`check` is the offline part alone; `Gate` adds single use, and redemption where the receipt demands it;
`CapabilityMiddleware` puts a gate before an ASGI application. The caller's side sends the headers that
`presented_headers(decision)` returns.
"""

from __future__ import annotations

from placet.capability.asgi import CapabilityMiddleware, Resolver
from placet.capability.check import (
    HEADER,
    REASONS,
    SALT_HEADER,
    Capability,
    CapabilityError,
    check,
    presented,
    presented_headers,
    read_salt,
)
from placet.capability.gate import Gate
from placet.capability.uses import MemoryUses, Uses

__all__ = [
    "HEADER",
    "REASONS",
    "SALT_HEADER",
    "Capability",
    "CapabilityError",
    "CapabilityMiddleware",
    "Gate",
    "MemoryUses",
    "Resolver",
    "Uses",
    "check",
    "presented",
    "presented_headers",
    "read_salt",
]
