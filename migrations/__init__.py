"""The store's schema as Alembic revisions; ``embstore migrate`` runs them."""
