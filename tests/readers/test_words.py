"""The word2vec family and graphs: gensim, fastText, TensorBoard's projector, node vectors."""

import gzip
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embstore import BadInput, EmbstoreError, Store
from embstore.readers import Opened, Wanted, open_source
from embstore.readers.files import fasttext, word2vec_binary
from tests.fix_data import clusters
from tests.fix_store import Command, Server

pytest.importorskip("gensim")
from gensim.models import Doc2Vec, FastText, KeyedVectors, Word2Vec
from gensim.models.doc2vec import TaggedDocument
from gensim.models.fasttext import load_facebook_vectors, save_facebook_model

DRAW = np.random.default_rng(0)
WORDS = sorted(
    {"".join(DRAW.choice(list("abcdéßж日😀"), n)) for n in DRAW.integers(1, 9, 300)}
    | {"</s>", "x", "<", "'"}
)
TEXT = [list(DRAW.choice(WORDS, 12)) for _ in range(200)]


def opened(source: Any, **how: Any) -> tuple[Opened, list[Any], Any]:
    with open_source(source, Wanted(**how)) as found:
        table = pa.Table.from_batches(list(found.batches), found.schema)
    vectors = np.asarray(table.column("embedding").combine_chunks().flatten())
    return found, table.column("id").to_pylist(), vectors.reshape(-1, found.dim)


def column(source: Any, name: str, **how: Any) -> list[Any]:
    with open_source(source, Wanted(**how)) as found:
        return [each for batch in found.batches for each in batch.column(name).to_pylist()]


def word2vec(**how: Any) -> Any:
    return Word2Vec(TEXT, vector_size=6, min_count=1, workers=1, epochs=2, **how)


# gensim's objects and files


def test_word2vec_model() -> None:
    model = word2vec(sg=1, window=3, compute_loss=True)
    found, words, vectors = opened(model)
    assert words == model.wv.index_to_key
    np.testing.assert_array_equal(vectors, model.wv.vectors)
    assert column(model, "count") == [model.wv.get_vecattr(each, "count") for each in words]
    assert found.trainer == "gensim.Word2Vec"
    expected = {"vector_size": 6, "window": 3, "epochs": 2, "sg": 1, "hs": 0, "negative": 5}
    assert expected.items() <= found.params.items()
    assert (found.params["corpus_count"], found.params["corpus_total_words"]) == (200, 2400)
    assert str(found.params["library"]).startswith("gensim 4")
    assert found.metrics["running_training_loss"] == model.get_latest_training_loss() > 0
    np.testing.assert_array_equal(opened(model, vectors="output")[2], model.syn1neg)
    both = model.wv.vectors + model.syn1neg
    np.testing.assert_array_equal(opened(model, vectors="sum")[2], both)


def test_fasttext_model() -> None:
    model = FastText(TEXT, vector_size=6, min_count=1, bucket=50, epochs=1, min_n=2)
    found, words, vectors = opened(model)
    np.testing.assert_array_equal(vectors, [model.wv[each] for each in words])
    assert (found.trainer, found.params["bucket"], found.params["min_n"]) == (
        "gensim.FastText",
        50,
        2,
    )
    np.testing.assert_array_equal(opened(model, vectors="output")[2], model.syn1neg)
    found, words, again = opened(model.wv)
    np.testing.assert_array_equal(again, vectors)
    assert (found.trainer, words) == ("gensim.FastTextKeyedVectors", model.wv.index_to_key)


@pytest.mark.parametrize("tags", [[0, 1, 2], ["a", "b", "c"]])
def test_doc2vec_model(tags: list[Any]) -> None:
    texts = [TaggedDocument(words, [tag]) for words, tag in zip(TEXT, tags, strict=False)]
    model = Doc2Vec(texts, vector_size=4, min_count=1, epochs=1, dm=0)
    found, ids, vectors = opened(model)
    assert ids == tags
    np.testing.assert_array_equal(vectors, [model.dv[each] for each in tags])
    assert (found.trainer, found.params["dm"]) == ("gensim.Doc2Vec", False)
    np.testing.assert_array_equal(opened(model, vectors="words")[2], model.wv.vectors)


