CREATE FUNCTION embstore.similar(ref text, id text, k integer DEFAULT 10)
RETURNS SETOF embstore.neighbor
LANGUAGE plpgsql
SET search_path = pg_catalog, @vector@, pg_temp
AS $$
-- The k nearest neighbours of a stored id, itself left out: SELECT * FROM embstore.similar('items', '42')
DECLARE
    of embstore.versions := embstore.resolve($1);
    canonical text;
    own vector;
BEGIN
    BEGIN
        EXECUTE format('SELECT s.id::text, s.embedding::vector FROM emb.%I s WHERE s.id = $1::%s',
            format('%s_v%s', of.table_name, of.version), of.id_type)
        INTO canonical, own USING $2;
    EXCEPTION WHEN invalid_text_representation OR numeric_value_out_of_range THEN NULL;
    END;
    IF own IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'EM008',
            MESSAGE = format('%s@%s has no id %s', of.table_name, of.version, coalesce(quote_literal($2), 'NULL'));
    END IF;
    RETURN QUERY SELECT * FROM embstore.search(of, own, k, canonical);
END
$$
