"""The catalog, the roles and the SQL functions."""

from embstore.schema import drop_function, run_function, run_sql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# In the order of their use of one another.
FUNCTIONS = ("resolve", "search", "nearest", "similar", "lookup", "promote", "rollback")


def upgrade() -> None:
    run_sql("0001_catalog.sql")
    for name in FUNCTIONS:
        run_function(name, revision)
    run_sql("0001_roles.sql")


def downgrade() -> None:
    for name in reversed(FUNCTIONS):
        drop_function(name)
    run_sql("0001_catalog.down.sql")