def test_keyed_vectors(tmp_path: Path) -> None:
    keyed = KeyedVectors(3)
    keyed.add_vectors(["a", "b", "c"], clusters(3, 3))
    keyed.set_vecattr("b", "genre", "jazz")
    keyed.set_vecattr("c", "year", 1999)
    found, ids, vectors = opened(keyed)
    assert (ids, found.trainer) == (["a", "b", "c"], "gensim.KeyedVectors")
    np.testing.assert_array_equal(vectors, clusters(3, 3))
    assert (column(keyed, "genre"), column(keyed, "year")) == ([None, "jazz", None], [0, 0, 1999])
    keyed.save_word2vec_format(str(tmp_path / "v.vec"))
    again = KeyedVectors.load_word2vec_format(str(tmp_path / "v.vec"))
    # Its counts are 3, 2, 1: made up.
    assert opened(again)[0].schema.names == ["id", "embedding"]
    renamed = opened(keyed, ids=[7, 8, 9])
    assert renamed[1] == [7, 8, 9]


@pytest.mark.parametrize(
    ("model", "how", "says"),
    [
        (word2vec(hs=1, negative=0), {"vectors": "output"}, "Word2Vec .* without negative"),
        (word2vec(hs=1, negative=0), {"vectors": "sum"}, "Word2Vec .* without negative"),
        (word2vec(), {"vectors": "wv"}, "Word2Vec has no 'wv': .* 'input', 'output', 'sum'"),
        (word2vec().wv, {"vectors": "sum"}, "KeyedVectors has no 'sum': .* 'input'"),
        (KeyedVectors(3), {}, "KeyedVectors .*no rows"),
        (word2vec(), {"ids": [1, 2]}, "Word2Vec: there are 2 ids for"),
        (
            Doc2Vec([TaggedDocument(["a", "b"], [0, "x"])], vector_size=2, min_count=1),
            {},
            "Doc2Vec: these cannot be ids",
        ),
    ],
)
def test_bad_models(model: Any, how: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        opened(model, **how)


@pytest.mark.parametrize("name", ["m.model", "m.model.gz", "v.kv", "v.kv.gz", "nameless"])
@pytest.mark.parametrize("aside", [True, False])
def test_saved_by_gensim(tmp_path: Path, name: str, aside: bool) -> None:
    model = word2vec()
    path = tmp_path / name
    (model.wv if "kv" in name else model).save(str(path), sep_limit=1 if aside else 1 << 20)
    assert (len(list(tmp_path.iterdir())) > 1) == aside
    with pytest.raises(BadInput, match=r"--allow-pickle .*save_word2vec_format") as refused:
        opened(path)
    assert str(path) in str(refused.value)
    found, words, vectors = opened(path, allow_pickle=True)
    assert (words, found.name) == (model.wv.index_to_key, str(path))
    np.testing.assert_array_equal(vectors, model.wv.vectors)
    assert found.trainer in {"gensim.Word2Vec", "gensim.KeyedVectors"}


def test_arrays_beside_a_model_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "v.kv"
    word2vec().wv.save(str(path), sep_limit=1)
    (tmp_path / "v.kv.vectors.npy").unlink()
    with pytest.raises(BadInput, match=r"v\.kv: .* v\.kv\.vectors\.npy is not there: copy"):
        opened(path, allow_pickle=True)


def test_gensim_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    word2vec().wv.save(str(tmp_path / "v.kv"))
    monkeypatch.setitem(sys.modules, "gensim", None)
    with pytest.raises(EmbstoreError, match=r"pip install 'embstore\[gensim\]'"):
        opened(tmp_path / "v.kv", allow_pickle=True)


def test_model_becomes_a_version(store: Store) -> None:
    model = word2vec()
    version = store.create_table("words").load(model)
    assert (version.trainer, version.rows, version.dim) == ("gensim.Word2Vec", len(model.wv), 6)
    assert version.params["window"] == 5
    np.testing.assert_array_equal(version.lookup(["x"]).vectors[0], model.wv["x"])


# fastText's own files


def fasttext_model(
    words: list[str],
    matrices: Any,
    *,
    labels: int = 0,
    loss: int = 2,
    model: int = 2,
    bucket: int = 40,
    ngrams: tuple[int, int] = (3, 6),
    version: int = 12,
    pruned: int = -1,
) -> bytes:
    """Write a model as fastText 0.9 does (Args::save, Dictionary::save, DenseMatrix::save)."""
    dim = matrices[0].shape[1]
    parts = [
        struct.pack("<ii", 793712314, version),
        struct.pack("<12id", dim, 5, 3, 1, 5, 1, loss, model, bucket, *ngrams, 100, 1e-4),
        struct.pack("<iiiqq", len(words), len(words) - labels, labels, 999, pruned),
    ]
    for i, word in enumerate(words):
        parts += [word.encode(), b"\0", struct.pack("<qb", 256 * i, i >= len(words) - labels)]
    for each in matrices:
        parts += [struct.pack("<?qq", False, *each.shape), each.astype("<f4").tobytes()]
    return b"".join(parts)


def random_model(
    bucket: int = 40, labels: int = 0, rows: int = len(WORDS), **how: Any
) -> tuple[bytes, Any, Any]:
    words = WORDS[:rows]
    source = DRAW.standard_normal((len(words) + bucket, 5), np.float32)
    target = DRAW.standard_normal((labels or len(words), 5), np.float32)
    words = words + [f"__label__{i}" for i in range(labels)]
    data = fasttext_model(words, (source, target), labels=labels, bucket=bucket, **how)
    return data, source, target


def subwords(word: str, shortest: int, longest: int, bucket: int) -> list[int]:
    """Dictionary::computeSubwords, by characters."""
    found = []
    text = f"<{word}>" if word != "</s>" else ""
    for i in range(len(text)):
        for n in range(1, min(longest, len(text) - i) + 1):
            if n >= shortest and not (n == 1 and (i == 0 or i + n == len(text))):
                value = 2166136261
                for byte in text[i : i + n].encode():
                    value = (value ^ (byte | 0xFFFFFF00 if byte > 127 else byte)) & 0xFFFFFFFF
                    value = value * 16777619 & 0xFFFFFFFF
                found.append(value % bucket)
    return found


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("ngrams", [(3, 6), (1, 2), (2, 5), (0, 0), (5, 4)])
def test_fasttext_bin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ngrams: tuple[int, int], packed: bool
) -> None:
    monkeypatch.setattr(fasttext, "_MAX_HASHED", 4000)  # some words a block
    data, source, target = random_model(ngrams=ngrams)
    path = tmp_path / "m.bin"
    path.write_bytes(gzip.compress(data) if packed else data)
    found, words, vectors = opened(path)
    assert words == WORDS
    for row, word in enumerate(WORDS):
        total, rows = source[row].copy(), subwords(word, *ngrams, 40)
        for each in rows:
            total += source[len(WORDS) + each]
        np.testing.assert_array_equal(vectors[row], total * np.float32(1 / (len(rows) + 1)))
    assert column(path, "count") == [256 * i for i in range(len(WORDS))]
    assert (found.trainer, found.rows) == ("fastText", len(WORDS))
    expected = {"dim": 5, "ws": 5, "epoch": 3, "loss": "ns", "model": "skipgram", "t": 1e-4}
    assert {**expected, "bucket": 40, "ntokens": 999}.items() <= found.params.items()
    np.testing.assert_array_equal(opened(path, vectors="output")[2], target)
    np.testing.assert_array_equal(opened(path, vectors="sum")[2], vectors + target)


