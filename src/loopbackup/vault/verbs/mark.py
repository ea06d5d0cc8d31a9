"""
What is alive: every chunk that a live snapshot can need, domain by domain.

Dead means dead by the ledger. What cannot be read is never taken for dead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from attrs import define, field

from ...errors import DamagedData, NotFoundError
from ...terms import Problem
from ..content.segment import Blob, Place, places_of
from ..content.streams import StreamReader, TableReader
from ..format.snapshot import TableRow
from ..keys.domains import Domain
from ..ledger.state import SnapshotRecord, State
from .look import read_root
from .session import Session

__all__ = ["LivePart", "Marks", "live_chunks", "live_parts", "mark"]


@define
class LivePart:
    """A blob in a usable pack with those of its chunks that are alive and at home there."""

    domain: Domain
    blob: Blob
    members: bytes
    live: list[tuple[bytes, Place]]


@define
class Marks:
    """
    The live chunks of a vault.

    ``rows`` has, per domain, the different streams that live snapshots have;
    ``meta`` the live chunks of the meta domain.
    """

    rows: dict[bytes, dict[bytes, TableRow]] = field(factory=dict)
    meta: set[bytes] = field(factory=set)
    pinned: set[bytes] = field(factory=set)
    """Domains of which something could not be read: all they have is kept."""
    problems: list[Problem] = field(factory=list)


def mark(session: Session, snapshots: Iterable[SnapshotRecord]) -> Marks:
    """
    Collect what *snapshots* reach, down to their streams.

    Raises:
        DamagedData: A root or a table cannot be read: nothing may be called
            dead then. Cost: one pass over the tables; memory for the rows that
            differ between snapshots.
    """
    marks = Marks()
    meta = session.keyring.meta
    seen: set[bytes] = set()
    for record in snapshots:
        root = read_root(session, record)
        table = TableReader(meta, root, session.reader)
        marks.meta.add(record.root)
        for number, chunk_id in enumerate(table.chunks):
            if chunk_id in seen:
                continue
            seen.add(chunk_id)
            for row in table.rows(number):
                marks.rows.setdefault(row.domain, {})[row.chunks] = row
    marks.meta |= seen
    return marks


def live_chunks(session: Session, marks: Marks, domain: Domain) -> set[bytes]:
    """
    Give the ids of all live chunks of a domain, its streams' own included.

    A stream that cannot be read pins the domain in *marks*.
    """
    if domain.id == session.keyring.meta.id:
        return set(marks.meta)
    live: set[bytes] = set()
    seen: set[bytes] = set()
    for row in marks.rows.get(domain.id, {}).values():
        try:
            live.update(_of_row(session, domain, row, seen))
        except DamagedData as exc:
            marks.pinned.add(domain.id)
            marks.problems.append(Problem("damaged", str(exc), object=exc.context.get("object")))
    return live


def _of_row(session: Session, domain: Domain, row: TableRow, seen: set[bytes]) -> Iterator[bytes]:
    stream = StreamReader(domain, row, session.reader)
    if row.listed:
        yield row.chunks
    for number, chunk_id in enumerate(stream.chunks):
        if chunk_id in seen:
            continue
        for node in stream.nodes(number):
            yield from node.chunk_ids()
        # Only now: a chunk that cannot be read must be tried again for each row.
        seen.add(chunk_id)
        yield chunk_id


def live_parts(
    session: Session, state: State, domain: Domain, live: set[bytes]
) -> Iterator[LivePart]:
    """
    Yield the blobs of a domain in usable packs, each live chunk at home in one of them.

    Each blob comes once, also where two segments name its pack. *live* is
    emptied; what is left in it afterwards has no usable place. Of two copies
    the first in the order of the segments is the chunk's home.
    """
    readers = session.index.segments(state)
    named = Counter(pack for reader in readers for pack, _front in reader.packs)
    seen: set[tuple[bytes, int]] = set()
    for reader in readers:
        for blob, members in reader.rows(domain):
            if blob.pack in state.condemned or (blob.pack, blob.offset) in seen:
                continue
            if named[blob.pack] > 1:
                seen.add((blob.pack, blob.offset))
            parts = []
            for chunk_id, place in places_of(blob, members):
                if chunk_id in live:
                    live.discard(chunk_id)
                    parts.append((chunk_id, place))
            yield LivePart(domain, blob, members, parts)


def domains_of(session: Session, state: State, marks: Marks) -> Iterator[Domain | None]:
    """Yield every domain that has anything stored; None for one whose keys are gone."""
    ids = session.index.domain_ids(state) | marks.rows.keys()
    for domain_id in sorted(ids):
        try:
            yield session.keyring.by_id(domain_id)
        except NotFoundError:
            yield None
