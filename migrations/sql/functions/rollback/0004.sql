CREATE OR REPLACE FUNCTION embstore.rollback(table_name text, message text DEFAULT NULL)
RETURNS SETOF embstore.moved
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
-- Undo the last release of a table that is not undone yet, of all of its tables in one step:
-- SELECT * FROM embstore.rollback('items')
#variable_conflict use_column
DECLARE
    last embstore.alias_history;
    again embstore.alias_history;
    since embstore.alias_history;
    m embstore.alias_history;
    moment timestamptz;
    number bigint;
BEGIN
    LOOP
        SELECT * INTO last FROM embstore.last_promote($1);
        -- In one order, as a release takes them.
        PERFORM FROM embstore.tables t WHERE t.name = $1 OR t.name IN (
            SELECT h.table_name FROM embstore.alias_history h WHERE h.release = last.release)
        ORDER BY t.name FOR UPDATE;
        SELECT * INTO again FROM embstore.last_promote($1);
        EXIT WHEN again.move IS NOT DISTINCT FROM last.move;
    END LOOP;
    IF NOT EXISTS (SELECT FROM embstore.tables t WHERE t.name = $1) THEN
        RAISE EXCEPTION USING ERRCODE = 'EM001', MESSAGE = format('there is no table %s', coalesce(quote_literal($1), 'NULL'));
    ELSIF last.move IS NULL OR NOT EXISTS (
        SELECT FROM embstore.alias_history h WHERE h.release = last.release AND h.previous IS NOT NULL) THEN
        RAISE EXCEPTION USING ERRCODE = 'EM006', MESSAGE = format('%s has no promote to roll back', $1),
            HINT = 'SELECT * FROM embstore.alias_history shows what was live when';
    END IF;
    moment := clock_timestamp();
    INSERT INTO embstore.releases (action, refs, undoes, message, moved_at, moved_by)
    VALUES ('rollback', ARRAY(
            SELECT format('%s@%s', h.table_name, h.previous) FROM embstore.alias_history h
            WHERE h.release = last.release AND h.previous IS NOT NULL ORDER BY 1),
        last.release, $2, moment, session_user)
    RETURNING release INTO number;
    FOR m IN SELECT h.* FROM embstore.alias_history h
        JOIN embstore.tables t ON t.name = h.table_name
        WHERE h.release = last.release ORDER BY h.table_name
    LOOP
        SELECT * INTO since FROM embstore.last_promote(m.table_name);
        IF since.move IS DISTINCT FROM m.move THEN
            RAISE EXCEPTION USING ERRCODE = 'EM006',
                MESSAGE = format('release %s moved %s and %s together, and %2$s was moved again by release %s',
                    m.release, m.table_name, $1, since.release),
                HINT = format('roll %s back first', m.table_name);
        END IF;
        IF m.previous IS NULL THEN
            DELETE FROM embstore.aliases a WHERE a.table_name = m.table_name AND a.alias = 'live';
        ELSE
            PERFORM embstore.resolve(format('%s@%s', m.table_name, m.previous));
            UPDATE embstore.aliases a SET version = m.previous, moved_at = moment, moved_by = session_user
            WHERE a.table_name = m.table_name AND a.alias = 'live';
        END IF;
        INSERT INTO embstore.alias_history (table_name, alias, version, previous, action, undoes, moved_at, moved_by, message, release)
        VALUES (m.table_name, 'live', m.previous, m.version, 'rollback', m.move, moment, session_user, $2, number);
        RETURN QUERY SELECT m.table_name, m.previous, m.version;
    END LOOP;
END
$$
