-- What a grant permits, as JSON text: what was allowed on it can be judged again without the grant itself, which is
-- not kept. NULL: an earlier server issued it.
ALTER TABLE placet.grants ADD COLUMN boundary text;
