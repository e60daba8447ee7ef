"""Run the examples, each in a process of its own, and write what they print into the gallery.

python -m examples [NAME...] [--data PATH] [--quick] [--write]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import machine

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"

# In the order of the gallery: the embedding layer, features, recall.
NAMES = (
    "embedding_layer",
    "fm_to_fnn",
    "fm_features",
    "gbdt_lr",
    "two_rhythms",
    "youtube",
    "item2vec",
    "graph_walks",
    "eges",
    "pinsage",
    "airbnb",
    "pca",
    "aligned",
    "coldstart",
)


def run(name: str, data: str | None, *, quick: bool, picture: Path | None) -> str:
    """Run one, show what it prints as it comes, and return that.

    Raises
    ------
    SystemExit
        When it fails.
    """
    command = [sys.executable, "-m", f"examples.{name}"]
    command += [data] if data else []
    command += ["--quick"] if quick else []
    command += ["--picture", str(picture)] if picture else []
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE.parent) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        sys.exit(f"examples.{name} failed")
    return "".join(lines)


def section(name: str, printed: str) -> str:
    """Return an example's part of the gallery: the head of its README, the table, the picture."""
    title, about = (HERE / name / "README.md").read_text(encoding="utf-8").split("\n\n")[:2]
    return (
        f"## [{title.removeprefix('# ')}](../examples/{name}/README.md)\n\n{about}\n\n"
        f"![{title.removeprefix('# ')}](images/{name}.svg)\n\n{printed.strip()}\n"
    )


HEAD = """\
# Gallery

Every way the field uses embeddings, each a script of a page on a store: `python -m examples.NAME`
from a clone, with `pip install -e '.[examples]'`; `make examples` runs all and writes this page.
The models come from their own libraries, small, seeded and on a CPU.

They take goodbooks-10k where it lies beside the project, else data that are made up, or your own
ratings: `python -m examples.pca ratings.csv`. That is a file in any format that embstore reads
tables of, with `user_id` and `item_id`, else its first two columns, and a `rating` where there is
one. `--items FILE` tells of the items: `id` and any of `title`, `author`, `series`, `year`,
`language`, and `genres` or `tags`; an example that cannot do without says what is missing.

One run, on {}.
"""


def write(sections: dict[str, str]) -> None:
    """Write sections into the gallery; those of examples that were not run stay."""
    page = DOCS / "gallery.md"
    known = page.read_text(encoding="utf-8") if page.exists() else ""
    there = re.findall(
        r"^(## \[[^\n]*\]\(\.\./examples/(\w+)/README.*?)(?=\n^## |\Z)", known, re.M | re.S
    )
    own = {name: text for text, name in there} | sections
    text = "\n".join([HEAD.format(machine()), *(own[name] for name in NAMES if name in own)])
    page.write_text(text, encoding="utf-8")


def main() -> None:
    """Run the named ones, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--data", metavar="PATH", help="a folder with goodbooks-10k as Parquet")
    parser.add_argument("--quick", action="store_true", help="few readers, in seconds")
    parser.add_argument("--write", action="store_true", help="into docs/gallery.md, with pictures")
    asked = parser.parse_args()
    sections = {}
    for name in asked.names or NAMES:
        print(f"\n{name}\n", flush=True)
        image = DOCS / "images" / f"{name}.svg" if asked.write else None
        printed = run(name, asked.data, quick=asked.quick, picture=image)
        sections[name] = section(name, printed)
        if asked.write:
            write(sections)  # after each, so that a failure of one leaves the others


if __name__ == "__main__":
    main()
