-- What the latest answer to a prerequisite was for, and whether one before it, or it, waited for a person.
ALTER TABLE placet.prerequisites
    ADD COLUMN waited boolean NOT NULL DEFAULT false,
    -- In minor units; NULL: no amount, or no allow.
    ADD COLUMN minor bigint,
    ADD COLUMN currency text,
    ADD CONSTRAINT prerequisites_amount_check CHECK ((minor IS NULL) = (currency IS NULL));
UPDATE placet.prerequisites SET waited = true WHERE effect = 'escalate';
