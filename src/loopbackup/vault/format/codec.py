"""msgpack with strict schemas: one place that turns decoding errors into ours."""

from __future__ import annotations

import sys
from array import array
from typing import Any, TypeVar

import msgspec

from ...errors import DamagedData

__all__ = ["decode", "encode", "little"]

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()
_decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}

encode = _encoder.encode


def decode(data: bytes | bytearray | memoryview, type_: type[T]) -> T:
    """
    Decode *data* as *type_*, refusing unknown fields and trailing bytes.

    Raises:
        DamagedData: The bytes are not of that shape.
    """
    decoder = _decoders.get(type_)
    if decoder is None:
        decoder = _decoders[type_] = msgspec.msgpack.Decoder(type_)
    try:
        value: T = decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise DamagedData(f"malformed {getattr(type_, '__name__', 'data')}: {exc}") from exc
    return value


def little(code: str, data: bytes | memoryview) -> array[int]:
    """Read little-endian unsigned integers ("I": 4 bytes, "Q": 8) on any machine."""
    found = array(code, bytes(data))
    if sys.byteorder == "big":
        found.byteswap()
    return found
