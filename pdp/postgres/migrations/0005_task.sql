ALTER TABLE placet.sessions
    -- JSON text, as `boundary`: the tenant's template as it stood at opening; NULL: it had none.
    ADD COLUMN template text,
    ADD COLUMN completed_at timestamptz,
    ADD COLUMN complete_reason text NOT NULL DEFAULT '';
