"""Bits: the metrics hamming and jaccard, for the leaves of trees."""

from embstore.schema import drop_function, run_function, run_sql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Those whose form stays are replaced, so that what was granted on them stays too.
REPLACED = ("nearest", "similar", "lookup")


def upgrade() -> None:
    run_sql("0002_bits.sql")
    drop_function("search")
    run_function("search", revision)
    run_function("nearest_bits", revision)
    for name in REPLACED:
        run_function(name, revision)


def downgrade() -> None:
    run_sql("0002_bits.down.sql")
    for name in (*REPLACED, "nearest_bits", "search"):
        drop_function(name)
    for name in ("search", *REPLACED):
        run_function(name, "0001")
