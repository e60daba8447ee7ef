"""Write vectors to a Feast online store and look them up; run by Feast's own interpreter.

Takes a folder with base.npy, asked.json (lists of ids) and online.json (Feast's online_store);
prints the seconds of the write and the median milliseconds of a lookup as JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Array, Float32


def main(folder: Path) -> None:
    base = np.load(folder / "base.npy")
    asked = json.loads((folder / "asked.json").read_text())
    now = datetime.now(UTC)
    frame = pd.DataFrame(
        {"item_id": np.arange(len(base)), "embedding": list(base), "event_timestamp": now}
    )
    # Feast reads the schema of its offline source, which is not used otherwise.
    frame[:10].to_parquet(folder / "offline.parquet")
    store = FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry=str(folder / "registry.db"),
            online_store=json.loads((folder / "online.json").read_text()),
            entity_key_serialization_version=3,
        )
    )
    item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.INT64)
    view = FeatureView(
        name="items",
        entities=[item],
        ttl=timedelta(0),
        schema=[Field(name="embedding", dtype=Array(Float32))],
        source=FileSource(path=str(folder / "offline.parquet"), timestamp_field="event_timestamp"),
    )
    store.apply([item, view])
    start = time.perf_counter()
    for at in range(0, len(frame), 10_000):
        store.write_to_online_store("items", frame[at : at + 10_000])
    written = time.perf_counter() - start

    def lookup(ids: list[int]) -> list[list[float]]:
        found = store.get_online_features(
            features=["items:embedding"], entity_rows=[{"item_id": key} for key in ids]
        )
        return found.to_dict()["embedding"]  # type: ignore[no-any-return]

    seconds = []
    for ids in asked[:25]:
        start = time.perf_counter()
        found = lookup(ids)
        seconds.append(time.perf_counter() - start)
    assert np.allclose(found, base[asked[24]])
    store.teardown()
    print(json.dumps({"write": written, "milliseconds": 1000 * statistics.median(seconds[5:])}))


main(Path(sys.argv[1]))
