"""URLs, refusals and external stores; a password is in no message."""

import io
import logging
import socket
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg
import pytest
from psycopg import sql

import embstore
from embstore import connection, schema
from tests.fix_data import clusters
from tests.fix_store import Command, Server, free_port

CANARY = "c4naryPw"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{CANARY} x@127.0.0.1:1/d",
        f"postgresql://me:%zz{CANARY}@127.0.0.1:1/d",
        f"postgresql://me:[{CANARY}@127.0.0.1:1/d",
        f"postgresql://me:{CANARY}@{CANARY}@127.0.0.1:1/d",
        f"postgresql://me:{CANARY}@127.0.0.1:port/d",
        f"postgresql://me:{CANARY}@127.0.0.1:1/d?nonsense={CANARY}",
        f"postgresql://me:{CANARY}@127.0.0.1:1/d",
        f"host=127.0.0.1 port=1 password='{CANARY}",
        f"host=127.0.0.1 port=1 dbname=d user=me password={CANARY}",
        f"mysql://me:{CANARY}@127.0.0.1/d",
        CANARY,
    ],
)
def test_no_message_repeats_a_password(url: str, cli: Command) -> None:
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logging.getLogger().addHandler(handler)
    try:
        with pytest.raises(embstore.ConnectionFailed) as caught:
            embstore.connect(url)
    finally:
        logging.getLogger().removeHandler(handler)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + log.getvalue()
    # The frames of this very test show the URL as source; nothing else may.
    assert CANARY not in shown.replace(url, "")
    done = cli("tables", url=url)
    assert done.returncode == 1
    assert CANARY not in done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_refusals_are_one_clear_line(pg: Server, bare_database: str) -> None:
    nobody = free_port()
    for url, says in {
        pg.tcp_url(password="wrong"): "password is wrong",
        pg.tcp_url(password=""): "a password is needed",
        pg.tcp_url("nothing"): "there is no database 'nothing'",
        f"postgresql://me@127.0.0.1:{nobody}/d": "no server listens there",
        "postgresql://me@no-such-host.invalid/d": "host name is not known",
        f"postgresql://embstore@/x?host={pg.home}/nowhere": "no server listens there",
        pg.url(bare_database): "no pgvector: run CREATE EXTENSION vector;",
    }.items():
        with pytest.raises(embstore.ConnectionFailed, match=says) as caught:
            embstore.connect(url)
        assert "\n" not in str(caught.value)


def test_something_else_listens_there() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        import threading

        def answer() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(100)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(embstore.ConnectionFailed, match=r"not Postgres|connection failed"):
            embstore.connect(
                f"postgresql://me@127.0.0.1:{port}/d?sslmode=disable&gssencmode=disable"
            )
        thread.join()


def test_an_older_pgvector_is_named(pg: Server, bare_database: str) -> None:
    with psycopg.connect(pg.url(bare_database), autocommit=True) as admin:
        admin.execute("CREATE EXTENSION vector")
        admin.execute("UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'")
    with pytest.raises(
        embstore.ConnectionFailed, match=r"pgvector 0\.7\.4: embstore needs 0\.8 or later"
    ):
        embstore.connect(pg.url(bare_database))


def test_an_external_store_over_tcp(pg: Server, bare_database: str, cli: Command) -> None:
    url = pg.tcp_url(bare_database)
    done = cli("tables", url=url)
    assert done.returncode == 1 and "CREATE EXTENSION" in done.stderr
    assert cli("init", url=url).returncode == 0
    with embstore.connect(url) as store:
        vectors = clusters(200, 8)
        table = store.create_table("items")
        table.load(vectors, ids=range(200), promote=True)
        assert table.similar([3], 5).ids.shape == (1, 5)
        assert pg.password not in repr(store)
        with pytest.raises(embstore.NotFound):
            table.lookup([777])


def test_behind_and_ahead(pg: Server, database: str, cli: Command) -> None:
    url = pg.url(database)
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("UPDATE embstore.alembic_version SET version_num = '9999'")
        with pytest.raises(embstore.SchemaMismatch, match=r"newer than.*pip install --upgrade"):
            embstore.connect(url)
        admin.execute("UPDATE embstore.alembic_version SET version_num = '0000'")
        with pytest.raises(
            embstore.SchemaMismatch, match=r"at revision 0000.*run embstore migrate"
        ):
            embstore.connect(url)
    done = cli("tables", url=url)
    assert (done.returncode, done.stdout) == (1, "")


def test_not_a_store_yet(pg: Server, bare_database: str) -> None:
    with psycopg.connect(pg.url(bare_database), autocommit=True) as admin:
        admin.execute("CREATE EXTENSION vector")
    with pytest.raises(embstore.SchemaMismatch, match="holds no embstore yet: run embstore init"):
        embstore.connect(pg.url(bare_database))


def test_pgvector_in_a_schema_of_its_own(pg: Server, bare_database: str) -> None:
    url = pg.url(bare_database)
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute('CREATE SCHEMA "my ext"')
        admin.execute('CREATE EXTENSION vector SCHEMA "my ext"')
    schema.upgrade(connection.parse(url))
    with embstore.connect(url) as store:
        for precision in ("float32", "float16"):
            table = store.create_table(precision)
            table.load(clusters(300, 8), ids=range(300), precision=precision, promote=True)
            assert table.nearest(clusters(2, 8), 7).ids.shape == (2, 7)
            assert table.lookup([1, 999], "mean").found.tolist() == [True, False]
            with store.connection() as lent:
                assert lent.execute(
                    "SELECT count(*) FROM embstore.similar(%s, '3', 7)", (precision,)
                ).fetchone() == (7,)


