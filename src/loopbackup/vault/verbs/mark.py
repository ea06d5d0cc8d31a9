"""
What is alive: every chunk that a live snapshot or an overlay can need, domain by domain.

Dead means dead by the ledger. What cannot be read is never taken for dead.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import define, field

from ...errors import DamagedData, NotFoundError
from ...terms import Problem
from ..content.segment import Blob, Place, SegmentReader, places_of
from ..content.streams import StreamReader, TableReader, content_ids
from ..format import codec
from ..format.snapshot import TableRow
from ..keys.domains import Domain
from ..ledger.state import SnapshotRecord, State
from .look import read_root
from .session import Session
from .standing import Rectified, standing

__all__ = ["LivePart", "Marks", "Rows", "basis", "live_chunks", "live_parts", "mark"]


def basis(state: State) -> tuple[object, ...]:
    """Give what a look at a vault rests on: while it is the same, nothing was moved or swept."""
    return state.segments, state.snapshots, state.shards, len(state.condemned)


@define
class LivePart:
    """A blob in a usable pack with those of its chunks that are alive and at home there."""

    domain: Domain
    blob: Blob
    members: bytes
    live: list[tuple[bytes, Place]]

    @property
    def live_bytes(self) -> float:
        """Stored bytes that its live chunks account for."""
        if not self.blob.plain:
            return self.blob.length * bool(self.live)
        return self.blob.length * sum(place.length for _, place in self.live) / self.blob.plain


class Rows:
    """
    The rows of many snapshots' tables, domain by domain.

    Tables share most of their chunks, which are read once. Both uses go
    through the domains in ascending order; memory is for the chunks that
    overlap at one place.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._spans: dict[bytes, tuple[bytes, bytes]] = {}
        self._order: list[tuple[bytes, bytes, bytes]] = []
        self._next = 0
        self._open: list[tuple[bytes, dict[bytes, TableRow]]] = []
        self._last = b""

    def add(self, table: TableReader) -> None:
        """Add one snapshot's table."""
        for chunk_id, first, end in table.spans():
            known = self._spans.get(chunk_id)
            if known is None or known[1] < end:
                self._spans[chunk_id] = (first, end)

    @property
    def chunks(self) -> set[bytes]:
        """Ids of all table chunks."""
        return set(self._spans)

    def _rewind(self) -> None:
        self._order = sorted((first, end, i) for i, (first, end) in self._spans.items())
        self._next, self._open, self._last = 0, [], b""

    def get(self, domain_id: bytes) -> list[TableRow]:
        """Give the different streams that the snapshots have of one domain."""
        if domain_id < self._last or len(self._order) != len(self._spans):
            self._rewind()
        self._last = domain_id
        while self._next < len(self._order) and self._order[self._next][0] <= domain_id:
            _first, end, chunk_id = self._order[self._next]
            self._next += 1
            if end > domain_id:
                self._open.append((end, {row.domain: row for row in self._read(chunk_id)}))
        self._open = [(end, rows) for end, rows in self._open if end > domain_id]
        found = {
            rows[domain_id].chunks: rows[domain_id]
            for _end, rows in self._open
            if domain_id in rows
        }
        return list(found.values())

    def __iter__(self) -> Iterator[bytes]:
        """Yield the domains, ascending, each once."""
        order = sorted((first, i) for i, (first, _end) in self._spans.items())
        heap: list[tuple[bytes, int, list[bytes]]] = []
        last, at = b"", 0
        while heap or at < len(order):
            if not heap or (at < len(order) and order[at][0] <= heap[0][0]):
                ids = [row.domain for row in reversed(self._read(order[at][1]))]
                heapq.heappush(heap, (ids.pop(), at, ids))
                at += 1
                continue
            domain_id, number, ids = heap[0]
            if ids:
                heapq.heapreplace(heap, (ids.pop(), number, ids))
            else:
                heapq.heappop(heap)
            if domain_id != last:
                last = domain_id
                yield domain_id

    def _read(self, chunk_id: bytes) -> list[TableRow]:
        meta = self._session.keyring.meta
        return codec.decode(self._session.reader.read(meta, chunk_id, "table"), list[TableRow])


@define
class Marks:
    """
    The live chunks of a vault.

    ``rows`` has, per domain, the different streams that live snapshots have;
    ``meta`` the live chunks of the meta domain.
    """

    rows: Rows
    meta: set[bytes] = field(factory=set)
    rectified: Mapping[bytes, Sequence[Rectified]] = field(factory=dict)
    """Per domain id what overlays show: alive as long as they stand."""
    pinned: set[bytes] = field(factory=set)
    """Domains of which something could not be read: all they have is kept."""
    problems: list[Problem] = field(factory=list)


def mark(
    session: Session, snapshots: Iterable[SnapshotRecord], state: State | None = None
) -> Marks:
    """
    Collect what *snapshots* reach, down to their tables, and what overlays show.

    Overlays are those of *state*, by default the one folded now.

    Raises:
        DamagedData: A root cannot be read: nothing may be called dead then.
            A table that cannot be read raises it when it is come to.
    """
    found = standing(session, state)
    marks = Marks(Rows(session), rectified=found.overlays, pinned=set(found.lost_overlays))
    marks.problems += [problem for problem in found.problems if found.lost_overlays]
    for record in snapshots:
        root = read_root(session, record)
        marks.rows.add(TableReader(session.keyring.meta, root, session.reader))
        marks.meta.add(record.root)
    marks.meta |= marks.rows.chunks
    return marks


def live_chunks(session: Session, marks: Marks, domain: Domain) -> set[bytes]:
    """
    Give the ids of all live chunks of a domain: of its streams, their entries and overlays.

    A stream that cannot be read pins the domain in *marks*.
    """
    if domain.id == session.keyring.meta.id:
        return set(marks.meta)
    live: set[bytes] = set()
    for rectified in marks.rectified.get(domain.id, ()):
        live.update(rectified.chunk_ids())
    seen: set[bytes] = set()
    for row in marks.rows.get(domain.id):
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
            yield from content_ids(node, domain, session.reader)
            if node.extra is not None and node.extra.listed:
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
    the first in the order of the segments is the chunk's home, but for packs
    that are distrusted: what stands in another one too is not alive there.
    """
    session.index.mend(domain, state)
    readers = session.index.segments(state)
    packs = {pack.name for reader in readers for pack in reader.packs}
    distrusted = {pack for pack in packs if session.index.distrusts(pack, state)}
    yield from _parts(readers, state, domain, live, distrusted)
    if distrusted:
        yield from _parts(readers, state, domain, live, packs - distrusted)


def _parts(
    readers: list[SegmentReader],
    state: State,
    domain: Domain,
    live: set[bytes],
    without: set[bytes],
) -> Iterator[LivePart]:
    named = Counter(pack.name for reader in readers for pack in reader.packs)
    seen: set[tuple[bytes, int]] = set()
    for reader in readers:
        for blob, members in reader.rows(domain):
            if blob.pack in state.condemned or blob.pack in without:
                continue
            if (blob.pack, blob.offset) in seen:
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
    """
    Yield every domain that has anything stored; None for one whose keys are gone.

    What was erased is passed over: it is no longer alive, and in nobody's way.
    """
    last = b""
    for domain_id in heapq.merge(session.index.domain_ids(state), marks.rows):
        if domain_id == last:
            continue
        last = domain_id
        try:
            yield session.keyring.by_id(domain_id)
        except NotFoundError:
            if domain_id not in session.log.state.fenced:
                yield None
