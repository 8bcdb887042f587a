-- What the figures of an entity contain of a decision, as the latest write that named it there says.
CREATE TABLE placet.postings (
    tenant text NOT NULL,
    type text NOT NULL,
    id text NOT NULL,
    decision_id text NOT NULL,
    -- In minor units of the currency that the decision paid in, and no more than it paid.
    amount bigint NOT NULL,
    -- The revision of entities that wrote it.
    revision bigint NOT NULL,
    PRIMARY KEY (tenant, type, id, decision_id)
) WITH (fillfactor = 80);

-- What a write named, as JSON text: amounts in major units by decision. NULL: nothing.
ALTER TABLE placet.entity_history ADD COLUMN posted text;
