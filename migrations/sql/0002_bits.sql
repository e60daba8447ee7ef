ALTER TABLE embstore.tables
    DROP CONSTRAINT tables_metric_check,
    DROP CONSTRAINT tables_precision_check,
    ADD CONSTRAINT tables_metric_check CHECK (metric IN ('cosine', 'ip', 'l2', 'hamming', 'jaccard')),
    ADD CONSTRAINT tables_precision_check CHECK (precision IN ('float32', 'float16', 'bit')),
    ADD CONSTRAINT tables_bits_check CHECK ((metric IN ('hamming', 'jaccard')) = (precision IS NOT DISTINCT FROM 'bit'));

ALTER TABLE embstore.versions
    DROP CONSTRAINT versions_metric_check,
    DROP CONSTRAINT versions_precision_check,
    DROP CONSTRAINT versions_dim_check,
    ADD CONSTRAINT versions_metric_check CHECK (metric IN ('cosine', 'ip', 'l2', 'hamming', 'jaccard')),
    ADD CONSTRAINT versions_precision_check CHECK (precision IN ('float32', 'float16', 'bit')),
    ADD CONSTRAINT versions_bits_check CHECK ((metric IN ('hamming', 'jaccard')) = (precision = 'bit')),
    ADD CONSTRAINT versions_dim_check CHECK (dim BETWEEN 1 AND CASE precision WHEN 'bit' THEN 512000 ELSE 16000 END);

COMMENT ON TYPE embstore.neighbor IS 'A result of nearest and similar: distance as the operator gives it, smaller is nearer; score larger is nearer (cosine or Jaccard similarity, inner product, or minus the L2 or Hamming distance)';
