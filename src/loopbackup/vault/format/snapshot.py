"""A snapshot on disk: root, table of domains, and what is sealed beside the record."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from .header import Bytes16, Bytes32, Count

__all__ = ["INLINE_STREAM", "Report", "SnapshotBody", "SnapshotRoot", "StreamList", "TableRow"]

INLINE_STREAM: Final = 4
"""A table row names so many stream chunks itself; more stand in a list chunk."""


class TableRow(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """One domain of a snapshot."""

    domain: Bytes16
    chunks: bytes
    """Ids of the stream chunks, or of one list chunk where ``listed``."""
    listed: bool
    entries: Count
    size: Count
    """Sum of the entries' sizes in bytes."""


class StreamList(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Kind ``list``: the chunks of a long stream, with the first path of each."""

    chunks: bytes
    firsts: list[bytes]


class SnapshotRoot(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Kind ``root``, in the meta domain: where the table is."""

    version: Count
    snapshot: Bytes16
    table: bytes
    """Ids of table chunks (kind ``table``): msgpack arrays of rows, ascending by domain."""
    firsts: bytes
    """The first domain id of each table chunk."""
    entries: Count
    size: Count
    nonce: Bytes32
    """Random: no two roots are the same chunk."""


class Report(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Counts of a backup, stored with the snapshot."""

    files: Count = 0
    bytes_read: Count = 0
    bytes_added: Count = 0
    subjects: Count = 0
    without_subject: Count = 0
    unchanged: Count = 0
    problems: Count = 0
    seconds: float = 0.0


class SnapshotBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """
    What a snapshot is called; sealed in its ledger record.

    Under the subject's own domain where the snapshot is about one subject
    only, else under the vault's ``meta`` key.
    """

    name: Annotated[str, Meta(max_length=4096)]
    created_us: int
    tags: dict[str, str]
    category: str | None
    source: dict[str, str]
    report: Report
    entries: Count
    size: Count
