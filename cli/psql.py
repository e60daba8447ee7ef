"""psql: the real one, pointed at the store."""

from __future__ import annotations

import click

from . import options

# libpq reads these; a password in an argument could be seen in the list of processes.
_ENVIRONMENT = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
    "passfile": "PGPASSFILE",
    "service": "PGSERVICE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
}


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@options.url
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PSQL OPTION]...")
def psql(url: str | None, arguments: tuple[str, ...]) -> int:
    """Open psql on the store; further options are psql's own, such as -c 'SELECT 1'."""
    import os
    import shutil
    import signal
    import subprocess

    from psycopg.conninfo import conninfo_to_dict

    from embstore import server

    with options.open_store(url) as store:
        given = conninfo_to_dict(store.url)
        environment = os.environ | {
            variable: str(given[name]) for name, variable in _ENVIRONMENT.items() if given.get(name)
        }
        program = shutil.which("psql") if url else None
        # Ctrl-C is psql's to handle, in it and not in us.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return subprocess.run(
            [program or str(server.binary("psql")), *arguments],
            env=environment,
            check=False,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ).returncode


COMMANDS = (psql,)
