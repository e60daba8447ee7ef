"""demo: the main job on the digits that scikit-learn ships, each step as a command to copy."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embstore import Version

_TABLE = "demo_digits"
_NEIGHBOURS = 10


@click.command()
@click.option("--clean", is_flag=True, help=f"Remove the table {_TABLE} and the files at the end.")
def demo(clean: bool) -> None:
    """Run the main job on the embedded server with 1,797 real images of digits.

    Trains PCA with 16 and 32 dimensions, loads both as versions, promotes, asks for neighbours,
    compares them with the raw pixels, rolls back, looks up, and asks psql. Prints each command.
    """
    import embstore

    folder = Path(tempfile.mkdtemp(prefix="embstore-demo-"))
    try:
        # Held open, so that the server is not stopped and started between the commands.
        with embstore.connect() as store:
            if _TABLE in [table.name for table in store.tables()]:
                store.drop_table(_TABLE)
            _run_all(folder, store)
            if clean:
                store.drop_table(_TABLE)
    finally:
        if clean:
            shutil.rmtree(folder)
    _say("Your own vectors: embstore load items vectors.parquet --promote")


def _run_all(folder: Path, store: Any) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels, labels = digits.data.astype("float32"), digits.target
    _say("1797 images of handwritten digits, 64 pixels each; PCA makes 16 and 32 numbers of them.")
    for dim in (16, 32):
        _train(folder / f"pca{dim}.parquet", pixels, labels, dim)

    _say("Load each as a version; the first goes live.")
    first = ["--trainer", "sklearn.PCA", "--metric", "l2"]
    _embstore(
        "load", _TABLE, folder / "pca16.parquet", *first, "--param", "n_components=16", "--promote"
    )
    _embstore("load", _TABLE, folder / "pca32.parquet", *first, "--param", "n_components=32")
    _embstore("versions", _TABLE)

    _say("Neighbours of image 7 in what is live; label is an attribute, loaded beside the vector.")
    _embstore("nearest", _TABLE, "--id", 7, "-k", 5, "--show", "label")

    # A table that was dropped by an earlier run keeps its numbers used.
    first_ref, second_ref = (each.ref for each in store.table(_TABLE).versions())
    _say("The second version goes live in one atomic step, to another dimension too.")
    _embstore("promote", second_ref, "--message", "32 dimensions")
    _embstore("nearest", _TABLE, "--id", 7, "-k", 5, "--show", "label")

    _say(f"How often do {_NEIGHBOURS} neighbours show the same digit?")
    for name, rate in (
        ("raw pixels, 64 dims (numpy, exact)", _hit_rate(_pixel_neighbours(pixels), labels)),
        (f"{first_ref}, 16 dims (HNSW)", _hit_rate(_stored(store[first_ref]), labels)),
        (f"{second_ref}, 32 dims (HNSW)", _hit_rate(_stored(store[second_ref]), labels)),
    ):
        print(f"  {name:<36} {rate:6.1%}")

    _say("Back, in one step as well; the history keeps both moves.")
    _embstore("rollback", _TABLE)
    _embstore("show", _TABLE)

    _say("Lookup: ids in, their vectors out, in order.")
    _embstore("lookup", _TABLE, 7, 42, "--show", "label")

    _say("The same neighbours in SQL; the view emb.<table> is always the live version.")
    _embstore(
        "psql",
        "-c",
        "SELECT id, label FROM emb.demo_digits WHERE id <> 7 ORDER BY embedding <->"
        " (SELECT embedding FROM emb.demo_digits WHERE id = 7) LIMIT 5",
    )


def _train(path: Path, pixels: NDArray[np.float32], labels: NDArray[Any], dim: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from sklearn.decomposition import PCA

    vectors = PCA(dim, random_state=0).fit_transform(pixels).astype("float32")
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim)
    ids = pa.array(range(len(labels)))
    pq.write_table(pa.table({"id": ids, "label": pa.array(labels), "embedding": embedding}), path)


def _stored(version: Version) -> NDArray[Any]:
    ids, _ = version.to_numpy()
    found = version.similar(ids, _NEIGHBOURS)
    rows: NDArray[Any] = found.ids[ids.argsort()]
    return rows


def _pixel_neighbours(pixels: NDArray[np.float32]) -> NDArray[Any]:
    import numpy as np

    squares = (pixels**2).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2 * pixels @ pixels.T
    np.fill_diagonal(distances, np.inf)
    return np.argsort(distances, axis=1)[:, :_NEIGHBOURS]


def _hit_rate(neighbours: NDArray[Any], labels: NDArray[Any]) -> float:
    return float((labels[neighbours] == labels[:, None]).mean())


def _say(text: str) -> None:
    print(f"\n# {text}", flush=True)


def _embstore(*arguments: object) -> None:
    """Run a command as a user would, after printing it."""
    words = [str(each) for each in arguments]
    print(f"$ embstore {shlex.join(words)}", flush=True)
    environment = {name: value for name, value in os.environ.items() if name != "EMBSTORE_URL"}
    done = subprocess.run([sys.executable, "-m", "embstore", *words], check=False, env=environment)
    if done.returncode:
        raise SystemExit(done.returncode)


COMMANDS = (demo,)
