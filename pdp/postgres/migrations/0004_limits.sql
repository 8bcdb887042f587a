-- What was allowed so far against a limit. Moved by the recording transaction under the row's lock.
CREATE TABLE placet.counters (
    tenant text NOT NULL,
    -- Names whose counter it is (pdp/budgets.py).
    scope text NOT NULL,
    -- A currency, counted in minor units, or what else is counted.
    unit text NOT NULL,
    total bigint NOT NULL DEFAULT 0,
    -- JSON text: [[start, width, count], …], oldest first.
    buckets text NOT NULL DEFAULT '[]',
    PRIMARY KEY (tenant, scope, unit)
) WITH (fillfactor = 70);

-- One row a business key that was ever held: its lock, and a version that moves with its holds.
CREATE TABLE placet.business_keys (
    tenant text NOT NULL,
    -- Keyed hash (hex) of the normalised key.
    key text NOT NULL,
    version bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, key)
) WITH (fillfactor = 80);

-- What an allow leaves behind until its outcome is known.
CREATE TABLE placet.holds (
    tenant text NOT NULL,
    decision_id text NOT NULL,
    session_id text NOT NULL,
    tool_call_id text NOT NULL,
    -- NULL: the tool has no business key.
    key text,
    -- Keyed hash (hex) of the key as it was given.
    given text,
    state text NOT NULL CHECK (state IN ('reserved', 'committed', 'unresolved', 'released')),
    -- Without redeeming it cannot have been executed.
    redeem_required boolean NOT NULL,
    expires_at timestamptz NOT NULL,
    redeemed_at timestamptz,
    outcome text CHECK (outcome IN ('executed', 'failed', 'not_executed', 'unknown', 'voided', 'lapsed')),
    reported_at timestamptz,
    -- JSON text: [[scope, unit, amount], …] of the totals that a release gives back.
    totals text NOT NULL DEFAULT '[]',
    -- Moves with every change.
    version bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant, decision_id)
) WITH (fillfactor = 80);
CREATE INDEX holds_of_key ON placet.holds (tenant, key) WHERE key IS NOT NULL AND state <> 'released';
-- Allows whose outcome never came.
CREATE INDEX holds_open ON placet.holds (tenant, expires_at) WHERE outcome IS NULL;

-- By which arguments tools name another as their prerequisite. Written with the registry.
CREATE TABLE placet.prerequisite_rules (
    tenant text NOT NULL REFERENCES placet.tenants,
    tool text NOT NULL,
    same text[] NOT NULL,
    PRIMARY KEY (tenant, tool, same)
);

-- The latest answer to such a prerequisite in a session. Moved under the session's version.
CREATE TABLE placet.prerequisites (
    tenant text NOT NULL,
    session_id text NOT NULL,
    tool text NOT NULL,
    -- Keyed hash (hex) of the equal arguments.
    arguments text NOT NULL,
    effect text NOT NULL CHECK (effect IN ('allow', 'block', 'escalate')),
    decision_id text NOT NULL,
    PRIMARY KEY (tenant, session_id, tool, arguments)
) WITH (fillfactor = 80);
