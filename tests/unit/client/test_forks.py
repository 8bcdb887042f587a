"""Children of `fork()`: each asks over a channel of its own, or is refused at once; none hangs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from placet._locks import ForkLock
from placet._transport.forks import FORK_SUPPORT
from placet.testing import FakePdp
from tests.unit.client.sessions import known_session

ACTION = {"tool": "t", "arguments": {}, "tool_call_id": "c"}
PATIENCE = 60


def in_child(work: Callable[[], bool]) -> int:
    """Fork, do the work, return the child's exit code. A child that hangs is killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if work() else 2
        except BaseException:  # noqa: BLE001 - a forked child must never come back into pytest
            traceback.print_exc()
        finally:
            os._exit(code)
    waited = threading.Event()
    status = 0
    for _ in range(PATIENCE * 10):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        waited.wait(0.1)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise AssertionError("the child hangs")


FORKS = """
import asyncio, sys
from placet import AsyncClient, Client, DevIdentity
from tests.unit.client.test_forks import ACTION, in_child
target, session = sys.argv[1:]
me = DevIdentity(tenant="test", subject="test", roles=["agent"], agents=["agent:test"])
pdp = Client(target, identity=me, timeout=30)

def ask(call, client=pdp):
    return client.evaluate(ACTION | {"tool_call_id": call}, session=session).allowed

async def aask(call, client):
    async with client:
        return (await client.evaluate(ACTION | {"tool_call_id": call}, session=session)).allowed

assert ask("parent-1")
for number in range(3):
    assert in_child(lambda: ask(f"child-{number}")) == 0, number
assert in_child(lambda: in_child(lambda: ask("grandchild")) == 0) == 0
assert in_child(lambda: asyncio.run(aask("async", AsyncClient(target, identity=me, timeout=30)))) == 0
assert in_child(lambda: pdp.close() is None) == 0
assert ask("parent-2"), "the parent's channel is untouched"
print("done")
"""


def python(code: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-c", code, *words], **environment)


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": os.getcwd()} | environment,
        check=False,
    )


