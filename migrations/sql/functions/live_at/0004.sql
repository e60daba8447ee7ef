CREATE FUNCTION embstore.live_at(table_name text, at timestamptz)
RETURNS integer
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
-- The version of a table that was live at a time, NULL if none was: SELECT embstore.live_at('items', '2026-11-01')
SELECT h.version FROM embstore.alias_history h
WHERE h.table_name = $1 AND h.alias = 'live' AND h.moved_at <= $2
ORDER BY h.move DESC LIMIT 1
$$
