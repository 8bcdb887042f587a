-- What an allow or an escalation rests on that others can move, as JSON text: the revisions that it was judged
-- on, and what it counted. NULL: a block, or a decision of an earlier server, whose ground counts as moved.
ALTER TABLE placet.decision_details ADD COLUMN ground text;
