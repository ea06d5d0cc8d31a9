"""
The last snapshot of a series: which files need not be read again.

Size, times and inode of a file tell that its content is the same only if the
times are older than the run that read it. A file that is changed within one
tick of its file system's clock after it was read looks as it did: Git calls
that "racily clean" (Documentation/technical/racy-git.txt).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from ...errors import DamagedData
from ..content.streams import Cursor, StreamReader
from ..format.entries import Node
from ..keys.domains import Domain
from ..source.base import Found
from .look import Described, read_table
from .session import Session

__all__ = ["RACY_NS", "Parent"]

MAX_CURSORS: Final = 512
RACY_NS: Final = 2_000_000_000
"""The coarsest clock of a file system that is in use: FAT counts in steps of two seconds."""


class Parent:
    """The last snapshot of the series: what need not be read again."""

    def __init__(self, session: Session, described: Described) -> None:
        self.id = described.record.id
        self._session = session
        self._table = read_table(session, described.record)
        self._damaged: set[bytes] = set()
        self._cursors: OrderedDict[bytes, Cursor] = OrderedDict()
        self._settled_ns = _began_ns(described.body.source) - RACY_NS

    def unchanged(self, domain: Domain, found: Found) -> Node | None:
        """
        Give the entry of the last snapshot if the content of *found* is the same.

        By ``stat`` it is where size, times and inode are equal and the times
        lie ``RACY_NS`` before the beginning of the run that read it. A
        snapshot that does not say when that was vouches for no file.
        """
        node, by, settled_ns = found.node, found.unchanged_by, self._settled_ns
        is_young = node.ctime_ns >= settled_ns or node.mtime_ns >= settled_ns
        if by is None or (by == "stat" and is_young):
            return None
        known = self._find(domain, node.path)
        if known is None or known.kind != node.kind or (known.extra and known.extra.problem):
            return None
        if by == "version":
            mine = node.extra.version if node.extra else None
            same = mine is not None and known.extra is not None and known.extra.version == mine
        else:
            same = (known.size, known.mtime_ns, known.ctime_ns, known.inode) == (
                node.size,
                node.mtime_ns,
                node.ctime_ns,
                node.inode,
            )
        return known if same else None

    def _find(self, domain: Domain, path: bytes) -> Node | None:
        cursor = self._cursors.get(domain.id)
        try:
            if cursor is None:
                row = None if domain.id in self._damaged else self._table.find(domain.id)
                if row is None:
                    return None
                cursor = Cursor(StreamReader(domain, row, self._session.reader))
                self._cursors[domain.id] = cursor
                while len(self._cursors) > MAX_CURSORS:
                    self._cursors.popitem(last=False)
            else:
                self._cursors.move_to_end(domain.id)
            return cursor.find(path)
        except DamagedData:
            # A damaged parent costs a full reading, not the backup.
            self._damaged.add(domain.id)
            self._cursors.pop(domain.id, None)
            return None


def _began_ns(source: dict[str, str]) -> int:
    """Say when the scan of a snapshot's source began; 0 where it does not say."""
    text = source.get("began_ns", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
