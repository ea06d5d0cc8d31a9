"""A snapshot in the hands of a user: looks, never acts."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, BinaryIO

from attrs import field, frozen

from ..errors import DamagedData, InputError, NotFoundError
from ..terms import Action, Actor, Facts, Problem, Subject, SubjectKey, show_subject, subject_key
from .content.streams import content_ids
from .format.entries import DIRECTORY, FILE, ITEM, PROBLEM, SYMLINK, Node, tree_order
from .keys.domains import Domain
from .source.patterns import Patterns
from .verbs.look import Described, require_live
from .verbs.restore import streams_of
from .verbs.session import Session, to_datetime

if TYPE_CHECKING:
    from .content.streams import StreamReader

__all__ = ["BackupReport", "Diff", "Entry", "Snapshot"]

_TYPES = {DIRECTORY: "directory", SYMLINK: "link", FILE: "file", ITEM: "item", PROBLEM: "missing"}


@frozen
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
    modified_at: datetime | None
    """Aware UTC; None for an item whose time is not known."""
    subject: Subject | None = None
    mode: int = 0
    version: str | None = None
    meta: Mapping[str, str] = field(factory=dict)
    problem: str | None = None

    def __str__(self) -> str:
        when = f"{self.modified_at:%Y-%m-%d %H:%M}" if self.modified_at else " " * 16
        return f"{self.size_bytes:>12,}  {when}  {self.path}"


def to_entry(node: Node, domain: Domain) -> Entry:
    """Show a node to a user."""
    extra = node.extra
    return Entry(
        node.path.decode("utf-8", "surrogateescape"),
        node.path,
        _TYPES.get(node.kind, "special"),
        node.size,
        to_datetime(node.mtime_ns // 1000) if node.mtime_ns or node.kind == FILE else None,
        show_subject(domain.subject),
        node.mode,
        extra.version if extra else None,
        (extra.meta if extra else None) or {},
        extra.problem if extra else None,
    )


@frozen
class Diff:
    """What differs between two snapshots, each in tree order."""

    added: tuple[Entry, ...] = ()
    removed: tuple[Entry, ...] = ()
    changed: tuple[Entry, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def __str__(self) -> str:
        return (
            f"{len(self.added):,} added, {len(self.removed):,} removed, "
            f"{len(self.changed):,} changed"
        )


@frozen
class BackupReport:
    """
    Counts of a backup; sizes in bytes.

    ``problems`` is filled in the process that made the backup; ``missing``
    counts them for ever.
    """

    files: int
    bytes_read: int
    bytes_added: int
    subjects: int
    without_subject: int
    unchanged: int
    missing: int
    seconds: float
    problems: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is missing, and everything has the subject that was asked for."""
        return not self.missing and not self.without_subject

    def __str__(self) -> str:
        text = (
            f"{self.files:,} entries ({self.unchanged:,} files unchanged), "
            f"{self.bytes_read / 1e6:,.1f} MB read, {self.bytes_added / 1e6:,.1f} MB added, "
            f"{self.seconds:.1f} s"
        )
        return text + (f", {self.missing:,} problems" if self.missing else "")


