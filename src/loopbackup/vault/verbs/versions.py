"""The states that an entry went through: each list of entries is looked into once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TypeAlias

from attrs import define, field

from ...errors import DamagedData, NotFoundError
from ...logs import get_logger
from ...terms import SubjectKey
from ..content.streams import StreamReader, TableReader, decode_nodes
from ..format.entries import PROBLEM, Node
from ..format.snapshot import TableRow
from ..keys.domains import Domain
from .look import Described, pick, read_table
from .session import Session
from .shown import rectify, refuse_restricted, restricted_error
from .standing import binding, standing

__all__ = ["FoundVersion", "find_versions"]

_Found: TypeAlias = list[tuple[Domain, Node]]


@define
class FoundVersion:
    """One state of an entry, and the snapshots that have it."""

    domain: Domain
    node: Node
    snapshots: list[Described] = field(factory=list)
    """Newest first; never empty."""


def find_versions(
    session: Session,
    snapshots: Iterable[Described],
    path: bytes,
    subject: SubjectKey | None,
    state_of: Callable[[Node], Hashable],
) -> list[FoundVersion]:
    """
    Find the entry at *path* in each of *snapshots*, newest first; one result a state.

    What could not be read when a backup was made is no state. What is damaged
    now is logged and left out. Where an overlay stands, what it shows is the
    state; what is restricted is left out.

    Raises:
        PolicyError: Kind "restricted": *subject* is, or whoever has that path.
        InputError: Several subjects have that path; *subject* says whose.
        DamagedData: Nothing was found, and something could not be read.

    Cost: a root for each snapshot; tables and stream chunks only where they
    differ from those of a newer one.
    """
    refuse_restricted(session, subject)
    search = _Search(session, path, subject)
    versions: dict[Hashable, FoundVersion] = {}
    for described in snapshots:
        try:
            domain, node = pick(search.shown_in(described), subject)
        except NotFoundError:
            continue
        except DamagedData as exc:
            search.note(exc)
            continue
        if node.kind != PROBLEM:
            key = (domain.id, state_of(node))
            versions.setdefault(key, FoundVersion(domain, node)).snapshots.append(described)
    if search.damaged and not versions:
        # What was asked for may have been in what cannot be read.
        raise search.damaged[0]
    if search.restricted and not versions:
        raise restricted_error()
    return list(versions.values())


@define
class _Search:
    """Looks for one path; what was read once is not read again."""

    session: Session
    path: bytes
    subject: SubjectKey | None
    damaged: list[DamagedData] = field(factory=list)
    restricted: bool = False
    """Something was found that is not given."""
    _tables: dict[bytes, _Found] = field(factory=dict)
    _streams: dict[tuple[bytes, bytes], Node | None] = field(factory=dict)
    _chunks: dict[tuple[bytes, bytes], Node | None] = field(factory=dict)

    def note(self, exc: DamagedData) -> None:
        """Remember what could not be looked into."""
        get_logger().warning("a part of a snapshot cannot be searched", kind=exc.kind)
        self.damaged.append(exc)

    def shown_in(self, described: Described) -> _Found:
        """Give the entries of one snapshot at the path, as readers are shown them."""
        marks, kept = standing(self.session), binding(self.session)
        found: _Found = []
        for domain, node in self._stored_in(described):
            if kept and kept.covers(domain):
                self.restricted = True
                continue
            shown = marks.shown_in(described.record, domain.id)
            found.append((domain, rectify(node, shown.get(self.path))))
        return found

    def _stored_in(self, described: Described) -> _Found:
        """Give the entries of one snapshot at the path, as they were backed up."""
        table = read_table(self.session, described.record)
        exact = self._exact(table)
        if exact or (self.subject is not None and len(self.subject) == 2):
            return exact
        found: _Found = []
        for number, chunk_id in enumerate(table.chunks):
            known = self._tables.get(chunk_id)
            if known is None:
                known = self._tables[chunk_id] = self._of_rows(table.rows(number))
            found += known
        return found

    def _exact(self, table: TableReader) -> _Found:
        """Look where the path is most likely, and where it counts before all others."""
        domain = self.session.keyring.find(self.subject)
        row = None if domain is None else table.find(domain.id)
        if domain is None or row is None:
            return []
        try:
            node = self._in_stream(domain, row)
        except DamagedData as exc:
            self.note(exc)
            return []
        return [] if node is None else [(domain, node)]

    def _of_rows(self, rows: list[TableRow]) -> _Found:
        found: _Found = []
        for row in rows:
            try:
                found += self._of_row(row)
            except DamagedData as exc:
                self.note(exc)
        return found

    def _of_row(self, row: TableRow) -> _Found:
        try:
            domain = self.session.keyring.by_id(row.domain)
        except NotFoundError:
            if row.domain in self.session.log.state.fenced:
                return []
            raise DamagedData(
                "the keys of a part of the snapshot are gone", kind="missing_keys"
            ) from None
        tenant = domain.subject[:1] if domain.subject else None
        if self.subject is not None and tenant != self.subject:
            return []
        node = self._in_stream(domain, row)
        return [] if node is None else [(domain, node)]

    def _in_stream(self, domain: Domain, row: TableRow) -> Node | None:
        key = (domain.id, row.chunks)
        if key not in self._streams:
            stream = StreamReader(domain, row, self.session.reader)
            numbers: Iterable[int] = range(len(stream.chunks))
            if stream.firsts is not None:
                numbers = (stream.covering(self.path),)
            nodes = (self._in_chunk(domain, stream.chunks[number]) for number in numbers)
            self._streams[key] = next((node for node in nodes if node is not None), None)
        return self._streams[key]

    def _in_chunk(self, domain: Domain, chunk_id: bytes) -> Node | None:
        key = (domain.id, chunk_id)
        if key not in self._chunks:
            nodes = decode_nodes(self.session.reader.read(domain, chunk_id, "stream"))
            self._chunks[key] = next((node for node in nodes if node.path == self.path), None)
        return self._chunks[key]
