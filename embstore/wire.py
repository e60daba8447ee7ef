"""Vectors and ids as bound parameters in PostgreSQL's binary format, built by numpy.

The driver's own adaptation of a numpy array goes through a Python list; these are one copy.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.adapt import Dumper
from psycopg.pq import Format

from .connection import Engine

_INT8_OID = 20
_TEXT_OID = 25
_BIT_OID = 1560
_BIG_ENDIAN = np.dtype(">f4")


@dataclass(frozen=True, slots=True)
class Vector:
    """A ``vector`` parameter, already encoded."""

    data: bytes


@dataclass(frozen=True, slots=True)
class VectorArray:
    """A ``vector[]`` parameter, already encoded."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Bits:
    """A ``bit`` parameter, already encoded."""

    data: bytes


@dataclass(frozen=True, slots=True)
class BitsArray:
    """A ``bit[]`` parameter, already encoded."""

    data: bytes


@dataclass(frozen=True, slots=True)
class BigintArray:
    """A ``bigint[]`` parameter, already encoded."""

    data: bytes


class _Encoded(Dumper):
    format = Format.BINARY

    def dump(self, obj: Any) -> bytes:
        return obj.data  # type: ignore[no-any-return]


def register(connection: psycopg.BaseConnection[Any], engine: Engine) -> None:
    """Teach a connection the parameter types of this module."""
    for kind, oid in (
        (Vector, engine.vector_oid),
        (VectorArray, engine.vector_array_oid),
        (Bits, _BIT_OID),
        (BitsArray, 1561),
        (BigintArray, 1016),
    ):
        dumper = type(f"_{kind.__name__}Dumper", (_Encoded,), {"oid": oid})
        connection.adapters.register_dumper(kind, dumper)


def vector(values: NDArray[np.float32]) -> Vector:
    """Encode one vector (dim,)."""
    return Vector(struct.pack(">HH", len(values), 0) + values.astype(_BIG_ENDIAN).tobytes())


def encoded(parameter: object, engine: Engine) -> tuple[bytes, int]:
    """Return a parameter of a search in binary form, and its type: a vector, bits or an id."""
    if isinstance(parameter, Vector):
        return parameter.data, engine.vector_oid
    if isinstance(parameter, Bits):
        return parameter.data, _BIT_OID
    if isinstance(parameter, int):
        return struct.pack(">q", parameter), _INT8_OID
    return str(parameter).encode(), _TEXT_OID


def vector_array(engine: Engine, values: NDArray[np.float32]) -> VectorArray:
    """Encode vectors (n, dim)."""
    count, dim = values.shape
    element = np.dtype(
        [("length", ">i4"), ("dim", ">u2"), ("unused", ">u2"), ("value", ">f4", (dim,))]
    )
    packed = np.empty(count, element)
    packed["length"], packed["dim"], packed["unused"] = 4 + 4 * dim, dim, 0
    packed["value"] = values
    return VectorArray(_array_header(engine.vector_oid, count) + packed.tobytes())


def bits(values: NDArray[np.float32]) -> Bits:
    """Encode one vector (dim,) of 0 and 1 as bits."""
    return Bits(struct.pack(">i", len(values)) + np.packbits(values != 0).tobytes())


def bits_array(values: NDArray[np.float32]) -> BitsArray:
    """Encode vectors (n, dim) of 0 and 1 as bits."""
    stored = np.packbits(values != 0, axis=1)
    count, width = stored.shape
    element = np.dtype([("length", ">i4"), ("dim", ">i4"), ("value", "u1", (width,))])
    packed = np.empty(count, element)
    packed["length"], packed["dim"], packed["value"] = 4 + width, values.shape[1], stored
    return BitsArray(_array_header(_BIT_OID, count) + packed.tobytes())


def bigint_array(values: NDArray[np.int64]) -> BigintArray:
    """Encode integers (n,)."""
    packed = np.empty(len(values), np.dtype([("length", ">i4"), ("value", ">i8")]))
    packed["length"], packed["value"] = 8, values
    return BigintArray(_array_header(_INT8_OID, len(values)) + packed.tobytes())


def _array_header(oid: int, count: int) -> bytes:
    if not count:
        return struct.pack(">iiI", 0, 0, oid)
    return struct.pack(">iiIii", 1, 0, oid, count, 1)
