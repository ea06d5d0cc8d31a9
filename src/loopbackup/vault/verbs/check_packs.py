"""
Checking packs: each is there, as long as the index says, and with data sound in every byte.

Memory: 128 MiB of packs at a time and a few words for each pack; what the index says
of a pack is compared with the pack's own directory by a sum, not row by row.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Final

from attrs import define, field, frozen

from ...errors import DamagedData, NotFoundError, StoreError
from ...terms import Problem
from ..content.compress import decompress
from ..content.segment import Blob, Place, SegmentReader, places_of
from ..format import names
from ..format.pack import CONTENT_KINDS
from ..keys.domains import Domain
from ..ledger.state import State
from .session import Session

__all__ = ["MANY_MISSING", "PackCheck", "pack_is_gone", "too_many_missing"]

MANY_MISSING: Final = 8
ROWS_AT_ONCE: Final = 64
"""So many packs are held against the rows of the index in one pass over them."""
MAX_HELD_BYTES: Final = 128 << 20
_MASK: Final = 2**64 - 1


def too_many_missing(missing: int, known: int) -> bool:
    """Tell whether so many packs are missing that the place is wrong rather than the packs."""
    return missing > MANY_MISSING and 2 * missing > known


def pack_is_gone(session: Session, pack: bytes, last: int = 0) -> bool:
    """
    Ask the store itself, for a listing may be behind; twice, before the answer is yes.

    Args:
        last: A byte that must be there.

    Raises:
        StoreError: The store does not answer, which proves nothing.
        DamagedData: The pack is there and ends before that byte.
    """
    for _ in range(2):
        try:
            session.store.get(names.pack_name(pack[1:]), start=last, length=1)
        except NotFoundError:
            continue
        return False
    return True


@frozen
class _Held:
    """A pack in memory, read like one in the store."""

    data: bytes

    def get_upto(self, _key: str, length: int, *, start: int = 0) -> bytes:
        """Give a range, or what there is of it."""
        return self.data[start : start + length]

    def get(self, key: str, *, start: int = 0, length: int = 0) -> bytes:
        """Give a range in full."""
        if start + length > len(self.data):
            raise DamagedData("a pack is cut short", object=key)
        return self.data[start : start + length]


@define(eq=False)
class PackCheck:
    """
    What is known of the packs of a vault.

    Kept over several looks: what was read once is not read again.
    """

    session: Session
    share: float
    chunks: int = 0
    """Blobs that the index names."""
    read_bytes: int = 0
    packs: set[bytes] = field(factory=set)
    """Short names of all packs that count."""
    missing: set[bytes] = field(factory=set)
    elsewhere: bool = False
    """So many are missing that they are taken for out of sight, not for lost."""
    whole: set[bytes] = field(factory=set)
    """Packs of which every byte was read and is right."""
    damaged: dict[bytes, str] = field(factory=dict)
    """Pack -> what is wrong with it."""
    broken: set[tuple[bytes, int]] = field(factory=set)
    """(pack, offset) of blobs that cannot be opened."""
    unread: dict[bytes, StoreError] = field(factory=dict)
    """Packs that the store did not give: nothing is known of them."""
    unreadable: set[bytes] = field(factory=set)
    """Packs that the disk cannot give, or in whose place something else lies."""
    _ends: dict[bytes, int] = field(factory=dict)
    _sums: dict[bytes, dict[bytes, int]] = field(factory=dict)
    """Pack -> segment -> sum over the rows that the segment has of the pack."""
    _sizes: dict[bytes, int] = field(factory=dict)
    _chosen: dict[bytes, bool] = field(factory=dict)
    _unlike: set[bytes] = field(factory=set)
    _lock: threading.Lock = field(factory=threading.Lock)

    # ---- looking

    def look(self, state: State) -> None:
        """
        Look at all packs that *state* counts on; with a share, read that many of them.

        Raises:
            StoreError: The store does not answer.
        """
        self.unread = {}
        self._list()
        self._read_rows(state)
        self._find_missing()
        if self.share > 0 or state.distrusted:
            self._read(state)

    def _list(self) -> None:
        self._sizes = {}
        for entry in self.session.store.list(names.PACKS):
            with contextlib.suppress(ValueError):
                short = b"p" + bytes.fromhex(entry.key.rsplit("/", 1)[-1])
                self._sizes[short] = entry.size_bytes

    def _readers(self, state: State) -> list[SegmentReader]:
        return self.session.index.segments(state)

    def _domains(self, state: State) -> Iterator[Domain]:
        """Yield the domains whose keys are there."""
        for domain_id in self.session.index.domain_ids(state):
            domain = self._domain(domain_id)
            if domain is not None:
                yield domain

    def _domain(self, domain_id: bytes) -> Domain | None:
        try:
            return self.session.keyring.by_id(domain_id)
        except (NotFoundError, DamagedData):
            return None

    def _rows(self, state: State) -> Iterator[tuple[bytes, Domain, Blob, bytes]]:
        """Yield all rows of the index, each with its segment; damaged blocks are passed over."""
        for domain in self._domains(state):
            for reader in self._readers(state):
                with contextlib.suppress(DamagedData):
                    for blob, members in reader.rows(domain):
                        yield reader.short, domain, blob, members

    def _read_rows(self, state: State) -> None:
        """Note of each pack how long it must be and, to compare, what the index says of it."""
        self.packs = {pack.name for reader in self._readers(state) for pack in reader.packs}
        self.packs -= state.condemned.keys()
        self.chunks = 0
        self._ends, self._sums = {}, defaultdict(dict)
        for segment, domain, blob, members in self._rows(state):
            self.chunks += 1
            pack, end = blob.pack, blob.offset + blob.length
            if end > self._ends.get(pack, 0):
                self._ends[pack] = end
            if self.share > 0 or pack in state.distrusted:
                sums = self._sums[pack]
                sums[segment] = (sums.get(segment, 0) + _sum_of(domain, blob, members)) & _MASK

    def _find_missing(self) -> None:
        self.missing = self.packs - self._sizes.keys()
        self.elsewhere = too_many_missing(len(self.missing), len(self.packs))
        short = {p for p in self.packs & self._sizes.keys() if self._sizes[p] < self._end(p)}
        if self.elsewhere:
            return
        for pack in sorted(self.missing | short):
            try:
                if not pack_is_gone(self.session, pack, self._end(pack) - 1):
                    self.missing.discard(pack)
            except DamagedData as exc:
                self.missing.discard(pack)
                if exc.kind == "unreadable":
                    self._cannot_read(pack, exc)
                else:
                    self.damaged[pack] = "a pack is cut short"
            except StoreError as exc:
                self.missing.discard(pack)
                self.unread[pack] = exc

    def _cannot_read(self, pack: bytes, exc: DamagedData) -> None:
        self.damaged[pack] = str(exc)
        self.unreadable.add(pack)

    def _end(self, pack: bytes) -> int:
        return self._ends.get(pack, 1)

    # ---- bytes

    def _read(self, state: State) -> None:
        """Read whole packs, several at once, and open every blob in them."""
        for pack in sorted(self.packs - self._chosen.keys()):
            self._chosen[pack] = self.share >= 1
        fresh = sorted(self._chosen.keys() & self.packs) if 0 < self.share < 1 else []
        if fresh and not any(self._chosen.values()):
            for pack in random.sample(fresh, max(1, round(len(fresh) * self.share))):
                self._chosen[pack] = True
        # Whether they have come back is worth a reading, whatever the share.
        wanted = {pack for pack in self.packs if self._chosen[pack] or pack in state.distrusted}
        wanted -= self.missing | self.whole | self.damaged.keys() | self.unread.keys()
        self._unlike = set()
        self._read_each(sorted(wanted))
        rest = sorted(self._unlike)
        for at in range(0, len(rest), ROWS_AT_ONCE):
            self._read_by_index(state, set(rest[at : at + ROWS_AT_ONCE]))

    def _read_each(self, packs: list[bytes]) -> None:
        """Read so many packs at once as may be held, however many cores there are."""
        session = self.session
        at_once = max(1, MAX_HELD_BYTES // session.header.pack_size)
        reading: deque[Future[None]] = deque()
        for pack in packs:
            if len(reading) >= at_once:
                reading.popleft().result()
            get: Callable[[], bytes | None] = partial(self._get, pack)
            if session.store.is_distant:
                get = session.store.threads.submit(get).result
            reading.append(session.executor.submit(self._read_pack, pack, get))
        for future in reading:
            future.result()

    def _get(self, pack: bytes) -> bytes | None:
        """Read a pack, once more if it looks altered or gone; None if it does not come."""
        name, data = names.pack_name(pack[1:]), None
        for _ in range(2):
            try:
                # A byte more than any pack has shows that something was added to it.
                data = self.session.store.get_upto(name, self.session.header.pack_size + 1)
            except NotFoundError:
                continue
            except StoreError as exc:
                self.unread[pack] = exc
                return None
            except DamagedData as exc:
                self._cannot_read(pack, exc)
                return None
            with self._lock:
                self.read_bytes += len(data)
            if names.content_hash(data) == pack[1:]:
                return data
        if data is None:
            self.missing.add(pack)
        else:
            self.damaged[pack] = "a pack's bytes do not fit its name"
        return data

    def _read_pack(self, pack: bytes, get: Callable[[], bytes | None]) -> None:
        """Verify a pack by its own directory; note whether the index says the same."""
        data = get()
        if data is None:
            return
        session, total, good = self.session, 0, True
        try:
            reader = SegmentReader.load(
                _Held(data),  # type: ignore[arg-type]
                session.keyring.index_secret,
                session.header.vault_id,
                pack,
                None,  # Of a pack whose whole bytes fit its name, or which is told as damaged.
            )
            for domain_id in reader.domains():
                domain = self._domain(domain_id)
                for blob, members in reader.rows(domain) if domain is not None else ():
                    assert domain is not None
                    total = (total + _sum_of(domain, blob, members)) & _MASK
                    good = self._open(domain, blob, members, data) and good
        except DamagedData:
            good = False
        if any(value != total for value in self._sums[pack].values()) or not good:
            self._unlike.add(pack)
        elif pack not in self.damaged:
            self.whole.add(pack)

    def _read_by_index(self, state: State, packs: set[bytes]) -> None:
        """Verify packs by what the index says of them, where their own directory says other."""
        rows: dict[bytes, list[tuple[Domain, Blob, bytes]]] = defaultdict(list)
        for _segment, domain, blob, members in self._rows(state):
            if blob.pack in packs:
                rows[blob.pack].append((domain, blob, members))
        for pack in sorted(packs):
            data = self._get(pack)
            if data is None:
                continue
            good = [self._open(domain, blob, members, data) for domain, blob, members in rows[pack]]
            if all(good) and pack not in self.damaged:
                self.whole.add(pack)

    def _open(self, domain: Domain, blob: Blob, members: bytes, data: bytes) -> bool:
        try:
            self.session.reader.may_read(domain)
        except DamagedData:
            return True  # Whose it is was erased since; nothing can be said of it any more.
        try:
            _verify(domain, blob, members, data)
        except DamagedData as exc:
            self.broken.add((blob.pack, blob.offset))
            self.damaged.setdefault(blob.pack, str(exc))
            return False
        return True

    # ---- what it comes to

    def why(self, place: Place) -> str | None:
        """Say why a chunk cannot be read from a place; None if nothing is known against it."""
        blob = place.blob
        if blob.pack in self.missing:
            return "its pack is missing"
        if blob.pack in self.unreadable:
            return "its pack cannot be read"
        if blob.pack not in self.damaged:
            return None
        if (blob.pack, blob.offset) in self.broken:
            return "its bytes were altered"
        if blob.offset + blob.length > self._sizes.get(blob.pack, 0):
            return "its pack is cut short"
        return None

    @property
    def flawless(self) -> bool:
        """Whether nothing is known against any pack."""
        return not self.missing and not self.damaged

    def bad(self) -> set[bytes]:
        """Give the packs that no new snapshot may rely on."""
        return (set() if self.elsewhere else self.missing) | (self.damaged.keys() & self.packs)

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong with packs, each once."""
        if self.elsewhere:
            yield Problem(
                "missing",
                f"{len(self.missing):,} of {len(self.packs):,} packs are missing: "
                "is this the whole folder, and is everything mounted?",
                object=names.PACKS,
            )
        for pack in sorted(self.missing if not self.elsewhere else ()):
            yield Problem("missing", "a pack is missing", object=names.pack_name(pack[1:]))
        for pack in sorted(self.damaged.keys() & self.packs - self.missing):
            kind = "unreadable" if pack in self.unreadable else "damaged"
            yield Problem(kind, self.damaged[pack], object=names.pack_name(pack[1:]))
        for pack, exc in sorted(self.unread.items()):
            yield Problem(exc.kind, f"pack: {exc}", object=names.pack_name(pack[1:]))


def _sum_of(domain: Domain, blob: Blob, members: bytes) -> int:
    # Both sides are authenticated already: this finds slips, and need not stand an attack.
    return hash((domain.id, members, *blob[1:]))


def _verify(domain: Domain, blob: Blob, members: bytes, data: bytes) -> None:
    payload = domain.decrypt(
        memoryview(data)[blob.offset : blob.offset + blob.length],
        generation=blob.generation,
        chunk_id=blob.id,
        codec=blob.codec,
        plain=blob.plain,
    )
    plain = memoryview(decompress(blob.codec, payload, blob.plain))
    if domain.chunk_id(plain, CONTENT_KINDS[blob.kind]) != blob.id:
        raise DamagedData("a blob's content does not fit its id")
    if not members:
        return
    for chunk_id, place in places_of(blob, members):
        if domain.chunk_id(plain[place.start : place.start + place.length]) != chunk_id:
            raise DamagedData("a chunk's content does not fit its id")