@pytest.mark.filterwarnings("ignore")
def test_fasttext_bin_of_gensim(tmp_path: Path) -> None:
    model = FastText(TEXT, vector_size=7, min_count=1, bucket=90, epochs=1, min_n=2, max_n=4)
    save_facebook_model(model, str(tmp_path / "m.bin"))
    theirs = load_facebook_vectors(str(tmp_path / "m.bin"))
    found, words, vectors = opened(tmp_path / "m.bin")
    assert words == theirs.index_to_key
    for word, vector in zip(words, vectors, strict=True):
        if word != "</s>":  # has no n-grams in fastText, and some in gensim
            np.testing.assert_allclose(vector, theirs[word], rtol=1e-5, atol=1e-7)
    assert found.params["minn"] == 2


@pytest.mark.parametrize("version", [11, 12])
def test_supervised_fasttext(tmp_path: Path, version: int) -> None:
    data, source, target = random_model(labels=3, loss=3, model=3, ngrams=(2, 3), version=version)
    path = tmp_path / "m.bin"
    path.write_bytes(data)
    _, labels, vectors = opened(path, vectors="output")
    assert labels == ["__label__0", "__label__1", "__label__2"]
    np.testing.assert_array_equal(vectors, target)
    assert column(path, "count", vectors="output")[0] == 256 * len(WORDS)
    _, words, vectors = opened(path)
    assert words == WORDS
    # Version 11 knew no n-grams in classifiers, whatever its arguments say.
    assert np.array_equal(vectors, source[: len(WORDS)]) == (version == 11)
    with pytest.raises(BadInput, match="has no 'sum'"):
        opened(path, vectors="sum")


