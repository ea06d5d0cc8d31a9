"""
What one entry of a snapshot is, on disk: one msgpack array.

The order of a stream is *tree order*: by the components of the path, so that
a folder comes right before what lies in it.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

__all__ = [
    "BLOCK",
    "CHAR",
    "DIRECTORY",
    "FIFO",
    "FILE",
    "ITEM",
    "MAX_LABELS_BYTES",
    "MAX_PATH_BYTES",
    "PROBLEM",
    "SOCKET",
    "SYMLINK",
    "TIMES_NS",
    "Extra",
    "Node",
    "clamp_ns",
    "is_safe_path",
    "tree_order",
]

FILE: Final = 0
DIRECTORY: Final = 1
SYMLINK: Final = 2
FIFO: Final = 3
CHAR: Final = 4
BLOCK: Final = 5
SOCKET: Final = 6
ITEM: Final = 7
"""An item of the host: content without a file system's metadata."""
PROBLEM: Final = 8
"""Something that should be here and could not be read; ``extra.problem`` says why."""

MAX_PATH_BYTES: Final = 65_536
MAX_LABELS_BYTES: Final = 65_536
"""Of ``version`` and ``meta`` of one entry together."""
TIMES_NS: Final = range(-(1 << 63), 1 << 64)
"""What an integer of the format holds: from 1677 to 2554."""
_UNSAFE: Final = re.compile(rb"\0|\A/|//|/\Z|(?:\A|/)\.\.?(?:/|\Z)")
"""A NUL, an empty part, or one that is "." or ".."."""


def clamp_ns(time_ns: int) -> int:
    """Give *time_ns*, or the nearest time that an integer of the format holds."""
    return min(max(time_ns, TIMES_NS[0]), TIMES_NS[-1])


class Extra(Struct, omit_defaults=True, forbid_unknown_fields=True):
    """What most entries do not have; a msgpack map with short keys."""

    target: bytes | None = None
    """Target of a symbolic link, as stored by the system."""
    link: int = 0
    """Files with the same number other than 0 are hard links to each other."""
    extents: list[tuple[int, int]] | None = None
    """(offset, length) of the data of a sparse file; holes are not stored."""
    xattrs: dict[bytes, bytes] | None = None
    rdev: int = 0
    version: str | None = None
    """Version of an item, as the host gave it."""
    meta: dict[str, str] | None = None
    listed: bool = False
    """``chunks`` names chunks of kind ``ids``, which hold the ids of the content."""
    problem: str | None = None
    """Code of what went wrong with this entry: its content is missing or unsure."""


class Node(Struct, array_like=True, forbid_unknown_fields=True):
    """
    One entry. Times are nanoseconds since 1970-01-01 UTC; sizes are bytes.

    ``chunks`` is the concatenation of 32-byte chunk ids in file order.
    """

    path: bytes
    kind: int
    mode: int = 0
    """Permission bits with setuid, setgid and sticky (``stat.S_IMODE``)."""
    uid: int = 0
    gid: int = 0
    user: str = ""
    group: str = ""
    mtime_ns: int = 0
    ctime_ns: int = 0
    inode: int = 0
    size: int = 0
    chunks: bytes = b""
    extra: Extra | None = None

    def chunk_ids(self) -> list[bytes]:
        """Give the ids of its chunks, in file order."""
        return [self.chunks[at : at + 32] for at in range(0, len(self.chunks), 32)]


def tree_order(path: bytes) -> bytes:
    """Give the sort key of tree order: "/" sorts before every other byte."""
    return path.replace(b"/", b"\0")


def is_safe_path(path: bytes) -> bool:
    """Tell whether *path* is relative, not empty, and stays below its root."""
    # One search costs a fifth of taking the path apart, for each entry of a restore.
    return 0 < len(path) <= MAX_PATH_BYTES and _UNSAFE.search(path) is None
