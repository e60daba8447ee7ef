CREATE FUNCTION embstore.lookup(ref text, ids text[])
RETURNS TABLE (id text, embedding @vector@.vector)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, @vector@, pg_temp
AS $$
-- The vectors of some ids, in their order, NULL where missing: SELECT * FROM embstore.lookup('items', '{1,2}')
DECLARE
    of embstore.versions := embstore.resolve($1);
BEGIN
    RETURN QUERY EXECUTE format(
        'WITH found AS MATERIALIZED (
             SELECT s.id, s.embedding FROM emb.%1$I s WHERE s.id = ANY ($1::%2$s[]))
         SELECT asked.id, found.embedding::vector
         FROM unnest($1) WITH ORDINALITY AS asked (id, place)
         LEFT JOIN found ON found.id = asked.id::%2$s
         ORDER BY asked.place',
        format('%s_v%s', of.table_name, of.version), of.id_type)
    USING ids;
END
$$
