CREATE FUNCTION embstore.resolve(ref text)
RETURNS embstore.versions
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
-- The ready version that a reference names: items, items@7, items@candidate, items@<timestamp>.
DECLARE
    of_table text := split_part(ref, '@', 1);
    selector text := CASE WHEN position('@' IN ref) > 0 THEN substr(ref, position('@' IN ref) + 1) ELSE 'live' END;
    at timestamptz;
    wanted integer;
    found embstore.versions;
BEGIN
    IF NOT EXISTS (SELECT FROM embstore.tables t WHERE t.name = of_table) THEN
        RAISE EXCEPTION USING ERRCODE = 'EM001',
            MESSAGE = format('there is no table %s', quote_literal(of_table)),
            HINT = 'SELECT name FROM embstore.tables lists them';
    END IF;
    IF selector ~ '^[0-9]{1,9}$' THEN
        wanted := selector::integer;
    ELSIF selector ~ '^[a-z][a-z0-9_]{0,47}$' THEN
        SELECT a.version INTO wanted FROM embstore.aliases a
        WHERE a.table_name = of_table AND a.alias = selector;
        IF wanted IS NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'EM003',
                MESSAGE = format('%s has no %s version', of_table, quote_literal(selector)),
                HINT = format('SELECT embstore.promote(''%s@N''%s) gives it one', of_table,
                    CASE selector WHEN 'live' THEN '' ELSE format(', alias => ''%s''', selector) END);
        END IF;
    ELSE
        BEGIN
            at := selector::timestamptz;
        EXCEPTION WHEN data_exception THEN
            RAISE EXCEPTION USING ERRCODE = 'EM005',
                MESSAGE = format('%s is no reference', quote_literal(ref)),
                HINT = format('write %s, %1$s@7, %1$s@candidate or %1$s@2026-11-01T00:00:00Z', of_table);
        END;
        SELECT h.version INTO wanted FROM embstore.alias_history h
        WHERE h.table_name = of_table AND h.alias = 'live' AND h.moved_at <= at
        ORDER BY h.move DESC LIMIT 1;
        IF wanted IS NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'EM003',
                MESSAGE = format('%s had no live version at %s', of_table, selector);
        END IF;
    END IF;
    SELECT v.* INTO found FROM embstore.versions v
    WHERE v.table_name = of_table AND v.version = wanted;
    IF found.version IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'EM002',
            MESSAGE = format('%s has no version %s', of_table, wanted),
            HINT = 'SELECT version, status FROM embstore.versions lists them';
    ELSIF found.status <> 'ready' THEN
        RAISE EXCEPTION USING ERRCODE = 'EM004',
            MESSAGE = format('%s@%s is %s', of_table, wanted,
                CASE found.status WHEN 'loading' THEN 'still loading' ELSE 'retired: its vectors were dropped' END);
    END IF;
    RETURN found;
END
$$
