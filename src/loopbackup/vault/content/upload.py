"""
One run's uploads: deduplicate, bundle, compress, encrypt, pack, put.

The caller's thread hashes and bundles; workers compress and encrypt into the
open pack; a full pack is put by a worker while the next one fills, or, into a
distant store, up to three by threads of their own. Memory: two packs, or five;
a few chunks a worker; for each new chunk its row (54 bytes) and its id in a
set (about 100).
"""

from __future__ import annotations

import contextlib
import mmap
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Final

from attrs import define, field

from ...errors import InputError, IntegrityError, NotFoundError
from ..format import names
from ..format.pack import (
    CONTENT_KINDS,
    MAX_PLAIN_BYTES,
    MEMBER,
    PackDirectory,
    PackFront,
    decode_block,
)
from ..keys.domains import Domain
from ..keys.keyring import Keyring
from ..ledger.log import Log
from ..ledger.state import Front, State
from ..store.seam import StoreSeam
from .compress import compress
from .index import Index
from .pack import PackBuilder, new_buffer
from .segment import Place, blob_of, build_index, places_of

__all__ = ["Upload", "Uploaded"]

MAX_QUEUED_BYTES: Final = 16 << 20
MAX_BUNDLES_BYTES: Final = 16 << 20
MAX_LISTS_BYTES: Final = 8 << 20
PUTS_AT_ONCE: Final = 3
INLINE_GROUPS: Final = 1024
"""A single pack's own directory serves as the index of a run of so few domains."""
_KIND: Final = {name: number for number, name in enumerate(CONTENT_KINDS)}


@define
class Uploaded:
    """What a run has put, for its ledger record."""

    segments: list[Front]
    packs: list[Front]


@define
class _Bundle:
    domain: Domain
    parts: list[tuple[bytes, bytes]] = field(factory=list)
    size: int = 0


@define(eq=False)
class _Own:
    """What this run has put into one pack: enough to index it and to find it again."""

    contents: tuple[tuple[Domain, int, bytes], ...]
    """(domain, generation, plain index block): 54 bytes a blob, 36 more a file of a bundle."""
    front: PackFront

    @property
    def name(self) -> bytes:
        """Short name of the pack."""
        return self.front.name

    @property
    def named(self) -> Front:
        """The pack as a ledger record names it."""
        return Front(self.front.name, self.front.hash)