def patched(data: bytes, at: int, form: str, value: int) -> bytes:
    return data[:at] + struct.pack(form, value) + data[at + struct.calcsize(form) :]


SMALL, _, _ = random_model(rows=9)
_INPUT = SMALL.index(b"\0" + struct.pack("<qq", 49, 5))
BAD_MODELS: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "cut in head": (SMALL[:50], {}, "truncated"),
    "cut in words": (SMALL[:110], {}, "declares 9 entries|inside its dictionary"),
    "cut in input": (SMALL[:-300], {}, "input matrix of 49 x 5|output matrix of 9 x 5"),
    "cut in output": (SMALL[:-1], {}, "output matrix of 9 x 5 .* 179 bytes left"),
    "trailing": (SMALL + b"x", {}, "goes on behind .* 1 bytes"),
    "version": (patched(SMALL, 4, "<i", 13), {}, "version 11 or 12"),
    "dim 0": (patched(SMALL, 8, "<i", 0), {}, "declares dim 0"),
    "dim": (patched(SMALL, 8, "<i", 6), {}, "does not fit its dim 6"),
    "loss": (patched(SMALL, 32, "<i", 9), {}, "declares loss 9"),
    "bucket": (patched(SMALL, 40, "<i", 2**31 - 1), {}, "49 input vectors for 9 words"),
    "maxn": (patched(SMALL, 48, "<i", 2**31 - 1), {}, "declares maxn"),
    "entries": (patched(SMALL, 64, "<i", 2**31 - 1), {}, "declares 2147483647 entries"),
    "labels": (patched(SMALL, 72, "<i", -1), {}, "-1 labels"),
    "pruned": (patched(SMALL, 84, "<q", 5), {}, "quantised or pruned"),
    "quantised": (patched(SMALL, _INPUT, "<B", 1), {}, "quantised or pruned"),
    "huge": (patched(SMALL, _INPUT + 1, "<q", 2**61), {}, "does not fit"),
    "negative": (patched(SMALL, _INPUT + 1, "<q", -9), {}, "does not fit"),
    "no end": (SMALL.replace(b"\0", b"a"), {}, "version 11|declares"),
    "hs": (random_model(loss=1)[0], {"vectors": "output"}, "no output vector per word .loss hs"),
    "unknown": (SMALL, {"vectors": "wv"}, "has no 'wv': .* 'input', 'output', 'sum'"),
    "ids": (SMALL, {"ids": "x"}, "leave --ids out"),
    "long": (fasttext_model(["y" * 2000], [np.ones((41, 1))] * 2), {}, "row 1: .* longer than"),
    "encoding": (
        SMALL.replace(WORDS[4].encode() + b"\0", b"\xff\0", 1),
        {},
        "row 5: the word is not valid UTF-8",
    ),
    "none": (fasttext_model([], [np.ones((40, 1))] * 2), {}, "no rows"),
}


