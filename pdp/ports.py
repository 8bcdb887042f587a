"""What the server's core asks of the world, in its own words.

Every deadline is an instant of `time.monotonic()`. What implementations MUST do, a contract suite
for each port (tests/contract) checks on the fake and on the real adapter. Two ports have no fake that
keeps their promises: the suite of `Signer` and `SigningKey` runs the one signer on both key directories,
and tests/unit/server/test_tokens.py checks the one `TokenAuthenticator`. Every method that reads or
writes the database raises `StoreUnavailableError` when it does not answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Final, Protocol

from pdp.model import (
    JSON,
    Agent,
    AgentPage,
    Attribution,
    Boundary,
    Caller,
    ClockSample,
    ControlKind,
    ControlRevision,
    DecisionEffect,
    DecisionStatus,
    Difference,
    EntityName,
    EntityVersion,
    Entry,
    Facts,
    FactsRequest,
    GrantRow,
    IssuerKeysSnapshot,
    IssuerList,
    LapsedDecision,
    OpenDecision,
    PolicyRevision,
    Position,
    Posting,
    ProofRevocation,
    RecordedDecision,
    Recording,
    RegistryOutline,
    Session,
    SessionSnapshot,
    SettingsVersion,
    Signal,
    SignalPage,
    StoredGrant,
    StoredOpening,
    TokenIssue,
    Tool,
    ToolPage,
    Verdict,
)

# A write of entities whose figures contain no decision that anybody names.
NOTHING_POSTED: Final[Mapping[EntityName, Sequence[Posting]]] = MappingProxyType({})


class InformationPoint(Protocol):
    """Knows what an action must be judged on."""

    async def gather(self, request: FactsRequest) -> Facts:
        """Return what is known now.

        Implementations MUST read at the time of the call and MUST NOT answer from a cache;
        MUST take `now` from the clock that orders expiries; MUST read all facts of one
        request from one snapshot. Calls MAY be gathered into one read; a lone call MUST NOT
        wait for others. Raises `TenantUnknownError`, `StoreUnavailableError`,
        `DeadlineExceededError`, and `OverloadedError` at once when too many calls wait.
        """
        ...


class PolicyEngine(Protocol):
    """Applies the rules."""

    async def decide(self, document: bytes, *, deadline: float, tenant: str = "") -> Verdict:
        """Return the verdict on one input document (JSON) of a tenant.

        Implementations MUST return only a verdict that the engine gave for exactly this
        document: known effect, at least one reason, a policy revision. Anything else, a late
        answer included, MUST raise `PolicyUnavailableError`, before `deadline`. A document
        that breaks the engine MUST NOT change the verdict on another. Raises `OverloadedError`
        at once when too many calls wait.
        """
        ...

    async def policy(self, *, deadline: float) -> PolicyRevision:
        """Return the policy that a document would be judged by now.

        Implementations MUST ask the engine at the time of the call. Raises `PolicyUnavailableError`,
        before `deadline`.
        """
        ...


class SigningKey(Protocol):
    """One private key."""

    @property
    def key_id(self) -> str:
        """RFC 7638 thumbprint of the public key."""
        ...

    async def sign(self, signing_input: bytes) -> bytes:
        """Return the 64-byte ES256 signature (RFC 7518 §3.4), with low s.

        Raises `SignerUnavailableError`.
        """
        ...


class Signer(Protocol):
    """Holds the private keys."""

    def active(self) -> SigningKey:
        """Return the key to sign with now. Its public key MUST be in the key directory.

        Raises `SignerUnavailableError`.
        """
        ...


class DecisionHistory(Protocol):
    """Knows every decision that was recorded."""

    async def decision(self, tenant: str, decision_id: str) -> RecordedDecision | None:
        """Return a recorded decision, its bytes as they were returned; None if there is none."""
        ...

    async def status(
        self,
        tenant: str,
        *,
        decision_id: str = "",
        session_id: str = "",
        tool_call_id: str = "",
        caller: str | None = None,
        session_token_hash: str = "",
    ) -> DecisionStatus | None:
        """Return a decision with what became of it; None if there is none.

        It says whether the session token of this hash is one of the session that lives.

        It is found by its id, or else by session and tool call. A call finds only an allow, one that holds
        something or is what its key points at: with `caller` the latest one of that subject; without, the
        only one there is. Where there are several, nobody knows which one is meant, and there is none.
        """
        ...


class Ledger(DecisionHistory, Protocol):
    """Holds every decision."""

    async def record(self, recording: Recording) -> Position:
        """Record the decision, its key, its session's move and what it voids, in one transaction.

        Implementations MUST NOT return before the transaction has committed; MUST raise
        `SessionMovedError`, leaving no trace, when the tenant's epoch, the session's version,
        the key's latest decision or the hold that it voids is no longer what the recording says, or when
        `move.must_be_live` and the session is past its expiry (`GroundMovedError` for the epoch, whatever
        else moved); MUST give positions of one writer without gaps. Raises `StoreUnavailableError` only when
        it is certain that nothing was recorded, or when the outcome is unknown and the writer's stream has
        been closed; `DeadlineExceededError` for work that it never began; and `OverloadedError` at once when
        too many calls wait.
        """
        ...

    async def record_together(self, recordings: Sequence[Recording]) -> Sequence[Position]:
        """Record one or more decisions, each on what the one before it leaves, in one transaction.

        Everything that `record` promises holds for all of them or none: MUST raise
        `SessionMovedError`, leaving no trace of any, where `record` would for one of them. The
        recordings have one deadline.
        """
        ...


class EntryLedger(DecisionHistory, Protocol):
    """Holds what became of decisions."""

    async def record_entry(self, entry: Entry) -> Position:
        """Record the entry and what it does to hold, key and counters, in one transaction.

        Everything that `Ledger.record` promises holds here as well. MUST raise `SessionMovedError`,
        leaving no trace, when the hold is no longer what the entry was taken on; and for a redemption
        when the tenant's epoch (`GroundMovedError`) or the session's state moved, or either is past its
        expiry or end.
        """
        ...

    async def open_decisions(self, tenant: str, *, after: str, limit: int) -> Sequence[OpenDecision]:
        """Return expired allows without an outcome that hold something, by id from `after` on."""
        ...

    async def count_open(self, *, limit: int) -> int:
        """Return how many expired allows of all tenants hold something and have no outcome, up to `limit`."""
        ...

    async def lapsed(self, *, limit: int) -> Sequence[LapsedDecision]:
        """Return expired allows of all tenants that had to be redeemed, were not, and have no outcome.

        The longest expired come first; at most `limit`.
        """
        ...


class SessionStore(Protocol):
    """Opens and ends sessions."""

    async def open(
        self, tenant: str, session: Session, *, epoch: int | None = None, token: TokenIssue | None = None
    ) -> StoredOpening:
        """Store `session`, with the tenant's template, and return it.

        If its task has an equal session already, return that one, and store no other. In the same
        transaction `token` begins to live; of more than `MAX_TOKENS` the oldest end, and who opened the
        session is kept with that. MUST raise `PermissionDeniedError` when the task was signed before the
        session's proofs were revoked.
        MUST raise `TaskExistsError` when the task's session has another issuer, principal,
        agent or boundary; `TenantUnknownError`; and, leaving no trace, `SessionMovedError` when
        `epoch` is given and no longer the tenant's at commit.
        """
        ...

    async def get(self, tenant: str, session_id: str) -> SessionSnapshot | None:
        """Return the session and the database's time; None if there is no such session."""
        ...

    async def complete(self, tenant: str, session_id: str, reason: str) -> Session | None:
        """Complete an open session's task; return the session as it then is, None if there is none.

        Completing again, or a session that is over, changes nothing. MUST move the version
        when it completes it.
        """
        ...

    async def close(self, tenant: str, session_id: str, reason: str) -> Session | None:
        """Close a session; return it as it then is, None if there is none.

        Closing again changes nothing. MUST move the version when it closes it.
        """
        ...

    async def revoke_proofs(self, tenant: str, session_id: str, *, by: Attribution) -> ProofRevocation | None:
        """End all tokens of a session and revoke all its grants; None if there is no such session.

        From then on nothing proves part in it, its id included, until it is opened with a token again. MUST
        move the version, so that no decision that rests on these proofs commits after it; MUST keep `by`
        with what it ended.
        """
        ...