class Snapshot:
    """
    One committed snapshot of an open vault.

    Attributes hold what the ledger says; methods read from the store. As
    thread-safe as the vault; useless once the vault is closed.
    """

    def __init__(
        self,
        session: Session,
        described: Described,
        actor: Actor,
        problems: tuple[Problem, ...] = (),
    ) -> None:
        self._session = session
        self._described = described
        self._actor = actor
        self._problems = problems

    @property
    def id(self) -> str:
        """Thirty-two hex digits; a unique beginning is enough to name it."""
        return self._described.id

    @property
    def name(self) -> str:
        """The series that it belongs to."""
        return self._described.body.name

    @property
    def created_at(self) -> datetime:
        """Aware UTC instant of the commit, by the writer's clock."""
        return to_datetime(self._described.body.created_us)

    @property
    def tags(self) -> Mapping[str, str]:
        """What the host gave along."""
        return dict(self._described.body.tags)

    @property
    def category(self) -> str | None:
        """What retention rules may select by."""
        return self._described.body.category

    @property
    def size_bytes(self) -> int:
        """Sum of the sizes of its entries."""
        return self._described.body.size

    @property
    def report(self) -> BackupReport:
        """What its backup counted."""
        report = self._described.body.report
        return BackupReport(
            report.files,
            report.bytes_read,
            report.bytes_added,
            report.subjects,
            report.without_subject,
            report.unchanged,
            report.problems,
            report.seconds,
            self._problems,
        )

    def __repr__(self) -> str:
        return (
            f"<Snapshot {self.id[:8]} {self.name!r} {self.created_at:%Y-%m-%d %H:%M} UTC, "
            f"{self._described.body.entries:,} entries, {self.size_bytes / 1e6:,.1f} MB>"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Snapshot) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    # ---- looking

    def _begin(self, subject: Subject | None) -> SubjectKey | None:
        key = None if subject is None else subject_key(subject)
        facts = Facts(
            actor=self._actor, subject=key, name=self.name, tags=self.tags, category=self.category
        )
        self._session.begin(Action.READ, self._actor, facts)
        require_live(self._session, self._described)
        self._session.looked(self._actor)
        return key

    def _nodes(self, subject: Subject | None = None) -> Iterator[tuple[Domain, Node]]:
        key = self._begin(subject)
        for domain, stream in streams_of(self._session, self._described, key):
            for node in stream:
                yield domain, node

    def ls(
        self,
        path: str | bytes = "",
        *,
        recursive: bool = False,
        subject: Subject | None = None,
    ) -> Iterator[Entry]:
        """
        Yield what lies in a folder of the snapshot, the root by default.

        With *subject* only what is about it.

        Cost: reads the entry streams; no content.

        Raises:
            NotFoundError: There is nothing at *path*, or nothing of *subject*,
                or the snapshot was forgotten.
        """
        folder = _raw(path).strip(b"/")
        prefix = folder + b"/" if folder else b""
        found = not folder
        for domain, node in self._nodes(subject):
            if node.path == folder:
                found = True
                if node.kind != DIRECTORY:
                    yield to_entry(node, domain)
            elif node.path.startswith(prefix):
                found = True
                if recursive or b"/" not in node.path[len(prefix) :]:
                    yield to_entry(node, domain)
        if not found:
            raise NotFoundError("there is nothing at that path", kind="path", path=folder)

    def find(self, pattern: str) -> Iterator[Entry]:
        """Yield the entries that a gitignore pattern matches."""
        patterns = Patterns([pattern])
        for domain, node in self._nodes():
            if patterns.matches(node.path, is_dir=node.kind == DIRECTORY):
                yield to_entry(node, domain)

    def entry(self, path: str | bytes, *, subject: Subject | None = None) -> Entry:
        """
        Give one entry; without *subject* the one about nobody, or the only one.

        Raises:
            NotFoundError: There is none at *path*, or the snapshot was forgotten.
            InputError: Several subjects have that path; *subject* says whose.
        """
        domain, node = self._locate(path, subject)
        return to_entry(node, domain)

    def _locate(self, path: str | bytes, subject: Subject | None) -> tuple[Domain, Node]:
        raw, key = _raw(path), self._begin(subject)
        damaged: list[DamagedData] = []
        found: list[tuple[Domain, Node]] = []
        streams = streams_of(self._session, self._described, key, on_damage=damaged.append)
        for domain, stream in streams:
            try:
                node = _find(stream, raw)
            except DamagedData as exc:
                damaged.append(exc)
                continue
            if node is not None:
                found.append((domain, node))
                if domain.subject == key:
                    break  # Exactly what was asked for, and the first to come.
        if not found and damaged:
            # What was asked for may have been in what cannot be read.
            raise damaged[0]
        if not found:
            raise NotFoundError("there is no entry at that path", kind="path", path=raw)
        if len(found) > 1 and found[-1][0].subject != key:
            raise InputError("several subjects have an entry at that path; say whose: subject=")
        return found[-1]

    def open(self, path: str | bytes, *, subject: Subject | None = None) -> BinaryIO:
        """
        Open the content of a file or an item for reading; *subject* as for :meth:`entry`.

        Seekable; reads only the chunks that are asked for, each verified.

        Raises:
            NotFoundError: There is no entry at *path*, or the snapshot was forgotten.
            InputError: It has no content, or several subjects have that path.
            DamagedData: Its content is lost; or, while reading, damaged.
        """
        domain, node = self._locate(path, subject)
        if node.kind not in (FILE, ITEM):
            raise InputError(f"only files and items can be opened, not a {_TYPES.get(node.kind)}")
        if node.extra is not None and node.extra.problem == "lost":
            raise DamagedData("the content was lost before the snapshot was committed", kind="lost")
        return io.BufferedReader(ChunkFile(self._session, domain, node), 64 << 10)

    def diff(self, other: Snapshot) -> Diff:
        """
        Compare with an older snapshot of the same vault.

        Returns:
            What is in this one and not in *other* (added), the other way round
            (removed), and what differs in content or metadata (changed; as in
            this one). What moved to another subject is removed and added.

        Raises:
            InputError: *other* is of another vault.

        Cost: reads the entry streams of both; memory for the entries of one.
        """
        if other._session.header.vault_id != self._session.header.vault_id:
            raise InputError("only snapshots of one vault can be compared")
        before = {(domain.id, node.path): (domain, node) for domain, node in other._nodes()}
        added, changed = [], []
        for domain, node in self._nodes():
            old = before.pop((domain.id, node.path), None)
            if old is None:
                added.append(to_entry(node, domain))
            elif _differs(node, old[1]):
                changed.append(to_entry(node, domain))
        removed = [to_entry(node, domain) for domain, node in before.values()]
        return Diff(*(tuple(sorted(part, key=_order)) for part in (added, removed, changed)))


