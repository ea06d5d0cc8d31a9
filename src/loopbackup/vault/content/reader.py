"""Reading chunks by id: fetch, decrypt, decompress, verify."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from ...errors import DamagedData, NotFoundError
from ..format import names
from ..format.pack import CONTENT_KINDS
from ..keys.domains import Domain
from ..ledger.log import Log
from ..store.seam import StoreSeam
from .compress import decompress
from .index import Index
from .segment import Blob, Place

__all__ = ["ChunkReader"]

ALIGN: Final = 256 << 10
RANGE_CACHE_BYTES: Final = 24 << 20
PLAIN_CACHE_BYTES: Final = 8 << 20


class ChunkReader:
    """
    Gives chunks by domain and id. Thread-safe.

    Reads are widened to multiples of 256 KiB, which saves requests and shows
    a provider less of what is read; the last few stay in memory, encrypted.
    """

    def __init__(self, store: StoreSeam, index: Index, log: Log) -> None:
        self._store = store
        self._index = index
        self._log = log
        self._lock = threading.Lock()
        self._ranges: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()
        self._range_bytes = 0
        self._plains: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()
        self._plain_bytes = 0

    def read(self, domain: Domain, chunk_id: bytes, kind: str = "data") -> bytes | memoryview:
        """
        Give one chunk, verified against its id.

        Raises:
            DamagedData: It is missing or altered. Never retried but where the
                ledger has moved on, which may have moved the chunk.
        """
        while True:
            state = self._log.state
            folded = state.size
            place = self._index.find(domain, chunk_id, state)
            try:
                if place is None:
                    raise NotFoundError("no place for a chunk")
                return self.read_place(domain, chunk_id, place, kind)
            except NotFoundError as exc:
                # Another thread may have folded what moved the chunk.
                if self._log.refresh() or self._log.state.size > folded:
                    continue
                where = None if place is None else names.pack_name(place.blob.pack[1:])
                raise DamagedData(
                    "a chunk is missing: "
                    + ("no pack holds it" if where is None else "its pack is gone"),
                    kind="missing_chunk",
                    object=where,
                    chunk=chunk_id.hex(),
                ) from exc

    def read_place(
        self, domain: Domain, chunk_id: bytes, place: Place, kind: str = "data"
    ) -> bytes | memoryview:
        """Give one chunk from a known place; NotFoundError when the pack is gone."""
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

    def read_blob(self, domain: Domain, blob: Blob) -> bytes:
        """Give a whole blob, decrypted and decompressed; bundles are kept for a while."""
        key = (blob.pack, blob.offset)
        with self._lock:
            plain = self._plains.get(key)
            if plain is not None:
                self._plains.move_to_end(key)
                return plain
        try:
            payload = domain.decrypt(
                self._fetch(blob),
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
                if key not in self._plains:
                    self._plains[key] = plain
                    self._plain_bytes += len(plain)
                while self._plain_bytes > PLAIN_CACHE_BYTES:
                    _, old = self._plains.popitem(last=False)
                    self._plain_bytes -= len(old)
        return plain

    def _fetch(self, blob: Blob) -> bytes | memoryview:
        first = blob.offset // ALIGN * ALIGN
        end = blob.offset + blob.length
        with self._lock:
            for at in (first, first - ALIGN, first - 2 * ALIGN, first - 3 * ALIGN):
                data = self._ranges.get((blob.pack, at))
                if data is not None and at + len(data) >= end:
                    self._ranges.move_to_end((blob.pack, at))
                    return memoryview(data)[blob.offset - at : end - at]
        # At least four steps: what lies behind is mostly what is read next.
        length = max(-(-(end - first) // ALIGN), 4) * ALIGN
        data = self._store.get_upto(names.pack_name(blob.pack[1:]), length, start=first)
        if first + len(data) < end:
            raise DamagedData(
                "a pack is shorter than its index says", object=names.pack_name(blob.pack[1:])
            )
        with self._lock:
            old = self._ranges.pop((blob.pack, first), None)
            self._range_bytes -= len(old) if old is not None else 0
            self._ranges[blob.pack, first] = data
            self._range_bytes += len(data)
            while self._range_bytes > RANGE_CACHE_BYTES:
                _, gone = self._ranges.popitem(last=False)
                self._range_bytes -= len(gone)
        return memoryview(data)[blob.offset - first : end - first]
