"""The nightly job: the k best items of every user, against numpy."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import embstore
from embstore import Store
from tests.fix_data import clusters, distances
from tests.fix_store import Command

USERS, ITEMS, DIM = 300, 900, 8
USER_VECTORS, ITEM_VECTORS = clusters(USERS, DIM, 1), clusters(ITEMS, DIM, 2)
RNG = np.random.default_rng(0)
SEEN = pd.DataFrame(
    {
        "rating": 5,
        "item_id": RNG.integers(0, ITEMS + 50, 6000),  # some of no item that is there
        "user_id": np.minimum(RNG.geometric(0.02, 6000), USERS + 20),  # and of no such user
    }
)
YEARS = 1990 + np.arange(ITEMS) % 30


def loaded(store: Store, text: bool = False, metric: str = "ip") -> None:
    ids: Any = [f"i{i}" for i in range(ITEMS)] if text else range(ITEMS)
    items = pd.DataFrame({"id": ids, "embedding": list(ITEM_VECTORS), "year": YEARS})
    store.create_table("items", metric=metric).load(items, promote=True)
    store.create_table("users", metric="ip").load(USER_VECTORS, ids=range(USERS), promote=True)


def expected(k: int, seen: pd.DataFrame | None, keep: Any = None) -> dict[int, list[int]]:
    near = distances("ip", USER_VECTORS, ITEM_VECTORS)
    if seen is not None:
        inside = seen[(seen.user_id < USERS) & (seen.item_id < ITEMS)]
        near[inside.user_id, inside.item_id] = np.inf
    if keep is not None:
        near[:, ~keep] = np.inf
    order = np.argsort(near, axis=1, kind="stable")[:, :k]
    return {
        user: [int(each) for each in order[user] if np.isfinite(near[user, each])]
        for user in range(USERS)
    }


def found(table: pa.Table) -> dict[int, list[Any]]:
    frame = table.to_pandas()
    assert (
        frame.groupby("user_id")["rank"]
        .apply(lambda rank: list(rank) == list(range(1, len(rank) + 1)))
        .all()
    )
    return dict(frame.groupby("user_id")["item_id"].apply(list))


def test_every_user_gets_the_k_best_that_were_not_seen(store: Store, tmp_path: Path) -> None:
    loaded(store)
    plain = store.recall("users", "items", 20, cache_dir=tmp_path).to_arrow()
    assert found(plain) == expected(20, None)
    product = (USER_VECTORS @ ITEM_VECTORS.T)[
        plain["user_id"].to_numpy(), plain["item_id"].to_numpy()
    ]
    np.testing.assert_allclose(plain["score"].to_numpy(), product, rtol=1e-5)
    told: list[tuple[int, int]] = []

    def note(done: int, total: int) -> None:
        told.append((done, total))

    recs = store.recall(
        "users",
        "items@1",
        20,
        exclude=SEEN,
        cache_dir=tmp_path,
        progress=note,
    )
    assert found(recs.to_arrow()) == expected(20, SEEN)
    assert told[-1] == (USERS, USERS)
    where = {"year": {">=": 2017}}
    few = store.recall("users", "items", 100, exclude=SEEN, where=where, cache_dir=tmp_path)
    assert found(few.to_arrow()) == expected(100, SEEN, YEARS >= 2017)
    assert max(map(len, expected(100, SEEN, YEARS >= 2017).values())) < 100
    near = store.recall("users", "items", 20, exclude=SEEN, approximate=True, cache_dir=tmp_path)
    hits = [
        len(set(own) & set(true))
        for own, true in zip(
            found(near.to_arrow()).values(), expected(20, SEEN).values(), strict=True
        )
    ]
    assert sum(hits) >= 0.95 * 20 * USERS


def test_text_ids_and_bits(store: Store, tmp_path: Path) -> None:
    loaded(store, text=True)
    seen = pa.table({"user_id": [1, 1, 2], "item_id": ["i5", "i6", "nothing"]})
    recs = store.recall("users", "items", 5, exclude=seen, cache_dir=tmp_path).to_arrow()
    true = expected(5, pd.DataFrame({"user_id": [1, 1], "item_id": [5, 6]}))
    assert found(recs) == {user: [f"i{i}" for i in own] for user, own in true.items()}
    for name, rows in (("bits", (ITEM_VECTORS > 0)), ("readers", (USER_VECTORS > 0))):
        store.create_table(name, metric="hamming").load(
            rows.astype(np.float32), ids=range(len(rows)), promote=True
        )
    bits = store.recall("readers", "bits", 3, cache_dir=tmp_path).to_arrow()
    exact = store["bits"].nearest((USER_VECTORS > 0).astype(np.float32), 3, exact=True)
    assert list(found(bits).values()) == exact.ids.tolist()


def test_a_user_without_direction_gets_nothing(store: Store, tmp_path: Path) -> None:
    loaded(store, metric="cosine")
    zero = USER_VECTORS.copy()
    zero[[3, 299]] = 0
    store.table("users").load(zero, ids=range(USERS), promote=True)
    recs = found(store.recall("users", "items", 4, cache_dir=tmp_path).to_arrow())
    assert set(range(USERS)) - set(recs) == {3, 299}


def test_the_file_is_whole_or_not_there(store: Store, tmp_path: Path) -> None:
    loaded(store)
    target = tmp_path / "recs.parquet"
    rows = store.recall("users", "items", 7, exclude=SEEN, cache_dir=tmp_path).to_parquet(target)
    table = pq.read_table(target)
    assert len(table) == rows and found(table) == expected(7, SEEN)
    assert table.schema.metadata[b"embstore.items"] == b"items@1"

    def fail(done: int, total: int) -> None:
        raise KeyboardInterrupt

    broken = store.recall("users", "items", 3, cache_dir=tmp_path, progress=fail)
    with pytest.raises(KeyboardInterrupt):
        broken.to_parquet(target)
    assert pq.read_table(target).num_rows == rows
    assert not list(tmp_path.glob(".recs*"))
    with pytest.raises(embstore.BadInput, match="cannot be written"):
        broken.to_parquet(tmp_path / "nowhere" / "recs.parquet")


def test_a_table_is_replaced_in_one_step(store: Store, tmp_path: Path) -> None:
    loaded(store)
    assert store.recall("users", "items", 5, cache_dir=tmp_path).to_table("recs") == 5 * USERS
    with store.reading() as reader:
        reader.execute("CREATE VIEW top AS SELECT * FROM recs WHERE rank = 1")
        with reader.transaction():
            reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            before = reader.execute("SELECT sum(item_id), count(*) FROM recs").fetchone()
            recs = store.recall("users", "items", 4, exclude=SEEN, cache_dir=tmp_path)
            assert recs.to_table("public.recs") == sum(map(len, expected(4, SEEN).values()))
            assert reader.execute("SELECT sum(item_id), count(*) FROM recs").fetchone() == before
        own = reader.execute("SELECT user_id, rank, item_id, score FROM recs").fetchall()
        table = pa.table(list(zip(*own, strict=True)), ["user_id", "rank", "item_id", "score"])
        assert found(table.sort_by([("user_id", "ascending"), ("rank", "ascending")])) == (
            expected(4, SEEN)
        )
        assert reader.execute("SELECT count(*) FROM top").fetchone() == (USERS,)
        about = reader.execute("SELECT obj_description('recs'::regclass)").fetchone()
        assert about == ("embstore recall of items@1 for users@1, k = 4",)

        def fail(done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.recall("users", "items", 3, cache_dir=tmp_path, progress=fail).to_table("recs")
        assert reader.execute("SELECT max(rank) FROM recs").fetchone() == (4,)
    for bad in ("emb.items_v1", "embstore.versions", "a.b.c", "", ".x", "x."):
        with pytest.raises(embstore.InvalidName, match="is no table to write to"):
            recs.to_table(bad)
    with pytest.raises(embstore.DatabaseFailed, match=r"schema .* does not exist"):
        recs.to_table('x; DROP TABLE "recs".y')


@pytest.mark.parametrize(
    ("how", "error", "why"),
    [
        ({"users": "nobody"}, embstore.NotFound, "no table 'nobody'"),
        ({"users": "small"}, embstore.DimensionMismatch, "small@1 has 4 dimensions and items@1 8"),
        ({"users": "bits"}, embstore.InvalidQuery, "only one holds bits"),
        ({"k": 0}, embstore.InvalidQuery, "k is 0"),
        ({"where": {"nothing": 1}}, embstore.InvalidQuery, "no attribute 'nothing'"),
        ({"exclude": pa.table({"a": [1]})}, embstore.BadInput, "one column"),
        (
            {"exclude": pa.table({"user_id": ["a"], "item_id": [1]})},
            embstore.BadInput,
            "exclude: users@1 has bigint ids",
        ),
        ({"exclude": "nowhere.parquet"}, embstore.NotFound, "nowhere.parquet"),
    ],
)
def test_what_cannot_be_asked(
    store: Store, tmp_path: Path, how: dict[str, Any], error: type[Exception], why: str
) -> None:
    loaded(store)
    store.create_table("small").load(USER_VECTORS[:, :4], ids=range(USERS), promote=True)
    bits = (USER_VECTORS > 0).astype(np.float32)
    store.create_table("bits", metric="hamming").load(bits, ids=range(USERS), promote=True)
    with pytest.raises(error, match=why):
        ask: dict[str, Any] = {"users": "users", "items": "items", "cache_dir": tmp_path} | how
        store.recall(**ask).to_arrow()


def test_the_command(cli: Command, tmp_path: Path) -> None:
    np.save(tmp_path / "users.npy", USER_VECTORS)
    np.save(tmp_path / "items.npy", ITEM_VECTORS)
    SEEN.to_csv(tmp_path / "seen.csv", index=False)
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    for name in ("users", "items"):
        made = cli("load", name, tmp_path / f"{name}.npy", "--ids", "row-number", "--metric", "ip",
                   "--promote")  # fmt: skip
        assert made.returncode == 0, made.stderr
    out = tmp_path / "recs.parquet"
    ask = ("recall", "users", "items", "-k", 6, "--exclude", tmp_path / "seen.csv")
    done = cli(*ask, "--out", out, **cache)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("300 users of users@1 x 6 of items@1: 1,800 rows to")
    numbered = {user + 0: own for user, own in expected(6, SEEN).items()}
    assert found(pq.read_table(out)) == numbered
    told = json.loads(cli(*ask, "--into-table", "recs", "--json", **cache).stdout)
    assert told["rows"] == 1800 and told["to"] == "recs"
    for bad, status in (
        (("recall", "users", "items"), 2),
        ((*ask, "--out", "a", "--into-table", "b"), 2),
        ((*ask[:3], "--out", out, "--where", "nothing=1"), 1),
        (("recall", "users", "nothing", "--out", out), 1),
    ):
        failed = cli(*bad, **cache)
        assert failed.returncode == status and "Traceback" not in failed.stderr, failed.stderr
        assert len(failed.stderr.strip().splitlines()) <= 4
