"""Write docs/cli.md from the commands' own help. ``make docs`` runs it; a test compares."""

from __future__ import annotations

from pathlib import Path

import click

from embstore.cli import group

PAGE = Path(__file__).with_name("cli.md")
INTRODUCTION = """# The command line

Generated from `--help` by `make docs`; do not edit.

Exit status: 0 done, 1 the operation failed (one line on stderr says why), 2 wrong usage,
130 interrupted. `--json` prints one JSON document. Results go to stdout, all else to stderr; a
progress bar appears on stderr while a load runs and stderr is a terminal. `EMBSTORE_URL` stands
for `--url` everywhere, `EMBSTORE_HOME` says where the embedded server keeps its data, and
`EMBSTORE_DEBUG=1` shows the traceback of an internal error.
"""


def page() -> str:
    """Return the page."""
    parts = [INTRODUCTION]
    for name, command in sorted(group.commands.items()):
        with click.Context(command, info_name=f"embstore {name}", max_content_width=100) as context:
            parts.append(f"## {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