def test_child_of_a_fork_asks_over_a_channel_of_its_own(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    done = python(FORKS, fake_pdp.target, known_session(fake_pdp))
    assert done.stdout == "done\n", done.stderr


UNSUPPORTED = """
import grpc, sys  # before placet, so that gRPC does not know that it will be forked
from placet import Client, DevIdentity
from tests.unit.client.test_forks import ACTION, in_child
target, session = sys.argv[1:]
me = DevIdentity(tenant="test", subject="test", roles=["agent"], agents=["agent:test"])
pdp = Client(target, identity=me, timeout=30)
assert pdp.evaluate(ACTION, session=session).allowed

def refused():
    decision = pdp.evaluate(ACTION, session=session)
    why = str(decision.failure)
    return decision.reasons[0].code == "client.unreachable" and "GRPC_ENABLE_FORK_SUPPORT" in why

assert in_child(refused) == 0
print("done")
"""


def test_child_is_refused_at_once_where_grpc_would_hang(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    done = python(UNSUPPORTED, fake_pdp.target, known_session(fake_pdp))
    assert done.stdout == "done\n", done.stderr


def test_client_that_was_not_used_before_the_fork_needs_no_support(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    code = UNSUPPORTED.replace("assert pdp.evaluate(ACTION, session=session).allowed\n", "").replace(
        "in_child(refused)", "in_child(lambda: pdp.evaluate(ACTION, session=session).allowed)"
    )
    done = python(code, fake_pdp.target, known_session(fake_pdp))
    assert done.stdout == "done\n", done.stderr


def test_fork_support_can_be_turned_off(fake_pdp: FakePdp) -> None:
    code = "import placet._transport.forks as c; print(c.FORK_SUPPORT)"
    done = python(code, GRPC_ENABLE_FORK_SUPPORT="0")
    assert done.stdout == "False\n", done.stderr
    assert isinstance(FORK_SUPPORT, bool)


# --- while other threads are in calls -------------------------------------------------

START = """
import asyncio, multiprocessing, os, socket, sys, threading, time
from placet import AsyncClient, Client, DevIdentity
from tests.unit.client.test_forks import ACTION, in_child
target, session = sys.argv[1:]
me = DevIdentity(tenant="test", subject="test", roles=["agent"], agents=["agent:test"])
pdp = Client(target, identity=me, timeout=30)

def action():
    return ACTION | {"tool_call_id": os.urandom(8).hex()}

def ask(client=pdp):
    return client.evaluate(action(), session=session).allowed

@pdp.guard(session=session, tool="t")
def pay(who="child"):
    return who
"""

BUSY = """
over = threading.Event()
began = threading.Barrier(5)

def work():
    ask()
    began.wait()
    while not over.is_set():
        assert ask()

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
began.wait()
for _ in range(6):
    assert in_child(ask) == 0
over.set()
for thread in threads:
    thread.join()
print("done")
"""

AFTER_A_GUARDED_CALL = """
for _ in range(6):
    pay("parent")
    assert in_child(lambda: pay() == "child" and pdp.close() is None) == 0
assert pay("parent") == "parent"
pdp.close()
print("done")
"""

# The silent server lets its call run into the deadline, which the fork waits for.
DURING_A_CALL_THAT_HANGS = """
silent = socket.create_server(("127.0.0.1", 0))
slow = Client(f"127.0.0.1:{silent.getsockname()[1]}", identity=me, timeout=2)
ended = []
ask()
thread = threading.Thread(target=lambda: ended.append(slow.evaluate(action(), session=session)))
thread.start()
silent.accept()
assert in_child(ask) == 0
thread.join()
assert ended[0].reasons[0].code in ("client.deadline", "client.unreachable"), ended
print("done")
"""

FROM_A_THREAD = """
codes = []
thread = threading.Thread(target=lambda: codes.extend(in_child(ask) for _ in range(4)))
ask()
thread.start()
while thread.is_alive():
    assert ask()
assert codes == [0] * 4, codes
print("done")
"""

CALLS_THAT_BEGIN_DURING_A_FORK = """
from placet._transport.forks import FORKS
ask()
FORKS.before()
hurried = []
def ask_hurried():
    hurried.append(pdp.evaluate(action(), session=session, timeout=0.2).reasons[0].code)
def ask_patient():
    hurried.append(ask())
thread = threading.Thread(target=ask_hurried)
thread.start()
thread.join()
async def ask_on_loop():
    client = AsyncClient(target, identity=me)
    hurried.append((await client.evaluate(action(), session=session, timeout=0.2)).reasons[0].code)
thread = threading.Thread(target=lambda: asyncio.run(ask_on_loop()))
thread.start()
thread.join()
thread = threading.Thread(target=ask_patient)
thread.start()
FORKS.in_parent()
thread.join()
assert hurried == ["client.deadline", "client.deadline", True], hurried
print("done")
"""


@pytest.mark.parametrize(
    "code",
    [
        BUSY,
        AFTER_A_GUARDED_CALL,
        DURING_A_CALL_THAT_HANGS,
        FROM_A_THREAD,
        CALLS_THAT_BEGIN_DURING_A_FORK,
    ],
    ids=["busy", "guarded", "hanging", "from a thread", "begun meanwhile"],
)
def test_child_is_answered_whatever_other_threads_do(fake_pdp: FakePdp, code: str) -> None:
    fake_pdp.allow()
    done = python(START + code, fake_pdp.target, known_session(fake_pdp))
    assert done.stdout == "done\n", done.stderr


# --- event loops ----------------------------------------------------------------------

LOOPS = """
aio = AsyncClient(target, identity=me, timeout=30)

async def aask(client):
    return await client.evaluate(action(), session=session)

def refused():
    began = time.monotonic()
    decisions = [asyncio.run(aask(client)) for client in (aio, AsyncClient(target, identity=me, timeout=30))]
    decisions += [decision for _, decision in pdp.evaluate_many([action()], session=session)]
    asyncio.run(aio.close())
    assert time.monotonic() - began < 20
    return all("forkserver or spawn" in str(decision.failure) for decision in decisions)

async def parent():
    assert (await aask(aio)).allowed
    assert in_child(ask) == 0
    asking = [asyncio.create_task(aask(aio)) for _ in range(8)]
    await asyncio.sleep(0)
    assert in_child(ask) == 0
    assert all(decision.allowed for decision in await asyncio.gather(*asking))

asyncio.run(parent())
assert in_child(refused) == 0
assert in_child(lambda: in_child(refused) == 0) == 0

over = threading.Event()
began = threading.Event()

async def work():
    async def again():
        while not over.is_set():
            assert (await aask(aio)).allowed
            began.set()
    await asyncio.gather(*(again() for _ in range(4)))

thread = threading.Thread(target=lambda: asyncio.run(work()))
thread.start()
began.wait()
for _ in range(8):
    assert in_child(ask) == 0
over.set()
thread.join()
print("done")
"""


def test_child_of_one_with_event_loops_is_answered_or_refused_at_once(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    done = python(START + LOOPS, fake_pdp.target, known_session(fake_pdp))
    assert done.stdout == "done\n", done.stderr


STREAMS = """
aio = AsyncClient(target, identity=me, timeout=30)
over, began = threading.Event(), threading.Event()

async def ask_on(stream):
    decision = await stream.evaluate(action(), session=session)
    assert decision.allowed, decision

async def work(busy):
    async with aio.stream() as stream:
        await ask_on(stream)
        began.set()
        while not over.is_set():
            if busy:
                await asyncio.gather(*(ask_on(stream) for _ in range(4)))
            await asyncio.sleep(0.01)
        # The fork has ended the stream, and nobody who asks notices it.
        await ask_on(stream)

async def fork_beside_own_stream():
    async with aio.stream() as stream:
        for _ in range(10):
            await ask_on(stream)
            asking = [asyncio.create_task(ask_on(stream)) for _ in range(4)]
            await asyncio.sleep(0)
            assert in_child(ask) == 0
            await asyncio.gather(*asking)

ask()
for busy in (False, True):
    over.clear()
    began.clear()
    thread = threading.Thread(target=lambda: asyncio.run(work(busy)))
    thread.start()
    began.wait()
    codes = [in_child(ask) for _ in range(20)]
    over.set()
    thread.join()
    assert codes == [0] * 20, codes
asyncio.run(fork_beside_own_stream())
print("done")
"""


def test_child_that_is_forked_beside_an_open_stream_is_answered(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    done = python(START + STREAMS, fake_pdp.target, known_session(fake_pdp))
    assert done.stdout == "done\n", done.stderr


# --- multiprocessing, and what guards report --------------------------------------------

PROCESSES = """
import multiprocessing, sys
from placet import Client, DevIdentity
method, target, session = sys.argv[1:]
me = DevIdentity(tenant="test", subject="test", roles=["agent"], agents=["agent:test"])
pdp = Client(target, identity=me, timeout=30)

def pay(who):
    return pdp.guard(session=session, tool="t")(lambda who: who)(who)

if __name__ == "__main__":
    assert pay("parent") == "parent"
    context = multiprocessing.get_context(method)
    children = [context.Process(target=pay, args=("child",)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0], children
    with context.Pool(2) as pool:
        assert pool.map(pay, ["pool"] * 4) == ["pool"] * 4
        pool.close()
        pool.join()
    print("done")
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_processes_report_before_they_end(fake_pdp: FakePdp, tmp_path: Path, method: str) -> None:
    fake_pdp.allow()
    (tmp_path / "main.py").write_text(PROCESSES)
    words = (method, fake_pdp.target, known_session(fake_pdp))
    done = run([sys.executable, str(tmp_path / "main.py"), *words])
    assert done.stdout == "done\n", done.stderr
    assert sorted(fake_pdp.outputs.values()) == sorted([b'"parent"', *[b'"child"'] * 3, *[b'"pool"'] * 4])


EXITS = """
pay("parent")
child = os.fork()
if child == 0:
    pay()
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
print("done")
"""


def test_child_that_exits_as_python_does_has_reported(fake_pdp: FakePdp) -> None:
    fake_pdp.allow()
    done = python(START + EXITS, fake_pdp.target, known_session(fake_pdp))
    assert done.stdout == "done\n", done.stderr
    assert sorted(fake_pdp.outputs.values()) == [b'"child"', b'"parent"']


# --- locks --------------------------------------------------------------------------


def test_lock_of_another_thread_is_free_in_the_child() -> None:
    lock = ForkLock()
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            over.wait(PATIENCE)

    def take() -> bool:
        with lock:
            return True

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(PATIENCE)
    assert in_child(take) == 0
    over.set()
    holder.join()
    assert take()
