"""The command line: each command parses, calls one function of the library, and prints."""

from __future__ import annotations

import os
import sys

import click

from . import (
    admin,
    append,
    coldstart,
    compare,
    demo,
    drop,
    evaluate,
    export,
    formats,
    gc,
    index,
    load,
    lookup,
    migrate,
    nearest,
    pin,
    promote,
    psql,
    recall,
    replica,
    show,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="embstore", message="embstore %(version)s")
def group() -> None:
    """Embeddings as immutable versions in Postgres: load, promote, nearest, lookup.

    Without --url or $EMBSTORE_URL, commands use the embedded Postgres under $EMBSTORE_HOME: they
    start it, or join it when it runs.
    """


MODULES = (
    admin,
    load,
    append,
    coldstart,
    formats,
    show,
    promote,
    nearest,
    lookup,
    recall,
    index,
    evaluate,
    compare,
    export,
    replica,
    pin,
    drop,
    gc,
    migrate,
    psql,
    demo,
)
for module in MODULES:
    for command in module.COMMANDS:
        group.add_command(command)


def main() -> None:
    """Run the command line. Exit status: 0 done, 1 the operation failed, 2 usage."""
    from embstore.errors import EmbstoreError

    try:
        status = group.main(standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        print("embstore: interrupted", file=sys.stderr)
        sys.exit(130)
    except EmbstoreError as error:
        fail(str(error))
    except BrokenPipeError:
        # The reader of our output has gone, as `| head -1` does; nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if os.environ.get("EMBSTORE_DEBUG"):
            raise
        fail(f"internal error, {type(error).__name__}: {error} (EMBSTORE_DEBUG=1 shows where)")


def fail(message: str) -> None:
    """Say what failed in one line, and exit with 1."""
    print(f"embstore: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(1)
