import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

import embstore
from embstore import connection, schema, server
from tests.fix_store import Command, Server

DUMP = """
SELECT string_agg(line, E'\n' ORDER BY line) FROM (
  SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable AS line
  FROM information_schema.columns WHERE table_schema = 'embstore'
  UNION ALL SELECT pg_get_functiondef(p.oid) FROM pg_proc p
  WHERE p.pronamespace = to_regnamespace('embstore')
  UNION ALL SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
  WHERE connamespace = to_regnamespace('embstore')
  UNION ALL SELECT relname || ' ' || coalesce(relacl::text, '') FROM pg_class
  WHERE relnamespace = to_regnamespace('embstore')
) AS all_lines
"""


def described(url: str) -> object:
    with psycopg.connect(url) as opened:
        row = opened.execute(DUMP).fetchone()
    assert row is not None
    return row[0]


def test_head_is_alembics_head() -> None:
    config = Config()
    config.set_main_option("script_location", str(files("embstore.migrations")))
    assert ScriptDirectory.from_config(config).get_current_head() == schema.HEAD


def test_down_and_up_again(pg: Server, bare_database: str) -> None:
    url = pg.url(bare_database)
    address = connection.parse(url)
    schema.upgrade(address)
    before = described(url)
    with embstore.connect(url) as store:
        store.create_table("items").load({1: [1.0, 2.0]}, promote=True)
    schema.downgrade(address, "base")
    with psycopg.connect(url) as opened:
        left = opened.execute(
            "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('embstore')"
            " AND relname NOT LIKE 'alembic%'"
        ).fetchone()
        assert left == (0,)
        assert opened.execute("SELECT to_regnamespace('emb')").fetchone() == (None,)
    schema.upgrade(address)
    schema.upgrade(address)
    assert described(url) == before


def test_0001_to_the_newest_and_back(pg: Server, bare_database: str) -> None:
    url = pg.url(bare_database)
    address = connection.parse(url)
    schema.upgrade(address, "0001")
    first = described(url)
    with pytest.raises(embstore.SchemaMismatch, match=r"revision 0001.*embstore migrate"):
        embstore.connect(url)
    with psycopg.connect(url, autocommit=True) as opened:
        opened.execute("REVOKE ALL ON FUNCTION embstore.nearest FROM PUBLIC")
        opened.execute(
            "INSERT INTO embstore.tables VALUES"
            " ('items', 'bigint', 'cosine', 'float32', now(), 'x'),"
            " ('fresh', NULL, 'ip', NULL, now(), 'x')"
        )
    schema.upgrade(address)
    with psycopg.connect(url) as opened:
        kept = opened.execute(
            "SELECT proacl::text FROM pg_proc WHERE oid = 'embstore.nearest'::regproc"
        ).fetchone()
        assert kept is not None
        assert "=X" not in kept[0].replace("embstore=X", "")  # still not everybody's
    with embstore.connect(url) as store:
        items = store.table("items")
        items.load({1: [1.0, 2.0], 2: [2.0, 1.0]}, promote=True)
        bits = store.create_table("leaves", metric="jaccard").load({1: [1, 0], 2: [1, 1]})
        assert bits.similar([1], 1).ids.tolist() == [[2]]
        store.table("fresh").load({1: [1.0, 2.0]})
        # What 0001 could not hold stops the way back, and nothing of it is done.
        with pytest.raises(embstore.DatabaseFailed, match="is violated by some row"):
            schema.downgrade(address, "0001")
        store.drop_table("leaves")
    with psycopg.connect(url, autocommit=True) as opened:
        opened.execute("GRANT EXECUTE ON FUNCTION embstore.nearest TO PUBLIC")
    schema.downgrade(address, "0001")
    assert described(url) == first
    with psycopg.connect(url) as opened:
        found = opened.execute("SELECT id FROM embstore.similar('items', '1', 5)").fetchall()
    assert found == [("2",)]
    schema.upgrade(address)


