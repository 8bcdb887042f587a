"""The public keys that receipts were ever signed with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pdp.errors import InvalidFieldError
from pdp.postgres.access.connection import Connection
from pdp.postgres.access.pool import Pool


class PostgresKeyDirectory:
    """`pdp.ports.KeyDirectory`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def register(self, jwk: Mapping[str, str], *, replica: str) -> None:
        if not jwk.get("kid"):
            raise InvalidFieldError("jwk", "has no kid")
        if "d" in jwk:
            raise InvalidFieldError("jwk", "holds a private key")

        async def work(connection: Connection) -> None:
            await connection.execute(
                """
                INSERT INTO placet.signing_keys (kid, jwk, replica) VALUES (%s, %s, %s)
                ON CONFLICT (kid) DO NOTHING
                """,
                [jwk["kid"], json.dumps(dict(jwk), sort_keys=True), replica],
            )

        await self._pool.run(work)

    async def jwks(self) -> Sequence[Mapping[str, str]]:
        async def work(connection: Connection) -> list[Mapping[str, str]]:
            cursor = await connection.execute(
                "SELECT jwk FROM placet.signing_keys ORDER BY registered_at, kid"
            )
            return [json.loads(text) for (text,) in await cursor.fetchall()]

        return await self._pool.run(work)

    async def key(self, kid: str) -> Mapping[str, str] | None:
        async def work(connection: Connection) -> Mapping[str, str] | None:
            cursor = await connection.execute("SELECT jwk FROM placet.signing_keys WHERE kid = %s", [kid])
            row = await cursor.fetchone()
            if row is None:
                return None
            jwk: Mapping[str, str] = json.loads(row[0])
            return jwk

        return await self._pool.run(work)
