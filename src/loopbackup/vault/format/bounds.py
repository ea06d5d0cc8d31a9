"""
How many bytes an object of each kind may have.

A store is not trusted: without a bound, one that shows 20 GB where a key slot
belongs would take the memory of whoever asks for it.
"""

from __future__ import annotations

from typing import Final

from . import header, record

__all__ = [
    "MAX_HEADER_OBJECT_BYTES",
    "MAX_LIST_BYTES",
    "MAX_RECORD_BYTES",
    "MAX_ROOT_BYTES",
    "MAX_SHARD_BYTES",
    "MAX_SUMMARY_BYTES",
    "MAX_TOMBSTONE_BYTES",
]

_LENGTH_BYTES: Final = 4
_SIGNATURE_BYTES: Final = 64

MAX_RECORD_BYTES: Final = (
    len(record.MAGIC)
    + _LENGTH_BYTES
    + record.MAX_FRAME_BYTES
    + _SIGNATURE_BYTES
    + record.MAX_BODIES * (_LENGTH_BYTES + record.MAX_BODY_BYTES)
)
"""A frame and sixteen bodies of full length."""

MAX_HEADER_OBJECT_BYTES: Final = (
    len(header.MAGIC)
    + _LENGTH_BYTES
    + header.MAX_HEADER_BYTES
    + header.MARK_BYTES
    + MAX_RECORD_BYTES
)
"""The object ``vault`` ends with record 0."""

MAX_ROOT_BYTES: Final = 1 << 20
"""Keys of 272 shards and 64 slots with their public keys fill a fifth of it."""

MAX_SHARD_BYTES: Final = 1 << 28
"""Room for a million subjects in each of the 256 home shards."""

MAX_LIST_BYTES: Final = 1 << 30
"""Names of 32 million packs, which is a petabyte in packs of 32 MiB."""

MAX_TOMBSTONE_BYTES: Final = 1 << 26
"""Keys of an epoch, and the ids of some million domains that were erased since another."""

MAX_SUMMARY_BYTES: Final = 1 << 30
"""About a million snapshots. A summary is a cache: a longer one is passed over."""
