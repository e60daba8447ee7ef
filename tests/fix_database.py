"""Stores for the tests: databases that are emptied and used again.

To copy the template and to drop the copy took half of a test's time; to empty one takes hundredths
of a second. What cannot be brought back to the template by that is dropped.
"""

import itertools
import os
from collections.abc import Iterator

import psycopg
from psycopg import sql

_numbers = itertools.count(1)

# All that a test may have changed beside rows and versions: relations, columns, functions,
# constraints, triggers, policies, privileges, settings.
_STATE = """
SELECT md5(coalesce(string_agg(it, E'\\n' ORDER BY it), '')) FROM (
  SELECT format('%s %s %s %s %s', oid::regclass, relkind, relowner, relacl, reloptions)
  FROM pg_class WHERE relnamespace > 16000 OR relnamespace = 'public'::regnamespace
  UNION ALL SELECT format('%s %s %s %s %s', attrelid::regclass, attname, atttypid, attnum, attacl)
  FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
  WHERE attnum > 0 AND (relnamespace > 16000 OR relnamespace = 'public'::regnamespace)
  UNION ALL SELECT format('%s %s %s %s', oid::regprocedure, proowner, proacl, md5(prosrc))
  FROM pg_proc WHERE pronamespace > 16000
  UNION ALL SELECT format('%s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
  FROM pg_constraint WHERE connamespace > 16000
  UNION ALL SELECT format('%s %s %s', tgrelid::regclass, tgname, tgenabled)
  FROM pg_trigger WHERE NOT tgisinternal
  UNION ALL SELECT format('%s %s', polrelid::regclass, polname) FROM pg_policy
  UNION ALL SELECT format('%s %s %s', nspname, nspowner, nspacl) FROM pg_namespace
  WHERE nspname NOT LIKE 'pg\\_temp%' AND nspname NOT LIKE 'pg\\_toast\\_temp%'
  UNION ALL SELECT format('%s %s', extname, extversion) FROM pg_extension
  UNION ALL SELECT format('%s %s', evtname, evtenabled) FROM pg_event_trigger
  UNION ALL SELECT format('%s %s', defaclnamespace, defaclacl) FROM pg_default_acl
  UNION ALL SELECT format('%s %s', setrole, setconfig) FROM pg_db_role_setting
  WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
  UNION ALL SELECT format('%s %s %s %s', datacl, datconnlimit, datallowconn, datdba)
  FROM pg_database WHERE datname = current_database()
  UNION ALL SELECT version_num FROM embstore.alembic_version
) AS state (it)
"""


class Databases:
    """The databases of one process: ``with_store`` lends one that holds an empty store."""

    def __init__(self, url: str, template_url: str) -> None:
        self._url, self._of = url, template_url
        self._free: list[str] = []
        self._wanted = ""

    def create(self, template: str) -> str:
        """Copy a template; returns the new name."""
        name = f"test_{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}_{next(_numbers)}"
        with psycopg.connect(self._url, autocommit=True) as admin:
            admin.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )
        return name

    def drop(self, name: str) -> None:
        """Remove one, whoever is connected."""
        with psycopg.connect(self._url, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def with_store(self) -> Iterator[str]:
        """Lend one that holds an empty store."""
        if self._free:
            name = self._free.pop()
        else:
            name = self.create("template")
            if not self._wanted:
                with psycopg.connect(self._of.format(name), autocommit=True) as connection:
                    self._wanted = _state(connection)
        yield name
        if self._emptied(name):
            self._free.append(name)
        else:
            self.drop(name)

    def _emptied(self, name: str) -> bool:
        """Bring a store back to the template's state; False where that cannot be."""
        try:
            with psycopg.connect(self._of.format(name), autocommit=True) as connection:
                connection.execute("SET lock_timeout = '5s'")
                connection.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                steps = connection.execute(_EMPTY).fetchall()
                with connection.transaction():
                    for (statement,) in steps:
                        connection.execute(statement)
                return _state(connection) == self._wanted
        except psycopg.Error:
            return False


# Rows go first, without the triggers that guard them; then the versions, and the numbers.
_EMPTY = """
SELECT statement FROM (
  SELECT 1, 'SET session_replication_role = replica'
  UNION ALL SELECT 2, format('DELETE FROM %s', oid::regclass) FROM pg_class
  WHERE relnamespace = 'embstore'::regnamespace AND relkind IN ('r', 'p')
    AND relname <> 'alembic_version'
  UNION ALL SELECT 3, 'SET session_replication_role = origin'
  UNION ALL SELECT 4, format('ALTER SEQUENCE %s RESTART', oid::regclass) FROM pg_class
  WHERE relnamespace = 'embstore'::regnamespace AND relkind = 'S'
  UNION ALL SELECT 5, format('DROP VIEW IF EXISTS %s CASCADE', oid::regclass) FROM pg_class
  WHERE relnamespace = 'emb'::regnamespace AND relkind = 'v'
  UNION ALL SELECT 6, format('DROP TABLE IF EXISTS %s CASCADE', oid::regclass) FROM pg_class
  WHERE relnamespace = 'emb'::regnamespace AND relkind IN ('r', 'p')
) AS steps (step, statement) ORDER BY step
"""


def _state(connection: psycopg.Connection) -> str:
    row = connection.execute(_STATE).fetchone()
    assert row is not None
    return str(row[0])
