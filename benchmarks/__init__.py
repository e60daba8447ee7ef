"""Measurements: embstore beside hand-written psycopg and beside its peers, in one run."""
