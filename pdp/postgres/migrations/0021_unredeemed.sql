-- An allow that had to be redeemed and was not is `unredeemed`. What was recorded as `lapsed` stays as it is.
ALTER TABLE placet.holds
    DROP CONSTRAINT holds_outcome_check,
    ADD CONSTRAINT holds_outcome_check CHECK (
        outcome IN ('executed', 'failed', 'not_executed', 'unknown', 'voided', 'lapsed', 'unredeemed'));
