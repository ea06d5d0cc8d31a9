"""
The index: which pack holds a chunk, domain by domain.

The ledger says which segments are live; see :mod:`.segment` for what they are.
"""

from __future__ import annotations

import heapq
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final, Protocol

from attrs import frozen

from ...errors import DamagedData, NewerFormat, NotFoundError
from ...logs import get_logger
from ..format.pack import ROW
from ..keys.domains import Domain
from ..ledger.values import Front
from ..store.seam import StoreSeam
from .places import MEMORY_BYTES, PlaceTable
from .segment import Place, SegmentReader

__all__ = ["Index", "IndexState"]

MAX_HELD_BYTES: Final = MEMORY_BYTES * 3 // 2
MAX_TABLES_HELD: Final = 16_384


class SegmentRef(Protocol):
    """A live segment, as the ledger names it."""

    @property
    def name(self) -> bytes:
        """Short name."""
        ...

    @property
    def front(self) -> bytes:
        """Hash of its front."""
        ...


class IndexState(Protocol):
    """What the index has to know of the ledger's fold."""

    @property
    def vault_id(self) -> bytes:
        """Sixteen bytes."""
        ...

    @property
    def segments(self) -> Sequence[SegmentRef]:
        """Live segments."""
        ...

    @property
    def condemned(self) -> dict[bytes, tuple[int, int]]:
        """Short names that nothing may rely on any more."""
        ...

    @property
    def distrusted(self) -> frozenset[bytes]:
        """Short names of packs that a check found missing or damaged."""
        ...


@frozen
class _Table:
    domain: bytes
    segments: Sequence[SegmentRef]
    places: PlaceTable
    added: set[bytes]
    """Short names of the segments whose rows are in ``places``."""
    held_bytes: int
    """Memory that it takes."""


