CREATE OR REPLACE FUNCTION embstore.lookup(ref text, ids text[])
RETURNS TABLE (id text, embedding @vector@.vector)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, @vector@, pg_temp
AS $$
-- The vectors of some ids, in their order, NULL where missing: SELECT * FROM embstore.lookup('items', '{1,2}')
DECLARE
    of embstore.versions := embstore.resolve($1);
BEGIN
    IF of.precision = 'bit' AND of.dim > 16000 THEN
        RAISE EXCEPTION USING ERRCODE = 'EM009',
            MESSAGE = format('%s@%s has %s bits, and a vector takes 16000', of.table_name, of.version, of.dim),
            HINT = format('SELECT id, embedding FROM emb.%s_v%s gives them as bits', of.table_name, of.version);
    END IF;
    RETURN QUERY EXECUTE format(
        'WITH found AS MATERIALIZED (
             SELECT s.id, s.embedding FROM emb.%1$I s WHERE s.id = ANY ($1::%2$s[]))
         SELECT asked.id, %3$s::vector
         FROM unnest($1) WITH ORDINALITY AS asked (id, place)
         LEFT JOIN found ON found.id = asked.id::%2$s
         ORDER BY asked.place',
        format('%s_v%s', of.table_name, of.version), of.id_type,
        CASE of.precision WHEN 'bit' THEN 'string_to_array(found.embedding::text, NULL)::real[]' ELSE 'found.embedding' END)
    USING ids;
END
$$
