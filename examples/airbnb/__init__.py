"""Search ranking with listing embeddings, new listings among them."""
