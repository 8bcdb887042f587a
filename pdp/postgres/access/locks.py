"""The keys of advisory locks. Every writer of a tenant must agree on them."""

from __future__ import annotations

import hashlib

from pdp.model import EntityName

# A migration holds this lock from its beginning to its end.
MIGRATION_LOCK = 0x706C6163_6D696772


def control_lock(tenant: str) -> int:
    """Return the key of the tenant's control lock.

    Recordings take it shared; what changes the ground that decisions stand on takes it
    exclusive and moves the epoch. Two tenants with one key only wait for each other.
    """
    digest = hashlib.sha256(b"placet-control/v1\0" + tenant.encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def entity_lock(tenant: str, name: EntityName) -> int:
    """Return the key of an entity's lock, whether the entity exists or not.

    Recordings take it shared, after the control lock, for every entity that they rest on;
    a write of the entity takes it exclusive. Sorted: whoever takes several takes the
    smallest first.
    """
    digest = hashlib.sha256("\0".join(("placet-entity/v1", tenant, name.type, name.id)).encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
