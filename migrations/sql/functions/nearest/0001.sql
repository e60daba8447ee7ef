CREATE FUNCTION embstore.nearest(ref text, query @vector@.vector, k integer DEFAULT 10)
RETURNS SETOF embstore.neighbor
LANGUAGE plpgsql
SET search_path = pg_catalog, @vector@, pg_temp
AS $$
-- The k ids of a version nearest to a vector: SELECT * FROM embstore.nearest('items', '[1,2,3]')
BEGIN
    RETURN QUERY SELECT * FROM embstore.search(embstore.resolve(ref), query, k);
END
$$
