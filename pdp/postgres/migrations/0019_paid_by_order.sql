-- What was paid on a record or an order is a counter of its own. The first payment that counts there fixes
-- its terms: the currency, and after a space what was open then, in minor units, if that is known. NULL: a
-- counter of a limit, which has none. Payments of an earlier server were not counted, and are not now.
ALTER TABLE placet.counters ADD COLUMN terms text;
