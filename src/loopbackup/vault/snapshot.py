"""A snapshot in the hands of a user: looks, never acts."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, BinaryIO

from attrs import frozen

from ..errors import DamagedData, InputError, NotFoundError
from ..show import html, text
from ..terms import Action, Actor, Facts, Problem, Subject, SubjectKey, subject_key
from .content.file import ChunkFile
from .content.listing import FolderReader, below
from .content.streams import StreamReader
from .entry import Entry, entry_facts, raw_path, to_entry, type_of
from .folders import Streams, Walked, list_folder, walk_folders
from .format.entries import DIRECTORY, FILE, ITEM, Node
from .format.snapshot import TableRow
from .keys.domains import Domain
from .verbs.look import Described, pick, require_live
from .verbs.session import Session, to_datetime
from .verbs.shown import refuse_restricted, restricted_error
from .verbs.streams import streams_of

if TYPE_CHECKING:
    from .diff import Diff

__all__ = ["BackupReport", "Snapshot", "Version"]


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

    def _repr_html_(self) -> str:
        facts = [
            ("entries", f"{self.files:,}, of which {self.unchanged:,} files unchanged"),
            ("read", text.size(self.bytes_read)),
            ("added", text.size(self.bytes_added)),
            ("subjects", f"{self.subjects:,}"),
            ("without subject", f"{self.without_subject:,}"),
            ("missing", f"{self.missing:,}"),
            ("time", f"{self.seconds:.1f} s"),
        ]
        rows = [
            (os.fsdecode(problem.path or b""), problem.kind, problem.message)
            for problem in self.problems[: html.MAX_ROWS]
        ]
        table = html.Table("problems", ("Path", "Kind", "Message"), rows, len(self.problems))
        return html.card("Backup", facts, *([table] if rows else []))


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
            f"<Snapshot {self.id[:8]} {self.name!r} {text.moment(self.created_at)}, "
            f"{self._described.body.entries:,} entries, {text.size(self.size_bytes)}>"
        )

    def _repr_html_(self) -> str:
        facts = [
            ("id", self.id),
            ("made", text.moment(self.created_at)),
            ("entries", f"{self._described.body.entries:,}"),
            ("size", text.size(self.size_bytes)),
            ("backup", str(self.report)),
        ]
        facts += [("category", self.category)] if self.category is not None else []
        facts += [(f"tag {key}", value) for key, value in sorted(self.tags.items())]
        return html.card(f"Snapshot {self.name}", facts)

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
        refuse_restricted(self._session, key)
        self._session.looked(self._actor)
        return key

    def _streams(self, key: SubjectKey | None) -> Streams:
        return streams_of(self._session, self._described, key)

    def _nodes(self, subject: Subject | None = None) -> Iterator[tuple[Domain, Node]]:
        streams = self._streams(self._begin(subject))
        return ((domain, node) for domain, stream in streams for node in stream)

    def ls(
        self,
        path: str | bytes | os.PathLike[str] = "",
        *,
        recursive: bool = False,
        subject: Subject | None = None,
    ) -> Iterator[Entry]:
        """
        Yield what lies in a folder of the snapshot, the root by default.

        Domain by domain: what is about nobody first. Without *recursive* also
        the folders that exist only because something lies in them, last. With
        *subject* only what is about it. What is restricted is not shown.

        Raises:
            NotFoundError: There is nothing at *path*, or nothing of *subject*,
                or the snapshot was forgotten.
            PolicyError: Refused; kind "restricted": *subject* is.
            InputError: *path* is none.

        Cost: reads the parts of the entry streams that cover the folder; no content.
        """
        folder, key = raw_path(path), self._begin(subject)
        if recursive:
            return self._below(folder, key)
        return list_folder(self._streams(key), folder)

    def _below(self, folder: bytes, key: SubjectKey | None) -> Iterator[Entry]:
        found = not folder
        for domain, stream in self._streams(key):
            for node in below(stream, folder):
                found = True
                if node.path != folder or node.kind != DIRECTORY:
                    yield to_entry(node, domain)
        if not found:
            raise NotFoundError("there is nothing at that path", kind="path", path=folder)

    def walk(
        self, path: str | bytes | os.PathLike[str] = "", *, subject: Subject | None = None
    ) -> Iterator[Walked]:
        """
        Walk a folder and all folders below it, as :func:`os.walk` does from the top.

        Yields:
            (path of a folder, the folders in it, everything else in it); both
            lists hold entries, by name. Folders that are taken out of the list
            are not entered.

        Raises:
            NotFoundError, InputError: As :meth:`ls`.

        Cost: reads each part of the entry streams about once. Memory: about
        1 kB for each subject of the snapshot.
        """
        folder, key = raw_path(path), self._begin(subject)
        return walk_folders(self._streams(key), folder)

    def find(self, pattern: str, *, subject: Subject | None = None) -> Iterator[Entry]:
        """
        Yield the entries that a gitignore pattern matches.

        What lies in a folder that matches is found with it.

        Raises:
            InputError: The pattern is none, or can match nothing.

        Cost: reads all entry streams, of one subject those of the subject.
        """
        from .source.patterns import Patterns

        patterns = Patterns([pattern])
        return (
            to_entry(node, domain)
            for domain, node in self._nodes(subject)
            if patterns.matches(node.path, is_dir=node.kind == DIRECTORY)
        )

    def entry(
        self, path: str | bytes | os.PathLike[str], *, subject: Subject | None = None
    ) -> Entry:
        """
        Give one entry; without *subject* the one about nobody, or the only one.

        Raises:
            NotFoundError: There is none at *path*, or the snapshot was forgotten.
            InputError: Several subjects have that path; *subject* says whose.
            PolicyError: Refused; kind "restricted": whom it is about is.
        """
        domain, node = self._locate(path, subject)
        return to_entry(node, domain)

    def _locate(
        self, path: str | bytes | os.PathLike[str], subject: Subject | None
    ) -> tuple[Domain, Node]:
        raw, key = raw_path(path), self._begin(subject)
        reader = FolderReader()
        damaged: list[DamagedData] = []
        found: list[tuple[Domain, Node]] = []
        kept: list[tuple[Domain, TableRow]] = []
        streams = streams_of(
            self._session,
            self._described,
            key,
            on_damage=damaged.append,
            on_restricted=lambda domain, row: kept.append((domain, row)),
        )
        for domain, stream in streams:
            try:
                node = reader.find(stream, raw)
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
        if not found and any(self._has(domain, row, raw) for domain, row in kept):
            raise restricted_error()
        return pick(found, key)

    def _has(self, domain: Domain, row: TableRow, path: bytes) -> bool:
        """Tell whether somebody who is restricted has the entry: the error then says why."""
        stream = StreamReader(domain, row, self._session.reader)
        return FolderReader().find(stream, path) is not None

    def open(
        self, path: str | bytes | os.PathLike[str], *, subject: Subject | None = None
    ) -> BinaryIO:
        """
        Open the content of a file or an item for reading; *subject* as for :meth:`entry`.

        Seekable; reads only the chunks that are asked for, each verified. Holes
        of a sparse file read as zeros and cost nothing.

        Raises:
            NotFoundError: There is no entry at *path*, or the snapshot was forgotten.
            PolicyError: Refused; kind "restricted": whom it is about is.
            InputError: It has no content, or several subjects have that path.
            DamagedData: Its content is lost; or, while reading, damaged.
        """
        domain, node = self._locate(path, subject)
        if node.kind not in (FILE, ITEM):
            raise InputError(f"only files and items can be opened, not a {type_of(node)}")
        if node.extra is not None and node.extra.problem == "lost":
            raise DamagedData("the content was lost before the snapshot was committed", kind="lost")
        session = self._session

        def length_of(chunk_id: bytes) -> int | None:
            place = session.index.find(domain, chunk_id, session.log.state)
            return None if place is None else place.length

        return io.BufferedReader(ChunkFile(node, domain, session.reader, length_of), 64 << 10)

    def diff(self, other: Snapshot) -> Diff:
        """
        Compare with an older snapshot of the same vault.

        Returns:
            What is in this one and not in *other* (added), the other way round
            (removed), what differs in content or metadata (changes, changed),
            and what is at another path with the same content (renamed). What
            moved to another subject is removed and added. What is restricted is
            left out.

        Raises:
            InputError: *other* is of another vault.
            NotFoundError: One of them was forgotten.

        Cost: reads the parts of the entry streams that not both have; memory
        for what differs.
        """
        if not isinstance(other, Snapshot):
            raise InputError(f"a snapshot is compared with another, not {type(other).__name__}")
        if other._session.header.vault_id != self._session.header.vault_id:
            raise InputError("only snapshots of one vault can be compared")
        other._begin(None)
        self._begin(None)
        from .diff import compare

        return compare(self._session, other._described, self._described)


@frozen(repr=False)
class Version:
    """One state of an entry: content and metadata, and the snapshots that have it."""

    snapshot: Snapshot
    """The newest that has this state."""
    entry: Entry
    first: Snapshot
    """The oldest that has it."""
    count: int
    """How many have it."""

    def __str__(self) -> str:
        made = self.first.created_at
        return f"{self.snapshot.id[:8]}  since {made:%Y-%m-%d %H:%M}  {self.entry}"

    def __repr__(self) -> str:
        found = text.count(self.count, "snapshot")
        return f"<Version {self.snapshot.id[:8]}, {found}, {self.entry!r}>"

    def _repr_html_(self) -> str:
        facts = entry_facts(self.entry)
        facts.append(("newest", f"{self.snapshot.id[:8]} {text.moment(self.snapshot.created_at)}"))
        facts.append(("oldest", f"{self.first.id[:8]} {text.moment(self.first.created_at)}"))
        return html.card(self.entry.path, [*facts, ("in", text.count(self.count, "snapshot"))])
