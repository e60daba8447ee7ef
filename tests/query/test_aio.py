"""The async client: the same answers, many at a time, also through a pooler."""

import asyncio

import numpy as np
import psycopg
import pytest

import embstore
import embstore.aio
from embstore import Store
from tests.fix_data import clusters
from tests.fix_pooler import Pooler

VECTORS = clusters(5000, 16)


def loaded(store: Store) -> None:
    years = [1990 + i % 30 for i in range(5000)]
    columns = {"id": range(5000), "embedding": list(VECTORS), "year": years}
    import pandas as pd

    items = store.create_table("items", metric="ip")
    items.load(pd.DataFrame(columns), index="hnsw", promote=True)
    users = store.create_table("users", metric="ip")
    users.load(VECTORS[:100, :8], ids=[f"u{i}" for i in range(100)], promote=True)


def test_the_same_answers_as_the_sync_client(store: Store) -> None:
    loaded(store)

    async def ask() -> None:
        async with await embstore.aio.connect(store.url) as opened:
            table, version = await opened.table("items"), await opened.version("items@1")
            sync = store["items@1"]
            for reads in (table, version):
                for queries in (VECTORS[3], VECTORS[:2500]):
                    found, expected = await reads.nearest(queries, 7), sync.nearest(queries, 7)
                    np.testing.assert_array_equal(found.ids, expected.ids)
                    np.testing.assert_array_equal(found.distances, expected.distances)
                recent = await reads.similar([3, 4], where={"year": {">=": 2015}}, show=["year"])
                assert all(year >= 2015 for year in recent.attributes["year"].ravel())
                looked = await reads.lookup([5, 4, 4711_000], "zero")
                np.testing.assert_array_equal(looked.vectors[:2], VECTORS[[5, 4]])
                assert looked.found.tolist() == [True, True, False]
                weights = await reads.embedding_matrix([4711_000, 5], scale=1.0)
                assert weights[0].any()
            both = await opened.features({"items": [1, 2], "users": ["u2", "u1"]})
            np.testing.assert_array_equal(both.vectors[:, 16:], VECTORS[[2, 1], :8])
            assert version.dim == 16 and version.ref == "items@1"
            assert [each.number for each in await table.versions()] == [1]
            newer = await table.load(VECTORS[:50], ids=range(50), promote=True)
            assert newer.ref == (await table.live()).ref == "items@2"
            assert (await table.rollback()).version == 1
            with pytest.raises(embstore.NotFound, match="no id 99999"):
                await version.lookup([99999])
            with pytest.raises(embstore.DimensionMismatch):
                await version.nearest(np.ones(3))

    asyncio.run(ask())


def test_many_tasks_share_the_pool(store: Store) -> None:
    loaded(store)

    async def ask() -> None:
        async with await embstore.aio.connect(store.url) as opened:
            items = await opened.table("items")
            many = [items.nearest(VECTORS[i], 3) for i in range(200)]
            batches = [items.nearest(VECTORS[:4500], 3) for _ in range(4)]
            answers = await asyncio.gather(*batches, *many)
            assert [each.ids[0, 0] for each in answers[4:]] == [
                each.ids[0, 0] for each in map(store["items@1"].nearest, VECTORS[:200])
            ]
            assert all(np.array_equal(each.ids, answers[0].ids) for each in answers[1:4])

    asyncio.run(ask())


def test_a_cancelled_call_gives_its_connection_back(store: Store) -> None:
    loaded(store)

    async def ask() -> None:
        async with await embstore.aio.connect(store.url) as opened:
            items = await opened.table("items")
            for _ in range(30):
                task = asyncio.create_task(items.nearest(VECTORS, 50, exact=True))
                await asyncio.sleep(0.01)
                if task.cancel():  # else a busy machine has let it end before
                    with pytest.raises(asyncio.CancelledError):
                        await task
            assert (await items.nearest(VECTORS[0])).ids.shape == (1, 10)

    asyncio.run(ask())


def test_through_a_pooler_in_transaction_mode(store: Store, pooler: Pooler) -> None:
    loaded(store)
    with (
        psycopg.connect(pooler.url, autocommit=True) as plain,
        pytest.raises(psycopg.errors.InvalidSqlStatementName),  # it is a pooler that bites
    ):
        for _ in range(9):
            plain.execute("SELECT %s::int", (1,), prepare=True)
    expected = store["items@1"].nearest(VECTORS[:2500], 5)
    with embstore.connect(store.url, read_url=pooler.url) as opened:
        items = opened.table("items")
        for i in range(12):
            np.testing.assert_array_equal(items.nearest(VECTORS[i], 5).ids[0], expected.ids[i])
        np.testing.assert_array_equal(items.nearest(VECTORS[:2500], 5).ids, expected.ids)
        assert items.nearest(VECTORS[0], 5, unsafe_where="year > 2000").counts == [5]
        items.lookup(range(100))

    async def ask() -> None:
        async with await embstore.aio.connect(store.url, read_url=pooler.url) as opened:
            items = await opened.table("items")
            answers = await asyncio.gather(*(items.nearest(VECTORS[i], 5) for i in range(60)))
            for i, each in enumerate(answers):
                np.testing.assert_array_equal(each.ids[0], expected.ids[i])
            np.testing.assert_array_equal(
                (await items.nearest(VECTORS[:2500], 5)).ids, expected.ids
            )

    asyncio.run(ask())
    assert next(pooler.transactions) > 70
