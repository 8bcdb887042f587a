"""kill -9 of policy, database and server, again and again, while agents act.

What a caller was told is what the ledger holds, nothing twice and nothing lost, and everything
comes back by itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import grpc
import psycopg
import pytest

from pdp.dev import supervise
from placet import AsyncClient, Decision, DevIdentity, Effect, Session
from placet.verify import Verifier
from tests.e2e.scene import AGENT, Scene, jwks, pay, read, until
from tests.e2e.test_faults import children, owner_url
from tests.support.processes import PATIENCE

pytestmark = pytest.mark.asyncio(loop_scope="session")

PARTS, KILLS = ("opa", "postgres", "pdp-1", "pdp-2"), {"opa": 20, "postgres": 20, "pdp-1": 10, "pdp-2": 10}
AGENTS, SESSIONS = 6, 9
# Seconds that a call waits for its answer; the same call is made again until it has one.
DEADLINE = 5.0
# How a call may fail. A fault of the server's own is not among them.
FAILURES = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


@dataclass(kw_only=True)
class Load:
    """Agents that act without pause on both replicas, and everything that they were told."""

    scene: Scene
    random: random.Random
    answers: list[Decision] = field(default_factory=list)
    failures: Counter[grpc.StatusCode] = field(default_factory=Counter)
    # When each answer's call began.
    began: list[float] = field(default_factory=list)
    _told: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def act(self, clients: list[AsyncClient], sessions: list[Session]) -> None:
        """Take one action after the other; what failed is asked again, of another replica too."""
        while True:
            action = self.random.choice((read(), pay(1)))
            session, attempt = self.random.choice(sessions), uuid4().hex
            decision = None
            while decision is None or decision.failure is not None:
                began = time.monotonic()
                client = self.random.choice(clients)
                decision = await client.evaluate(
                    action, session=session, attempt_id=attempt, timeout=DEADLINE
                )
                await self._note(began, decision)

    async def _note(self, began: float, decision: Decision) -> None:
        async with self._told:
            if decision.failure is None:
                self.answers.append(decision)
                self.began.append(began)
            else:
                assert decision.failure.code in FAILURES, decision.failure
                assert not decision.allowed
                self.failures[decision.failure.code] += 1
            self._told.notify_all()
        if decision.failure is not None:
            # Where nothing answers there is nothing to learn from asking in a tight loop.
            await asyncio.sleep(0.05)

    async def until(self, what: str, seen: Callable[[], bool]) -> None:
        async with self._told:
            try:
                await asyncio.wait_for(self._told.wait_for(seen), PATIENCE)
            except TimeoutError:
                pytest.fail(f"not within {PATIENCE:.0f} s: {what}; failures {self.failures}")

    async def further(self, count: int) -> None:
        """Wait for so many answers to calls that begin from now on."""
        since, heard = time.monotonic(), len(self.began)
        await self.until(
            f"{count} decisions", lambda: sum(began > since for began in self.began[heard:]) >= count
        )


async def kill(scene: Scene, part: str, chance: random.Random) -> None:
    """Send SIGKILL to the part, once it runs; to the database sometimes to one of its processes only."""
    supervisor = scene.stack.supervisor
    if chance.random() < 0.8:
        await asyncio.wait_for(supervisor.until_ready(part), PATIENCE)

    async def runs() -> int | None:
        return supervisor.pid(part)

    pid = await until(runs, f"{part} runs") or 0
    assert pid > 0
    if part == "postgres" and chance.random() < 0.3 and (backends := children(pid)):
        pid = chance.choice(backends)
    os.kill(pid, signal.SIGKILL)


async def test_whatever_is_killed_what_was_answered_is_true(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # They die all the time here, and are to start again at once nevertheless.
    monkeypatch.setattr(supervise, "LAST_BACKOFF", 0.1)
    seed = int(os.environ.get("KILL_SEED") or random.SystemRandom().getrandbits(32))
    print(f"KILL_SEED={seed}")
    chance = random.Random(seed)
    victims = [part for part in PARTS for _ in range(KILLS[part])]
    chance.shuffle(victims)

    identity = DevIdentity(tenant=scene.tenant, subject="svc-ap", roles=["agent"], agents=[AGENT])
    sessions = [await scene.session() for _ in range(SESSIONS)]
    clients = [AsyncClient(replica.grpc_address, identity=identity) for replica in scene.stack.replicas]
    load = Load(scene=scene, random=random.Random(seed + 1))
    async with asyncio.TaskGroup() as group:
        agents = [group.create_task(load.act(clients, sessions)) for _ in range(AGENTS)]
        await load.further(AGENTS)
        for part in victims:
            await kill(scene, part, chance)
            await load.further(chance.randint(1, 40))
        for agent in agents:
            agent.cancel()
    print(f"{len(load.answers)} decisions, {dict(load.failures)}")
    await everything_serves(scene, clients, sessions[0])
    for client in clients:
        await client.close()
    assert {Effect.ALLOW, Effect.BLOCK, Effect.ESCALATE} <= {answer.effect for answer in load.answers}
    await what_was_answered_is_recorded(scene, load.answers)
    with psycopg.connect(owner_url(scene.stack)) as database:
        streams_are_whole(database)
        nothing_is_allowed_twice(database, scene.tenant)
        sessions_count_what_is_recorded(database, scene.tenant)


# --- afterwards --------------------------------------------------------------


async def everything_serves(scene: Scene, clients: list[AsyncClient], session: Session) -> None:
    """A lone call to each replica is allowed."""
    for part in PARTS:
        await asyncio.wait_for(scene.stack.supervisor.until_ready(part), PATIENCE)
    for client in clients:

        async def allows(client: AsyncClient = client) -> bool:
            return (await client.evaluate(read(), session=session, timeout=DEADLINE)).allowed

        await until(allows, "a lone call is allowed")


async def what_was_answered_is_recorded(scene: Scene, answers: list[Decision]) -> None:
    """Byte for byte, by the API and in the tables; every signature holds, every allow names its policy."""
    scene.jwks = await jwks(scene.replica())
    verifier = Verifier(scene.jwks)
    revision = json.loads(scene.stack.description.read_text())["opa"]["revision"]
    with psycopg.connect(owner_url(scene.stack)) as database:
        stored: dict[str, tuple[Any, ...]] = {
            row[0]: row[1:]
            for row in database.execute(
                """
                SELECT l.decision_id, l.jws || d.disclosures, l.writer, l.seq
                FROM placet.ledger l JOIN placet.decision_details d USING (tenant, decision_id)
                WHERE l.tenant = %s
                """,
                [scene.tenant],
            )
        }
    for answer in answers:
        assert answer.position is not None
        assert stored[answer.decision_id] == (
            answer.receipt,
            answer.position.writer,
            answer.position.seq,
        )
        claims = verifier.verify(answer.receipt).claims
        assert claims["effect"] == answer.effect
        if answer.effect is Effect.ALLOW:
            assert claims["policy"]["revision"] == revision, "allowed without policy"
    told = {answer.decision_id: answer.receipt for answer in answers}
    auditor = await scene.auditor()
    for first in range(0, len(told), 32):
        some = list(told)[first : first + 32]
        for recorded in await asyncio.gather(*map(auditor.get_decision, some)):
            assert recorded.receipt == told[recorded.decision_id]


def streams_are_whole(database: psycopg.Connection[Any]) -> None:
    """Every writer's positions are 1, 2, 3, … without gap or double."""
    broken = database.execute(
        """
        SELECT writer, min(seq), max(seq), count(*), count(DISTINCT seq) FROM placet.ledger
        GROUP BY writer
        HAVING min(seq) <> 1 OR max(seq) <> count(*) OR count(*) <> count(DISTINCT seq)
        """
    ).fetchall()
    assert broken == []