@pytest.mark.parametrize("case", BAD_MODELS)
def test_bad_fasttext_bin(tmp_path: Path, case: str) -> None:
    data, how, says = BAD_MODELS[case]
    path = tmp_path / "m.bin"
    path.write_bytes(data)
    with (
        pytest.raises(BadInput, match=says) as caught,
        open_source(path, Wanted(**how), format="fasttext") as found,
    ):
        list(found.batches)
    assert str(path) in str(caught.value)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, len(SMALL) - 1), st.binary(max_size=9), st.booleans())
def test_damaged_fasttext_bin(tmp_path: Path, at: int, put: bytes, cut: bool) -> None:
    path = tmp_path / "m.bin"
    path.write_bytes(SMALL[:at] + put + (b"" if cut else SMALL[at + len(put) :]))
    try:
        opened(path)
    except EmbstoreError as error:
        assert "\n" not in str(error)


def test_vec_with_a_wrong_count(tmp_path: Path) -> None:
    lines = [f"{word} 1 2.5 " for word in WORDS[:9]]
    path = tmp_path / "m.vec"
    path.write_text("\n".join(["9 2", *lines, ""]), encoding="utf-8")
    _, words, vectors = opened(path)
    assert words == WORDS[:9]
    np.testing.assert_array_equal(vectors, [[1, 2.5]] * 9)
    path.write_text("\n".join(["10 2", *lines, ""]), encoding="utf-8")
    with pytest.raises(BadInput, match=r"m\.vec declares 10 vectors and holds 9"):
        opened(path)


@pytest.mark.parametrize("newline", [b"", b"\n"])
def test_word2vec_binary_in_small_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newline: bytes
) -> None:
    monkeypatch.setattr(word2vec_binary, "CHUNK", 16)
    vectors = clusters(len(WORDS), 3)
    rows = [w.encode() + b" " + v.tobytes() for w, v in zip(WORDS, vectors, strict=True)]
    path = tmp_path / "m.bin"
    path.write_bytes(f"{len(WORDS)} 3\n".encode() + b"".join(row + newline for row in rows))
    _, words, found = opened(path)
    assert words == WORDS
    np.testing.assert_array_equal(found, vectors)
    bad = rows[7].replace(WORDS[7].encode() + b" ", b"\xc3 ", 1)
    path.write_bytes(f"{len(WORDS)} 3\n".encode() + b"".join([*rows[:7], bad, *rows[8:]]))
    with pytest.raises(BadInput, match="row 8: the word is not valid UTF-8"):
        opened(path)


# TensorBoard's projector


PAIR = clusters(4, 3)


def projector(folder: Path, metadata: str, delimiter: str = "\t") -> Path:
    np.savetxt(folder / "vectors.tsv", PAIR, delimiter=delimiter, fmt="%.9g")
    (folder / "metadata.tsv").write_text(metadata, encoding="utf-8")
    return folder / "vectors.tsv"


@pytest.mark.parametrize("delimiter", ["\t", ","])
def test_projector(tmp_path: Path, delimiter: str) -> None:
    path = projector(tmp_path, 'the\nid\n"\nof\n', delimiter)
    found, ids, vectors = opened(path, ids=tmp_path / "metadata.tsv")
    assert (ids, found.provenance["format"]) == (["the", "id", '"', "of"], "projector")
    np.testing.assert_array_equal(vectors, PAIR)
    assert opened(path, ids="row-number")[1] == [0, 1, 2, 3]
    assert opened(path, ids=["a", "b", "c", "d"])[1] == ["a", "b", "c", "d"]


def test_projector_with_columns(tmp_path: Path) -> None:
    path = projector(tmp_path, "word\tcount\tkind\nthe\t9\tx\nof\t8\t\na\t7\tx\nb\t6\ty\n")
    ids = tmp_path / "metadata.tsv"
    found, words, vectors = opened(path, ids=str(ids))
    assert words == ["the", "of", "a", "b"]
    np.testing.assert_array_equal(vectors, PAIR)
    assert found.schema.names == ["id", "embedding", "count", "kind"]
    assert column(path, "count", ids=ids) == [9, 8, 7, 6]
    projector(tmp_path, "word\tid\nthe\t5\nof\t6\na\t7\nb\t8\n")
    assert opened(path, ids=ids)[1] == [5, 6, 7, 8]
    assert column(path, "word", ids=ids) == ["the", "of", "a", "b"]


