-- The allows of a prerequisite since any other answer, oldest first, each as its id, or as id, amount in minor
-- units and currency with a space between. A server of the release before writes none: where the last one is
-- not `decision_id`, that alone counts.
ALTER TABLE placet.prerequisites ADD COLUMN allows text[] NOT NULL DEFAULT '{}';
UPDATE placet.prerequisites SET allows = ARRAY[concat_ws(' ', decision_id, minor, currency)]
WHERE effect = 'allow';

-- Which allow of a prerequisite which allow has consumed. It is free again while the hold of the one that
-- consumed it is released.
CREATE TABLE placet.prerequisite_uses (
    tenant text NOT NULL,
    -- The allow of the prerequisite.
    decision_id text NOT NULL,
    -- The allow that it carries.
    used_by text NOT NULL,
    PRIMARY KEY (tenant, decision_id, used_by)
);
