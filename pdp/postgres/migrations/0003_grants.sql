-- Every grant that was issued. One that is not here was given by nobody, whoever signed it.
CREATE TABLE placet.grants (
    tenant text NOT NULL REFERENCES placet.tenants,
    -- Hex SHA-256 of the grant's compact JWS, which is not kept.
    grant_hash text NOT NULL,
    session_id text NOT NULL,
    -- NULL: the root grant of its session.
    parent_hash text,
    agent text NOT NULL,
    -- Credential that the grant was issued to.
    delegated_by text NOT NULL,
    depth integer NOT NULL CHECK (depth >= 0),
    purpose text NOT NULL,
    issued_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    revoked_by text NOT NULL DEFAULT '',
    revoke_reason text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant, grant_hash),
    CHECK ((parent_hash IS NULL) = (depth = 0))
);