def test_wide_projector(tmp_path: Path) -> None:
    wide = clusters(3, 2000)  # a line longer than the look at the content
    np.savetxt(tmp_path / "v.tsv", wide, delimiter="\t", fmt="%.9g")
    np.testing.assert_array_equal(opened(tmp_path / "v.tsv", ids="row-number")[2], wide)


def test_a_header_of_numbers_is_a_header(tmp_path: Path) -> None:
    (tmp_path / "v.tsv").write_text("0\t1\t2\n0.5\t1\t2\n")
    np.testing.assert_array_equal(opened(tmp_path / "v.tsv", ids=["a"])[2], [[0.5, 1, 2]])


@pytest.mark.parametrize(
    ("vectors", "metadata", "says"),
    [
        (None, "the\nof\n", "2 ids for at least 4 vectors"),
        (None, "a\nb\nc\nd\ne\n", "5 ids for 4 vectors"),
        (None, "w\tn\na\t1\n", "1 ids for at least 4 vectors"),
        (None, "w\tn\n" + "a\t1\n" * 5, "5 ids for 4 vectors"),
        ("0.5\t2\n3\tx\n", "a\nb\n", "row 2 cannot be read as numbers: column 'dimension 1'"),
        ("0.5\t2\n3\n", "a\nb\n", "row 2 cannot be read as numbers: 1 fields where 2"),
        (None, None, "the ids are not there; say with --ids"),
    ],
)
def test_bad_projector(
    tmp_path: Path, vectors: str | None, metadata: str | None, says: str
) -> None:
    path = projector(tmp_path, metadata or "")
    if vectors is not None:
        path.write_text(vectors)
    with pytest.raises(BadInput, match=says) as caught:
        opened(path, ids=tmp_path / "metadata.tsv" if metadata else None)
    assert str(path) in str(caught.value)


def test_projector_on_the_command_line(
    tmp_path: Path, pg: Server, database: str, cli: Command
) -> None:
    path = projector(tmp_path, "word\tcount\nthe\t9\nof\t8\na\t7\nb\t6\n")
    url = pg.url(database)
    ids = str(tmp_path / "metadata.tsv")
    done = cli("load", "words", str(path), "--ids", ids, "--promote", "--url", url)
    assert done.returncode == 0, done.stderr
    shown = cli("lookup", "words", "of", "--url", url)
    assert shown.returncode == 0, shown.stderr


# Graphs


def test_nodes_are_bigint_if_asked(tmp_path: Path, store: Store) -> None:
    walks = [[str(each) for each in DRAW.integers(0, 30, 10)] for _ in range(100)]
    model = Word2Vec(walks, vector_size=4, min_count=1, sg=1, workers=1, epochs=1)
    model.wv.save_word2vec_format(str(tmp_path / "nodes.emb"))
    nodes = store.create_table("nodes")
    for source in (tmp_path / "nodes.emb", model):
        version = nodes.load(source, id_type="bigint")
        np.testing.assert_allclose(version.lookup([7]).vectors[0], model.wv["7"], rtol=1e-6)
    walks[5][5] = "seven"
    mixed = Word2Vec(walks, vector_size=4, min_count=1, workers=1, epochs=1)
    with pytest.raises(BadInput, match="id 'seven' is no integer, and the ids are bigint"):
        nodes.load(mixed)


def test_tables_with_several_vectors(tmp_path: Path) -> None:
    sides = {name: clusters(6, 3, seed) for seed, name in enumerate(["item", "brand", "shop"])}
    table = pa.table({"id": range(6), **{name: list(each) for name, each in sides.items()}})
    pq.write_table(table, tmp_path / "eges.parquet")
    with pytest.raises(BadInput, match=r"eges\.parquet: .* 'item', 'brand', 'shop'; .*--vectors"):
        opened(tmp_path / "eges.parquet")
    for name, side in sides.items():
        _, ids, vectors = opened(tmp_path / "eges.parquet", vectors=name)
        assert ids == list(range(6))
        np.testing.assert_array_equal(vectors, side)
