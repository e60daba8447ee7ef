CREATE OR REPLACE FUNCTION embstore.nearest(ref text, query @vector@.vector, k integer DEFAULT 10)
RETURNS SETOF embstore.neighbor
LANGUAGE plpgsql
SET search_path = pg_catalog, @vector@, pg_temp
AS $$
-- The k ids of a version nearest to a vector: SELECT * FROM embstore.nearest('items', '[1,2,3]')
DECLARE
    of embstore.versions := embstore.resolve($1);
BEGIN
    IF of.precision <> 'bit' THEN
        RETURN QUERY SELECT * FROM embstore.search(of, query, k);
    ELSIF EXISTS (SELECT FROM unnest(query::real[]) AS u (component) WHERE component NOT IN (0, 1)) THEN
        RAISE EXCEPTION USING ERRCODE = 'EM009', MESSAGE = format(
            'the query vector holds other values than 0 and 1, and %s@%s holds bits', of.table_name, of.version);
    ELSE
        RETURN QUERY SELECT * FROM embstore.search(of, array_to_string(query::real[]::integer[], '')::bit varying, k);
    END IF;
END
$$
