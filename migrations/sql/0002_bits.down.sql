ALTER TABLE embstore.tables
    DROP CONSTRAINT tables_metric_check,
    DROP CONSTRAINT tables_precision_check,
    DROP CONSTRAINT tables_bits_check,
    ADD CONSTRAINT tables_metric_check CHECK (metric IN ('cosine', 'ip', 'l2')),
    ADD CONSTRAINT tables_precision_check CHECK (precision IN ('float32', 'float16'));

ALTER TABLE embstore.versions
    DROP CONSTRAINT versions_metric_check,
    DROP CONSTRAINT versions_precision_check,
    DROP CONSTRAINT versions_bits_check,
    DROP CONSTRAINT versions_dim_check,
    ADD CONSTRAINT versions_metric_check CHECK (metric IN ('cosine', 'ip', 'l2')),
    ADD CONSTRAINT versions_precision_check CHECK (precision IN ('float32', 'float16')),
    ADD CONSTRAINT versions_dim_check CHECK (dim BETWEEN 1 AND 16000);

COMMENT ON TYPE embstore.neighbor IS 'A result of nearest and similar: distance as the operator gives it, smaller is nearer; score larger is nearer (cosine similarity, inner product, or minus the L2 distance)';
