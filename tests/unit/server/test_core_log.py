"""What gRPC's core writes of handshakes becomes lines of the log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from pdp.server.grpc import core_log
from pdp.server.grpc.core_log import BURST, PER_SECOND, CoreLog
from tests.support.processes import PATIENCE, eventually, is_alive

# As gRPC 1.85 writes it, with shorter addresses of memory.
MEMBERS = (
    "args={endpoint=0x7f, args={grpc.experimental.event_engine=0x55, "
    "grpc.internal.endpoint_local_address=ipv4:127.0.0.1:7433, "
    "grpc.internal.endpoint_peer_address=ipv4:10.0.0.9:33272, {server}grpc.so_reuseport=0}, "
    "read_buffer.Length()=0, exit_early=0}"
)
SERVER = "grpc.internal.server_credentials=0x55, "
WRONG_VERSION = (
    "SSL_ERROR_SSL: error:100000f7:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER: "
    "Invalid certificate verification context"
)


TRACE = "=== Source Location Trace: === \nsrc/core/util/status_helper.cc:68\n"


def at(source: str, text: str) -> str:
    return f"I1129 22:43:57.492913    3810 {source}] {text}\n"


def failure(said: str, *, server: str = SERVER) -> str:
    members = MEMBERS.replace("{server}", server)
    step = "CallNextHandshakerLocked: error="
    return (
        at("trace.cc:91", "gRPC Tracers: handshaker")
        + at("handshaker.cc:80", "handshake_manager 0x7f: adding handshaker security [0x7f] at index 1")
        + at("handshaker.cc:155", f"{step}OK shutdown=false index=1, {members}")
        + at("channel_trace.h:396", "handshake manager 0x7f:  calling handshaker security at index 1")
        + at("ssl_transport_security.cc:2563", f"Handshake failed with error {said}")
        + at("handshaker.cc:155", f"{step}UNKNOWN: {said}: OK")
        + f"{TRACE} shutdown=false index=2, {members}\n"
        + at("channel_trace.h:396", f"handshake manager 0x7f: Failed with error: UNKNOWN: {said}: OK")
        + f"{TRACE}\n"
    )


class Told:
    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.lines: list[str] = []
        self.now = 0.0
        self.log = CoreLog(self.events.append, self.lines.append, clock=lambda: self.now)

    def read(self, text: str) -> Told:
        for line in text.splitlines():
            self.log.read(line)
        return self


def test_failed_handshake_is_told_once_with_peer_and_cause() -> None:
    told = Told().read(failure(f"Ssl handshake failed (TSI_PROTOCOL_FAILURE): {WRONG_VERSION}"))
    (event,) = told.events
    assert event["event"] == "tls_handshake_failed"
    assert (event["level"], event["peer"]) == ("warning", "ipv4:10.0.0.9:33272")
    assert event["address"] == "ipv4:127.0.0.1:7433"
    assert event["cause"] == "the client does not speak TLS"
    assert WRONG_VERSION in event["detail"]
    assert told.lines == []


@pytest.mark.parametrize(
    ("said", "cause", "level"),
    [
        ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "shows no certificate", "warning"),
        ("CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate", "no authority in", "warning"),
        ("CERTIFICATE_VERIFY_FAILED: certificate has expired", "has expired", "warning"),
        ("CERTIFICATE_VERIFY_FAILED: something new", "is not believed", "warning"),
        ("TLSV1_ALERT_UNKNOWN_CA", "does not believe the authority", "warning"),
        ("Handshake read failed (Socket closed)", "ended the connection", "info"),
        ("something new", "no TLS connection came about", "warning"),
    ],
)
def test_cause_is_said_in_words(said: str, cause: str, level: str) -> None:
    (event,) = Told().read(failure(said)).events
    assert cause in event["cause"]
    assert event["level"] == level
    assert said in event["detail"]


def test_handshakes_of_a_client_in_the_process_are_none_of_the_servers() -> None:
    assert Told().read(failure(WRONG_VERSION, server="")).events == []


def test_core_without_its_tracer_names_no_peer() -> None:
    line = at("ssl_transport_security.cc:2563", f"Handshake failed with error {WRONG_VERSION}")
    (event,) = Told().read(line).events
    assert (event["peer"], event["cause"]) == (None, "the client does not speak TLS")


def test_what_else_the_core_says_is_an_event_and_other_lines_are_left_as_they_are() -> None:
    told = Told().read(
        "E1129 22:43:41.109564    3445 init.cc:229] grpc_wait_for_shutdown_with_timeout() timed out.\n"
        "Fatal Python error: Segmentation fault\n"
        '{"event": "decision"}'
    )
    assert told.events == [
        {
            "event": "grpc_core",
            "level": "error",
            "source": "init.cc:229",
            "text": "grpc_wait_for_shutdown_with_timeout() timed out.",
        }
    ]
    assert told.lines == ["Fatal Python error: Segmentation fault", '{"event": "decision"}']


def test_record_that_is_cut_off_takes_nothing_with_it() -> None:
    whole = failure(WRONG_VERSION)
    cut = "I1129 22:43:57.508679    3856 handshaker.cc:155] CallNextHandshakerLocked: error=UNKNOWN: cut"
    assert len(Told().read(cut + "\n" + whole).events) == 1
    assert len(Told().read(cut + "\n" + "x" * 70_000 + "\n" + whole).events) == 1


def test_flood_of_failures_is_counted_and_not_told_one_by_one() -> None:
    told = Told()
    for _ in range(1000):
        told.read(failure(WRONG_VERSION))
    assert len(told.events) == BURST
    told.now += 1.0
    for _ in range(100):
        told.read(failure(WRONG_VERSION))
    assert len(told.events) == BURST + PER_SECOND
    assert told.events[int(BURST)]["suppressed"] == 1000 - BURST
    assert "suppressed" not in told.events[-1]


PROGRAM = """
import os, sys
from pdp.server.grpc import core_log
core_log.divert(sys.argv[1])
print("a line of Python's", file=sys.stderr)
os.write(2, sys.argv[2].encode())
sys.stderr.flush()
if sys.argv[3:]:
    print("ready", flush=True)
    sys.stdin.read()
    os.kill(os.getpid(), int(sys.argv[3]))
