CREATE OR REPLACE FUNCTION embstore.promote(ref text, alias text DEFAULT 'live', message text DEFAULT NULL)
RETURNS SETOF embstore.moved
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
-- Point an alias (live unless said) at a ready version: SELECT * FROM embstore.promote('items@8')
-- live is what a release moves: this is one of a single table.
#variable_conflict use_column
DECLARE
    of embstore.versions;
    before integer;
BEGIN
    IF $2 IS NULL OR $2 !~ '^[a-z][a-z0-9_]{0,47}$' THEN
        RAISE EXCEPTION USING ERRCODE = 'EM005', MESSAGE = format('%s is no alias name', coalesce(quote_literal($2), 'NULL')),
            HINT = 'a lower-case letter, then at most 47 lower-case letters, digits or underscores';
    ELSIF $2 = 'live' THEN
        RETURN QUERY SELECT r.table_name, r.version, r.previous FROM embstore.release(ARRAY[$1], $3) AS r;
        RETURN;
    END IF;
    -- Two promotes of one table take turns here, and a version cannot be dropped meanwhile.
    PERFORM FROM embstore.tables t WHERE t.name = split_part($1, '@', 1) FOR UPDATE;
    of := embstore.resolve($1);
    SELECT a.version INTO before FROM embstore.aliases a
    WHERE a.table_name = of.table_name AND a.alias = $2;
    IF before IS DISTINCT FROM of.version THEN
        INSERT INTO embstore.aliases AS a (table_name, alias, version, moved_at, moved_by)
        VALUES (of.table_name, $2, of.version, clock_timestamp(), session_user)
        ON CONFLICT (table_name, alias) DO UPDATE
        SET version = excluded.version, moved_at = excluded.moved_at, moved_by = excluded.moved_by;
        INSERT INTO embstore.alias_history (table_name, alias, version, previous, action, moved_at, moved_by, message)
        VALUES (of.table_name, $2, of.version, before, 'promote', clock_timestamp(), session_user, $3);
    END IF;
    RETURN QUERY SELECT of.table_name, of.version, before;
END
$$