def _order(entry: Entry) -> bytes:
    return tree_order(entry.raw_path)


def _raw(path: str | bytes) -> bytes:
    return path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path


def _find(stream: StreamReader, raw: bytes) -> Node | None:
    from .content.streams import Cursor

    return Cursor(stream).find(raw)


def _differs(node: Node, old: Node) -> bool:
    mine, theirs = (
        (n.kind, n.mode, n.uid, n.gid, n.mtime_ns, n.size, n.chunks, n.extra) for n in (node, old)
    )
    return mine != theirs


class ChunkFile(io.RawIOBase):
    """The content of one entry as a raw file; one chunk is held at a time."""

    def __init__(self, session: Session, domain: Domain, node: Node) -> None:
        self._session = session
        self._domain = domain
        self._ids = list(content_ids(node, domain, session.reader))
        self._size = node.size
        self._at = 0
        self._starts: list[int] = [0]
        self._held: tuple[int, bytes | memoryview] = (-1, b"")

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Give the position in bytes."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a position; beyond the end reads give nothing."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("negative position")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        """Read from the chunk at the position."""
        if self._at >= self._size or not len(buffer):
            return 0
        if not self._ids:
            raise DamagedData("an entry names no content, but has a size")
        number = self._chunk_at(self._at)
        data = self._chunk(number)
        start = self._at - self._starts[number]
        part = memoryview(data)[start : start + min(len(buffer), self._size - self._at)]
        if not part:
            # An end before the end would pass for a shorter file.
            raise DamagedData("the chunks of an entry are shorter than the entry")
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)

    def _chunk_at(self, position: int) -> int:
        """Find the chunk of a position; lengths come from the index, not from the data."""
        while self._starts[-1] <= position and len(self._starts) <= len(self._ids):
            chunk_id = self._ids[len(self._starts) - 1]
            state = self._session.log.state
            place = self._session.index.find(self._domain, chunk_id, state)
            length = place.length if place else len(self._chunk(len(self._starts) - 1))
            self._starts.append(self._starts[-1] + length)
        number = len(self._starts) - 2
        while self._starts[number] > position:
            number -= 1
        return number

    def _chunk(self, number: int) -> bytes | memoryview:
        if self._held[0] != number:
            data = self._session.reader.read(self._domain, self._ids[number])
            self._held = (number, data)
        return self._held[1]
