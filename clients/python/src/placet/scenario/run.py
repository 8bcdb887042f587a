"""A run of one scenario: its tenant, its callers, and what its steps made so far."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc.aio
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from google.protobuf.duration_pb2 import Duration

from placet import model, task_token
from placet._calls.receipts import Verifier
from placet._transport.channel import Connection
from placet.client import AsyncClient
from placet.credentials import TlsCredentials
from placet.errors import NotFoundError, PlacetError, UnavailableError
from placet.identity import DevIdentity
from placet.model import Session
from placet.scenario.callers import ISSUER, OPERATOR, Caller, principal, runtime
from placet.scenario.credentials import Credentials
from placet.scenario.fixture import Fixture, Signal, Terms
from placet.scenario.made import Made, MadeSession, NotRunError
from placet.scenario.stack import Stack, StackError
from placet.v1 import dev_service_pb2, dev_service_pb2_grpc

# How long calls may take to reach a replica again that was away, in seconds.
FOUND_WITHIN = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Pdp:
    """Where to run. `timeout` is the deadline of a call in seconds.

    Without `credentials` the callers name themselves, and the PDP has to believe them.
    """

    targets: tuple[str, ...]
    credentials: Credentials | None = None
    timeout: float = 20.0
    verifier: Verifier | None = None
    stack: Stack | None = None


@dataclass(slots=True)
class Clock:
    """The database's clock: how far it is ahead of this machine's, and when the scenario began by it."""

    ahead: timedelta = timedelta()
    start: datetime = field(default_factory=lambda: datetime.now(UTC))

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass(kw_only=True, slots=True)
class Run:
    """A run of one scenario; use with `async with`. The copies that `on` makes share everything with it."""

    pdp: Pdp
    tenant: str
    # What sets the ids of this run apart from those of others in its tenant; empty if there are none.
    suffix: str = ""
    replica: int = 0
    clock: Clock = field(default_factory=Clock)
    made: Made = field(default_factory=Made)
    _open: AsyncExitStack = field(default_factory=AsyncExitStack)
    _clients: dict[tuple[Any, ...], AsyncClient] = field(default_factory=dict)
    _down: set[str] = field(default_factory=set)

    async def __aenter__(self) -> Run:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    def on(self, number: int) -> Run:
        """Return this run with another replica that is asked by default; numbers go round the replicas."""
        return replace(self, replica=number % len(self.pdp.targets))

    async def client(self, caller: Caller, replica: int | None = None) -> AsyncClient:
        """Return the client of a caller, the same one each time. `replica` counts from 1.

        Raises `NotRunError` if there are no credentials of the caller's.
        """
        number = self.replica if replica is None else replica - 1
        proof = self._proof(caller)
        key = (number, proof)
        if key not in self._clients:
            self._clients[key] = AsyncClient(
                self.pdp.targets[number],
                identity=proof if isinstance(proof, DevIdentity) else None,
                credentials=proof if isinstance(proof, TlsCredentials) else None,
                timeout=self.pdp.timeout,
                verifier=self.pdp.verifier,
            )
            self._open.push_async_callback(self._clients[key].close)
        return self._clients[key]

    def _proof(self, caller: Caller) -> DevIdentity | TlsCredentials:
        """Return what says who a caller is. Raises `NotRunError` if there are no credentials of its."""
        if self.pdp.credentials is None:
            return caller.identity(self.tenant)
        found = self.pdp.credentials.by_subject.get(caller.subject)
        if found is None:
            named = ", ".join(self.pdp.credentials.subjects) or "none"
            raise NotRunError(f"there are no credentials of {caller.subject}; there are those of {named}")
        return found

    async def prepare(self, fixture: Fixture, *, timed: bool) -> None:
        """Write the fixture. `timed` says that instants are written. Raises `PlacetError`."""
        operator = await self.client(OPERATOR)
        # The tenant is named, so that with the credentials of another tenant nothing is replaced.
        await operator.put_tenant(fixture.settings, tenant=self.tenant)
        if timed:
            await self._read_clock()
        if fixture.agents:
            await operator.put_agents(fixture.agents)
        if fixture.tools:
            await operator.put_tools(fixture.tools)
        if fixture.entities:
            await operator.put_entities(fixture.entities)
        if fixture.signals:
            await operator.put_signals(self.signals(fixture.signals))
        for issuer in fixture.issuers:
            await self.set_issuer(issuer, OPERATOR)
        for name, terms in fixture.sessions.items():
            await self.open(name, terms)

    def signals(self, signals: Iterable[Signal]) -> list[model.Signal]:
        return [
            model.Signal(
                name=signal.name,
                value=signal.value,
                expires_at=signal.expiry(start=self.clock.start, now=self.clock.now()),
            )
            for signal in signals
        ]

    async def open(self, name: str, terms: Terms, as_: Caller | None = None) -> Session:
        """Open a session and note it under `name`. Raises `PlacetError`.

        The usual issuer opens it; if the task is signed, the runtime of its agent does.
        """
        asked = terms.terms(name, self.suffix)
        expires_at = terms.expiry(start=self.clock.start, now=self.clock.now())
        if terms.signed_by is None:
            opener = owner = as_ or ISSUER
            asked["expires_at"] = expires_at
        else:
            opener, owner = as_ or runtime(terms.agent), principal(terms.principal)
            asked = {"task_token": self._sign_task(terms.signed_by, asked, expires_at)}
        session = await (await self.client(opener)).open_session(**asked)
        self.made.sessions[name] = MadeSession(
            session=session, opener=opener, owner=owner, terms=asked, boundary=terms.boundary
        )
        return session

    def _sign_task(self, issuer: str, asked: dict[str, Any], expires_at: datetime | None) -> str:
        if issuer not in self.made.keys:
            raise NotRunError(f"issuer {issuer} was given no key")
        return task_token.sign(
            self.made.keys[issuer],
            issuer=issuer,
            tenant=self.tenant,
            session_expires_at=expires_at,
            issued_at=self.clock.now().timestamp(),
            **asked,
        )

    async def set_issuer(self, issuer: str, caller: Caller, *, revoked: bool = False) -> int:
        """Register a new key, or none; return the issuers' revision. Raises `PlacetError`."""
        client = await self.client(caller)
        if revoked:
            return await client.put_issuer_keys(issuer, {"keys": []})
        key = generate_private_key(SECP256R1())
        revision = await client.put_issuer_keys(issuer, {"keys": [task_token.public_jwk(key)]})
        self.made.keys[issuer] = key
        return revision

    async def advance(self, by: timedelta) -> datetime:
        """Move the database's clock and return its time. Raises `PlacetError`."""
        span = Duration()
        span.FromTimedelta(by)
        proof = self._proof(OPERATOR)
        connection = Connection(
            target=self.pdp.targets[self.replica],
            metadata=proof.metadata,
            credentials=proof.channel_credentials() if isinstance(proof, TlsCredentials) else None,
        )
        async with connection.open(grpc.aio) as channel:
            try:
                answer = await dev_service_pb2_grpc.DevServiceStub(channel).AdvanceClock(
                    dev_service_pb2.AdvanceClockRequest(by=span),
                    metadata=connection.metadata(),
                    timeout=self.pdp.timeout,
                )
            except grpc.aio.AioRpcError as exc:
                raise connection.failure(exc) from exc
        now: datetime = answer.now.ToDatetime(UTC)
        self.clock.ahead = now - datetime.now(UTC)
        return now

    async def _read_clock(self) -> None:
        """Note the database's time. A server whose clock cannot be moved has the time of this machine."""
        try:
            self.clock.start = await self.advance(timedelta(microseconds=1))
        except PlacetError:
            self.clock.start = self.clock.now()

    async def kill(self, component: str) -> None:
        assert self.pdp.stack is not None
        try:
            await self.pdp.stack.kill(component)
        except StackError as exc:
            raise PlacetError(str(exc)) from exc
        self._down.add(component)

    async def restore(self) -> None:
        """Start what is still down. Raises `PlacetError`."""
        # The replicas come last: they do not start without the others.
        for component in sorted(self._down, key=lambda name: (name.startswith("pdp"), name)):
            await self.restart(component)

    async def restart(self, component: str) -> None:
        """Start the component again, and return when calls reach every replica. Raises `PlacetError`."""
        assert self.pdp.stack is not None
        try:
            await self.pdp.stack.restart(component)
        except StackError as exc:
            raise PlacetError(str(exc)) from exc
        self._down.discard(component)
        if not any(name.startswith("pdp") or name == "postgres" for name in self._down):
            for client in list(self._clients.values()):
                await _wait_until_found(client)


async def _wait_until_found(client: AsyncClient) -> None:
    """Return when the client reaches its server: gRPC waits before it tries again. Raises `PlacetError`."""
    limit = time.monotonic() + FOUND_WITHIN
    while True:
        try:
            await client.get_session("unknown")
        except NotFoundError:
            return
        except UnavailableError:
            if time.monotonic() > limit:
                raise
        except PlacetError:
            return
        await asyncio.sleep(0.05)


def fresh_tenant(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(5)}"
