-- A session's own agent has one authority, with a root grant or without: its calls have one key. Earlier
-- servers made a key for each root grant. Of the calls that were made on several, the one without a grant
-- stays under the key, or else the latest; the ledger keeps them all.
UPDATE placet.decision_keys k
SET leaf_grant = ''
FROM placet.grants g
WHERE g.tenant = k.tenant AND g.grant_hash = k.leaf_grant AND g.parent_hash IS NULL
    AND NOT EXISTS (
        SELECT 1
        FROM placet.decision_keys o
        WHERE o.tenant = k.tenant AND o.session_id = k.session_id AND o.caller = k.caller
            AND o.tool_call_id = k.tool_call_id AND o.review_id IS NOT DISTINCT FROM k.review_id
            AND o.leaf_grant <> k.leaf_grant
            AND (o.leaf_grant = '' OR o.decision_id > k.decision_id AND EXISTS (
                SELECT 1 FROM placet.grants x
                WHERE x.tenant = o.tenant AND x.grant_hash = o.leaf_grant AND x.parent_hash IS NULL
            ))
    );
