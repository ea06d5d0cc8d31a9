"""One entry of a snapshot as a user sees it, and in what two of them differ."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from attrs import field, frozen

from ..errors import InputError
from ..show import html, text
from ..terms import Subject, show_subject
from .format.entries import (
    BLOCK,
    CHAR,
    DIRECTORY,
    FIFO,
    FILE,
    ITEM,
    PROBLEM,
    SOCKET,
    SYMLINK,
    Extra,
    Node,
)
from .keys.domains import Domain
from .verbs.session import to_datetime
from .verbs.shown import RectifiedNode

__all__ = [
    "ENTRY_COLUMNS",
    "Entries",
    "Entry",
    "differences",
    "entry_facts",
    "entry_row",
    "folder_entry",
    "raw_path",
    "state_of",
    "to_entry",
    "type_of",
]

_TYPES: Final = {
    DIRECTORY: "directory",
    SYMLINK: "link",
    FILE: "file",
    ITEM: "item",
    PROBLEM: "missing",
    FIFO: "special",
    CHAR: "special",
    BLOCK: "special",
    SOCKET: "special",
}
_PLAIN: Final = Extra()
ENTRY_COLUMNS: Final = ("Path", "Type", "Size>", "Modified", "Subject")


@frozen(repr=False)
class Entry:
    """
    One entry of a snapshot.

    ``type`` is ``file``, ``item``, ``directory``, ``link``, ``special`` or
    ``missing``; the last could not be read, and ``problem`` says why.
    """

    path: str
    """Undecodable bytes as surrogates (``os.fsdecode``)."""
    raw_path: bytes
    type: str
    size_bytes: int
    """Holes of sparse files included."""
    modified_at: datetime | None
    """Aware UTC; None for an item whose time is not known, and a folder that is only implied."""
    subject: Subject | None = None
    mode: int = 0
    version: str | None = None
    meta: Mapping[str, str] = field(factory=dict, hash=False)
    problem: str | None = None
    uid: int = 0
    gid: int = 0
    user: str = ""
    group: str = ""
    target: str | None = None
    """Where a symbolic link leads, as stored."""
    xattrs: Mapping[bytes, bytes] = field(factory=dict, hash=False)
    overlay: str | None = None
    """Id of the overlay whose bytes are shown in the place of what was backed up."""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def __str__(self) -> str:
        when = f"{self.modified_at:%Y-%m-%d %H:%M}" if self.modified_at else " " * 16
        return f"{self.size_bytes:>12,}  {when}  {text.plain(self.path)}"

    def __repr__(self) -> str:
        when = f", {text.moment(self.modified_at)}" if self.modified_at else ""
        whose = f", subject={self.subject!r}" if self.subject is not None else ""
        wrong = f", {self.problem}" if self.problem else ""
        wrong += ", rectified" if self.overlay else ""
        size = text.size(self.size_bytes)
        return f"<Entry {text.plain(self.path)!r} {self.type}, {size}{when}{whose}{wrong}>"

    def _repr_html_(self) -> str:
        return html.card(self.path, entry_facts(self))


class Entries(tuple[Entry, ...]):
    """
    Entries that show themselves as a table, one a line or as HTML.

    For notebooks: ``lb.Entries(snapshot.ls("users"))``.
    """

    __slots__ = ()

    def __str__(self) -> str:
        return "\n".join(map(str, self))

    def __repr__(self) -> str:
        return f"<Entries: {len(self):,}>"

    def _repr_html_(self) -> str:
        return (
            html.card(f"{len(self):,} entries", (), self.table("")) if self else html.card("none")
        )

    def table(self, caption: str) -> html.Table:
        """Give the first of them as a table of texts."""
        rows = [entry_row(entry) for entry in self[: html.MAX_ROWS]]
        return html.Table(caption, ENTRY_COLUMNS, rows, len(self))


def entry_row(entry: Entry) -> tuple[str, ...]:
    """Give an entry as texts, one for each of :data:`ENTRY_COLUMNS`."""
    shown = f"{entry.type}, {entry.problem}" if entry.problem else entry.type
    subject = "" if entry.subject is None else _joined(entry.subject)
    when = text.moment(entry.modified_at)
    return entry.path, shown, text.size(entry.size_bytes), when, subject


def entry_facts(entry: Entry) -> list[tuple[str, str]]:
    """Give what is known of an entry but its path, as pairs of texts."""
    names = ("type", "size", "modified", "subject")
    pairs = zip(names, entry_row(entry)[1:], strict=True)
    shown = [(name, value) for name, value in pairs if value]
    return shown + ([("overlay", entry.overlay)] if entry.overlay else [])


def _joined(subject: Subject) -> str:
    return subject if isinstance(subject, str) else " / ".join(subject)


def type_of(node: Node) -> str:
    """Give the word for what a node is."""
    return _TYPES.get(node.kind, "special")


def to_entry(node: Node, domain: Domain) -> Entry:
    """Show a node to a user."""
    extra = node.extra or _PLAIN
    return Entry(
        node.path.decode("utf-8", "surrogateescape"),
        node.path,
        type_of(node),
        node.size,
        to_datetime(node.mtime_ns // 1000) if node.mtime_ns or node.kind == FILE else None,
        show_subject(domain.subject),
        node.mode,
        extra.version,
        extra.meta or {},
        extra.problem,
        node.uid,
        node.gid,
        node.user,
        node.group,
        None if extra.target is None else extra.target.decode("utf-8", "surrogateescape"),
        extra.xattrs or {},
        node.overlay if isinstance(node, RectifiedNode) else None,
    )


def folder_entry(path: bytes, subject: Subject | None) -> Entry:
    """Give the entry of a folder that exists only because something lies in it."""
    text_path = path.decode("utf-8", "surrogateescape")
    return Entry(text_path, path, "directory", 0, None, subject)


def raw_path(path: str | bytes | os.PathLike[str]) -> bytes:
    """
    Give a path as the vault stores it; slashes at its ends do not count.

    Raises:
        InputError: Not a path, or one that no entry can have: NUL, or text
            that is no text.
    """
    try:
        given = os.fspath(path)
    except TypeError:
        raise InputError(f"a path is text or bytes, not {type(path).__name__}") from None
    try:
        raw = given.encode("utf-8", "surrogateescape") if isinstance(given, str) else bytes(given)
    except UnicodeEncodeError:
        raise InputError("a path contains surrogates that stand for no byte", kind="path") from None
    if b"\0" in raw:
        raise InputError("a path contains NUL, which no entry's path does", kind="path")
    return raw.strip(b"/")


# ---- what differs

_Aspect = Callable[[Node], object]


def _extra(node: Node) -> Extra:
    return node.extra or _PLAIN


def _content(node: Node) -> object:
    extra = _extra(node)
    return node.size, node.chunks, extra.listed, tuple(extra.extents or ()), extra.extents is None


_ASPECTS: Final[Mapping[str, _Aspect]] = {
    "type": lambda node: node.kind,
    "content": _content,
    "mode": lambda node: node.mode,
    "owner": lambda node: (node.uid, node.gid, node.user, node.group),
    "times": lambda node: node.mtime_ns,
    "target": lambda node: _extra(node).target,
    "xattrs": lambda node: tuple(sorted((_extra(node).xattrs or {}).items())),
    "device": lambda node: _extra(node).rdev,
    # The number itself goes with the inode, which every restore changes.
    "links": lambda node: bool(_extra(node).link),
    "version": lambda node: _extra(node).version,
    "meta": lambda node: tuple(sorted((_extra(node).meta or {}).items())),
    "problem": lambda node: _extra(node).problem,
}


def differences(before: Node, after: Node) -> tuple[str, ...]:
    """Name the aspects in which two entries differ; empty when they are alike."""
    return tuple(name for name, aspect in _ASPECTS.items() if aspect(before) != aspect(after))


def state_of(node: Node) -> tuple[object, ...]:
    """Give everything of an entry that counts as its content or metadata, hashable."""
    return tuple(aspect(node) for aspect in _ASPECTS.values())
