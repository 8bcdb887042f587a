"""What gRPC's core writes to stderr, as lines of the server's log: handshakes that fail, with peer and cause.

The core is C++. It tells nobody of a handshake that failed, but writes about it, in a form of its own, to
file descriptor 2; who the peer was it says only where the tracer `handshaker` is on, which writes a few
records for each connection and none for a call. So the server's stderr is a pipe to a process that runs this
very file, with nothing but the standard library: it turns what the core writes into lines of the log, and
passes on what it does not know. A process of its own still writes what the core says while the server dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

# Failures that are told a second, on average and at once: whoever opens connections in a loop fills no disk.
PER_SECOND, BURST = 10.0, 50.0
_TRACER = "handshaker"
# "I1129 22:43:41.109564    3445 ssl_transport_security.cc:2563] Handshake failed …" (Abseil's format)
_RECORD = re.compile(r"([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ([\w./-]+):(\d+)\] (.*)")
_LEVELS = {"I": "info", "W": "warning", "E": "error", "F": "critical"}
_STEP = "CallNextHandshakerLocked: error="
_LAST = "exit_early="
# What follows a record of the core's that has an error in it.
_TRACE = re.compile(r"=== Source Location Trace: ===|src/core/\S+:\d+|")
_ENDPOINT = re.compile(r"endpoint_(local|peer)_address=([^,}]+)")
# What the core and BoringSSL say, and what that means to an operator.
_MEANINGS = (
    ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "the client shows no certificate"),
    (
        "unable to get local issuer certificate",
        "the client's certificate is of no authority in client_ca_file",
    ),
    ("self-signed certificate", "the client's certificate is of no authority in client_ca_file"),
    ("self signed certificate", "the client's certificate is of no authority in client_ca_file"),
    ("certificate has expired", "the client's certificate, or an authority's of it, has expired"),
    ("certificate is not yet valid", "the client's certificate, or an authority's of it, is not valid yet"),
    ("CERTIFICATE_VERIFY_FAILED", "the client's certificate is not believed"),
    ("ALERT_UNKNOWN_CA", "the client does not believe the authority of this server's certificate"),
    ("ALERT_CERTIFICATE_EXPIRED", "the client says that this server's certificate has expired"),
    ("ALERT_BAD_CERTIFICATE", "the client does not accept this server's certificate"),
    ("ALERT_CERTIFICATE_UNKNOWN", "the client does not accept this server's certificate"),
    ("WRONG_VERSION_NUMBER", "the client does not speak TLS"),
    ("HTTP_REQUEST", "the client does not speak TLS, but HTTP"),
    ("UNSUPPORTED_PROTOCOL", "the client offers no version of TLS that this server speaks"),
    ("NO_SHARED_CIPHER", "client and server have no cipher in common"),
    ("NO_APPLICATION_PROTOCOL", "the client does not offer HTTP/2 (ALPN)"),
    ("Socket closed", "the client ended the connection before the handshake was over"),
    ("Connection reset", "the client ended the connection before the handshake was over"),
    ("timed out", "the handshake was not over in time"),
)
# Probes of load balancers do this, and nothing is wrong then.
_GONE = "the client ended the connection before the handshake was over"


class CoreLog:
    """Reads lines that the core writes, and says them as the server's log would."""

    def __init__(
        self,
        tell: Callable[[dict[str, Any]], None],
        pass_on: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`tell` gets an event with its members, `pass_on` a line that is none of the core's."""
        self._tell = tell
        self._pass_on = pass_on
        self._clock = clock
        self._left, self._at = BURST, self._clock()
        self._suppressed = 0
        # Whether the tracer has shown that it is on: else the core alone says that a handshake failed.
        self._traced = False
        # A record of the tracer that is not over yet.
        self._open = ""

    def read(self, line: str) -> None:
        """Take a line, without its end."""
        record = _RECORD.fullmatch(line)
        if record is None:
            self._read_more(line)
            return
        self._open = ""
        level, source, number, text = record.groups()
        if source == "handshaker.cc":
            self._traced = True
            if text.startswith(_STEP):
                self._open = text
                self._close()
        elif (source == "trace.cc" and "Tracers" in text) or text.startswith("handshake manager 0x"):
            pass
        elif text.startswith("Handshake failed"):
            if not self._traced:
                self._failed("", "", text)
        else:
            self._tell(
                {"event": "grpc_core", "level": _LEVELS[level], "source": f"{source}:{number}", "text": text}
            )

    def _read_more(self, line: str) -> None:
        if self._open:
            self._open += "\n" + line
            self._close()
        elif not _TRACE.fullmatch(line.strip()):
            self._pass_on(line)

    def _close(self) -> None:
        """Tell of the record that is open, once it is whole."""
        if _LAST not in self._open:
            # It holds an error and the connection's members: no more than a few lines.
            if len(self._open) > 65_536:
                self._open = ""
            return
        said, _, rest = self._open.removeprefix(_STEP).partition(" shutdown=")
        self._open = ""
        if said == "OK" or "grpc.internal.server_credentials" not in rest:
            return
        ends = dict(_ENDPOINT.findall(rest))
        self._failed(ends.get("peer", ""), ends.get("local", ""), said.partition("\n")[0])

    def _failed(self, peer: str, local: str, said: str) -> None:
        now = self._clock()
        self._left = min(BURST, self._left + (now - self._at) * PER_SECOND)
        self._at = now
        if self._left < 1:
            self._suppressed += 1
            return
        self._left -= 1
        meaning = next(
            (meaning for words, meaning in _MEANINGS if words in said), "no TLS connection came about"
        )
        event: dict[str, Any] = {
            "event": "tls_handshake_failed",
            "level": "info" if meaning == _GONE else "warning",
            "peer": peer or None,
            "address": local or None,
            "cause": meaning,
            "detail": said,
        }
        if self._suppressed:
            event["suppressed"], self._suppressed = self._suppressed, 0
        self._tell(event)


def divert(log_format: str) -> None:
    """Send what gRPC's core writes to stderr through a process that makes it lines of the log.

    MUST come before gRPC is imported, which is when it reads what to trace. `sys.stderr` goes on to the
    stderr that there was. The process ends with this one.
    """
    import subprocess

    if "grpc" in sys.modules:
        raise RuntimeError("gRPC was imported before: it would tell nothing of its handshakes")
    tracers = os.environ.get("GRPC_TRACE", "")
    os.environ["GRPC_TRACE"] = f"{tracers},{_TRACER}" if tracers else _TRACER
    read_end, write_end = os.pipe()
    # A core that would have to wait for a slow disk writes nothing.
    os.set_blocking(write_end, False)
    # In a session of its own: what a terminal sends its processes is not meant for this one.
    subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, log_format],
        stdin=read_end,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(read_end)
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    os.dup2(write_end, 2)
    os.close(write_end)


def _lines(descriptor: int) -> Iterator[str]:
    """Yield the lines that are written, until nobody is left who could write."""
    rest = b""
    while chunk := os.read(descriptor, 65_536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "backslashreplace")
    if rest:
        yield rest.decode("utf-8", "backslashreplace")


def main(log_format: str) -> None:
    """Write what comes in on stdin to stderr."""

    def write(line: str) -> None:
        # Each line at once, as other processes write there too.
        with contextlib.suppress(OSError):
            os.write(2, f"{line}\n".encode())

    def tell(event: dict[str, Any]) -> None:
        at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        if log_format == "json":
            write(json.dumps({**event, "timestamp": at}))
            return
        more = " ".join(
            f"{name}={value!r}" for name, value in event.items() if name not in ("event", "level")
        )
        write(f"{at} [{event['level']}] {event['event']} {more}")

    log = CoreLog(tell, write)
    for line in _lines(0):
        log.read(line)


if __name__ == "__main__":
    main(sys.argv[1])
