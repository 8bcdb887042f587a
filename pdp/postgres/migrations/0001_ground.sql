-- The clock that orders windows and expiries. The offset is 0 except under `pdp dev --clock=manual`.
CREATE TABLE placet.clock (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    shift interval NOT NULL DEFAULT '0'
);
INSERT INTO placet.clock DEFAULT VALUES;

CREATE FUNCTION placet.now() RETURNS timestamptz
LANGUAGE sql VOLATILE
AS $$ SELECT clock_timestamp() + (SELECT shift FROM placet.clock) $$;

-- A tenant's control row. `epoch` moves with every change of what its decisions rest on, under
-- the tenant's control lock (an advisory lock, see pdp/postgres/locks.py).
CREATE TABLE placet.tenants (
    tenant text PRIMARY KEY,
    epoch bigint NOT NULL DEFAULT 1,
    settings text NOT NULL,
    settings_revision bigint NOT NULL DEFAULT 1,
    agents_revision bigint NOT NULL DEFAULT 0,
    tools_revision bigint NOT NULL DEFAULT 0,
    signals_revision bigint NOT NULL DEFAULT 0
);

CREATE TABLE placet.agents (
    tenant text NOT NULL REFERENCES placet.tenants,
    agent text NOT NULL,
    owner text NOT NULL,
    -- NULL: the prior.
    trust numeric CHECK (trust BETWEEN 0 AND 1),
    trust_explanation text NOT NULL,
    model text NOT NULL,
    version text NOT NULL,
    revision bigint NOT NULL,
    PRIMARY KEY (tenant, agent)
);

CREATE TABLE placet.tools (
    tenant text NOT NULL REFERENCES placet.tenants,
    name text NOT NULL,
    effect text NOT NULL CHECK (effect IN ('read', 'write', 'send', 'pay', 'delete', 'share', 'credential')),
    resource text NOT NULL,
    -- JSON text, as it was given.
    arguments_schema text NOT NULL,
    amount_argument text,
    amount_unit text CHECK (amount_unit IN ('major', 'minor')),
    amount_currency_argument text,
    amount_currency_code text,
    secret_arguments text[] NOT NULL,
    description text NOT NULL,
    revision bigint NOT NULL,
    PRIMARY KEY (tenant, name)
);

CREATE TABLE placet.signals (
    tenant text NOT NULL REFERENCES placet.tenants,
    name text NOT NULL,
    -- JSON text.
    value text NOT NULL,
    expires_at timestamptz,
    revision bigint NOT NULL,
    PRIMARY KEY (tenant, name)
);

-- What each revision said, so that a revision named in a receipt can be looked up.
CREATE TABLE placet.registry_history (
    tenant text NOT NULL REFERENCES placet.tenants,
    kind text NOT NULL CHECK (kind IN ('settings', 'agents', 'tools', 'signals')),
    revision bigint NOT NULL,
    -- Empty for settings.
    name text NOT NULL,
    -- JSON text.
    content text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT placet.now(),
    PRIMARY KEY (tenant, kind, revision, name)
);

-- A session is its task's only one: its counters are the task's.
CREATE TABLE placet.sessions (
    tenant text NOT NULL REFERENCES placet.tenants,
    session_id text NOT NULL,
    task_id text NOT NULL,
    task_description text NOT NULL,
    task_prompt text NOT NULL,
    principal text NOT NULL,
    agent text NOT NULL,
    issuer text NOT NULL,
    -- JSON text; decimals are strings.
    boundary text NOT NULL,
    state text NOT NULL CHECK (state IN ('open', 'completed', 'closed', 'expired', 'halted')),
    version bigint NOT NULL,
    opened_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    closed_at timestamptz,
    close_reason text NOT NULL DEFAULT '',
    allowed bigint NOT NULL DEFAULT 0,
    blocked bigint NOT NULL DEFAULT 0,
    escalated bigint NOT NULL DEFAULT 0,
    -- JSON text: [[start, width, count], …], oldest first.
    pay text NOT NULL DEFAULT '[]',
    last_receipt bytea,
    PRIMARY KEY (tenant, session_id),
    UNIQUE (tenant, task_id)
) WITH (fillfactor = 70);

-- The idempotency key: points at the latest decision recorded under it.
CREATE TABLE placet.decision_keys (
    tenant text NOT NULL,
    session_id text NOT NULL,
    caller text NOT NULL,
    leaf_grant text NOT NULL,
    tool_call_id text NOT NULL,
    review_id text,
    -- NULL only inside the transaction that creates the row.
    decision_id text,
    UNIQUE NULLS NOT DISTINCT (tenant, session_id, caller, leaf_grant, tool_call_id, review_id)
) WITH (fillfactor = 80);

-- Every decision. Never updated, never deleted by the server.
CREATE TABLE placet.ledger (
    tenant text NOT NULL,
    writer text NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    decision_id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('decision')),
    effect text NOT NULL CHECK (effect IN ('allow', 'block', 'escalate')),
    -- The signed part of the receipt, byte for byte.
    jws bytea NOT NULL,
    action_fingerprint bytea NOT NULL,
    session_id text NOT NULL,
    caller text NOT NULL,
    leaf_grant text NOT NULL,
    tool_call_id text NOT NULL,
    review_id text,
    -- 0: moved no session.
    session_version bigint NOT NULL,
    retryable boolean NOT NULL,
    expires_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, writer, seq),
    UNIQUE (tenant, decision_id),
    -- A writer's stream spans tenants: this is the log's own order.
    CONSTRAINT ledger_stream_key UNIQUE (writer, seq)
);
ALTER TABLE placet.ledger ALTER COLUMN jws SET STORAGE EXTERNAL;

-- What may be erased of a decision: personal data, never the signed bytes.
CREATE TABLE placet.decision_details (
    tenant text NOT NULL,
    decision_id text NOT NULL,
    -- The receipt from its first `~` on.
    disclosures bytea NOT NULL,
    -- zlib (RFC 1950) of the document that the engine judged.
    input_document bytea NOT NULL,
    PRIMARY KEY (tenant, decision_id)
);
ALTER TABLE placet.decision_details ALTER COLUMN disclosures SET STORAGE EXTERNAL;
ALTER TABLE placet.decision_details ALTER COLUMN input_document SET STORAGE EXTERNAL;

-- One row a stream. A writer lives as long as its connection.
CREATE TABLE placet.writers (
    writer text PRIMARY KEY,
    replica text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT placet.now()
);

-- Every public key that receipts were ever signed with.
CREATE TABLE placet.signing_keys (
    kid text PRIMARY KEY,
    -- JSON text.
    jwk text NOT NULL,
    replica text NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT placet.now()
);