class GrantStore(Protocol):
    """Knows every grant that was issued. A grant is named by the hex SHA-256 of its bytes."""

    async def add_grant(
        self,
        tenant: str,
        row: GrantRow,
        *,
        boundary: Boundary | None = None,
        opened: Session | None = None,
    ) -> None:
        """Store a new grant. It MUST be durable before this returns. Raises `TenantUnknownError`.

        Without its boundary, nothing that rests on it can be judged again. `opened` is the session whose
        root grant it is, as it was opened: MUST raise `SessionMovedError`, and store nothing, if its proofs
        were revoked since.
        """
        ...

    async def stored_grants(self, tenant: str, grant_hash: str) -> Sequence[StoredGrant]:
        """Return what `grant_path` does, each grant with its boundary."""
        ...

    async def grant_path(self, tenant: str, grant_hash: str) -> Sequence[GrantRow]:
        """Return the grant and all that it was delegated from, root first; empty if there is none."""
        ...

    async def session_grants(self, tenant: str, session_id: str, *, limit: int) -> Sequence[StoredGrant]:
        """Return the session's grants that are neither revoked nor expired, the least deep ones first."""
        ...

    async def revoke_grant(self, tenant: str, grant_hash: str, *, by: str, reason: str) -> GrantRow | None:
        """Revoke a grant; return it as it then is, None if there is no such grant.

        Revoking again changes nothing. MUST take the tenant's control lock exclusively and move
        its epoch when it revokes: no decision taken on the state before it commits after it.
        """
        ...

    async def grant_decisions(
        self, tenant: str, session_id: str, grant_hashes: Sequence[str], *, limit: int
    ) -> Mapping[str, Sequence[DecisionEffect]]:
        """Return the latest decisions of a session's calls by the grant that they were made on.

        At most `limit` for each grant, latest first. The empty hash stands for calls without a grant
        that moved the session; a stranger's call moves none.
        """
        ...


