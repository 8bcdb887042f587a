-- How often operators write, by what is counted: when the next write would be due if all came evenly.
CREATE TABLE placet.write_quotas (
    tenant text NOT NULL,
    name text NOT NULL,
    next_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, name)
) WITH (fillfactor = 70);
