"""PCA against learned embeddings, on the same recall."""
