import psycopg
import pytest

from embstore import Store
from embstore.release import releases

from .soak import begin, run


def test_no_answer_mixes_releases(store: Store) -> None:
    soak = run(begin(store), seconds=4, every=0.1)
    assert not soak.failures
    assert min(soak.queries) > 0 and soak.loads > 0 and soak.releases > 5
    for name in ("items", "users"):
        moves = store.table(name).history()
        assert len(moves) == soak.releases + 1


def test_it_would_be_seen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: tables that move one after the other are found out."""

    def apart(connection: psycopg.Connection, refs: list[str], **_: object) -> releases.Release:
        for ref in refs:
            connection.execute(
                "SELECT embstore.release(ARRAY[%s], 'apart', forced => true)", (ref,)
            )
        return releases.Release(None, "promote", (), tuple(refs), None, True, (), None, None, None)

    soak = begin(store)
    monkeypatch.setattr(releases, "release", apart)
    run(soak, seconds=30, every=0)
    assert soak.failures and "mixed" in " ".join(soak.failures)
