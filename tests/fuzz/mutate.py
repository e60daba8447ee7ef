"""How a valid file becomes a damaged or hostile one.

What is packed or counted is taken apart first, changed inside and put together again, so that a
change gets past the checksums and the lengths that would otherwise be all that is ever tested.
"""

from __future__ import annotations

import gzip
import io
import re
import struct
import zipfile
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeAlias

import pyarrow as pa

Change: TypeAlias = Callable[[Random, bytes, Sequence[bytes]], bytes]

# Larger inputs only cost time.
LARGEST = 1 << 18

_EXTREMES = (0, 1, 2, 3, 7, 127, 128, 255, 256, 4096, 32767, 65535, 65536, 16_000, 16_001)
_HUGE = tuple(2**n + d for n in (20, 24, 30, 31, 32, 40, 62, 63, 64) for d in (-1, 0, 1))
_WORDS = rb"""
nan NaN inf -inf Infinity 1e999 -1e999 1e-999 1e39 -0 -0.0 +1 1_0 0x10 1e 1d5 1,5 007 1.0 0 1 -1
65504 65520 3.5e38 1e-46 99999999999999999999 9223372036854775807 9223372036854775808
-9223372036854775808 null true false None [] {} [ ] { } [1,2] [[1]] {"a":1} "a" "" " ' , ; : . - #
2020-01-01 ../../etc/passwd \N \ \u0000 \ud800 \ud83d\ude00
"""
_TEXTS = (
    *_WORDS.split(),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"\xe2\x80\xae", b"\x1b[31m"),
    *(b"\0", b"", b" ", b"  ", b"\t", b"\n", b"\n\n", b"\r", b"\r\n", b"\xc2\x85", b"\xe2\x80\xa8"),
    *(b"9" * 400, b"a" * 1025, b"[" * 2000, b'{"a":' * 500, b"0" * 70 + b"1", b"1 " * 300),
)
_TOKEN = re.compile(rb"[0-9.eE+-]+|[A-Za-z_]+|\"[^\"\n]*\"|'[^'\n]*'|\S")


