"""Reading chunks by id: fetch, decrypt, decompress, verify."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Final

from ...errors import DamagedData, LoopbackupError, NotFoundError
from ...logs import get_logger
from ..format import names
from ..format.pack import CONTENT_KINDS
from ..keys.domains import Domain
from ..ledger.log import Log
from ..ledger.state import State
from ..store.seam import StoreSeam
from .compress import decompress
from .index import Index
from .segment import Blob, Place

__all__ = ["ChunkReader"]

ALIGN: Final = 256 << 10
RANGE_CACHE_BYTES: Final = 24 << 20
EXPECTED_BYTES: Final = 64 << 20
"""What is fetched from a distant store before it is needed; kept beside the rest until then."""
UNREAD_S: Final = 30.0
"""What was expected so long ago and not read since may make room for other things."""
NOTHING: Final = (0, 0.0)
GAP_BYTES: Final = 1 << 20
"""What lies between two stretches asked for together; it takes less time than a request."""
RANGE_BYTES: Final = 6 << 20
"""The longest range that is asked for at once, unless one blob is longer."""
PLAIN_CACHE_BYTES: Final = 16 << 20


class ChunkReader:
    """
    Gives chunks by domain and id. Thread-safe.

    Reads are widened to multiples of 256 KiB, which saves requests and shows
    a provider less of what is read; the last few stay in memory, encrypted.
    Who knows what comes says so by :meth:`expect`: a distant store is then
    asked for it in few requests, many at once.
    """

    def __init__(self, store: StoreSeam, index: Index, log: Log) -> None:
        self._store = store
        self._index = index
        self._log = log
        self._lock = threading.Lock()
        self._ranges: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()
        self._range_bytes = 0
        self._fetching: dict[tuple[bytes, int, int], threading.Event] = {}
        """What threads are at: (pack, start, end)."""
        self._expected: dict[tuple[bytes, int], tuple[int, float]] = {}
        """
        The ranges that were asked for ahead and that nobody has needed yet: length, and when.
        """
        self._expected_bytes = 0
        self._readers = 0
        self._plains: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()
        self._plain_bytes = 0
        self._dropped = 0
        """How often all contents were forgotten: what was being read then is not kept."""

    def read(self, domain: Domain, chunk_id: bytes, kind: str = "data") -> bytes | memoryview:
        """
        Give one chunk, verified against its id, from the first place that has it whole.

        Raises:
            DamagedData: Every place of it is missing or altered, each read
                twice. A pack that is gone may have been swept after a prune
                moved the chunk, so the ledger is folded before it counts.
        """
        state = self.may_read(domain)
        place = self._index.find(domain, chunk_id, state)
        if place is not None:
            try:
                return self._read_place(domain, chunk_id, place, kind)
            except (DamagedData, NotFoundError):
                self.may_read(domain)  # Else nothing is wrong with the pack.
                # Each place is looked at with care below.
                self._forget(place.blob.pack)
        return self._read_somewhere(domain, chunk_id, kind)

    def may_read(self, domain: Domain) -> State:
        """
        Give the fold, no older than the lease, in which a domain may be read.

        Raises:
            DamagedData: Kind "erased": it belongs to somebody who was erased since.
            StoreError: Kind "lease": the ledger could not be looked at for too long.
        """
        state = self._log.recent
        if domain.id in state.fenced:
            # Whoever opened it before has the keys still, and no right to use them.
            raise DamagedData("it belongs to somebody who was erased since", kind="erased")
        return state

    def _read_somewhere(self, domain: Domain, chunk_id: bytes, kind: str) -> bytes | memoryview:
        while True:
            state = self._log.state
            folded = state.size
            places = self._index.places(domain, chunk_id, state)
            failures: list[tuple[Place, LoopbackupError]] = []
            for place in places:
                try:
                    data = self.read_place(domain, chunk_id, place, kind)
                except (DamagedData, NotFoundError) as exc:
                    self.may_read(domain)  # Else nothing is wrong with the pack.
                    failures.append((place, exc))
                    continue
                if failures:
                    self._tell(failures)
                return data
            gone = [exc for _, exc in failures if isinstance(exc, NotFoundError)]
            # Another thread may have folded what moved the chunk.
            moved = self._log.refresh() if gone or not places else False
            if (gone or not places) and (moved or self._log.state.size > folded):
                continue
            self._tell(failures)
            raise _damage(chunk_id, failures) from (failures[0][1] if failures else None)

    def _tell(self, failures: list[tuple[Place, LoopbackupError]]) -> None:
        """Raise the alarm about places that failed, and let no backup rely on them."""
        if any(isinstance(exc, NotFoundError) for _, exc in failures):
            self._log.refresh()
        for place, exc in failures:
            pack = place.blob.pack
            if pack in self._log.state.condemned:
                continue
            get_logger().error(
                "a stored copy of a chunk is missing or damaged",
                object=names.pack_name(pack[1:]),
                kind=exc.kind,
            )
            self._index.distrust(pack)

    def read_place(
        self, domain: Domain, chunk_id: bytes, place: Place, kind: str = "data"
    ) -> bytes | memoryview:
        """
        Give one chunk from a known place, which is read again where it seems damaged.

        Raises:
            NotFoundError: The pack is gone.
            DamagedData: It does not hold the chunk there, twice.
        """
        try:
            return self._read_place(domain, chunk_id, place, kind)
        except (DamagedData, NotFoundError):
            # A bit that flipped on the way here must not stick in the cache.
            self._forget(place.blob.pack)
            return self._read_place(domain, chunk_id, place, kind)

    def _read_place(
        self, domain: Domain, chunk_id: bytes, place: Place, kind: str
    ) -> bytes | memoryview:
        plain = self.read_blob(domain, place.blob)
        data: bytes | memoryview = plain
        if place.blob.id != chunk_id:
            data = memoryview(plain)[place.start : place.start + place.length]
        if domain.chunk_id(data, kind) != chunk_id:
            raise DamagedData(
                "a chunk's content does not fit its id",
                object=names.pack_name(place.blob.pack[1:]),
                chunk=chunk_id.hex(),
            )
        return data

    def held(self) -> list[bytes]:
        """Give the contents that are kept in memory for the next reading."""
        with self._lock:
            return list(self._plains.values())

    def drop(self) -> None:
        """Forget all contents, for some of them may be somebody's who was erased."""
        with self._lock:
            self._plains.clear()
            self._plain_bytes = 0
            self._dropped += 1

    def _forget(self, pack: bytes) -> None:
        """Drop what is held in memory of a pack."""
        with self._lock:
            for key in [key for key in self._ranges if key[0] == pack]:
                self._range_bytes -= len(self._ranges.pop(key))
            for key in [key for key in self._plains if key[0] == pack]:
                self._plain_bytes -= len(self._plains.pop(key))

    def read_blob(self, domain: Domain, blob: Blob) -> bytes:
        """
        Give a whole blob, decrypted and decompressed; bundles are kept for a while.

        Raises:
            DamagedData: It is altered; kind "erased": see :meth:`may_read`.
        """
        key = (blob.pack, blob.offset)
        with self._lock:
            dropped = self._dropped
            plain = self._plains.get(key)
            if plain is not None:
                self._plains.move_to_end(key)
        if plain is not None:
            self.may_read(domain)
            return plain
        fetched = self._fetch(blob)
        # Only now, for a store may take its time to answer.
        self.may_read(domain)
        try:
            payload = domain.decrypt(
                fetched,
                generation=blob.generation,
                chunk_id=blob.id,
                codec=blob.codec,
                plain=blob.plain,
            )
            plain = decompress(blob.codec, payload, blob.plain)
        except DamagedData as exc:
            exc.context.setdefault("object", names.pack_name(blob.pack[1:]))
            raise
        if CONTENT_KINDS[blob.kind] == "bundle":
            with self._lock:
                if key not in self._plains and dropped == self._dropped:
                    self._plains[key] = plain
                    self._plain_bytes += len(plain)
                while self._plain_bytes > PLAIN_CACHE_BYTES:
                    _, old = self._plains.popitem(last=False)
                    self._plain_bytes -= len(old)
        return plain

    # ---- what is to be read soon

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """Share what may be expected with others who read many chunks, for the block."""
        with self._lock:
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1

    @property
    def window_bytes(self) -> int:
        """How far ahead each of those should :meth:`expect` chunks now; 0: not at all."""
        if not self._store.is_distant:
            return 0
        return EXPECTED_BYTES * 3 // 4 // max(1, self._readers)

    def expect(self, domain: Domain, chunk_ids: Iterable[bytes]) -> int:
        """
        Begin to fetch chunks that will be read soon, if the store is distant.

        What cannot be found or fetched is met again, and told, by whoever reads it.

        Returns:
            How many bytes they take in the store.

        Cost: a request for each stretch of up to 6 MiB that they lie in.
        Memory: 64 MiB at most for all that is expected and not read yet.
        """
        if not self._store.is_distant:
            return 0
        found: dict[bytes, list[tuple[int, int]]] = {}
        state = self._log.state
        for chunk_id in chunk_ids:
            place = self._index.find(domain, chunk_id, state)
            if place is not None and (place.blob.pack, place.blob.offset) not in self._plains:
                blob = place.blob
                found.setdefault(blob.pack, []).append((blob.offset, blob.offset + blob.length))
        for pack, stretches in found.items():
            for first, end in _joined(stretches):
                self._fetch_ahead(pack, first, end)
        return sum(end - start for stretches in found.values() for start, end in stretches)

    def forget_expected(self) -> None:
        """Let go of what was expected and is not needed any more."""
        with self._lock:
            self._expected.clear()
            self._expected_bytes = 0

    def _fetch_ahead(self, pack: bytes, first: int, end: int) -> None:
        with self._lock:
            size = end - first
            if self._start(pack, first, end) >= 0 or self._coming(pack, first, end):
                return
            self._drop_unread(EXPECTED_BYTES - size)
            if self._expected_bytes + size > EXPECTED_BYTES:
                return
            mine = self._fetching[pack, first, end] = threading.Event()
            self._expected[pack, first] = size, time.monotonic()
            self._expected_bytes += size
        try:
            future = self._store.threads.submit(self._get, pack, first, end, mine)
        except RuntimeError:
            # No thread can be started, or the interpreter ends: whoever reads it fetches it.
            self._not_fetched(pack, first, end, mine)
            return

        def settle(future: Future[bytes]) -> None:
            if future.cancelled() or future.exception() is not None:
                self._not_fetched(pack, first, end, mine)

        future.add_done_callback(settle)

    def _drop_unread(self, left: int) -> None:
        """Give up the oldest of what nobody has come for in a while, until *left* is expected."""
        long_ago = time.monotonic() - UNREAD_S
        for key, (size, at) in list(self._expected.items()):
            if self._expected_bytes <= left or at > long_ago:
                return
            del self._expected[key]
            self._expected_bytes -= size

    def _not_fetched(self, pack: bytes, first: int, end: int, mine: threading.Event) -> None:
        """Let nobody wait for what will not come; whoever reads it meets the reason."""
        with self._lock:
            self._fetching.pop((pack, first, end), None)
            self._expected_bytes -= self._expected.pop((pack, first), NOTHING)[0]
        mine.set()

    def _get(self, pack: bytes, first: int, end: int, mine: threading.Event) -> bytes:
        try:
            data = self._store.get_upto(names.pack_name(pack[1:]), end - first, start=first)
            with self._lock:
                self._hold(pack, first, data)
        finally:
            with self._lock:
                self._fetching.pop((pack, first, end), None)
            mine.set()
        return data

    # ---- ranges

    def _fetch(self, blob: Blob) -> bytes | memoryview:
        first = blob.offset // ALIGN * ALIGN
        end = blob.offset + blob.length
        # At least four steps: what lies behind is mostly what is read next.
        stop = first + max(-(-(end - first) // ALIGN), 4) * ALIGN
        while True:
            with self._lock:
                held = self._held(blob.pack, first, end)
                if held is not None:
                    at, data = held
                    return memoryview(data)[blob.offset - at : end - at]
                coming = self._coming(blob.pack, first, end)
                if coming is None:
                    mine = self._fetching[blob.pack, first, stop] = threading.Event()
                    break
            # Another thread is at it: to fetch it twice would cost a request.
            coming.wait()
        data = self._get(blob.pack, first, stop, mine)
        if first + len(data) < end:
            raise DamagedData(
                "a pack is shorter than its index says", object=names.pack_name(blob.pack[1:])
            )
        return memoryview(data)[blob.offset - first : end - first]

    def _held(self, pack: bytes, first: int, end: int) -> tuple[int, bytes] | None:
        """Find a range in memory that has all from *first* to *end*; give its start and bytes."""
        at = self._start(pack, first, end)
        if at < 0:
            return None
        self._ranges.move_to_end((pack, at))
        self._expected_bytes -= self._expected.pop((pack, at), NOTHING)[0]
        return at, self._ranges[pack, at]

    def _start(self, pack: bytes, first: int, end: int) -> int:
        """Say where a range in memory starts that has all from *first* to *end*; -1: nowhere."""
        for at in range(first, first - RANGE_BYTES, -ALIGN):
            data = self._ranges.get((pack, at))
            if data is not None and at + len(data) >= end:
                return at
        return -1

    def _coming(self, pack: bytes, first: int, end: int) -> threading.Event | None:
        """Find a range that another thread is fetching and that would have it."""
        for (of, start, stop), event in self._fetching.items():
            if of == pack and start <= first and end <= stop:
                return event
        return None

    def _hold(self, pack: bytes, first: int, data: bytes) -> None:
        old = self._ranges.pop((pack, first), None)
        self._range_bytes += len(data) - (len(old) if old is not None else 0)
        self._ranges[pack, first] = data
        while self._range_bytes > RANGE_CACHE_BYTES + self._expected_bytes:
            # What nobody has needed yet comes last.
            oldest = next((key for key in self._ranges if key not in self._expected), None)
            if oldest is None:
                return
            self._range_bytes -= len(self._ranges.pop(oldest))


def _joined(stretches: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Widen stretches of a pack to whole steps, and join those that are near, up to 6 MiB."""
    first = stop = -1
    for start, end in sorted(stretches):
        at, until = start // ALIGN * ALIGN, -(-end // ALIGN) * ALIGN
        if first >= 0 and at <= stop + GAP_BYTES and max(until, stop) - first <= RANGE_BYTES:
            stop = max(until, stop)
            continue
        if first >= 0:
            yield first, stop
        first, stop = at, until
    if first >= 0:
        yield first, stop


def _damage(chunk_id: bytes, failures: list[tuple[Place, LoopbackupError]]) -> DamagedData:
    """Say why a chunk cannot be read: of several places, why not from the first."""
    if not failures:
        text, kind, where = "a chunk is missing: no pack holds it", "missing_chunk", None
    else:
        place, exc = failures[0]
        text, kind, where = str(exc), exc.kind, names.pack_name(place.blob.pack[1:])
        if isinstance(exc, NotFoundError):
            text, kind = "a chunk is missing: its pack is gone", "missing_chunk"
    return DamagedData(text, kind=kind, object=where, chunk=chunk_id.hex())
