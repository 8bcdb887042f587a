"""The `GrantStore` of the store in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pdp.errors import SessionMovedError, StoreUnavailableError
from pdp.model import Boundary, DecisionEffect, GrantRow, Session, StoredGrant
from tests.fakes.store.state import StoreState


class FakeGrantStore:
    def __init__(self, state: StoreState) -> None:
        self._state = state

    async def add_grant(
        self,
        tenant: str,
        row: GrantRow,
        *,
        boundary: Boundary | None = None,
        opened: Session | None = None,
    ) -> None:
        self._state.check_up()
        if opened is not None:
            stands = self._state.sessions.get((tenant, opened.session_id))
            if stands is None or stands.proofs_revoked_at != opened.proofs_revoked_at:
                raise SessionMovedError("the session's proofs were revoked")
        state = self._state.tenant(tenant)
        if row.grant_hash in state.grants:
            raise StoreUnavailableError("the grant is stored already")
        state.grants[row.grant_hash] = row
        state.boundaries[row.grant_hash] = boundary

    async def stored_grants(self, tenant: str, grant_hash: str) -> Sequence[StoredGrant]:
        path = await self.grant_path(tenant, grant_hash)
        return [StoredGrant(row, self._state.tenant(tenant).boundaries[row.grant_hash]) for row in path]

    async def grant_path(self, tenant: str, grant_hash: str) -> Sequence[GrantRow]:
        self._state.check_up()
        state = self._state.tenants.get(tenant)
        return () if state is None else state.grant_path(grant_hash)

    async def session_grants(self, tenant: str, session_id: str, *, limit: int) -> Sequence[StoredGrant]:
        self._state.check_up()
        state = self._state.tenants.get(tenant)
        rows = [] if state is None else state.grants.values()
        live = [
            row
            for row in rows
            if row.session_id == session_id and row.revoked_at is None and row.expires_at > self._state.moment
        ]
        live.sort(key=lambda row: (row.depth, row.issued_at, row.grant_hash))
        return [
            StoredGrant(row, self._state.tenant(tenant).boundaries[row.grant_hash]) for row in live[:limit]
        ]

    async def revoke_grant(self, tenant: str, grant_hash: str, *, by: str, reason: str) -> GrantRow | None:
        self._state.check_up()
        state = self._state.tenants.get(tenant)
        row = None if state is None else state.grants.get(grant_hash)
        if state is not None and row is not None and row.revoked_at is None:
            row = row._replace(revoked_at=self._state.moment, revoked_by=by, revoke_reason=reason)
            state.grants[grant_hash] = row
            state.epoch += 1
        return row

    async def grant_decisions(
        self, tenant: str, session_id: str, grant_hashes: Sequence[str], *, limit: int
    ) -> Mapping[str, Sequence[DecisionEffect]]:
        self._state.check_up()
        found: dict[str, list[DecisionEffect]] = {}
        for key, decision_id in self._state.keys.items():
            decision = self._state.decisions[key.tenant, decision_id][0].decision
            if (
                (key.tenant, key.session_id) == (tenant, session_id)
                and key.leaf_grant in grant_hashes
                and (key.leaf_grant or decision.session_version)
            ):
                found.setdefault(key.leaf_grant, []).append(DecisionEffect(decision_id, decision.effect))
        return {name: sorted(decisions, reverse=True)[:limit] for name, decisions in found.items()}
