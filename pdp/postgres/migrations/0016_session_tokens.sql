-- Session tokens, by which calls prove their part in a session. The tokens themselves are not kept. Those
-- that have ended stay: who had one, and why it ended.
CREATE TABLE placet.session_tokens (
    tenant text NOT NULL REFERENCES placet.tenants,
    session_id text NOT NULL,
    -- Hex SHA-256 of the token.
    token_hash text NOT NULL,
    issued_at timestamptz NOT NULL,
    -- Credential that opened the session.
    issued_to text NOT NULL,
    ended_at timestamptz,
    ended_by text NOT NULL DEFAULT '',
    end_reason text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant, session_id, token_hash)
);

-- Sessions that are there already were opened without a token, also those that a server of the release
-- before still opens: for them their id goes on being enough.
ALTER TABLE placet.sessions
    ADD COLUMN token_required boolean NOT NULL DEFAULT false,
    ADD COLUMN proofs_revoked_at timestamptz;