"""


def test_stderr_of_a_process_has_lines_of_the_log() -> None:
    for log_format in ("json", "console"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, log_format, failure(WRONG_VERSION)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        lines = done.stderr.splitlines()
        assert "a line of Python's" in lines
        (told,) = [line for line in lines if "tls_handshake_failed" in line]
        assert len(lines) == 2, lines
        assert "ipv4:10.0.0.9:33272" in told
        if log_format == "json":
            event = json.loads(told)
            assert event["timestamp"].endswith("Z")
            assert event["cause"] == "the client does not speak TLS"


def test_what_the_core_says_while_the_server_dies_is_written_and_nothing_is_left() -> None:
    said = "F1129 22:43:41.109564    3445 server.cc:1] Check failed: it is broken\n"
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "json", said, str(int(signal.SIGKILL))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        assert len(children) == 1
        _, errors = process.communicate("", timeout=PATIENCE)
        assert process.returncode == -signal.SIGKILL
    events = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    assert [(event["event"], event["level"], event["text"]) for event in events] == [
        ("grpc_core", "critical", "Check failed: it is broken")
    ]
    eventually(lambda: not is_alive(int(children[0])), "the process that reads has ended")


def test_tracer_is_asked_for_before_grpc_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", sys)
    with pytest.raises(RuntimeError, match="before"):
        core_log.divert("json")
    program = "import pdp.cli, sys; sys.exit('grpc' in sys.modules)"
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    assert subprocess.run([sys.executable, "-c", program], check=False, env=environment).returncode == 0
