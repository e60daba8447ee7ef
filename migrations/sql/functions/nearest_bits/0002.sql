CREATE FUNCTION embstore.nearest_bits(ref text, query bit varying, k integer DEFAULT 10)
RETURNS SETOF embstore.neighbor
LANGUAGE plpgsql
SET search_path = pg_catalog, @vector@, pg_temp
AS $$
-- The k ids of a version nearest to bits: SELECT * FROM embstore.nearest_bits('ad_leaves', B'0110')
DECLARE
    of embstore.versions := embstore.resolve($1);
BEGIN
    IF of.precision <> 'bit' THEN
        RAISE EXCEPTION USING ERRCODE = 'EM009',
            MESSAGE = format('%s@%s holds %s vectors, not bits', of.table_name, of.version, of.precision),
            HINT = 'embstore.nearest takes a vector';
    END IF;
    RETURN QUERY SELECT * FROM embstore.search(of, query, k);
END
$$
