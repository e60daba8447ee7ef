"""``python -m tests.kills``: 200 kills, of clients and servers, at any moment of each work."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import tempfile
from pathlib import Path

import embstore

from . import kills
from .worker import WORKS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="three of four kill a client")
    parser.add_argument("--seed", type=int, default=0)
    names = [each for each in WORKS if each != "apart"]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="WORK")
    given = parser.parse_args()
    rng = random.Random(given.seed)
    os.environ.pop("EMBSTORE_URL", None)
    folder = Path(tempfile.mkdtemp(prefix="embstore-kills-"))
    folder.chmod(0o711)
    home = folder / "home"
    try:
        with kills.own_server(home) as url:
            with embstore.connect(url) as store:
                kills.fill(store)
            for at, work in enumerate(given.only):
                share = len(range(at, given.rounds, len(given.only)))
                servers = share // 4
                done = kills.kill_clients(url, work, share - servers, rng)
                done += kills.kill_servers(home, work, servers, rng)
                print(
                    f"{work}: {share - servers} clients and {servers} servers killed, {done} pieces"
                    " acknowledged: all there, none between",
                    flush=True,
                )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
