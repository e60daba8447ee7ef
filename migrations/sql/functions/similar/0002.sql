CREATE OR REPLACE FUNCTION embstore.similar(ref text, id text, k integer DEFAULT 10)
RETURNS SETOF embstore.neighbor
LANGUAGE plpgsql
SET search_path = pg_catalog, @vector@, pg_temp
AS $$
-- The k nearest neighbours of a stored id, itself left out: SELECT * FROM embstore.similar('items', '42')
DECLARE
    of embstore.versions := embstore.resolve($1);
    canonical text;
    own vector;
    own_bits bit varying;
BEGIN
    BEGIN
        EXECUTE format('SELECT s.id::text, %s FROM emb.%I s WHERE s.id = $1::%s',
            CASE of.precision WHEN 'bit' THEN 'NULL, s.embedding' ELSE 's.embedding::vector, NULL' END,
            format('%s_v%s', of.table_name, of.version), of.id_type)
        INTO canonical, own, own_bits USING $2;
    EXCEPTION WHEN invalid_text_representation OR numeric_value_out_of_range THEN NULL;
    END;
    IF canonical IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'EM008',
            MESSAGE = format('%s@%s has no id %s', of.table_name, of.version, coalesce(quote_literal($2), 'NULL'));
    ELSIF of.precision = 'bit' THEN
        RETURN QUERY SELECT * FROM embstore.search(of, own_bits, k, canonical);
    ELSE
        RETURN QUERY SELECT * FROM embstore.search(of, own, k, canonical);
    END IF;
END
$$
