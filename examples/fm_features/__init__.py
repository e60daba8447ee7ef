"""Vectors of a factorization machine as features of classifiers, in a pipeline."""
