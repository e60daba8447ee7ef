"""Releases: several tables in one step; gates, pins, spaces, alignments and appended rows."""

from embstore.schema import drop_function, run_function, run_sql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# In the order of their use of one another.
ADDED = ("release", "last_promote", "live_at", "pin", "unpin")
# Their form stays, so that what was granted on them stays too.
REPLACED = ("promote", "rollback")


def upgrade() -> None:
    run_sql("0004_releases.sql")
    for name in (*ADDED, *REPLACED):
        run_function(name, revision)
    run_sql("0004_roles.sql")


def downgrade() -> None:
    for name in REPLACED:
        run_function(name, "0001", replace=True)
    for name in reversed(ADDED):
        drop_function(name)
    run_sql("0004_releases.down.sql")