def damaged(random: Random, data: bytes, others: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """Return ``data`` with one to four changes.

    Parameters
    ----------
    others : sequence of bytes
        Files to splice with.
    words : sequence of bytes
        What means something to the format.
    """
    for _ in range(random.choice((1, 1, 1, 2, 2, 4))):
        data = _once(random, data, others, words, depth=0)
    return data[:LARGEST]


def _once(
    random: Random, data: bytes, others: Sequence[bytes], words: Sequence[bytes], depth: int
) -> bytes:
    if depth < 3 and random.random() < 0.7:
        for inside in _INSIDE:
            changed = inside(
                random, data, lambda part: _once(random, part, others, words, depth + 1)
            )
            if changed is not None:
                return changed
    change = random.choice(_CHANGES)
    if words and random.random() < 0.15:
        return _token(random, data, words)
    return change(random, data, others)


def truncations(data: bytes, head: int = 4096) -> range:
    """Return the lengths to which a file is cut: at each byte of its head."""
    return range(min(len(data), head))


def _place(random: Random, data: bytes) -> int:
    """Return a place in the file; the head and the tail, where formats keep their tables, often."""
    size = len(data)
    where = random.random()
    if where < 0.3:
        return random.randrange(min(size, 64) + 1)
    if where < 0.5:
        return random.randrange(min(size, 512) + 1)
    if where < 0.7:
        return max(0, size - random.randrange(min(size, 512) + 1))
    return random.randrange(size + 1)


def _number(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    width = random.choice((1, 2, 4, 4, 8, 8))
    at = _place(random, data)
    if random.random() < 0.7:
        at -= at % min(width, 4)
    near = (len(data), len(data) - 1, len(data) + 1, len(data) // 4, -1, -2, -(2**31), -(2**63))
    value = random.choice((*_EXTREMES, *_HUGE, *near))
    if random.random() < 0.3 and at + width <= len(data):
        value = int.from_bytes(data[at : at + width], "little") + random.choice((-1, 1, 8, -8))
    order: str = random.choice(("little", "little", "big"))
    put = (value % (1 << 8 * width)).to_bytes(width, "little" if order == "little" else "big")
    return data[:at] + put + data[at + width :]


def _flip(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        if changed:
            changed[min(_place(random, data), len(changed) - 1)] ^= 1 << random.randrange(8)
    return bytes(changed)


def _noise(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at, count = _place(random, data), random.choice((1, 2, 4, 16, 200))
    keep = random.choice((0, count))
    return data[:at] + random.randbytes(count) + data[at + keep :]


def _cut(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return data[: _place(random, data)]


def _remove(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at = _place(random, data)
    return data[:at] + data[at + random.choice((1, 2, 4, 8, 64, 1000)) :]


def _repeat(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at, count = _place(random, data), random.choice((1, 4, 8, 40, 400))
    chunk = data[at : at + count]
    times = random.choice((1, 2, 3, 300))
    return data[:at] + chunk * min(times, LARGEST // (len(chunk) + 1)) + data[at:]


def _splice(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = random.choice(others)
    return data[: _place(random, data)] + other[_place(random, other) :]


def _trail(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    junk = (b"\0", b"\n", b"\0" * 4096, random.randbytes(9), data, b" ", b"more\n")
    return data + random.choice(junk)


def _text(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    if random.random() < 0.7:
        return _token(random, data, _TEXTS)
    at = _place(random, data)
    return data[:at] + random.choice(_TEXTS) + data[at:]


def _token(random: Random, data: bytes, words: Sequence[bytes]) -> bytes:
    """Put a word in the place of a number, a name or a quoted text."""
    found = _TOKEN.search(data, _place(random, data))
    if found is None:
        return data + random.choice(words)
    return data[: found.start()] + random.choice(words) + data[found.end() :]


def _lines(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    lines = data.split(b"\n")
    a, b = random.randrange(len(lines)), random.randrange(len(lines))
    how = random.choice(("swap", "repeat", "remove"))
    if how == "swap":
        lines[a], lines[b] = lines[b], lines[a]
    elif how == "repeat":
        lines.insert(a, lines[b])
    else:
        del lines[a]
    return b"\n".join(lines)


_CHANGES: tuple[Change, ...] = (
    *(_number, _number, _number, _flip, _noise, _cut, _remove, _repeat, _splice, _trail),
    *(_text, _text, _lines),
)

_Inner: TypeAlias = Callable[[bytes], bytes]


def _in_gzip(random: Random, data: bytes, change: _Inner) -> bytes | None:
    if not data.startswith(b"\x1f\x8b"):
        return None
    try:
        return gzip.compress(change(gzip.decompress(data))[:LARGEST], 1, mtime=0)
    except (OSError, EOFError, ValueError, struct.error):
        return None
    except Exception:  # zlib.error: damaged before
        return None


def _in_zstd(random: Random, data: bytes, change: _Inner) -> bytes | None:
    if not data.startswith(b"\x28\xb5\x2f\xfd"):
        return None
    try:
        inner = pa.CompressedInputStream(pa.BufferReader(data), "zstd").read(LARGEST)
    except (OSError, pa.ArrowException):
        return None
    return bytes(pa.compress(change(inner)[:LARGEST], codec="zstd", asbytes=True))


def _in_zip(random: Random, data: bytes, change: _Inner) -> bytes | None:
    if not data.startswith(b"PK\x03\x04"):
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    except Exception:  # damaged before, in one of zipfile's many ways
        return None
    if not members:
        return None
    chosen = random.randrange(len(members))
    name, inner = members[chosen]
    how = random.random()
    if how < 0.75:
        members[chosen] = (name, change(inner)[:LARGEST])
    elif how < 0.85:
        changed = change(name.encode()).decode("utf-8", "replace").replace("\0", "")
        members[chosen] = (changed[:200] or "x", inner)
    elif how < 0.95:
        members.insert(random.randrange(len(members) + 1), (name, inner))
    else:
        del members[chosen]
    out = io.BytesIO()
    packing = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(out, "w", packing) as archive:
        for each, content in members:
            info = zipfile.ZipInfo(each)
            info.compress_type = packing
            archive.writestr(info, content)
    return out.getvalue()


def _in_npy(random: Random, data: bytes, change: _Inner) -> bytes | None:
    """Change the header and correct its length."""
    if not data.startswith(b"\x93NUMPY") or len(data) < 10 or random.random() < 0.4:
        return None
    size = int.from_bytes(data[8:10], "little")
    header = change(data[10 : 10 + size])[:65_535]
    return data[:8] + len(header).to_bytes(2, "little") + header + data[10 + size :]


def _in_safetensors(random: Random, data: bytes, change: _Inner) -> bytes | None:
    """Change the header and correct its length."""
    size = int.from_bytes(data[:8], "little")
    if data[8:9] != b"{" or size > len(data) or random.random() < 0.4:
        return None
    header = change(data[8 : 8 + size])
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def _in_parquet(random: Random, data: bytes, change: _Inner) -> bytes | None:
    """Change the footer and correct its length."""
    if not data.startswith(b"PAR1") or not data.endswith(b"PAR1") or random.random() < 0.4:
        return None
    size = int.from_bytes(data[-8:-4], "little")
    if size > len(data) - 12:
        return None
    footer = change(data[-8 - size : -8])
    return data[: -8 - size] + footer + len(footer).to_bytes(4, "little") + b"PAR1"


_INSIDE = (_in_gzip, _in_zstd, _in_zip, _in_npy, _in_safetensors, _in_parquet)