@pytest.mark.parametrize("role", ["embstore_reader", "embstore_promoter", "embstore_loader"])
def test_roles(pg: Server, database: str, role: str) -> None:
    """Who may do what: readers read ready versions only, promoters also promote, loaders load."""
    with embstore.connect(pg.url(database)) as owner:
        table = owner.create_table("items")
        for seed in range(2):
            table.load(clusters(100, 4, seed), ids=range(100), promote=seed == 0)
        with owner.connection() as lent:
            user = f"{role}_user_{database}"
            lent.execute(
                sql.SQL("CREATE ROLE {} LOGIN IN ROLE {}").format(
                    sql.Identifier(user), sql.Identifier(role)
                )
            )
    url = pg.url(database).replace("embstore@", f"{user}@")
    try:
        with embstore.connect(url) as store:
            table = store.table("items")
            assert table.similar([3], 5).version == 1
            assert store["items@2"].lookup([1]).found.all()
            assert [each.number for each in table.versions()] == [1, 2]
            with store.connection() as lent:
                assert lent.execute("SELECT count(*) FROM emb.items").fetchone() == (100,)
            if role == "embstore_reader":
                with pytest.raises(
                    embstore.DatabaseFailed, match="ask the store's owner for the role"
                ):
                    store.promote("items@2")
            else:
                assert store.promote("items@2")[0].version == 2
                assert table.rollback().version == 1
            if role == "embstore_loader":
                version = table.load(clusters(50, 4, 9), ids=range(50), promote=True)
                assert table.similar([3], 5).version == version.number
                store.create_table("more").load(clusters(10, 4), ids=range(10), promote=True)
                table.rollback()
                table.drop(version.number)
                store.drop_table("more")
            else:
                with pytest.raises(embstore.EmbstoreError, match="permission denied"):
                    table.load(clusters(50, 4), ids=range(50))
                with pytest.raises(embstore.EmbstoreError):
                    table.drop(2)
        with embstore.connect(pg.url(database)) as owner:
            # What a loader made, others read and the owner loads on.
            owner.table("items").load(clusters(20, 4), ids=range(20), promote=True)
    finally:
        with psycopg.connect(pg.url(database), autocommit=True) as admin:
            admin.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(user)))
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(user)))


def test_a_read_only_server(pg: Server, database: str) -> None:
    with embstore.connect(pg.url(database)) as store:
        store.create_table("items").load(clusters(100, 4), ids=range(100), promote=True)
    read_only = pg.url(database) + "&options=-c%20default_transaction_read_only%3Don"
    with embstore.connect(read_only) as store:
        table = store.table("items")
        assert store.engine.standby
        assert table.similar([1], 3).ids.shape == (1, 3)
        assert table.lookup([1]).found.all()
        assert table.nearest(clusters(3, 4), 200).ids.shape == (3, 100)
        for write in (
            lambda: store.promote("items@1"),
            lambda: table.load(clusters(5, 4), ids=range(5)),
            lambda: table.drop(1),
        ):
            with pytest.raises(embstore.EmbstoreError, match="read-only"):
                write()
    with embstore.connect(pg.url(database), read_url=read_only) as store:
        table = store.table("items")
        version = table.load(clusters(50, 4), ids=range(50), promote=True)
        assert table.similar([1], 3).version == version.number


def test_url_is_understood_by_everybody(store: embstore.Store) -> None:
    import subprocess

    from sqlalchemy import create_engine, text

    from embstore import server

    engine = create_engine(store.url)
    with engine.connect() as opened:
        assert opened.execute(text("SELECT count(*) FROM embstore.tables")).scalar() == 0
    engine.dispose()
    done = subprocess.run(
        [server.binary("psql"), "-Atc", "SELECT 1", store.url],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"


def test_a_forked_child_has_connections_of_its_own(store: embstore.Store) -> None:
    import os

    table = store.create_table("items")
    table.load(clusters(50, 4), ids=range(50), promote=True)
    expected = table.similar([1], 3).ids.tolist()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = int(table.similar([1], 3).ids.tolist() != expected)
        finally:
            os._exit(status)
    for _ in range(50):
        assert table.similar([1], 3).ids.tolist() == expected
    assert os.waitpid(child, 0)[1] == 0


def test_reads_recover_after_the_server_restarts_their_session(store: embstore.Store) -> None:
    table = store.create_table("items")
    table.load(clusters(50, 4), ids=range(50), promote=True)
    table.similar([1], 3)
    with psycopg.connect(store.url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    with pytest.raises(embstore.ConnectionFailed, match="connection was lost"):
        for _ in range(3):
            table.similar([1], 3)
    assert table.similar([1], 3).ids.shape == (1, 3)


def test_threads_that_begin_together_share_one_pool(
    pg: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embstore.link import Link

    made: list[object] = []
    new_pool = Link._new_pool

    def slowly(link: Link) -> Any:
        time.sleep(0.05)
        made.append(new_pool(link))
        return made[-1]

    monkeypatch.setattr(Link, "_new_pool", slowly)

    store = embstore.connect(pg.url(database))

    def ask(_: int) -> object:
        with store.connection() as lent:
            return lent.execute("SELECT 1").fetchone()

    with closing(store), ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(32))) == [(1,)] * 32
    assert len(made) == 1
