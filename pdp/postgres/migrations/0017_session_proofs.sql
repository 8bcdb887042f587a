-- Set when all proofs of a session were revoked, until its issuer opens it again: nothing proves part in it
-- then, whatever else would.
ALTER TABLE placet.sessions ADD COLUMN proofs_ended boolean NOT NULL DEFAULT false;

-- What ended proofs of sessions, and by whom: tokens that gave way to a later one, and revocations of all.
CREATE TABLE placet.session_proof_history (
    tenant text NOT NULL REFERENCES placet.tenants,
    session_id text NOT NULL,
    number bigint GENERATED ALWAYS AS IDENTITY,
    what text NOT NULL CHECK (what IN ('gave_way', 'revoked')),
    at timestamptz NOT NULL,
    by_subject text NOT NULL,
    -- Who issued the author's token; empty for a certificate and for insecure-dev.
    by_issuer text NOT NULL,
    reason text NOT NULL,
    -- How many lived until then.
    tokens integer NOT NULL,
    grants integer NOT NULL,
    PRIMARY KEY (tenant, session_id, number)
);

-- The grants that end with the proofs of their session.
CREATE INDEX grants_unrevoked ON placet.grants (tenant, session_id) WHERE revoked_at IS NULL;