def nothing_is_allowed_twice(database: psycopg.Connection[Any], tenant: str) -> None:
    """An idempotency key has one allow at most."""
    twice = database.execute(
        """
        SELECT session_id, tool_call_id, count(*) FROM placet.ledger WHERE tenant = %s AND effect = 'allow'
        GROUP BY session_id, caller, leaf_grant, tool_call_id, review_id HAVING count(*) > 1
        """,
        [tenant],
    ).fetchall()
    assert twice == []


def sessions_count_what_is_recorded(database: psycopg.Connection[Any], tenant: str) -> None:
    """Each decision moved its session by one, and was counted once."""
    versions: Mapping[str, list[int]] = defaultdict(list)
    effects: Mapping[str, Counter[str]] = defaultdict(Counter)
    for session, version, effect in database.execute(
        "SELECT session_id, session_version, effect FROM placet.ledger WHERE tenant = %s", [tenant]
    ):
        versions[session].append(version)
        effects[session][effect] += 1
    rows = database.execute(
        "SELECT session_id, version, allowed, blocked, escalated FROM placet.sessions WHERE tenant = %s",
        [tenant],
    ).fetchall()
    assert {row[0] for row in rows} == set(versions)
    for session, version, *counted in rows:
        assert sorted(versions[session]) == list(range(2, version + 1))
        assert counted == [effects[session][effect] for effect in ("allow", "block", "escalate")]