class ControlPlane(Protocol):
    """What operators write.

    Each write MUST take the tenant's control lock exclusively and move its epoch, so that no decision
    taken on the state before it commits after it; and MUST keep `by` with what it wrote. It returns the
    new revision of what it wrote. Every call raises `TenantUnknownError`.
    """

    async def put_tenant(self, tenant: str, settings: bytes, *, by: Attribution) -> int:
        """Create the tenant, or replace its settings (a JSON object)."""
        ...

    async def patch_settings(
        self, tenant: str, patch: Callable[[bytes], bytes], *, by: Attribution
    ) -> SettingsVersion:
        """Replace the settings by what `patch` makes of those that there are; return them.

        MUST call it while nobody else can write them, and let what it raises through.
        """
        ...

    async def put_agents(self, tenant: str, agents: Sequence[Agent], *, by: Attribution) -> int:
        """Create the agents, or replace all that was said of them."""
        ...

    async def put_tools(self, tenant: str, tools: Sequence[Tool], *, by: Attribution) -> int:
        """Register the tools, or replace their registrations."""
        ...

    async def tools(
        self, tenant: str, *, revision: int | None = None, after: str = "", limit: int = 50
    ) -> ToolPage:
        """Return at most `limit` tools by name, as they are or as they were at `revision`.

        In the order of code points, from the first after `after`. This writes nothing, and takes
        no lock.
        """
        ...

    async def preview(
        self, tenant: str, kind: ControlKind, write: Callable[[ControlPlane], Awaitable[object]]
    ) -> Sequence[Difference]:
        """Return what a write would change, by name, and undo it.

        `write` gets a control plane of the same state, and makes one write of `kind` there. What it raises
        is raised. MUST leave no trace, also of a tenant that only the write would create.
        """
        ...

    async def outline(self, tenant: str, agent: str) -> RegistryOutline:
        """Return what is registered that the terms of a session of `agent` may name.

        Writes nothing, and takes no lock. A tenant that nobody created has registered nothing.
        """
        ...

    async def settings(self, tenant: str, *, revision: int | None = None) -> SettingsVersion | None:
        """Return the settings as they are, or as they were at `revision`; None if nobody kept them.

        Writes nothing, and takes no lock. So do the methods below down to `history`.
        """
        ...

    async def agents(
        self, tenant: str, *, revision: int | None = None, after: str = "", limit: int = 100
    ) -> AgentPage:
        """Return at most `limit` agents by name after `after`, as `tools` does."""
        ...

    async def signals(
        self, tenant: str, *, revision: int | None = None, after: str = "", limit: int = 100
    ) -> SignalPage:
        """Return at most `limit` signals by name after `after`, as `tools` does; also ended ones."""
        ...

    async def history(
        self, tenant: str, kind: ControlKind, *, before: int | None, limit: int
    ) -> Sequence[ControlRevision]:
        """Return the changes of a kind before revision `before`, latest first."""
        ...

    async def differences(
        self, tenant: str, kind: ControlKind, revision: int, *, after: str = "", limit: int = 20
    ) -> Sequence[Difference]:
        """Return what a revision replaced, by name after `after`; nothing if there is no such revision."""
        ...

    async def roll_back_tools(self, tenant: str, revision: int, *, by: Attribution) -> int | None:
        """Make every tool what it was at `revision`, as a new revision; None if it never was."""
        ...

    async def put_signals(self, tenant: str, signals: Sequence[Signal], *, by: Attribution) -> int:
        """Set the signals, or replace their values."""
        ...

    async def put_issuer_keys(
        self, tenant: str, issuer: str, keys: Sequence[Mapping[str, str]], *, by: Attribution
    ) -> int:
        """Replace the keys of an issuer of task tokens; without keys, all are revoked.

        Raises `InvalidFieldError` for more issuers than a tenant may have.
        """
        ...

    async def issuer_keys(self, tenant: str) -> IssuerList:
        """Return every issuer of task tokens that the tenant has. Writes nothing."""
        ...

    async def keys_of(self, tenant: str, issuer: str) -> IssuerKeysSnapshot:
        """Return an issuer's keys as they are now, and the tenant's epoch. Writes nothing."""
        ...


