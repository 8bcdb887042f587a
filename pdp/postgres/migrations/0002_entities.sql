-- What the registry says of a tool beyond its columns: JSON text, see pdp/toolform.py.
ALTER TABLE placet.tools ADD COLUMN details text NOT NULL DEFAULT '{}';

-- One counter a tenant, moved by every write and held until it has committed: what a snapshot
-- sees at revision R is everything that was written up to R.
CREATE TABLE placet.entity_clock (
    tenant text PRIMARY KEY REFERENCES placet.tenants,
    revision bigint NOT NULL
);

-- What is known now. Written under the entities' own locks (pdp/postgres/locks.py), not under
-- the tenant's control lock.
CREATE TABLE placet.entities (
    tenant text NOT NULL,
    type text NOT NULL,
    id text NOT NULL,
    -- JSON text.
    attributes text NOT NULL,
    -- The revision that wrote it.
    revision bigint NOT NULL,
    deleted boolean NOT NULL,
    PRIMARY KEY (tenant, type, id)
) WITH (fillfactor = 80);

-- What each revision said: what was known at the revision that a receipt names.
CREATE TABLE placet.entity_history (
    tenant text NOT NULL,
    type text NOT NULL,
    id text NOT NULL,
    revision bigint NOT NULL,
    attributes text NOT NULL,
    deleted boolean NOT NULL,
    written_by text NOT NULL,
    written_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, type, id, revision)
);
