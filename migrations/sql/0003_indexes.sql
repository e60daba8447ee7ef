ALTER TABLE embstore.versions
    DROP CONSTRAINT versions_index_kind_check,
    ADD CONSTRAINT versions_index_kind_check CHECK (index_kind IN ('hnsw', 'ivfflat', 'none')),
    ADD COLUMN indexes jsonb NOT NULL DEFAULT '[]';

COMMENT ON COLUMN embstore.versions.indexes IS 'The ANN indexes, the one that queries prefer first: name, kind, precision (of what is indexed), options, search (what a query sets), bytes, seconds, why';

UPDATE embstore.versions v SET indexes = jsonb_build_array(jsonb_build_object(
    'name', format('%s_v%s_hnsw', v.table_name, v.version),
    'kind', 'hnsw',
    'precision', v.precision,
    'options', '{"m": 16, "ef_construction": 64}'::jsonb,
    'search', '{"ef_search": 100, "oversample": 1}'::jsonb,
    'bytes', pg_relation_size(to_regclass(format('emb.%I', format('%s_v%s_hnsw', v.table_name, v.version)))),
    'seconds', v.source -> 'index_seconds',
    'why', 'loaded before revision 0003'))
WHERE v.index_kind = 'hnsw' AND v.status <> 'loading';
