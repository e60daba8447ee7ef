"""Embeddings trained by the week under a model that learns by the hour."""