class Upload:
    """
    Puts chunks and remembers what was put and what is relied on.

    ``put`` may be called from one thread. Call ``finish`` before the commit;
    ``lost`` says at the commit whether anything relied on was condemned.

    Args:
        executor: Runs compression, and puts into a store that is near; it may run them at once.
        dry: Look up and count only; store nothing.
    """

    def __init__(
        self,
        store: StoreSeam,
        log: Log,
        keyring: Keyring,
        index: Index,
        *,
        executor: Executor,
        pack_size: int,
        bundle_size: int,
        dry: bool = False,
    ) -> None:
        self._store = store
        self._log = log
        self._keyring = keyring
        self._index = index
        self._executor = executor
        self._pack_size = pack_size
        self._bundle_size = bundle_size
        self.on_pack: Callable[[], None] | None = None
        """Called after each full pack is put, from the thread that put it."""
        self._dry = dry
        self._lock = threading.Lock()
        self._jobs: deque[tuple[Future[None], int]] = deque()
        self._queued = 0
        self._builder: PackBuilder | None = None
        self._buffers: list[mmap.mmap] = []
        self._writing: dict[int, int] = {}
        self._idle = threading.Condition(self._lock)
        self._packs: list[_Own] = []
        self._puts: deque[Future[None]] = deque()
        self._free = threading.BoundedSemaphore(PUTS_AT_ONCE)
        self._bundles: OrderedDict[tuple[bytes, int], _Bundle] = OrderedDict()
        self._bundled = 0
        self._lists: list[tuple[Domain, bytes, bytes | memoryview, str]] = []
        self._lists_bytes = 0
        self._mine: dict[bytes, set[bytes]] = {}
        self.new_domains: set[bytes] = set()
        """Ids of domains made for this run: no earlier run can have stored anything of them."""
        self.relied: set[bytes] = set()
        """Short names of packs that hold chunks which this run did not put."""
        self.added_bytes = 0
        """Bytes of packs and index objects put."""

    # ---- looking up

    def has(self, domain: Domain, chunk_id: bytes) -> bool:
        """Tell whether a chunk is stored, or was put by this run; rely on it if so."""
        mine = self._mine.get(domain.id)
        if mine is not None and chunk_id in mine:
            return True
        if domain.id in self.new_domains:
            return False
        pack = self._index.find_pack(domain, chunk_id, self._log.state)
        if pack is None:
            return False
        self.relied.add(pack)
        return True

    def has_all(self, domain: Domain, chunk_ids: Sequence[bytes]) -> bool:
        """Tell whether :meth:`has` knows each of many chunks, for less; rely on them if so."""
        mine = self._mine.get(domain.id, set())
        asked = [chunk_id for chunk_id in chunk_ids if chunk_id not in mine]
        if asked and domain.id in self.new_domains:
            return False
        packs = self._index.find_packs(domain, asked, self._log.state) if asked else []
        found = {pack for pack in packs if pack is not None}
        if None in packs:
            return False
        self.relied |= found
        return True

    # ---- putting

    def put(
        self, domain: Domain, chunk_id: bytes, data: bytes | memoryview, kind: str = "data"
    ) -> None:
        """
        Store a chunk that :meth:`has` does not know; *data* must not change any more.

        Raises:
            InputError: It is longer than readers take.
        """
        _check_length(data)
        self._mine.setdefault(domain.id, set()).add(chunk_id)
        if self._dry:
            return
        if kind == "data":
            self._submit(domain, chunk_id, data, kind, ())
            return
        self._lists.append((domain, chunk_id, data, kind))
        self._lists_bytes += len(data)
        if self._lists_bytes > MAX_LISTS_BYTES:
            self._flush_lists()

    def put_small(self, domain: Domain, group: int, chunk_id: bytes, data: bytes) -> None:
        """
        Store a small chunk in a bundle with others of its domain and *group*.

        Raises:
            InputError: It is longer than readers take.
        """
        _check_length(data)
        self._mine.setdefault(domain.id, set()).add(chunk_id)
        if self._dry:
            return
        key = (domain.id, group)
        bundle = self._bundles.get(key)
        if bundle is None:
            bundle = self._bundles[key] = _Bundle(domain)
        self._bundles.move_to_end(key)
        bundle.parts.append((chunk_id, data))
        bundle.size += len(data)
        self._bundled += len(data)
        if bundle.size >= self._bundle_size:
            self._flush_bundle(key)
        while self._bundled > MAX_BUNDLES_BYTES:
            self._flush_bundle(next(iter(self._bundles)))

    def _flush_lists(self) -> None:
        """Store what lists entries together, for it is read together, and before the content."""
        lists, self._lists, self._lists_bytes = self._lists, [], 0
        for domain, chunk_id, data, kind in lists:
            self._submit(domain, chunk_id, data, kind, ())

    def _flush_bundle(self, key: tuple[bytes, int]) -> None:
        bundle = self._bundles.pop(key)
        self._bundled -= bundle.size
        if len(bundle.parts) == 1:
            chunk_id, data = bundle.parts[0]
            self._submit(bundle.domain, chunk_id, data, "data", ())
            return
        members = [(chunk_id, len(data)) for chunk_id, data in bundle.parts]
        self._submit(bundle.domain, b"", [data for _, data in bundle.parts], "bundle", members)

    def _submit(
        self,
        domain: Domain,
        chunk_id: bytes,
        data: bytes | memoryview | list[bytes],
        kind: str,
        members: Sequence[tuple[bytes, int]],
    ) -> None:
        self._log.lease.keep()
        size = sum(map(len, data)) if isinstance(data, list) else len(data)
        while self._jobs and (self._queued + size > MAX_QUEUED_BYTES or self._jobs[0][0].done()):
            self._reap()
        while self._puts and self._puts[0].done():
            self._puts.popleft().result()
        future = self._executor.submit(self._store_blob, domain, chunk_id, data, kind, members)
        self._jobs.append((future, size))
        self._queued += size

    def _reap(self) -> None:
        future, size = self._jobs.popleft()
        self._queued -= size
        future.result()

    # ---- in the workers

    def _store_blob(
        self,
        domain: Domain,
        chunk_id: bytes,
        data: bytes | memoryview | list[bytes],
        kind: str,
        members: Sequence[tuple[bytes, int]],
    ) -> None:
        plain = b"".join(data) if isinstance(data, list) else data
        if not chunk_id:
            chunk_id = domain.chunk_id(plain, kind)
        codec, payload = compress(plain)
        full = None
        with self._lock:
            while True:
                builder = self._builder
                if builder is None:
                    buffer = self._buffers.pop() if self._buffers else new_buffer(self._pack_size)
                    builder = self._builder = PackBuilder(self._pack_size, buffer)
                target = builder.reserve(
                    domain,
                    chunk_id,
                    kind=_KIND[kind],
                    codec=codec,
                    stored=len(payload),
                    plain=len(plain),
                    members=members,
                )
                if target is not None:
                    self._writing[id(builder)] = self._writing.get(id(builder), 0) + 1
                    break
                if len(builder) == 0:
                    raise IntegrityError("a chunk does not fit into an empty pack")
                full, self._builder = builder, None
        try:
            domain.encrypt_into(target, payload, chunk_id=chunk_id, codec=codec, plain=len(plain))
        except BaseException:
            builder.spoiled = True
            raise
        finally:
            with self._lock:
                self._writing[id(builder)] -= 1
                self._idle.notify_all()
        if full is None:
            return
        if not self._store.is_distant:
            self._seal_and_put(full, last=False)
            return
        self._free.acquire()
        self._puts.append(self._store.threads.submit(self._put_apart, full))

    def _put_apart(self, builder: PackBuilder) -> None:
        try:
            self._seal_and_put(builder, last=False)
        finally:
            self._free.release()

    def _seal_and_put(self, builder: PackBuilder, *, last: bool) -> None:
        with self._lock:
            while self._writing.get(id(builder), 0):
                self._idle.wait()
            self._writing.pop(id(builder), None)
        if builder.spoiled:
            return
        pack = builder.seal(self._keyring.index_secret, self._keyring.root.vault_id, last=last)
        self._store.put(names.pack_name(pack.front.name[1:]), pack.data)
        with self._lock:
            self.added_bytes += len(pack.data)
            self._packs.append(_Own(pack.contents, pack.front))
            self._buffers.append(builder.buffer)
        if self.on_pack is not None and not last:
            self.on_pack()

    # ---- finishing

    @property
    def packs(self) -> list[Front]:
        """The packs put so far, in the order in which they were."""
        with self._lock:
            return [own.named for own in self._packs]

    def relied_packs(self) -> set[bytes]:
        """Give a copy of :attr:`relied`, from any thread."""
        # Copying a set of bytes runs no Python code, so nobody can add to it meanwhile.
        return self.relied.copy()

    def flush(self) -> None:
        """Wait until everything that was handed over stands in the store."""
        while self._bundles:
            self._flush_bundle(next(iter(self._bundles)))
        self._flush_lists()
        while self._jobs:
            self._reap()
        builder, self._builder = self._builder, None
        if builder is not None and len(builder):
            self._seal_and_put(builder, last=True)
        while self._puts:
            self._puts.popleft().result()
        self._buffers.clear()

    def abandon(self) -> None:
        """
        Stop early: give up what has not begun, and wait for what runs.

        The open pack and what lies in bundles stay for :meth:`flush`.
        """
        for future, _ in self._jobs:
            future.cancel()
        for future, _ in self._jobs:
            if not future.cancelled():
                with contextlib.suppress(Exception):
                    future.result()
        self._jobs.clear()
        while self._puts:
            with contextlib.suppress(Exception):
                self._puts.popleft().result()

    def finish(self, condemned: dict[bytes, tuple[int, int]] | None = None) -> Uploaded:
        """
        Put what is left and the index of this run.

        Packs that were condemned meanwhile are left out. A run of one pack
        needs no index object, unless it has very many domains: a pack's
        directory is read as a whole, an index object block by block.
        """
        self.flush()
        gone = condemned or {}
        packs = [own for own in self._packs if own.name not in gone]
        if len(packs) == 1 and len(packs[0].contents) <= INLINE_GROUPS:
            return Uploaded([packs[0].named], [packs[0].named])
        if not packs:
            return Uploaded([], [])
        contents: dict[Domain, list[tuple[PackFront, int, bytes]]] = {}
        keep: dict[bytes, Domain] = {}
        for own in packs:
            for domain, generation, plain in own.contents:
                holder = keep.setdefault(domain.id, domain)
                contents.setdefault(holder, []).append((own.front, generation, plain))
        front, data = build_index(self._keyring.index_secret, self._keyring.root.vault_id, contents)
        self._store.put(names.index_name(front.name[1:]), data)
        self.added_bytes += len(data)
        return Uploaded([front], [own.named for own in packs])

    # ---- losing races

    def lost(self, state: State) -> bool:
        """Tell whether any pack that was put or is relied on is condemned."""
        condemned = state.condemned
        return any(name in condemned for name in self.relied) or any(
            own.name in condemned for own in self._packs
        )

    def drop_condemned(self, state: State) -> None:
        """Forget the own packs that are condemned, and rely on no condemned one any more."""
        self.relied = {name for name in self.relied if name not in state.condemned}
        kept = []
        for own in self._packs:
            if own.name not in state.condemned:
                kept.append(own)
                continue
            for domain, _generation, plain in own.contents:
                mine = self._mine.get(domain.id, set())
                for row, parts in decode_block(plain):
                    mine.discard(row.id)
                    mine.difference_update(chunk_id for chunk_id, _ in MEMBER.iter_unpack(parts))
        self._packs = kept

    def own_places(self) -> dict[bytes, dict[bytes, Place]]:
        """Give, per domain id, where this run has put its chunks."""
        found: dict[bytes, dict[bytes, Place]] = {}
        for own in self._packs:
            for domain, generation, plain in own.contents:
                places = found.setdefault(domain.id, {})
                for row, parts in decode_block(plain):
                    places.update(places_of(blob_of(row, own.front, generation), parts))
        return found

    # ---- resuming

    def adopt(self, front: PackFront, directory: PackDirectory) -> None:
        """
        Take over a pack that an interrupted run has put.

        It is indexed with this run's own; blocks of domains whose keys are not
        at hand stay behind.
        """
        if any(own.name == front.name for own in self._packs):
            return
        contents = []
        found: list[tuple[bytes, bytes]] = []
        for block in directory.blocks:
            try:
                domain = self._keyring.by_id(block.domain)
            except NotFoundError:
                if block.domain in self._log.state.fenced:
                    return  # A pack with bytes of somebody who was erased is to go.
                continue
            plain = domain.open_block(block.data, block.generation, directory.salt)
            for row, parts in decode_block(plain):
                places = places_of(blob_of(row, front, 0), parts)
                found += [(domain.id, chunk_id) for chunk_id, _ in places]
            contents.append((domain, block.generation, plain))
        # Only now, all at once: chunks of a pack that is not taken over are not stored.
        self._packs.append(_Own(tuple(contents), front))
        for domain_id, chunk_id in found:
            self._mine.setdefault(domain_id, set()).add(chunk_id)


def _check_length(data: bytes | memoryview) -> None:
    if len(data) > MAX_PLAIN_BYTES:
        raise InputError(
            f"a chunk of {len(data):,} bytes could never be read again; "
            f"{MAX_PLAIN_BYTES:,} is the most"
        )
