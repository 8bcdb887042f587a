"""What happens when policy or the database fails, on real processes and under load.

In every fault: nothing is allowed without policy, nothing is answered that the ledger does not
hold, and the same PDP process serves again when the fault is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
import yaml

from pdp.dev.local_postgres import LOGIN, SUPERUSER
from pdp.dev.ports import free_ports
from pdp.dev.stack import Replica, Stack, answers_ok
from pdp.dev.supervise import Child, Supervisor
from placet import AsyncClient, Decision, Effect, PlacetError, Session
from tests.e2e.scene import (
    Scene,
    codes,
    failed_closed,
    jwks,
    measured,
    missing,
    new_call,
    pay,
    read,
    until,
)
from tests.support.fake_opa import (
    ALLOWED,
    Query,
    Script,
    allow_all,
    answer,
    fake_opa,
    http,
)
from tests.support.proxy import OpaProxy, Proxy, proxied, proxied_opa

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Seconds that a call waits where nothing answers. Within it a block must be recorded.
DEADLINE = 20.0
OVERLOADED = {grpc.StatusCode.RESOURCE_EXHAUSTED}
NO_ANSWER = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}

Fault = Callable[[Stack], AbstractAsyncContextManager[None]]


# --- faults ------------------------------------------------------------------


def killed(name: str) -> Fault:
    """Kill the process (SIGKILL), and keep it down until the fault is over."""

    def fault(stack: Stack) -> AbstractAsyncContextManager[None]:
        return stack.supervisor.killed(name)

    return fault


def hung(name: str) -> Fault:
    """Every process of it stopped in its tracks; connections stay open."""

    @asynccontextmanager
    async def fault(stack: Stack) -> AsyncIterator[None]:
        pid = stack.supervisor.pid(name)
        assert pid is not None
        stopped = [pid]
        os.kill(pid, signal.SIGSTOP)
        try:
            # A stopped parent has no new children.
            for child in children(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGSTOP)
                    stopped.append(child)
            yield
        finally:
            for each in reversed(stopped):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each, signal.SIGCONT)

    return fault


@asynccontextmanager
async def read_only(stack: Stack) -> AsyncIterator[None]:
    """The database refuses to write, in open connections too."""
    async with await psycopg.AsyncConnection.connect(owner_url(stack), autocommit=True) as connection:
        await connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await connection.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            await connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
            await connection.execute("SELECT pg_reload_conf()")


def owner_url(stack: Stack) -> str:
    """The database as its owner reaches it."""
    return database_url(stack).replace(LOGIN, SUPERUSER)


def database_url(stack: Stack) -> str:
    url: str = yaml.safe_load((stack.directory / "pdp-1.yaml").read_text())["database_url"]
    return url


def opa_socket(stack: Stack) -> str:
    path: str = yaml.safe_load((stack.directory / "pdp-1.yaml").read_text())["opa_socket"]
    return path


def children(pid: int) -> list[int]:
    return [
        int(number)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for number in (task / "children").read_text().split()
    ]


# --- load --------------------------------------------------------------------


@dataclass(kw_only=True)
class Load:
    """Sessions whose agents act without pause, and every answer that they got."""

    scene: Scene
    replica: int = 1
    answers: list[tuple[float, Decision]] = field(default_factory=list)
    seen: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def act(self) -> None:
        session, agent = await self.scene.session(), await self.scene.agent(replica=self.replica)
        while True:
            for action in (read(), pay(1)):
                began = time.monotonic()
                decision = await agent.evaluate(action, session=session, timeout=DEADLINE)
                async with self.seen:
                    self.answers.append((began, decision))
                    self.seen.notify_all()
                if decision.failure is not None:
                    # Where nothing answers there is nothing to learn from asking in a tight loop.
                    await asyncio.sleep(0.2)

    async def until(self, wanted: Callable[[Decision], bool], *, count: int = 3) -> None:
        """Wait for further answers of this kind to calls that begin from now on."""
        since = time.monotonic()

        def enough() -> bool:
            return sum(began > since and wanted(decision) for began, decision in self.answers) >= count

        async with self.seen:
            await asyncio.wait_for(self.seen.wait_for(enough), 3 * DEADLINE)

    def between(self, since: float, until: float) -> list[Decision]:
        """Answers to calls that began in this time."""
        return [decision for began, decision in self.answers if since < began < until]

    async def all_recorded(self) -> None:
        """Every decision that was answered is in the ledger, byte for byte."""
        answered = [decision for _, decision in self.answers if decision.failure is None]
        assert answered
        for decision in answered:
            recorded = await self.scene.recorded(decision.decision_id)
            assert recorded.receipt == decision.receipt
            assert recorded.position == decision.position
        revision = json.loads(self.scene.stack.description.read_text())["opa"]["revision"]
        for decision in answered:
            if decision.effect is Effect.ALLOW:
                assert decision.policy.revision == revision, "allowed without policy"
            assert decision.receipt_status == "verified"


@asynccontextmanager
async def load(scene: Scene, *, sessions: int = 3, replica: int = 1) -> AsyncIterator[Load]:
    running = Load(scene=scene, replica=replica)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(running.act()) for _ in range(sessions)]
        await running.until(lambda decision: decision.effect is Effect.ALLOW)
        yield running
        for task in tasks:
            task.cancel()
    await running.all_recorded()


def is_allowed(decision: Decision) -> bool:
    return decision.effect is Effect.ALLOW


def pid_of(stack: Stack) -> int:
    pid = stack.supervisor.pid("pdp-1")
    assert pid is not None
    return pid


async def is_missing(replica: Replica, *names: str) -> str:
    """What /readyz says of the names, while these are all that is missing."""
    said = await missing(replica)
    return "; ".join(said.values()) if set(said) == set(names) else ""


# --- policy ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        pytest.param(killed("opa"), "policy_connection", id="killed"),
        pytest.param(hung("opa"), "policy_timeout", id="hung"),
    ],
)
async def test_without_policy_a_block_is_recorded(scene: Scene, fault: Fault, cause: str) -> None:
    replica, pid = scene.replica(), pid_of(scene.stack)
    before = (await failed_closed(replica)).get(cause, 0)
    session, action = await scene.session(), read()
    async with load(scene) as others:
        async with fault(scene.stack):
            since = time.monotonic()
            decision = await scene.ask(action, session, timeout=DEADLINE)
            assert time.monotonic() - since < DEADLINE
            assert decision.failure is None
            assert (decision.effect, codes(decision)) == (Effect.BLOCK, ["pdp.policy_unavailable"])
            assert decision.retryable
            assert decision.receipt_status == "verified"
            assert (decision.policy.bundle, decision.policy.revision) == ("", "")
            assert (await scene.recorded(decision.decision_id)).receipt == decision.receipt
            await others.until(lambda other: codes(other) == ["pdp.policy_unavailable"])
            both = partial(is_missing, replica, "bundle", "policy")
            assert await until(both, "/readyz says that policy is missing")
            assert (await failed_closed(replica))[cause] > before
            assert not any(map(is_allowed, others.between(since, time.monotonic())))
        assert await until(lambda: _is_ready(replica), "/readyz is 200 again")
        again = await scene.ask(action, session)
        assert again.allowed, codes(again)
        assert again.decision_id != decision.decision_id
        await others.until(is_allowed)
    assert pid_of(scene.stack) == pid


async def _is_ready(replica: Replica) -> bool:
    return not await missing(replica)


async def test_engine_that_hangs_leaves_time_to_record(scene: Scene) -> None:
    """Waiting for the engine does not use up the deadline, even a short one."""
    session = await scene.session()
    async with hung("opa")(scene.stack):
        # The disk may stall for longer than that; not every time.
        for _ in range(10):
            decision = await scene.ask(read(), session, timeout=2)
            assert decision.effect is Effect.BLOCK
            if decision.failure is None:
                break
        assert codes(decision) == ["pdp.policy_unavailable"], decision.failure
        assert (await scene.recorded(decision.decision_id)).receipt == decision.receipt
    assert await until(lambda: _is_ready(scene.replica()), "/readyz is 200 again")


# --- garbage -----------------------------------------------------------------


def wrapped(result: Any, **top: Any) -> Script:
    """`result` for whatever was asked."""

    async def script(query: Query) -> bytes | None:
        return answer(dict.fromkeys(query.documents, result) if query.batch else result, **top)

    return script


def raw(said: bytes | None) -> Script:
    async def script(query: Query) -> bytes | None:
        return said

    return script


def slow(script: Script) -> Script:
    async def late(query: Query) -> bytes | None:
        await asyncio.sleep(0.3)
        return await script(query)

    return late


async def well(query: Query) -> bytes | None:
    # The check of readiness sends an empty document.
    return answer(BLOCKED) if query.documents == {"": {}} else allow_all(query)


BLOCKED = ALLOWED | {"effect": "block", "reasons": [{"code": "session.state", "effect": "block"}]}

# Each is at fault in one thing alone; without it, it would allow, as `well` does.
GARBAGE: dict[str, Script] = {
    "closes": raw(None),
    "not HTTP": raw(b"\x00\xff\xfe\r\n\r\n\r\n"),
    "cut short": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{"),
    "not JSON": raw(http(b"<html>allow</html>")),
    "not UTF-8": raw(http(b'{"result": "\xff"}')),
    "an error that allows": raw(http(answer(ALLOWED).split(b"\r\n\r\n", 1)[1], "500 Internal Server Error")),
    "a redirect": raw(http(b"{}", "302 Found")),
    "no result": raw(http(b"{}")),
    "null": wrapped(None),
    "true": wrapped(True),
    "allow as text": wrapped("allow"),
    "unknown effect": wrapped(ALLOWED | {"effect": "permit"}),
    "effect in capitals": wrapped(ALLOWED | {"effect": "ALLOW"}),
    "no effect": wrapped({"reasons": ALLOWED["reasons"], "obligations": []}),
    "no reasons": wrapped(ALLOWED | {"reasons": []}),
    "reasons of another shape": wrapped(ALLOWED | {"reasons": [{"code": 1}]}),
    "no revision": wrapped(ALLOWED, provenance={}),
    "an empty revision": wrapped(ALLOWED, provenance={"bundles": {"placet": {"revision": ""}}}),
    "another bundle's revision": wrapped(ALLOWED, provenance={"bundles": {"else": {"revision": "r"}}}),
    "answers for others": raw(answer({"0" * 8: ALLOWED})),
}


@asynccontextmanager
async def replica_with(stack: Stack, name: str, **settings: Any) -> AsyncIterator[Replica]:
    """One more replica of this stack, configured otherwise. The same process serves to the end."""
    grpc_port, http_port = free_ports(2)
    replica = Replica(name=name, grpc_address=f"127.0.0.1:{grpc_port}", http_address=f"127.0.0.1:{http_port}")
    config = yaml.safe_load((stack.directory / "pdp-1.yaml").read_text()) | {
        "grpc_address": replica.grpc_address,
        "http_address": replica.http_address,
        "replica": name,
        **settings,
    }
    file = stack.directory / f"{name}.yaml"
    file.touch(mode=0o600)
    file.write_text(yaml.safe_dump(config))

    async def ready() -> bool:
        return await answers_ok(replica.http_address, "/readyz")

    supervisor = Supervisor()
    await supervisor.start(
        Child(
            name=name,
            argv=(sys.executable, "-m", "pdp", "serve", "--config", str(file)),
            log=stack.directory / "logs" / f"{name}.log",
            ready=ready,
        )
    )
    pid = supervisor.pid(name)
    try:
        yield replica
        assert supervisor.pid(name) == pid, "it died meanwhile"
    finally:
        await supervisor.stop()


async def test_garbage_is_no_policy(scene: Scene) -> None:
    async with (
        fake_opa(well) as server,
        replica_with(scene.stack, "pdp-garbage", opa_socket=str(server.socket_path)) as replica,
    ):
        # The key of this replica is a new one.
        scene.jwks = await jwks(replica)
        agent = await scene.agent(address=replica.grpc_address)
        session = await scene.session()
        for what, script in GARBAGE.items():
            action = read()
            server.script = script
            short = 3.0 if what == "cut short" else DEADLINE
            began = time.monotonic()
            decision = await agent.evaluate(action, session=session, timeout=short)
            assert decision.failure is None, (what, decision.failure)
            assert codes(decision) == ["pdp.policy_unavailable"], (what, codes(decision))
            assert decision.effect is Effect.BLOCK, what
            assert time.monotonic() - began < short
            assert (await scene.recorded(decision.decision_id)).receipt == decision.receipt, what
            server.script = well
            again = await agent.evaluate(action, session=session)
            assert again.allowed, (what, codes(again), again.failure)
        # Many at once go in batches, when the engine is slower than they come.
        server.script = slow(GARBAGE["answers for others"])
        many = [await scene.session() for _ in range(12)]
        decisions = await asyncio.gather(*(agent.evaluate(read(), session=each) for each in many))
        assert {tuple(codes(each)) for each in decisions} == {("pdp.policy_unavailable",)}
        assert any(query.batch for query in server.queries)
        causes = await failed_closed(replica)
        assert sum(causes.values()) == len(GARBAGE) + len(many)


async def test_no_session_waits_for_the_evaluation_of_anothers(scene: Scene) -> None:
    stuck, free = await scene.session(), await scene.session()
    held, begun = asyncio.Event(), asyncio.Event()

    async def script(query: Query) -> bytes | None:
        asked = [document["session"]["id"] for document in query.documents.values() if document]
        if stuck.session_id in asked:
            begun.set()
            await held.wait()
        return await well(query)

    async with (
        fake_opa(script) as server,
        replica_with(scene.stack, "pdp-held", opa_socket=str(server.socket_path)) as replica,
    ):
        scene.jwks = await jwks(replica)
        agent = await scene.agent(address=replica.grpc_address)
        waiting = asyncio.create_task(agent.evaluate(read(), session=stuck))
        await asyncio.wait_for(begun.wait(), DEADLINE)
        for _ in range(10):
            assert (await agent.evaluate(read(), session=free)).allowed
        assert not waiting.done()
        held.set()
        assert (await waiting).failure is None


async def test_no_session_waits_for_what_opa_takes_over_anothers(scene: Scene) -> None:
    stuck, free = await scene.session(), await scene.session()
    async with (
        proxied_opa(opa_socket(scene.stack)) as proxy,
        replica_with(scene.stack, "pdp-opa-held", opa_socket=str(proxy.socket_path)) as replica,
    ):
        scene.jwks = await jwks(replica)
        agent = await scene.agent(address=replica.grpc_address)
        proxy.held = stuck.session_id.encode()
        waiting = asyncio.create_task(agent.evaluate(read(), session=stuck))
        await asyncio.wait_for(proxy.holding.wait(), DEADLINE)
        for _ in range(10):
            assert (await agent.evaluate(read(), session=free)).allowed
        assert not waiting.done()
        proxy.release.set()
        assert (await waiting).failure is None


async def test_session_whose_row_somebody_holds_keeps_no_other_from_being_recorded(scene: Scene) -> None:
    """Not an evaluation, but a lock: it costs the others a batch that fails, and no more than that."""
    stuck, free = await scene.session(), await scene.session()
    agent = await scene.agent()
    async with await psycopg.AsyncConnection.connect(owner_url(scene.stack)) as holder:
        await holder.execute(
            "SELECT 1 FROM placet.sessions WHERE tenant = %s AND session_id = %s FOR UPDATE",
            [scene.tenant, stuck.session_id],
        )
        waiting = asyncio.create_task(agent.evaluate(read(), session=stuck, timeout=DEADLINE))
        for _ in range(5):
            assert (await agent.evaluate(read(), session=free, timeout=DEADLINE)).allowed
        held = await waiting
        assert not held.allowed
        assert held.failure is not None
        assert held.failure.reason == "LEDGER_UNAVAILABLE"
    assert (await agent.evaluate(read(), session=stuck)).allowed


@pytest.mark.parametrize("slow_part", ["opa", "postgres"])
async def test_slow_part_leads_to_clear_answers_and_never_to_an_allow(scene: Scene, slow_part: str) -> None:
    """What takes longer than the callers have: a block that is recorded, or an error in time."""
    sessions = [await scene.session() for _ in range(8)]
    async with (
        proxied(database_url(scene.stack)) as database,
        proxied_opa(opa_socket(scene.stack)) as opa,
        replica_with(
            scene.stack,
            f"pdp-slow-{slow_part}",
            database_url=database.conninfo,
            opa_socket=str(opa.socket_path),
        ) as replica,
    ):
        scene.jwks = await jwks(replica)
        agent = await scene.agent(address=replica.grpc_address)
        assert (await agent.evaluate(read(), session=sessions[0])).allowed
        slowed: Proxy | OpaProxy = opa if slow_part == "opa" else database
        slowed.delay = 3.0
        for _ in range(2):
            answers = await asyncio.gather(
                *(agent.evaluate(read(), session=session, timeout=2.0) for session in sessions)
            )
            for answer in answers:
                assert not answer.allowed
                if answer.failure is None:
                    assert codes(answer) == ["pdp.policy_unavailable"]
                    assert (await scene.recorded(answer.decision_id)).receipt == answer.receipt
                else:
                    assert answer.failure.code in OVERLOADED | NO_ANSWER, answer.failure
                    assert codes(answer)[0] in ("client.overloaded", "client.deadline", "client.unreachable")
        # Slow, and not too slow: everybody gets an answer.
        slowed.delay = 0.05

        async def allowed() -> bool:
            return (await agent.evaluate(read(), session=sessions[0], timeout=DEADLINE)).allowed

        await until(allowed, "a lone call is allowed")
        answers = await asyncio.gather(*(agent.evaluate(read(), session=session) for session in sessions))
        assert all(answer.allowed for answer in answers), [codes(answer) for answer in answers]


# --- the database ------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(killed("postgres"), id="killed"),
        pytest.param(hung("postgres"), id="hung"),
        pytest.param(read_only, id="read-only"),
    ],
)
async def test_without_the_database_nothing_is_answered(scene: Scene, fault: Fault) -> None:
    replica, pid = scene.replica(), pid_of(scene.stack)
    before = sum((await failed_closed(replica)).values())
    session, action = await scene.session(), read()
    await scene.auditor()
    async with load(scene) as others:
        async with fault(scene.stack):
            said = await until(lambda: is_missing(replica, "database"), "/readyz says what is missing")
            assert said
            since = time.monotonic()
            decision = await scene.ask(action, session, timeout=5)
            assert decision.effect is Effect.BLOCK
            assert not decision.allowed
            assert decision.failure is not None, codes(decision)
            assert decision.failure.code in NO_ANSWER, decision.failure
            assert codes(decision)[0] in ("client.unreachable", "client.deadline")
            assert decision.receipt == b""
            with pytest.raises(PlacetError) as raised:
                await (await scene.issuer()).open_session(
                    task=new_call(), principal="user:anna", agent="agent:payer", boundary={}, timeout=3
                )
            assert raised.value.code in NO_ANSWER
            assert sum((await failed_closed(replica)).values()) > before
            fault_ended = time.monotonic()
        assert await until(lambda: _is_ready(replica), "/readyz is 200 again")
        # A call that hung may be decided when the database comes to; it was not answered then.
        for each in others.between(since, fault_ended):
            if each.failure is None:
                assert (await scene.recorded(each.decision_id)).receipt == each.receipt
        again = await scene.ask(action, session)
        assert again.effect is Effect.ALLOW, (codes(again), again.failure)
        assert (await scene.recorded(again.decision_id)).receipt == again.receipt
        await others.until(is_allowed)
    assert pid_of(scene.stack) == pid


@pytest.mark.parametrize("committed", [True, False], ids=["after", "before"])
async def test_connection_lost_around_commit_makes_no_second_truth(scene: Scene, committed: bool) -> None:
    async with (
        proxied(database_url(scene.stack)) as proxy,
        replica_with(scene.stack, f"pdp-cut-{committed}", database_url=proxy.conninfo) as replica,
    ):
        scene.jwks = await jwks(replica)
        agent = await scene.agent(address=replica.grpc_address)
        session, action = await scene.session(), pay()
        assert (await agent.evaluate(read(), session=session)).allowed
        proxy.cut_after_commit, proxy.cut_before_commit = committed, not committed
        first = await agent.evaluate(action, session=session, timeout=DEADLINE)
        await asyncio.wait_for(proxy.was_cut.wait(), DEADLINE)
        second = await agent.evaluate(action, session=session, timeout=DEADLINE)
        assert second.failure is None, second.failure
        assert second.effect is Effect.ALLOW
        if first.failure is None:
            assert second.receipt == first.receipt
        else:
            assert first.failure.code in NO_ANSWER
        assert (await scene.recorded(second.decision_id)).receipt == second.receipt
        found = await (await scene.issuer()).get_session(session)
        assert found.decisions["allow"] == 2, "the payment counts once"
        assert await until(lambda: _is_ready(replica), "/readyz is 200 again")


async def test_connection_lost_after_the_commit_of_many_loses_and_doubles_nothing(scene: Scene) -> None:
    async with (
        proxied(database_url(scene.stack)) as proxy,
        replica_with(scene.stack, "pdp-cut-many", database_url=proxy.conninfo) as replica,
    ):
        scene.jwks = await jwks(replica)
        agent = await scene.agent(address=replica.grpc_address)
        assert (await agent.evaluate(read(), session=await scene.session())).allowed
        # Where the machine stalls for seconds, the server ends the transaction that is held, and the one
        # that is cut may be of a single call.
        for _ in range(10):
            shared_by = await _calls_of_the_commit_that_was_cut(scene, proxy, replica, agent)
            if shared_by > 1:
                break
        assert shared_by > 1, "the commit that was cut was shared"


async def _calls_of_the_commit_that_was_cut(
    scene: Scene, proxy: Proxy, replica: Replica, agent: AsyncClient
) -> int:
    """Cut the connection after a COMMIT with all calls that a client has under way; each counts once."""
    sessions = [await scene.session() for _ in range(64)]
    actions = [pay() for _ in sessions]

    async def decided(action: dict[str, Any], session: Session) -> Decision:
        """The answer to this attempt, however often it has to be asked for."""
        attempt = new_call()

        async def ask() -> Decision | None:
            decision = await agent.evaluate(action, session=session, attempt_id=attempt, timeout=DEADLINE)
            return None if decision.failure is not None else decision

        decision = await until(ask, "the call is decided")
        assert decision is not None
        return decision

    # While the first commit is held, others gather for the next, which is cut.
    proxy.release.clear()
    proxy.was_cut.clear()
    proxy.hold_commit = proxy.cut_after_commit = True
    asked = [asyncio.create_task(decided(*each)) for each in zip(actions, sessions, strict=True)]

    async def gathered() -> bool:
        waiting = await measured(replica, 'placet_queue_depth{stage="record"')
        return waiting > 1 or proxy.was_cut.is_set()

    await until(gathered, "others wait to be recorded")
    proxy.release.set()
    answers = await asyncio.gather(*asked)
    assert proxy.was_cut.is_set()
    for decision, session in zip(answers, sessions, strict=True):
        assert decision.allowed, codes(decision)
        assert (await scene.recorded(decision.decision_id)).receipt == decision.receipt
        found = await (await scene.issuer()).get_session(session)
        assert dict(found.decisions)["allow"] == 1, "each payment counts once"
    with psycopg.connect(owner_url(scene.stack)) as database:
        rows = database.execute(
            """
            SELECT tool_call_id, writer, seq, xmin::text FROM placet.ledger
            WHERE tenant = %s AND tool_call_id = ANY (%s)
            """,
            [scene.tenant, [action["tool_call_id"] for action in actions]],
        ).fetchall()
        # The cut ended the first writer, so its last commit is the one that was cut.
        (cut,) = database.execute(
            """
            SELECT count(*) FROM placet.ledger l
            WHERE (l.writer, l.xmin::text) = (
                SELECT k.writer, k.xmin::text FROM placet.ledger k
                WHERE k.writer = %s ORDER BY k.seq DESC LIMIT 1)
            """,
            [min(rows, key=lambda row: int(row[3]))[1]],
        ).fetchone() or (0,)
    assert sorted(row[0] for row in rows) == sorted(action["tool_call_id"] for action in actions)
    assert len({row[1] for row in rows}) > 1, "the cut ended a writer"
    return int(cut)


async def test_killed_pdp_takes_back_nothing(scene: Scene) -> None:
    before = scene.stack.supervisor.pid("pdp-2")
    async with load(scene, replica=2, sessions=6) as others:
        await others.until(lambda other: other.failure is None, count=60)
        async with scene.stack.supervisor.killed("pdp-2"):
            decision = await scene.ask(read(), await scene.session())
            assert decision.allowed, "the other replica goes on"
        assert scene.stack.supervisor.pid("pdp-2") != before
        # Its new key is not among those that these clients were given.
        await others.until(lambda other: codes(other)[0] == "client.receipt_mismatch")
    await scene.found(replica=2)
