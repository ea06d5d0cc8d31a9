"""zstd, one compressor a thread, and decompression that cannot be blown up."""

from __future__ import annotations

import sys
import threading
from typing import Final

from ...errors import DamagedData
from ..format.pack import MAX_PLAIN_BYTES, STORED, ZSTD

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["compress", "decompress"]

LEVEL: Final = 3
_local = threading.local()


def compress(data: bytes | bytearray | memoryview) -> tuple[int, bytes | bytearray | memoryview]:
    """Give (codec, payload); the data itself where zstd does not make it smaller."""
    try:
        compressor = _local.compressor
    except AttributeError:
        compressor = _local.compressor = zstd.ZstdCompressor(LEVEL)
    packed = compressor.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)
    return (ZSTD, packed) if len(packed) < len(data) else (STORED, data)


def decompress(codec: int, payload: bytes, plain: int) -> bytes:
    """
    Undo :func:`compress`, never producing more than *plain* bytes.

    Raises:
        DamagedData: The payload is not *plain* bytes long once decompressed.
    """
    if plain > MAX_PLAIN_BYTES:
        raise DamagedData(f"a blob claims {plain} bytes; no chunk is that long")
    if codec == STORED:
        data = payload
    else:
        decompressor = zstd.ZstdDecompressor()
        try:
            # One byte more than expected shows a frame that is too long.
            data = decompressor.decompress(payload, plain + 1)
        except zstd.ZstdError as exc:
            raise DamagedData("a blob does not decompress") from exc
        if not decompressor.eof and len(data) <= plain:
            raise DamagedData("a blob's compressed frame is cut short")
    if len(data) != plain:
        raise DamagedData("a blob has another length than its index says")
    return data
