CREATE FUNCTION embstore.last_promote(of_table text)
RETURNS embstore.alias_history
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
-- The last promote of live that is not undone yet; rollback undoes it.
SELECT h FROM embstore.alias_history h
WHERE h.table_name = of_table AND h.alias = 'live' AND h.action = 'promote'
  AND NOT EXISTS (SELECT FROM embstore.alias_history u WHERE u.undoes = h.move)
ORDER BY h.move DESC LIMIT 1
$$
