CREATE FUNCTION embstore.rollback(table_name text, message text DEFAULT NULL)
RETURNS SETOF embstore.moved
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
-- Undo the last promote of live that is not undone yet: SELECT * FROM embstore.rollback('items')
#variable_conflict use_column
DECLARE
    last embstore.alias_history;
    of embstore.versions;
BEGIN
    PERFORM FROM embstore.tables t WHERE t.name = $1 FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'EM001', MESSAGE = format('there is no table %s', coalesce(quote_literal($1), 'NULL'));
    END IF;
    SELECT h.* INTO last FROM embstore.alias_history h
    WHERE h.table_name = $1 AND h.alias = 'live' AND h.action = 'promote'
      AND NOT EXISTS (SELECT FROM embstore.alias_history u WHERE u.undoes = h.move)
    ORDER BY h.move DESC LIMIT 1;
    IF last.previous IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'EM006', MESSAGE = format('%s has no promote to roll back', $1),
            HINT = 'SELECT * FROM embstore.alias_history shows what was live when';
    END IF;
    of := embstore.resolve(format('%s@%s', $1, last.previous));
    UPDATE embstore.aliases SET version = of.version, moved_at = clock_timestamp(), moved_by = session_user
    WHERE table_name = $1 AND alias = 'live';
    INSERT INTO embstore.alias_history (table_name, alias, version, previous, action, undoes, moved_at, moved_by, message)
    VALUES ($1, 'live', of.version, last.version, 'rollback', last.move, clock_timestamp(), session_user, $2);
    RETURN QUERY SELECT $1, of.version, last.version;
END
$$
