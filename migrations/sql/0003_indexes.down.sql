ALTER TABLE embstore.versions
    DROP CONSTRAINT versions_index_kind_check,
    ADD CONSTRAINT versions_index_kind_check CHECK (index_kind IN ('hnsw', 'none')),
    DROP COLUMN indexes;
