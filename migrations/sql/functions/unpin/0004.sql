CREATE FUNCTION embstore.unpin(ref text, by text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
-- Take a pin away: SELECT embstore.unpin('items@7', 'ctr-model-41')
DECLARE
    of embstore.versions := embstore.resolve($1);
BEGIN
    DELETE FROM embstore.pins p WHERE p.table_name = of.table_name AND p.version = of.version AND p.pinned_by = $2;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'EM006', MESSAGE = format('%s@%s is not pinned by %s', of.table_name, of.version, coalesce(quote_literal($2), 'NULL')),
            HINT = 'SELECT * FROM embstore.pins lists the pins';
    END IF;
END
$$
