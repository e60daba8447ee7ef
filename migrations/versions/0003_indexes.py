"""Indexes: several of a version, of several kinds, each with its options and its reason."""

from embstore.schema import drop_function, run_function, run_sql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0003_indexes.sql")
    run_function("search", revision)


def downgrade() -> None:
    run_sql("0003_indexes.down.sql")
    drop_function("search")
    run_function("search", "0002")
