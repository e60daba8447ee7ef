CREATE OR REPLACE FUNCTION embstore.search(of embstore.versions, query anyelement, k integer, skip text DEFAULT NULL)
RETURNS SETOF embstore.neighbor
LANGUAGE plpgsql
SET search_path = pg_catalog, @vector@, pg_temp
AS $$
-- The k rows of a version nearest to a vector or to bits; skip leaves one id out. nearest,
-- nearest_bits and similar call it. Through the index that the version prefers: one of a smaller
-- form of the vectors gives candidates, which are ranked by the full ones.
DECLARE
    wanted bigint := k::bigint + (skip IS NOT NULL)::integer;
    operator text := CASE of.metric WHEN 'cosine' THEN '<=>' WHEN 'ip' THEN '<#>' WHEN 'l2' THEN '<->'
        WHEN 'hamming' THEN '<~>' ELSE '<%>' END;
    cast_to text := CASE of.precision WHEN 'float16' THEN 'halfvec' WHEN 'bit' THEN 'bit' ELSE 'vector' END;
    preferred jsonb := of.indexes -> 0;
    form text := coalesce(preferred ->> 'precision', of.precision);
    search jsonb := coalesce(preferred -> 'search', '{}');
    given integer;
    -- The distance by the full vectors, and by what is indexed.
    exactly text;
    roughly text;
    candidates bigint;
    -- What the scan sets: how far it looks, and that it goes on until the LIMIT is met.
    reach text := CASE preferred ->> 'kind' WHEN 'ivfflat' THEN 'ivfflat.probes' ELSE 'hnsw.ef_search' END;
    goes_on text := CASE preferred ->> 'kind' WHEN 'ivfflat' THEN 'ivfflat.iterative_scan' ELSE 'hnsw.iterative_scan' END;
    old_reach text := current_setting(reach, true);
    old_goes_on text := current_setting(goes_on, true);
    ids text[];
    distances double precision[];
BEGIN
    IF k IS NULL OR k < 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'EM009', MESSAGE = format('k is %s: ask for at least 1', coalesce(k::text, 'NULL'));
    ELSIF query IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'EM009', MESSAGE = 'the query vector is NULL';
    END IF;
    -- Each branch by itself: the functions of one type do not parse for the other.
    IF of.precision = 'bit' THEN
        given := length(query);
    ELSE
        given := vector_dims(query);
    END IF;
    IF given <> of.dim THEN
        RAISE EXCEPTION USING ERRCODE = 'EM007', MESSAGE = format('%s@%s has %s %s, the query vector has %s',
            of.table_name, of.version, of.dim, CASE of.precision WHEN 'bit' THEN 'bits' ELSE 'dimensions' END, given);
    ELSIF of.metric = 'cosine' THEN
        IF NOT vector_norm(query) BETWEEN 1e-18 AND 1e18 THEN
            RAISE EXCEPTION USING ERRCODE = 'EM009', MESSAGE = format(
                'the query vector''s norm is %s: it has no direction to compare by cosine', vector_norm(query));
        END IF;
    ELSIF of.metric = 'jaccard' THEN
        IF bit_count(query) = 0 THEN
            RAISE EXCEPTION USING ERRCODE = 'EM009',
                MESSAGE = 'the query vector is all 0: it has nothing in common to compare by jaccard';
        END IF;
    END IF;
    exactly := format('embedding %s $1::%s(%s)', operator, cast_to, of.dim);
    IF form = of.precision THEN
        roughly := exactly;
        candidates := wanted;
    ELSE
        candidates := greatest(wanted, 10) * coalesce((search ->> 'oversample')::bigint, 1);
        IF form = 'bit' THEN
            roughly := format('binary_quantize(embedding)::bit(%1$s) <~> binary_quantize($1::%2$s(%1$s))::bit(%1$s)',
                of.dim, cast_to);
        ELSIF of.metric = 'l2' THEN
            roughly := format('embedding::halfvec(%1$s) %2$s $1::halfvec(%1$s)', of.dim, operator);
            IF vector_norm(query) > 65504 THEN
                preferred := NULL;  -- it may be beyond float16, and is far from all that is not
            END IF;
        ELSE
            -- The length of the query changes no order; as 1 it is at home in float16.
            roughly := format('embedding::halfvec(%1$s) %2$s l2_normalize($1)::halfvec(%1$s)', of.dim, operator);
        END IF;
    END IF;
    IF preferred IS NOT NULL THEN
        -- SET LOCAL, not set_config(): only this form reaches the workers of a distributed Postgres.
        IF reach = 'ivfflat.probes' THEN
            EXECUTE format('SET LOCAL ivfflat.probes = %s', (search ->> 'probes')::integer);
            SET LOCAL ivfflat.iterative_scan = relaxed_order;
        ELSE
            EXECUTE format('SET LOCAL hnsw.ef_search = %s',
                least(1000, greatest(coalesce((search ->> 'ef_search')::bigint, 100), candidates)));
            SET LOCAL hnsw.iterative_scan = strict_order;
        END IF;
        EXECUTE format(
            'SELECT array_agg(s.id::text), array_agg(s.distance) FROM (
                 SELECT r.id, r.distance FROM (
                     SELECT c.id, %1$s AS distance FROM (
                         SELECT id, embedding FROM emb.%2$I ORDER BY %3$s LIMIT %4$s) c
                 ) r WHERE r.distance <> ''NaN'' ORDER BY r.distance, r.id LIMIT %5$s) s',
            exactly, format('%s_v%s', of.table_name, of.version), roughly, candidates, wanted)
        INTO ids, distances USING query;
        EXECUTE format('SET LOCAL %s = %s', reach, coalesce(old_reach, 'DEFAULT'));
        EXECUTE format('SET LOCAL %s = %s', goes_on, coalesce(old_goes_on, 'DEFAULT'));
    END IF;
    IF coalesce(cardinality(ids), 0) < least(wanted, of.rows) THEN
        -- There is no index, or it gave fewer rows than there are (clusters of equal vectors do
        -- that): ask without it; the sum keeps the planner from matching the expression to it.
        EXECUTE format(
            'SELECT array_agg(s.id::text), array_agg(s.distance) FROM (
                 SELECT id, (%1$s) + 0 AS distance FROM emb.%2$I
                 ORDER BY distance, id LIMIT %3$s) s',
            exactly, format('%s_v%s', of.table_name, of.version), wanted)
        INTO ids, distances USING query;
    END IF;
    RETURN QUERY
        SELECT u.id, u.distance, CASE WHEN of.metric IN ('cosine', 'jaccard') THEN 1 ELSE 0 END - u.distance
        FROM unnest(ids, distances) WITH ORDINALITY AS u (id, distance, rank)
        -- A zero vector is not in a cosine index; without the index it comes last, at no distance.
        WHERE (skip IS NULL OR u.id <> skip) AND (of.metric <> 'cosine' OR u.distance <> 'NaN')
        ORDER BY u.rank LIMIT k;
END
$$