class Index:
    """
    All live segments of a vault. Thread-safe.

    Memory: 47 bytes a chunk of the domains in use, the names of its pack
    included, and 54 a bundle. The chunks of a domain beyond 256 MiB lie in a
    sealed temporary file; the least recently used domains are dropped beyond
    384 MiB in all, or 16,384 domains.
    """

    def __init__(
        self,
        store: StoreSeam,
        index_secret: bytes,
        vault_id: bytes,
        packs_of: Callable[[bytes], list[Front]],
    ) -> None:
        self._store = store
        self._secret = index_secret
        self._packs_of = packs_of
        self._vault_id = vault_id
        self._lock = threading.RLock()
        self._segments: dict[bytes, SegmentReader] = {}
        self._tables: OrderedDict[bytes, _Table] = OrderedDict()
        self._last: _Table | None = None
        self._held = 0
        self._distrusted: set[bytes] = set()

    def _segment(self, segment: SegmentRef) -> SegmentReader:
        """Give a segment, loading its directory when first asked for."""
        with self._lock:
            reader = self._segments.get(segment.name)
            if reader is None:
                reader = self._segments[segment.name] = self._load(segment.name, segment.front)
            return reader

    def _load(self, short: bytes, front: bytes) -> SegmentReader:
        """
        Read a segment; a lost index object is made again from its packs.

        What is lost costs the chunks in it and no others: every chunk that it
        should have named is then one that no pack holds.
        """
        load = partial(SegmentReader.load, self._store, self._secret, self._vault_id, short)
        try:
            try:
                return load(front)
            except DamagedData:
                # A bit may have flipped on the way: damage shows twice.
                return load(front)
        except (NotFoundError, DamagedData, NewerFormat) as exc:
            if short[:1] == b"p":
                get_logger().error("a pack is lost", kind=exc.kind)
                return SegmentReader.missing(self._store, short, exc)
            return self._rebuild(short)

    def _rebuild(self, short: bytes) -> SegmentReader:
        get_logger().error("an index object is lost; reading its packs instead")
        packs = self._packs_of(short)
        return SegmentReader.rebuild(self._store, self._secret, self._vault_id, short, packs)

    def mend(self, domain: Domain, state: IndexState) -> None:
        """
        Read all blocks of a domain, so that its rows can be read from :meth:`segments`.

        An index object with a damaged block is made again from its packs.
        """
        self._table(domain, state)

    def segments(self, state: IndexState) -> list[SegmentReader]:
        """Give all live segments; what is no longer live is dropped from memory."""
        with self._lock:
            for short in self._segments.keys() - {segment.name for segment in state.segments}:
                del self._segments[short]
            return [self._segment(segment) for segment in state.segments]

    def look_again(self) -> None:
        """Forget what was found lost, so that what has come back since is seen."""
        with self._lock:
            lost = {short for short, reader in self._segments.items() if reader.lost}
            if lost:
                for short in lost:
                    del self._segments[short]
                self._drop_all()

    def close(self) -> None:
        """Forget everything, and free the room of temporary files."""
        with self._lock:
            for table in self._tables.values():
                table.places.close()
            self._segments.clear()
            self._drop_all()

    def _drop_all(self) -> None:
        self._tables.clear()
        self._last = None
        self._held = 0

    def drop(self, domains: Iterable[bytes]) -> None:
        """Forget the places of domains that were erased."""
        with self._lock:
            for domain_id in self._tables.keys() & set(domains):
                table = self._tables.pop(domain_id)
                self._held -= table.held_bytes
                table.places.close()
            self._last = None

    def domain_ids(self, state: IndexState) -> Iterator[bytes]:
        """Yield the ids of all domains that have anything stored, ascending, each once."""
        last = b""
        for domain_id in heapq.merge(*(r.domains() for r in self.segments(state))):
            if domain_id != last:
                last = domain_id
                yield domain_id

    def _table(self, domain: Domain, state: IndexState) -> _Table:
        live = state.segments
        last = self._last
        # Almost always the same domain in the same state: no lock, no bookkeeping.
        if last is not None and last.domain == domain.id and last.segments is live:
            return last
        with self._lock:
            table = self._tables.get(domain.id)
            if table is None or table.segments is not live:
                table = self._fill(domain, state, table)
            self._tables[domain.id] = table
            self._tables.move_to_end(domain.id)
            self._last = table
            while len(self._tables) > 1 and (
                self._held > MAX_HELD_BYTES or len(self._tables) > MAX_TABLES_HELD
            ):
                _, old = self._tables.popitem(last=False)
                self._held -= old.held_bytes
            return table

    def _fill(self, domain: Domain, state: IndexState, old: _Table | None) -> _Table:
        """Load what is new; everything where a segment is gone."""
        if old is not None and not old.added <= {segment.name for segment in state.segments}:
            old = None
        # What fails half-way is not gone on with: a part of it would be there twice.
        known = self._tables.pop(domain.id, None)
        self._held -= known.held_bytes if known is not None else 0
        places = old.places if old is not None else PlaceTable(MEMORY_BYTES)
        added = old.added if old is not None else set()
        new = [reader for reader in self.segments(state) if reader.short not in added]
        places.expect(sum(reader.block_bytes(domain.id) for reader in new) // ROW.size)
        for reader in new:
            try:
                for base, generation, plain in reader.plain_blocks(domain):
                    places.add(reader.packs, base, generation, plain)
            except (NotFoundError, DamagedData):
                if reader.short[:1] == b"p" or reader.rebuilt:
                    raise
                self._segments[reader.short] = self._rebuild(reader.short)
                return self._fill(domain, state, None)
        places.settle()
        added = added | {reader.short for reader in new}
        table = _Table(domain.id, state.segments, places, added, places.memory_bytes)
        self._held += table.held_bytes
        return table

    def find(self, domain: Domain, chunk_id: bytes, state: IndexState) -> Place | None:
        """Give a place of a chunk that a new snapshot may rely on."""
        for place in self._table(domain, state).places.find(chunk_id):
            if self._good(place.blob.pack, state):
                return place
        return None

    def find_pack(self, domain: Domain, chunk_id: bytes, state: IndexState) -> bytes | None:
        """Give the pack of the place that :meth:`find` gives, for less."""
        pack = self._table(domain, state).places.first_pack(chunk_id)
        if pack is None or self._good(pack, state):
            return pack
        place = self.find(domain, chunk_id, state)
        return None if place is None else place.blob.pack

    def find_packs(
        self, domain: Domain, chunk_ids: Sequence[bytes], state: IndexState
    ) -> list[bytes | None]:
        """Give :meth:`find_pack` of many chunks, going through the domain once."""
        packs = self._table(domain, state).places.first_packs(chunk_ids)
        return [
            pack if pack is None or self._good(pack, state) else self.find_pack(domain, i, state)
            for i, pack in zip(chunk_ids, packs, strict=True)
        ]

    def _good(self, pack: bytes, state: IndexState) -> bool:
        return pack not in state.condemned and not self.distrusts(pack, state)

    def places(self, domain: Domain, chunk_id: bytes, state: IndexState) -> list[Place]:
        """
        Give all places of a chunk in packs that are not condemned, the best first.

        Distrusted ones come last: a pack that was missing may have come back.
        """
        places = self._table(domain, state).places.find(chunk_id)
        found = [place for place in places if place.blob.pack not in state.condemned]
        if len(found) > 1:
            found.sort(key=lambda p: self.distrusts(p.blob.pack, state))
        return found

    # ---- packs that are there by the ledger, and yet are not

    def distrust(self, pack: bytes) -> None:
        """Let nothing new rely on a pack that was read twice and is missing or damaged."""
        # Replaced, never changed: other threads look into it without the lock.
        with self._lock:
            self._distrusted = self._distrusted | {pack}

    def trust(self, pack: bytes) -> None:
        """Take a pack for sound again, after all of it was read."""
        with self._lock:
            self._distrusted = self._distrusted - {pack}

    def distrusts(self, pack: bytes, state: IndexState) -> bool:
        """Tell whether a pack was found missing or damaged, by this process or a recorded check."""
        return pack in self._distrusted or pack in state.distrusted

    def pack(self, short: bytes) -> SegmentReader:
        """Read a pack's own directory, condemned or not; NotFoundError if it is gone."""
        # Nothing rests on it: what is read from there is verified against its id.
        return SegmentReader.load(self._store, self._secret, self._vault_id, short, None)
