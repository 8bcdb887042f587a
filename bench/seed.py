"""Fill a bench's database: `python -m bench.seed --data-dir DIR --sessions 1000 --history 100`.

The rows are copies of one real session and one real decision under ids of their own: their shape and
size are right, their receipts are the copied one's. Only for measuring: no auditor would accept them.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import psycopg
import typer

from bench import stack as stacks
from bench import workload
from pdp.authority.counters import add_to_buckets
from pdp.model import Bucket
from pdp.postgres.rows import buckets_text
from placet import Action, AsyncClient

CHUNK = 10_000
# Seconds between two seeded payments of a session, at most: a day holds them all.
DAY = 86_400

# Copies a row and changes the named columns only, whatever other columns the table has.
_SESSIONS = """
    INSERT INTO placet.sessions
    SELECT (jsonb_populate_record(s, jsonb_build_object(
        'session_id', %(run)s || '-' || n, 'task_id', %(run)s || '-' || n,
        'version', %(history)s, 'allowed', %(history)s, 'pay', %(pay)s::text))).*
    FROM placet.sessions s, generate_series(%(first)s, %(last)s) n
    WHERE s.tenant = %(tenant)s AND s.session_id = %(session)s
"""
_KEYS = """
    INSERT INTO placet.decision_keys
    SELECT (jsonb_populate_record(k, jsonb_build_object(
        'session_id', %(run)s || '-' || n / %(history)s, 'tool_call_id', %(run)s || '-' || n,
        'decision_id', %(run)s || '-' || n))).*
    FROM placet.decision_keys k, generate_series(%(first)s, %(last)s) n
    WHERE k.tenant = %(tenant)s AND k.session_id = %(session)s
"""
_LEDGER = """
    INSERT INTO placet.ledger
    SELECT (jsonb_populate_record(l, jsonb_build_object(
        'session_id', %(run)s || '-' || n / %(history)s, 'tool_call_id', %(run)s || '-' || n,
        'decision_id', %(run)s || '-' || n, 'writer', %(run)s, 'seq', n + 1))).*
    FROM placet.ledger l, generate_series(%(first)s, %(last)s) n
    WHERE l.tenant = %(tenant)s AND l.session_id = %(session)s
"""
_DETAILS = """
    INSERT INTO placet.decision_details
    SELECT (jsonb_populate_record(d, jsonb_build_object('decision_id', %(run)s || '-' || n))).*
    FROM placet.decision_details d, generate_series(%(first)s, %(last)s) n
    WHERE d.tenant = %(tenant)s AND d.decision_id = %(decision)s
"""


def main(
    data_dir: Annotated[Path, typer.Option(help="Data directory of a running `pdp dev`.")],
    sessions: Annotated[int, typer.Option(min=1)] = 1000,
    history: Annotated[int, typer.Option(min=0, help="Actions in each session.")] = 100,
) -> None:
    """Put sessions with a history into the tenant `bench`."""
    stack = stacks.attached(data_dir)
    asyncio.run(workload.prepare(stack.grpc))
    asyncio.run(
        seed(stack, sessions=sessions, history=history, say=lambda text: print(text, file=sys.stderr))
    )


async def seed(
    stack: stacks.Stack, *, sessions: int, history: int, say: Callable[[str], None] = lambda text: None
) -> list[str]:
    """Make sessions with so many recorded payments each; return their ids."""
    (session,) = await workload.open_sessions(stack.grpc, 1)
    payment = Action(
        tool="payments.create",
        arguments={"invoice": "INV-1001", "amount": "12.50", "currency": "EUR"},
        tool_call_id="seed",
    )
    async with AsyncClient(stack.grpc, identity=workload.RUNTIME, timeout=workload.DEADLINE) as pdp:
        decision = await pdp.evaluate(payment, session=session)
    run = f"seed-{secrets.token_hex(4)}"
    shared: dict[str, str | int] = {
        "tenant": workload.TENANT,
        "session": session,
        "decision": decision.decision_id,
        "run": run,
        "history": history,
        "pay": buckets_text(payments(history, int(time.time()))),
    }
    # Values go in as literals, whose types PostgreSQL finds by itself.
    async with await psycopg.AsyncConnection.connect(
        stack.database_url, autocommit=True, cursor_factory=psycopg.AsyncClientCursor
    ) as connection:
        for what, total, statements in (
            ("sessions", sessions, (_SESSIONS,)),
            ("decisions", sessions * history, (_KEYS, _LEDGER, _DETAILS)),
        ):
            for first in range(0, total, CHUNK):
                last = min(first + CHUNK, total) - 1
                for statement in statements:
                    await connection.execute(statement, {**shared, "first": first, "last": last})
                say(f"  {last + 1:,} of {total:,} {what}")
        await connection.execute("ANALYZE")
    return [f"{run}-{n}" for n in range(sessions)]


def payments(number: int, now: int) -> tuple[Bucket, ...]:
    """The window buckets of so many payments, evenly spread over the day before `now` (Unix seconds)."""
    buckets: tuple[Bucket, ...] = ()
    for n in range(number):
        buckets = add_to_buckets(buckets, now - DAY + n * DAY // number)
    return add_to_buckets(buckets, now)


if __name__ == "__main__":
    typer.run(main)
