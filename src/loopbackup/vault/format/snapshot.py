"""A snapshot on disk: root, table of domains, and what is sealed beside the record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from msgspec import Meta, Struct

from ...errors import InputError
from ...terms import text_size
from .header import Bytes16, Bytes32, Count

__all__ = [
    "INLINE_STREAM",
    "Report",
    "SnapshotBody",
    "SnapshotRoot",
    "StreamList",
    "TableRow",
    "check_labels",
]

INLINE_STREAM: Final = 4
"""A table row names so many stream chunks itself; more stand in a list chunk."""
MAX_NAME: Final = 4096
MAX_TAGS: Final = 64
MAX_TAGS_BYTES: Final = 4096


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

    name: Annotated[str, Meta(max_length=MAX_NAME)]
    created_us: int
    tags: dict[str, str]
    category: str | None
    source: dict[str, str]
    report: Report
    entries: Count
    size: Count


def check_labels(name: str, tags: Mapping[str, str], category: str | None) -> None:
    """
    Refuse what a snapshot could not be found by again.

    Raises:
        InputError: Not text; a name or category over 4,096 characters; over 64
            tags, or tags of more than 4 KiB in all.
    """
    for what, label in (("a snapshot's name", name), ("a category", category)):
        if label is not None and text_size(what, label) and len(label) > MAX_NAME:
            raise InputError(f"{what} has at most {MAX_NAME:,} characters, not {len(label):,}")
    if not isinstance(tags, Mapping):
        raise InputError(f"tags map text to text; {type(tags).__name__} does not")
    if len(tags) > MAX_TAGS:
        raise InputError(f"a snapshot has at most {MAX_TAGS} tags, not {len(tags):,}")
    size = sum(text_size("a tag", key) + text_size("a tag", tags[key]) for key in tags)
    if size > MAX_TAGS_BYTES:
        raise InputError(f"tags have at most {MAX_TAGS_BYTES:,} bytes in all, not {size:,}")
