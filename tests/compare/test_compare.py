"""Two versions compared: the figures against numpy, the page, the command."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.linalg import orthogonal_procrustes

from embstore import Comparison, InvalidQuery, Store
from tests.fix_data import Array, clusters
from tests.fix_store import Command

ROWS, DIM = 400, 8


def load(store: Store, metric: str = "cosine", name: str = "items") -> tuple[Array, Array]:
    """Versions 1 and 2, which differ by a rotation and noise; id 17 has moved far."""
    old = clusters(ROWS, DIM)
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((DIM, DIM)))[0]
    new = (old + 0.2 * clusters(ROWS, DIM, seed=9)) @ turn
    new[17] = -new[17]
    items = store.create_table(name, metric=metric)
    for ids, values in ((np.arange(ROWS), old), (np.arange(30, ROWS + 5), new[30:])):
        rows = np.vstack([values, clusters(len(ids) - len(values), DIM, seed=1)])
        if len(values) < ROWS:
            ids, rows = np.append(ids, 17), np.vstack([rows, new[17:18]])
        flat = pa.array(rows.ravel().astype(np.float32))
        embedding = pa.FixedSizeListArray.from_arrays(flat, DIM)
        titles = [f"<b>&{each}" for each in ids]
        items.load(pa.table({"id": ids, "title": titles, "year": ids, "embedding": embedding}))
    kept = [17, *range(30, ROWS)]
    return old[kept].astype(np.float64), new[kept].astype(np.float64)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_figures(store: Store, metric: str) -> None:
    old, new = load(store, metric)
    found = store.compare("items@1", "items@2", k=5, sample=50, top=3)
    assert found.rows == (ROWS, ROWS - 24) and found.dims == (DIM, DIM)
    assert (found.ids.added, found.ids.removed) == (5, 29)
    assert found.coverage == (ROWS - 29) / ROWS
    assert found.overlap is not None and found.aligned is not None and found.drift is not None
    assert (found.overlap.count, found.overlap.of) == (50, ROWS - 29)
    assert 0.3 < found.overlap.mean < 1 and found.overlap.error > 0
    if metric == "cosine":
        old, new = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (old, new))
    turned = new @ orthogonal_procrustes(new, old)[0]
    norm = np.linalg.norm(old)
    assert found.aligned.residual == pytest.approx(np.linalg.norm(turned - old) / norm, rel=1e-5)
    assert found.aligned.before == pytest.approx(np.linalg.norm(new - old) / norm, rel=1e-5)
    if metric == "cosine":
        far = 1 - (turned * old).sum(axis=1)
    else:
        far = np.linalg.norm(turned - old, axis=1) / math.sqrt((old**2).sum(axis=1).mean())
    assert found.drift.mean == pytest.approx(far.mean(), rel=1e-4)
    assert found.drift.p95 == pytest.approx(np.quantile(far, 0.95), rel=1e-4)
    assert (found.drift.count, found.drift.of, found.drift.error) == (len(far), len(far), 0)
    assert sum(count for *_, count in found.drift.histogram) == len(far)
    ids = np.array([17, *range(30, ROWS)])[np.argsort(-far)[:3]]
    assert [each.id for each in found.moved] == ids.tolist() and ids[0] == 17
    assert found.moved[0].attributes == {"title": "<b>&17", "year": 17}
    assert found.moved[0].drift == pytest.approx(far.max(), rel=1e-4)
    again = store.compare("items@1", "items@2", k=5, sample=50, top=3)
    assert json.loads(json.dumps(again.as_json())) == json.loads(json.dumps(found.as_json()))
    same = store.compare("items@2", "items@2", sample=20)
    assert same.overlap is not None and same.overlap.mean == 1 and same.overlap.p5 == 1
    assert same.drift is not None and same.drift.p95 < 1e-7 and same.coverage == 1


def test_by_neighbours_only(store: Store) -> None:
    old, new = load(store)
    items = store.table("items")
    ids = [17, *range(30, ROWS)]
    items.load(np.hstack([new, np.zeros((len(new), 1))]), ids=ids)
    found = store.compare("items@1", "items@3", k=5, sample=None, top=2)
    assert found.drift is None and found.aligned is None
    assert found.unaligned == "9 dimensions are not rotated onto 8"
    assert found.overlap is not None and found.overlap.error == 0
    assert len(found.moved) == 2 and found.moved[0].drift is None
    kept = [each.overlap or 0.0 for each in found.moved]
    assert kept == sorted(kept) and kept[0] <= found.overlap.p5
    # Too few for a rotation; then none at all; then bits.
    items.load(new[:4], ids=ids[:4])
    few = store.compare("items@1", "items@4")
    assert few.drift is None and few.k == 3 and "needs as many ids" in str(few.unaligned)
    items.load(new[:4], ids=range(1000, 1004))
    none = store.compare("items@1", "items@5")
    assert none.overlap is None and none.moved == () and none.coverage == 0
    leaves = store.create_table("leaves", metric="hamming")
    leaves.load(old > 0, ids=ids)
    leaves.load(new > 0, ids=ids)
    bits = store.compare("leaves@1", "leaves@2")
    assert bits.unaligned == "bits are not rotated" and bits.norms[0].median <= DIM
    for each in (few, none, bits):
        check_page(each)
    with pytest.raises(InvalidQuery, match="no attribute 'colour': it has title, year"):
        store.compare("items@1", "items@2", show=["colour"])
    with pytest.raises(InvalidQuery, match="k is 0"):
        store.compare("items@1", "items@2", 0)


def check_page(found: Comparison) -> str:
    """It is whole, and asks for nothing from elsewhere."""
    from html.parser import HTMLParser

    from embstore.compare.report import page

    text, waiting = page(found), []
    single = {"meta", "rect", "line"}

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag not in {"script", "link", "img", "b>"}
            assert not {name for name, _ in attrs} & {"src", "href"}
            if tag not in single:
                waiting.append(tag)

        def handle_endtag(self, tag: str) -> None:
            if tag not in single:
                assert waiting.pop() == tag

    Parser().feed(text)
    assert not waiting and found.old in text and found.new in text
    return text


def test_command_and_page(store: Store, cli: Command, tmp_path: Path) -> None:
    load(store)
    page = tmp_path / "page.html"
    arguments = ("compare", "items@1", "items@2", "-k", 5, "--sample", 50, "--top", 2)
    done = cli(*arguments, "--show", "title", "--html", page)
    assert done.returncode == 0, done.stderr
    assert "371 in common (92.75%" in done.stdout
    assert re.search(
        r"neighbours kept, of 5: mean 0\.\d+.* \(50 of 371 .*; ± 0\.0\d+\)", done.stdout
    )
    assert re.search(r"^ *17 +1\.\d+ +<b>&17 *$", done.stdout, re.M)
    found = store.compare("items@1", "items@2", 5, sample=50, top=2, show=["title"])
    assert page.read_text(encoding="utf-8") == check_page(found)
    assert "&lt;b&gt;&amp;17" in page.read_text(encoding="utf-8")
    done = cli(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    whole = store.compare("items@1", "items@2", 5, sample=50, top=2)
    assert json.loads(done.stdout) == json.loads(json.dumps(whole.as_json()))
    with pytest.raises(InvalidQuery, match=r"nowhere.page.html: the page cannot be written"):
        found.to_html(tmp_path / "nowhere" / "page.html")
