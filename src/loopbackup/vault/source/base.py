"""What a backup reads from: the one interface of trees, URLs and items."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, Self

from attrs import define

from ...terms import SubjectKey
from ..format.entries import Node

__all__ = ["Found", "Reader", "ScanProblem", "Source"]


@define
class Found:
    """
    One entry that a source has found, before its content is read.

    ``node`` carries all metadata and no chunks. ``unchanged_by`` says how to
    tell that content need not be read: ``"stat"`` compares size, mtime_ns,
    ctime_ns and inode, ``"version"`` compares ``extra.version``, ``None``
    always reads. ``ref`` belongs to the source. ``no_subject`` says why a
    subject was asked for and there is none: ``"unmatched"``, or ``"subject"``
    where the name that should be one is no valid text.
    """

    node: Node
    subject: SubjectKey | None = None
    unchanged_by: str | None = None
    ref: Any = None
    no_subject: str | None = None
    held_bytes: int = 0
    """What it holds until its content is read: a bound on how far to read ahead."""
    links: int = 1
    """How many names its inode has; ``extra.link`` is set where there are several."""
    problem: ScanProblem | None = None
    """Something in it that could not be looked at; ``open`` may set it."""


class Reader(Protocol):
    """The content of one entry, from its start; use it as a context manager."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill *buffer* as far as possible; 0 means the end."""
        ...

    def changed(self) -> bool:
        """Tell whether the content changed while it was read."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


@define
class ScanProblem:
    """Something that the scan could not look at; the message holds no names."""

    path: bytes
    kind: str
    message: str
    subject: SubjectKey | None = None
    in_tree: bool = False
    """The entry of this path is yielded as well; something in it is missing."""


class Source(Protocol):
    """
    Something to back up.

    ``scan`` yields in tree order where ``in_order`` is true, each entry once;
    content is opened before the next entry is asked for. What cannot be
    looked at is yielded as a :class:`ScanProblem`.
    """

    in_order: bool
    opens_later: bool
    """Content may be opened after later entries were asked for."""
    name: str
    """The default name of the series; empty when the host must give one."""
    description: dict[str, str]
    """Where it comes from, stored sealed with the snapshot."""

    def scan(self) -> Iterator[Found | ScanProblem]:
        """Yield every entry."""
        ...

    def open(self, found: Found) -> Reader:
        """
        Open the content of *found*, the entry that ``scan`` yielded last.

        What is known only now is put into ``found.node.extra``. With
        ``extents`` there the reader gives the data of those alone.

        Raises:
            OSError: It cannot be read; the backup goes on without it.
        """
        ...

    def read(self, found: Found) -> bytes | None:
        """
        Give the content of a small file as a whole, where there is a quicker way to it.

        None where there is none, or anything is to be said about the entry;
        ``open`` says it.
        """
        ...

    def refresh(self, found: Found) -> Found:
        """
        Look at *found* once more, for a second reading after a change.

        Raises:
            OSError: It is gone.
        """
        ...

    def close(self) -> None:
        """Free what the scan holds."""
        ...
