-- Entries about earlier decisions, in the same streams: outcomes and redemptions.
ALTER TABLE placet.ledger DROP CONSTRAINT ledger_kind_check;
ALTER TABLE placet.ledger
    -- The decision that the entry is about; NULL: it is one itself.
    ADD COLUMN about text,
    ADD CONSTRAINT ledger_kind_check
        CHECK (kind IN ('decision', 'outcome', 'outcome.conflict', 'redemption')),
    ALTER COLUMN effect DROP NOT NULL,
    ADD CONSTRAINT ledger_about_check CHECK ((kind = 'decision') = (about IS NULL)),
    ADD CONSTRAINT ledger_effect_check2 CHECK ((kind = 'decision') = (effect IS NOT NULL));
CREATE INDEX ledger_about ON placet.ledger (tenant, about) WHERE about IS NOT NULL;

-- Whether who reported the outcome can be believed about money.
ALTER TABLE placet.holds ADD COLUMN believed boolean NOT NULL DEFAULT false;
CREATE INDEX holds_of_call ON placet.holds (tenant, session_id, tool_call_id);
