-- Who wrote each revision, and why. NULL: an earlier release wrote it, which did not keep that.
ALTER TABLE placet.registry_history
    ADD COLUMN written_by text,
    -- Who issued the author's token; empty for a certificate and for insecure-dev.
    ADD COLUMN written_by_issuer text,
    ADD COLUMN reason text;
ALTER TABLE placet.entity_history
    ADD COLUMN written_by_issuer text,
    ADD COLUMN reason text;