def test_0003_takes_over_the_indexes_that_are_there(pg: Server, bare_database: str) -> None:
    url = pg.url(bare_database)
    address = connection.parse(url)
    schema.upgrade(address, "0002")
    second = described(url)
    with psycopg.connect(url, autocommit=True) as opened:
        for statement in (
            "INSERT INTO embstore.tables VALUES ('items', 'bigint', 'l2', 'float16', now(), 'x')",
            "INSERT INTO embstore.versions (table_name, version, status, dim, id_type, metric,"
            " precision, rows, index_kind, source, created_at, created_by)"
            " SELECT 'items', v, 'ready', 2, 'bigint', 'l2', 'float16', 2, kind,"
            """ '{"index_seconds": 1.5}', now(), 'x' FROM (VALUES (1, 'none'), (2, 'hnsw'))"""
            " AS given (v, kind)",
            "CREATE TABLE emb.items_v2 (id bigint PRIMARY KEY, embedding halfvec(2) NOT NULL)",
            "INSERT INTO emb.items_v2 VALUES (1, '[1,2]'), (2, '[2,1]')",
            "CREATE INDEX items_v2_hnsw ON emb.items_v2 USING hnsw (embedding halfvec_l2_ops)",
        ):
            opened.execute(statement)
    schema.upgrade(address)
    with embstore.connect(url) as store:
        assert store["items@1"].indexes == ()
        version = store["items@2"]
        (index,) = version.indexes
        assert (index.name, index.kind, index.precision) == ("items_v2_hnsw", "hnsw", "float16")
        assert index.bytes == 16384
        assert index.seconds == 1.5
        assert index.options == {"m": 16, "ef_construction": 64}
        assert version.nearest([1.0, 2.0], 2).ids.tolist() == [[1, 2]]
    schema.downgrade(address, "0002")
    assert described(url) == second


@pytest.mark.parametrize(
    ("metric", "precision"), [("jaccard", "float32"), ("hamming", None), ("cosine", "bit")]
)
def test_bits_and_their_metrics_go_together(
    pg: Server, database: str, metric: str, precision: str | None
) -> None:
    with (
        psycopg.connect(pg.url(database)) as opened,
        pytest.raises(psycopg.errors.CheckViolation, match="tables_bits_check"),
    ):
        opened.execute(
            "INSERT INTO embstore.tables VALUES ('t', NULL, %s, %s, now(), 'x')",
            (metric, precision),
        )


def test_sql_is_the_same_migration(
    pg: Server, bare_database: str, database: str, cli: Command
) -> None:
    done = cli("migrate", "--sql")
    assert done.returncode == 0
    run = subprocess.run(
        [server.binary("psql"), "-q", "-v", "ON_ERROR_STOP=1", pg.url(bare_database)],
        input=done.stdout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert described(pg.url(bare_database)) == described(pg.url(database))
    with embstore.connect(pg.url(bare_database)) as store:
        store.create_table("items").load({1: [1.0, 2.0]}, promote=True)


@pytest.mark.parametrize("round", range(2))
def test_two_migrators_at_once(pg: Server, bare_database: str, round: int) -> None:
    url = pg.url(bare_database)
    script = (
        "import sys; from embstore import connection, schema;"
        " schema.upgrade(connection.parse(sys.argv[1]))"
    )

    def migrate(_: int) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-c", script, url], capture_output=True, text=True, check=False
        )

    with ThreadPoolExecutor(3) as threads:
        runs = list(threads.map(migrate, range(3)))
    assert [run.returncode for run in runs] == [0, 0, 0], [run.stderr for run in runs]
    with embstore.connect(url):
        pass


def test_a_migration_is_whole_or_not_there(
    pg: Server, bare_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = pg.url(bare_database)
    original = schema._text

    def broken(name: str) -> str:
        return "SELECT 1/0" if name.endswith("lookup/0001.sql") else original(name)

    monkeypatch.setattr(schema, "_text", broken)
    with pytest.raises(embstore.DatabaseFailed, match="division by zero"):
        schema.upgrade(connection.parse(url))
    with psycopg.connect(url) as opened:
        assert opened.execute("SELECT to_regnamespace('embstore')").fetchone() == (None,)
    monkeypatch.undo()
    schema.upgrade(connection.parse(url))


def test_a_user_who_may_not_create_roles(pg: Server, bare_database: str) -> None:
    """As on a managed Postgres: the store works without the roles."""
    with psycopg.connect(pg.url(bare_database), autocommit=True) as admin:
        admin.execute("CREATE EXTENSION vector")
        admin.execute("CREATE ROLE plain LOGIN")
        admin.execute(f"ALTER DATABASE {bare_database} OWNER TO plain")
    url = pg.url(bare_database).replace("embstore@", "plain@")
    try:
        schema.upgrade(connection.parse(url))
        with embstore.connect(url) as store:
            table = store.create_table("items")
            table.load({1: [1.0, 2.0], 2: [2.0, 1.0]}, promote=True)
            assert table.similar([1], 1).ids.tolist() == [[2]]
            with store.connection() as lent:  # what a killed load leaves
                lent.execute("DROP VIEW emb.items")
                lent.execute("DELETE FROM embstore.aliases")
                lent.execute("UPDATE embstore.versions SET status = 'loading'")
        with embstore.connect(url) as store:
            assert store.table("items").versions() == []
    finally:
        with psycopg.connect(pg.url(bare_database), autocommit=True) as admin:
            admin.execute("DROP OWNED BY plain CASCADE")
            admin.execute(f"ALTER DATABASE {bare_database} OWNER TO embstore")
            admin.execute("DROP ROLE plain")
