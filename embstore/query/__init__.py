"""Reads: recall (nearest, similar) and lookup, of one version or of whatever is live."""
