"""Index blocks of rows that a test makes up."""

from __future__ import annotations

from collections.abc import Iterable

from loopbackup.vault.format.pack import ROW, BlobRow, join_block

__all__ = ["encode_block"]


def encode_block(rows: Iterable[BlobRow], members: Iterable[bytes]) -> bytes:
    """Encode rows, then their members in the same order."""
    return join_block(b"".join(ROW.pack(*row) for row in rows), b"".join(members))
