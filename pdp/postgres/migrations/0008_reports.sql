-- JSON text: [[outcome, believed], …] of the reports that contradict the hold's outcome, each once.
ALTER TABLE placet.holds ADD COLUMN conflicts text NOT NULL DEFAULT '[]';
-- Allows that had to be redeemed and can no longer be.
CREATE INDEX holds_lapsing ON placet.holds (expires_at)
    WHERE redeem_required AND redeemed_at IS NULL AND outcome IS NULL;