class EntityStore(Protocol):
    """What is known of the things that actions are about.

    Each write that returns MUST hold for every decision that is recorded after it, on every
    replica: implementations MUST take the locks of the entities exclusively, as recordings
    take them shared, and MUST NOT take the tenant's control lock, nor move its epoch. Each
    write is one revision, all or nothing, and keeps `by` with it; a reader that sees revision R
    MUST see every write up to R. Each returns its revision. Raises `TenantUnknownError`.
    """

    async def put_entities(
        self,
        tenant: str,
        entities: Mapping[EntityName, Mapping[str, JSON]],
        *,
        by: Attribution,
        posted: Mapping[EntityName, Sequence[Posting]] = NOTHING_POSTED,
    ) -> int:
        """Create the entities, or replace their attributes.

        Their figures contain what `posted` says and nothing else: what an earlier write said of one is no
        longer contained. Raises `InvalidFieldError` for a decision that paid nothing on the entity.
        """
        ...

    async def patch_entity(
        self,
        tenant: str,
        name: EntityName,
        *,
        set_: Mapping[str, JSON],
        unset: Sequence[str],
        check: Callable[[Mapping[str, JSON]], None],
        by: Attribution,
        posted: Sequence[Posting] = (),
    ) -> EntityVersion | None:
        """Set and remove attributes, and leave the others. None if there is no such entity.

        The figures contain what `posted` says of each decision, and of others what they did. Raises
        `InvalidFieldError` as `put_entities` does. MUST call `check` with the result before it is written,
        and let what it raises through.
        """
        ...

    async def delete_entities(self, tenant: str, names: Sequence[EntityName], *, by: Attribution) -> int:
        """Remove the entities. One that does not exist stays so, and has no part in the revision."""
        ...

    async def preview(
        self,
        tenant: str,
        names: Sequence[EntityName],
        write: Callable[[EntityStore], Awaitable[object]],
    ) -> Sequence[Difference]:
        """Return what a write would change of the entities, by name, and undo it.

        `write` gets a store of the same state, and makes one write there. What it raises is raised. MUST
        leave no trace. An entity is called "type:id"; one that neither was nor would be is left out.
        """
        ...

    async def entity_at(
        self, tenant: str, name: EntityName, *, revision: int | None = None
    ) -> EntityVersion | None:
        """Return the entity as it is, or as it was known at `revision`; None if it was never written."""
        ...

    async def entity_history(
        self, tenant: str, name: EntityName, *, before: int | None, limit: int
    ) -> Sequence[EntityVersion]:
        """Return what was written of the entity before revision `before`, latest first."""
        ...


class KeyDirectory(Protocol):
    """The public keys that receipts were ever signed with."""

    async def register(self, jwk: Mapping[str, str], *, replica: str) -> None:
        """Store a public key under its `kid`; registering it again changes nothing.

        MUST NOT return before the key is durable. Raises `StoreUnavailableError`, and
        `InvalidFieldError` for a key without `kid` and for a private key.
        """
        ...

    async def jwks(self) -> Sequence[Mapping[str, str]]:
        """Return every key ever registered, retired ones included, oldest first."""
        ...

    async def key(self, kid: str) -> Mapping[str, str] | None:
        """Return the key that was registered under `kid`; None if there is none.

        Raises `StoreUnavailableError`.
        """
        ...


class TokenAuthenticator(Protocol):
    """Proves by a bearer token who somebody is."""

    async def by_token(self, token: str) -> Caller:
        """Return whom the token stands for.

        MUST raise `UnauthenticatedError` unless a configured issuer signed the token, it is valid
        now, and it stands for exactly one configured caller.
        """
        ...


class Clock(Protocol):
    """The database's clock: it orders windows and expiries."""

    async def now(self) -> datetime:
        """Return the database's time. Raises `StoreUnavailableError`."""
        ...

    async def compare(self, *, with_offset: bool) -> ClockSample:
        """Look at the database's clock and at this machine's.

        `with_offset` says whether what `advance` added counts. Raises `StoreUnavailableError`.
        """
        ...

    async def advance(self, seconds: float) -> datetime:
        """Move the clock forward and return the new time (`pdp dev --clock=manual`).

        Raises `StoreUnavailableError`, `InvalidFieldError` unless `seconds` is from 0 to ten
        years, and `PermissionDeniedError` where the database was not set up with a manual clock.
        """
        ...
