ALTER TABLE placet.tenants ADD COLUMN issuers_revision bigint NOT NULL DEFAULT 0;

CREATE TABLE placet.issuer_keys (
    tenant text NOT NULL REFERENCES placet.tenants,
    issuer text NOT NULL,
    -- JSON text: a list of public JWKs. An empty one: all are revoked.
    keys text NOT NULL,
    revision bigint NOT NULL,
    written_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, issuer)
);

ALTER TABLE placet.registry_history DROP CONSTRAINT registry_history_kind_check;
ALTER TABLE placet.registry_history ADD CONSTRAINT registry_history_kind_check
    CHECK (kind IN ('settings', 'agents', 'tools', 'signals', 'issuers'));
