-- What was said of one thing before a revision: read for the differences that a write made.
CREATE INDEX registry_history_by_name ON placet.registry_history (tenant, kind, name, revision);
