"""Cerbos as a peer: as many conditions on the same document, neither signed nor durable.

Its npm package carries the binary; without npm, or on another machine than its packages are for, there
is no peer, and the report says so.
"""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import struct_pb2
from google.protobuf.json_format import ParseDict

from bench.drive import MARKER, ROOT, Target
from bench.parts import Part, process, until_listening
from pdp.dev import ports

VERSION = "0.55.0"
METHOD = "/cerbos.svc.v1.CerbosService/CheckResources"
_MACHINES = {"x86_64": "x64", "aarch64": "arm64"}


class PeerUnavailableError(Exception):
    """Cerbos cannot be had here; the message says why."""


def install(*, fetch: bool) -> Path:
    """Return the binary, if need be and `fetch` from npm, once. Raises `PeerUnavailableError`."""
    machine = _MACHINES.get(platform.machine())
    if platform.system() != "Linux" or machine is None:
        raise PeerUnavailableError(f"no package for {platform.system()} {platform.machine()}")
    package = f"cerbos-linux-{machine}"
    store = ROOT / ".tools" / f"cerbos-{VERSION}"
    binary = store / "node_modules" / "@cerbos" / package / package
    if not binary.exists() and not fetch:
        raise PeerUnavailableError("it is not installed, and this profile fetches nothing")
    if not binary.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise PeerUnavailableError("npm was not found")
        store.mkdir(parents=True, exist_ok=True)
        argv = [npm, "install", "--prefix", str(store), "--no-fund", "--no-audit", "--ignore-scripts"]
        done = subprocess.run(
            [*argv, f"@cerbos/{package}@{VERSION}"], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise PeerUnavailableError(f"npm: {done.stderr.strip()[-300:]}")
    return binary


@contextlib.contextmanager
def running(binary: Path, directory: Path, *, rules: int, audit: bool) -> Iterator[Part]:
    """A Cerbos with a policy of so many rules; with `audit` it logs each decision to a file."""
    name = f"cerbos-{'audit' if audit else 'plain'}"
    home = directory / name
    policies = home / "policies"
    policies.mkdir(parents=True)
    (policies / "action.yaml").write_text(yaml.safe_dump(policy(rules)), encoding="utf-8")
    grpc_port, http_port = ports.free_ports(2)
    address = f"{ports.HOST}:{grpc_port}"
    config: dict[str, object] = {
        "server": {"grpcListenAddr": address, "httpListenAddr": f"{ports.HOST}:{http_port}"},
        "storage": {"driver": "disk", "disk": {"directory": str(policies), "watchForChanges": False}},
        "telemetry": {"disabled": True},
    }
    if audit:
        config["audit"] = {
            "enabled": True,
            "accessLogsEnabled": False,
            "decisionLogsEnabled": True,
            "backend": "file",
            "file": {"path": str(home / "decisions.log")},
        }
    (home / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    argv = [str(binary), "server", f"--config={home / 'config.yaml'}", "--log-level=ERROR"]
    with process(name, argv, directory) as child:
        until_listening(child, address)
        yield Part(address=address, pid=child.pid)


def policy(rules: int) -> dict[str, object]:
    """One rule allows; each other one denies on a condition that never holds, as ours do."""
    boundary = "R.attr.action.tool.name in R.attr.boundaries[0].tools"
    conditions = (
        "!(R.attr.action.tool.known == true)",
        'R.attr.session.state != "open"',
        "!(R.attr.session.agent in R.attr.caller.agents)",
        'R.attr.action.tool.effect == "pay" && !has(R.attr.action.amount.minor)',
        "R.attr.action.amount.minor > 200000.0",
        "size(R.attr.action.problems) > 0",
    )
    denials = [
        {
            "actions": ["pay"],
            "effect": "EFFECT_DENY",
            "roles": ["agent"],
            "condition": {"match": {"expr": text}},
        }
        for text in (conditions[n % len(conditions)] for n in range(rules - 1))
    ]
    return {
        "apiVersion": "api.cerbos.dev/v1",
        "resourcePolicy": {
            "resource": "action",
            "version": "default",
            "rules": [
                {
                    "actions": ["pay"],
                    "effect": "EFFECT_ALLOW",
                    "roles": ["agent"],
                    "condition": {"match": {"expr": boundary}},
                },
                *denials,
            ],
        },
    }


def target(part: Part, documents: Sequence[bytes]) -> Target:
    return Target(
        address=part.address,
        method=METHOD,
        bodies=[body(json.loads(document)) for document in documents],
        # The action "pay" is allowed: an entry of the map from actions to effects.
        expect=(MARKER, "\n\x03pay\x10\x01"),
        pids={"cerbos": part.pid},
    )


def body(document: dict[str, Any]) -> bytes:
    """A CheckResourcesRequest (cerbos/request/v1/request.proto) on a document of ours."""
    attributes = b""
    for name, value in document.items():
        entry = _bytes(1, name.encode()) + _bytes(2, ParseDict(value, struct_pb2.Value()).SerializeToString())
        attributes += _bytes(4, entry)
    principal = _bytes(1, b"svc-ap") + _bytes(3, b"agent")
    resource = _bytes(1, b"action") + _bytes(3, b"call") + attributes
    entry = _bytes(1, b"pay") + _bytes(2, resource)
    return _bytes(1, MARKER.encode()) + _bytes(3, principal) + _bytes(4, entry)


def _bytes(number: int, content: bytes) -> bytes:
    """A length-delimited field (protobuf.dev/programming-guides/encoding)."""
    size, length = len(content), b""
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content
