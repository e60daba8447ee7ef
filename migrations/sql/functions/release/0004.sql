CREATE FUNCTION embstore.release(refs text[], message text DEFAULT NULL, forced boolean DEFAULT false,
    gates jsonb DEFAULT NULL, expected jsonb DEFAULT NULL)
RETURNS SETOF embstore.released
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
-- Make versions of several tables live in one step: SELECT * FROM embstore.release('{users@8,items@8}')
-- A row of each table changes, so no reader waits, and a reader's transaction goes on seeing what
-- it saw. gates is what was measured of them; expected what was live of each table then.
#variable_conflict use_column
DECLARE
    names text[] := ARRAY(SELECT split_part(r, '@', 1) FROM unnest($1) AS u (r) ORDER BY 1);
    of embstore.versions;
    every embstore.versions[] := '{}';
    changed embstore.versions[] := '{}';
    -- What is live of each table, by name.
    was jsonb;
    left_behind text;
    moment timestamptz;
    number bigint;
BEGIN
    IF coalesce(cardinality(names), 0) = 0 OR array_position($1, NULL) IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'EM005', MESSAGE = 'a release of no version: name at least one, such as items@8';
    ELSIF cardinality(names) > (SELECT count(DISTINCT n) FROM unnest(names) AS u (n)) THEN
        RAISE EXCEPTION USING ERRCODE = 'EM005', MESSAGE = format('a release takes one version of a table: %s',
            (SELECT string_agg(r, ', ' ORDER BY r) FROM unnest($1) AS u (r)));
    ELSIF forced AND coalesce(message, '') = '' THEN
        RAISE EXCEPTION USING ERRCODE = 'EM009', MESSAGE = 'a release is forced with a message that says why';
    END IF;
    -- Two releases of one table take turns here, and a version cannot be dropped meanwhile. Always
    -- in one order, so that two releases of the same tables cannot wait for each other.
    PERFORM FROM embstore.tables t WHERE t.name = ANY (names) ORDER BY t.name FOR UPDATE;
    SELECT coalesce(jsonb_object_agg(a.table_name, a.version), '{}') INTO was
    FROM embstore.aliases a WHERE a.table_name = ANY (names) AND a.alias = 'live';
    FOR at IN 1 .. cardinality($1) LOOP
        of := embstore.resolve($1[at]);
        every := every || of;
        IF (was ->> of.table_name)::integer IS DISTINCT FROM of.version THEN
            changed := changed || of;
        END IF;
    END LOOP;
    IF expected IS NOT NULL THEN
        FOREACH of IN ARRAY changed LOOP
            IF expected ? of.table_name AND expected ->> of.table_name IS DISTINCT FROM was ->> of.table_name THEN
                RAISE EXCEPTION USING ERRCODE = 'EM012',
                    MESSAGE = format('%s was moved from %s to %s meanwhile', of.table_name,
                        coalesce('version ' || (expected ->> of.table_name), 'nothing'), coalesce('version ' || (was ->> of.table_name), 'nothing')),
                    HINT = 'look at it, and run it again';
            END IF;
        END LOOP;
    END IF;
    IF NOT forced AND cardinality(changed) > 0 THEN
        IF gates IS NULL THEN
            SELECT g.table_name INTO left_behind FROM embstore.gates g
            WHERE g.table_name IN (SELECT c.table_name FROM unnest(changed) AS c) LIMIT 1;
            IF FOUND THEN
                RAISE EXCEPTION USING ERRCODE = 'EM010',
                    MESSAGE = format('%s has gates, which SQL does not measure', left_behind),
                    HINT = format('run embstore promote %s, or force it: SELECT embstore.release(''{%1$s}'', message => ''...'', forced => true)',
                        array_to_string($1, ' '));
            END IF;
        END IF;
        IF (SELECT count(DISTINCT e.space) FROM unnest(every) AS e) > 1 THEN
            RAISE EXCEPTION USING ERRCODE = 'EM011',
                MESSAGE = format('vectors of different trainings cannot be compared: %s',
                    (SELECT string_agg(format('%s@%s is of space %s', e.table_name, e.version, e.space), ', ' ORDER BY e.table_name)
                     FROM unnest(every) AS e WHERE e.space IS NOT NULL)),
                HINT = 'release versions of one training, or force it with a message';
        END IF;
        -- What was live together goes on together, or not at all.
        SELECT string_agg(format('%s@%s', o.table_name, o.version), ' and ' ORDER BY o.table_name) INTO left_behind
        FROM embstore.aliases a
        JOIN embstore.versions o ON o.table_name = a.table_name AND o.version = a.version
        WHERE a.alias = 'live' AND a.table_name <> ALL (names) AND EXISTS (
            SELECT FROM unnest(changed) AS c
            JOIN embstore.versions before ON before.table_name = c.table_name AND before.version = (was ->> c.table_name)::integer
            WHERE before.space = o.space AND c.space IS DISTINCT FROM o.space);
        IF left_behind IS NOT NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'EM011',
                MESSAGE = format('%s would be live without a counterpart: it is of the training that %s would leave',
                    left_behind, (SELECT string_agg(c.table_name, ' and ' ORDER BY c.table_name) FROM unnest(changed) AS c)),
                HINT = 'release the versions of the new training together, or force it with a message';
        END IF;
    END IF;
    IF cardinality(changed) > 0 THEN
        -- One moment for all of them, so that at none the one was live without the other.
        moment := clock_timestamp();
        INSERT INTO embstore.releases (action, refs, forced, gates, message, moved_at, moved_by)
        VALUES ('promote', ARRAY(SELECT format('%s@%s', e.table_name, e.version) FROM unnest(every) AS e ORDER BY 1),
            forced, coalesce(gates, '[]'), message, moment, session_user)
        RETURNING release INTO number;
        INSERT INTO embstore.aliases AS a (table_name, alias, version, moved_at, moved_by)
        SELECT c.table_name, 'live', c.version, moment, session_user FROM unnest(changed) AS c
        ON CONFLICT (table_name, alias) DO UPDATE
        SET version = excluded.version, moved_at = excluded.moved_at, moved_by = excluded.moved_by;
        INSERT INTO embstore.alias_history (table_name, alias, version, previous, action, moved_at, moved_by, message, release)
        SELECT c.table_name, 'live', c.version, (was ->> c.table_name)::integer, 'promote', moment, session_user, message, number
        FROM unnest(changed) AS c ORDER BY c.table_name;
    END IF;
    RETURN QUERY SELECT e.table_name, e.version, (was ->> e.table_name)::integer, number FROM unnest(every) AS e ORDER BY 1;
END
$$
