CREATE FUNCTION embstore.search(of embstore.versions, query @vector@.vector, k integer, skip text DEFAULT NULL)
RETURNS SETOF embstore.neighbor
LANGUAGE plpgsql
SET search_path = pg_catalog, @vector@, pg_temp
AS $$
-- The k rows of a version nearest to a vector; skip leaves one id out. nearest and similar call it.
DECLARE
    wanted bigint := k::bigint + (skip IS NOT NULL)::integer;
    operator text := CASE of.metric WHEN 'cosine' THEN '<=>' WHEN 'ip' THEN '<#>' ELSE '<->' END;
    cast_to text := CASE of.precision WHEN 'float16' THEN 'halfvec' ELSE 'vector' END;
    old_ef text := coalesce(current_setting('hnsw.ef_search', true), '40');
    old_scan text := coalesce(current_setting('hnsw.iterative_scan', true), 'off');
    ids text[];
    distances double precision[];
BEGIN
    IF k IS NULL OR k < 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'EM009', MESSAGE = format('k is %s: ask for at least 1', coalesce(k::text, 'NULL'));
    ELSIF query IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'EM009', MESSAGE = 'the query vector is NULL';
    ELSIF vector_dims(query) <> of.dim THEN
        RAISE EXCEPTION USING ERRCODE = 'EM007', MESSAGE = format('%s@%s has %s dimensions, the query vector has %s',
            of.table_name, of.version, of.dim, vector_dims(query));
    ELSIF of.metric = 'cosine' AND NOT vector_norm(query) BETWEEN 1e-18 AND 1e18 THEN
        RAISE EXCEPTION USING ERRCODE = 'EM009', MESSAGE = format(
            'the query vector''s norm is %s: it has no direction to compare by cosine', vector_norm(query));
    END IF;
    -- SET LOCAL, not set_config(): only this form reaches the workers of a distributed Postgres.
    EXECUTE format('SET LOCAL hnsw.ef_search = %s', least(1000, greatest(100, wanted)));
    SET LOCAL hnsw.iterative_scan = strict_order;
    EXECUTE format(
        'SELECT array_agg(s.id::text), array_agg(s.distance) FROM (
             SELECT r.id, r.distance FROM (
                 SELECT id, embedding %1$s $1::%2$s(%3$s) AS distance FROM emb.%4$I
                 ORDER BY embedding %1$s $1::%2$s(%3$s) LIMIT %5$s
             ) r ORDER BY r.distance, r.id) s',
        operator, cast_to, of.dim, format('%s_v%s', of.table_name, of.version), wanted)
    INTO ids, distances USING query;
    EXECUTE format('SET LOCAL hnsw.ef_search = %s', old_ef);
    EXECUTE format('SET LOCAL hnsw.iterative_scan = %s', old_scan);
    IF coalesce(cardinality(ids), 0) < least(wanted, of.rows) THEN
        -- The index gave fewer rows than there are (clusters of equal vectors do that): ask without
        -- it; the sum keeps the planner from matching the expression to the index.
        EXECUTE format(
            'SELECT array_agg(s.id::text), array_agg(s.distance) FROM (
                 SELECT id, (embedding %1$s $1::%2$s(%3$s)) + 0 AS distance FROM emb.%4$I
                 ORDER BY distance, id LIMIT %5$s) s',
            operator, cast_to, of.dim, format('%s_v%s', of.table_name, of.version), wanted)
        INTO ids, distances USING query;
    END IF;
    RETURN QUERY
        SELECT u.id, u.distance, CASE of.metric WHEN 'cosine' THEN 1 ELSE 0 END - u.distance
        FROM unnest(ids, distances) WITH ORDINALITY AS u (id, distance, rank)
        WHERE skip IS NULL OR u.id <> skip
        ORDER BY u.rank LIMIT k;
END
$$
