"""Sessions of the fake PDP for programs that are told no more than an id."""

from __future__ import annotations

from placet.testing import FakePdp


def known_session(fake: FakePdp) -> str:
    """Return a session by its id, in a tenant where that is proof enough."""
    with fake.client() as operator:
        operator.put_tenant({"session_proof": "id"})
    return fake.session().session_id
