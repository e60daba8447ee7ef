"""GBDT + LR: leaves of boosted trees as features of a linear model that learns every day."""
