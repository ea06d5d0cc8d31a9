"""The keyring of an open vault: from subjects and ids to domains with keys."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Final

from ...errors import DamagedData, NotFoundError
from ...terms import SubjectKey
from ..format import codec, names, seal
from ..format.bounds import MAX_SHARD_BYTES
from ..store.seam import StoreSeam
from .domains import (
    DATA,
    ERASED,
    RECORDS,
    Domain,
    DomainRecord,
    meta_domain,
    new_record,
    open_domain,
    place,
)
from .root import KeyState, Root
from .shards import HOMES, YOUNG, YOUNG_LIMIT_BYTES, Shard, ShardRow
from .suppress import mark_of

__all__ = ["Keyring", "first_shard", "meta_body_key", "seal_shard"]

_Wanted = tuple[int, int, SubjectKey | None]
"""(home shard, search tag, subject)."""

CACHE_BYTES: Final = 32 << 20
"""Opened shards kept in memory; subjects are looked up shard by shard, so few suffice."""
MAX_DOMAINS_HELD: Final = 16_384


def seal_shard(root: Root, number: int, shard: Shard) -> bytes:
    """Seal a shard as number *number* of the root's epoch."""
    return seal.seal(
        root.shard_key(number),
        seal.Kind.SHARD,
        root.vault_id,
        shard.payload,
        generation=number,
        pad=4096,
    )


def first_shard(root: Root) -> tuple[int, bytes, bytes]:
    """Give (number, sealed bytes, domain id) of the shard that holds only nobody's domain."""
    key = seal.derive(root.secrets.shard_choice, "home", root.vault_id)
    home, tag = place(key, None)
    domain_id, record = new_record(None, home)
    shard = Shard.build([(tag, domain_id, codec.encode(record))])
    return home, seal_shard(root, home, shard), domain_id


def meta_body_key(root: Root, ref: bytes) -> bytes:
    """Give the key of a ledger body of the vault itself; *ref* ends with the generation."""
    base = root.vault_key(root.secrets.meta, int.from_bytes(ref[-4:], "little"))
    return seal.derive(base, "body/meta", root.vault_id + ref)


class Keyring:
    """
    Finds domains, and plans new ones. Thread-safe.

    Args:
        store: Where the key objects lie.
        root: The current epoch's root.
        current: Gives the ledger's fold as it is now.
        refresh: Folds what was committed since; False if nothing was.
        keep_lease: Called before keys of domains are given out; raises where the
            fold is too old for that and cannot be renewed.
    """

    def __init__(
        self,
        store: StoreSeam,
        root: Root,
        *,
        current: Callable[[], KeyState],
        refresh: Callable[[], bool],
        keep_lease: Callable[[], None],
    ) -> None:
        self._store = store
        self._current = current
        self.refresh = refresh
        self._keep_lease = keep_lease
        self.root = root
        self._vault_id = root.vault_id
        self.home_key = seal.derive(root.secrets.shard_choice, "home", root.vault_id)
        self.meta = self._meta_of(root)
        self.index_secret = seal.derive(root.secrets.index, "index", root.vault_id)
        self._lock = threading.RLock()
        self._shards: OrderedDict[bytes, Shard] = OrderedDict()
        self._cached_bytes = 0
        self._domains: OrderedDict[bytes, Domain] = OrderedDict()
        self._subjects: OrderedDict[SubjectKey | None, Domain] = OrderedDict()

    def _meta_of(self, root: Root) -> Domain:
        meta = root.secrets.meta
        keys = [(number, root.vault_key(meta, number)) for number, _ in root.generations]
        return meta_domain(root.vault_id, meta, keys, self._by_id)

    def adopt(self, root: Root) -> None:
        """Go on with the keys of another epoch; handles of domains that are in use stay good."""
        with self._lock:
            self.root, self.meta = root, self._meta_of(root)
            self._domains.clear()
            self._subjects.clear()
            # They may hold names and keys of those who were erased.
            self._shards.clear()
            self._cached_bytes = 0

    @property
    def none(self) -> Domain:
        """The domain of what is about nobody."""
        return self.by_id(self._current().none_domain)

    def body_key(self, key: str, ref: bytes) -> bytes:
        """
        Give the key of a ledger body.

        Raises:
            NotFoundError: It belongs to a domain that is no longer there.
            DamagedData: It belongs to nothing that is known.
        """
        root, generation = self.root, int.from_bytes(ref[-4:], "little")
        if key == "audit":
            base = root.vault_key(root.secrets.audit, generation)
            return seal.derive(base, "body/audit", self._vault_id + ref)
        if key == "meta":
            return meta_body_key(root, ref)
        if key == "domain":
            return self.by_id(ref).body_key
        raise DamagedData("a body of a ledger record names no known key")

    # ---- looking up

    @property
    def generation_ref(self) -> bytes:
        """What names the generation that the vault's own bodies are sealed under now."""
        return self.root.generation.to_bytes(4, "little")

    def shard(self, state: KeyState, number: int) -> Shard | None:
        """
        Give a shard as *state* has it; None where it has none.

        Raises:
            NotFoundError: It is gone, or *state* is of another epoch than the
                keys at hand: fold again.
            DamagedData: It was altered.
        """
        digest = state.shards.get(number)
        if digest is None:
            return None
        with self._lock:
            shard = self._shards.get(digest)
            if shard is not None:
                self._shards.move_to_end(digest)
                return shard
        root = self.root
        if root.epoch != state.epoch:
            raise NotFoundError("the vault's keys were changed meanwhile", kind="epoch")
        data = self._store.get_whole(names.shard_name(digest), MAX_SHARD_BYTES)
        if names.content_hash(data) != digest:
            raise DamagedData("a keyring shard was altered", object=names.shard_name(digest))
        payload = seal.open_sealed(
            root.shard_key(number), seal.Kind.SHARD, self._vault_id, data, generation=number
        )
        shard = Shard(payload)
        self._hold(digest, shard)
        return shard

    def _hold(self, digest: bytes, shard: Shard) -> None:
        with self._lock:
            if digest not in self._shards:
                self._cached_bytes += len(shard.payload)
            self._shards[digest] = shard
            while self._cached_bytes > CACHE_BYTES and len(self._shards) > 1:
                _, old = self._shards.popitem(last=False)
                self._cached_bytes -= len(old.payload)

    def held(self) -> list[bytes]:
        """Give the opened shards that are kept in memory for the next look."""
        with self._lock:
            return [shard.payload for shard in self._shards.values()]

    def current_shard(self, number: int) -> Shard | None:
        """Read a shard; fold again when it was replaced meanwhile."""
        for _ in range(16):
            state = self._current()
            seen = (state.epoch, state.shards.get(number))
            try:
                return self.shard(state, number)
            except NotFoundError as exc:
                # Another thread may have folded the replacement, or taken up the keys, already.
                moved = self.refresh()
                now = self._current()
                if (
                    not moved
                    and exc.kind != "epoch"
                    and seen == (now.epoch, now.shards.get(number))
                ):
                    break
        name = names.shard_name(self._current().shards[number])
        raise DamagedData("a keyring shard that the ledger names is missing", object=name)

    def by_id(self, domain_id: bytes) -> Domain:
        """
        Give a domain by its id.

        Raises:
            NotFoundError: The keyring does not hold it.
            StoreError: Kind "lease": the ledger could not be looked at for too long.
        """
        self._keep_lease()
        return self._by_id(domain_id)

    def _by_id(self, domain_id: bytes) -> Domain:
        """Give a domain to whoever keeps the lease himself, and may hold locks."""
        if domain_id == self.meta.id:
            return self.meta
        if domain_id in self._current().fenced:
            raise NotFoundError("the keyring does not hold that domain", kind="domain")
        root = self.root
        with self._lock:
            found = self._domains.get(domain_id)
        if found is not None:
            return found
        for number in (domain_id[0], *YOUNG):
            shard = self.current_shard(number)
            record = shard.find_id(domain_id) if shard is not None else None
            if record is not None and record.status != ERASED:
                return self._keep(self._open(domain_id, record), root)
        raise NotFoundError("the keyring does not hold that domain", kind="domain")

    def find(self, subject: SubjectKey | None, status: int = DATA) -> Domain | None:
        """Give the domain of a subject, or None if it has none."""
        return self.find_many([subject], status).get(subject)

    def find_many(
        self, subjects: Iterable[SubjectKey | None], status: int = DATA
    ) -> dict[SubjectKey | None, Domain]:
        """
        Give the domains of those subjects that have one, of what is backed up or of their records.

        Cost: each shard that is concerned is read once at most.
        """
        self._keep_lease()
        found: dict[SubjectKey | None, Domain] = {}
        missing: list[tuple[int, int, SubjectKey | None]] = []
        fenced = self._current().fenced
        for subject in set(subjects):
            with self._lock:
                held = self._subjects.get(subject) if status == DATA else None
            if held is not None and held.id not in fenced:
                found[subject] = held
            else:
                missing.append((*place(self.home_key, subject), subject))
        missing.sort(key=lambda row: row[:2])
        rest = self._look_at_home(missing, found, status)
        for number in YOUNG:
            if not rest:
                break
            shard = self.current_shard(number)
            rest = rest if shard is None else self._look_into(shard, rest, found, status)
        return found

    def records_of(self, tenant: str) -> int:
        """
        Count the domains of records of a tenant and of its children.

        Cost: all shards are read.
        """
        self._keep_lease()
        count, encoded = 0, codec.encode(tenant)
        fenced = self._current().fenced
        for number in sorted(self._current().shards):
            shard = self.current_shard(number)
            # Most have nothing of it, which one search shows for less than a decoding.
            if shard is None or encoded not in shard.payload:
                continue
            for _tag, domain_id, row in shard.rows():
                record = codec.decode(row, DomainRecord)
                is_its = record.status == RECORDS and record.label[0] == tenant
                count += is_its and domain_id not in fenced
        return count

    def records_erasures(self, subjects: Iterable[SubjectKey]) -> dict[SubjectKey, bytes]:
        """Give, of those whose records were erased, the name of the erasure that did it last."""
        self._keep_lease()
        found = {subject: self._find_mark(subject, RECORDS) for subject in subjects}
        return {subject: mark for subject, mark in found.items() if mark is not None}

    def erasures(self, subjects: Iterable[SubjectKey | None]) -> dict[SubjectKey, bytes]:
        """
        Give, of those who were erased or whose tenant was, the name of the erasure.

        A subject that has a domain again has been readmitted; look for that first.
        """
        self._keep_lease()
        found: dict[SubjectKey, bytes] = {}
        for subject in {subject for subject in subjects if subject is not None}:
            mark = self._find_mark(subject)
            if mark is None and len(subject) == 2 and self.find(subject[:1]) is None:
                # A tenant that has a domain again was readmitted, and its newcomers with it.
                mark = self._find_mark(subject[:1])
            if mark is not None:
                found[subject] = mark
        return found

    def _find_mark(self, subject: SubjectKey, status: int = DATA) -> bytes | None:
        home, tag = place(self.home_key, subject)
        label = mark_of(self.root.secrets.suppression, self._vault_id, subject, status)
        for number in (home, *YOUNG):
            shard = self.current_shard(number)
            hit = None if shard is None else shard.find(tag, label)
            if hit is not None:
                return hit[1].secret[:16]
        return None

    def _look_at_home(
        self, rows: list[_Wanted], found: dict[SubjectKey | None, Domain], status: int
    ) -> list[_Wanted]:
        rest: list[_Wanted] = []
        for home, group in groupby(rows, key=lambda row: row[0]):
            shard = self.current_shard(home)
            wanted = list(group)
            rest += wanted if shard is None else self._look_into(shard, wanted, found, status)
        return rest

    def _look_into(
        self,
        shard: Shard,
        rows: list[_Wanted],
        found: dict[SubjectKey | None, Domain],
        status: int,
    ) -> list[_Wanted]:
        """Add what a shard holds to *found*; give what it does not."""
        rest = []
        root, fenced = self.root, self._current().fenced
        for row in rows:
            _home, tag, subject = row
            hits = shard.find_all(tag, list(subject or ()))
            good = (hit for hit in hits if hit[1].status == status and hit[0] not in fenced)
            hit = next(good, None)
            if hit is None:
                rest.append(row)
            else:
                found[subject] = self._keep(self._open(*hit), root)
        return rest

    def _open(self, domain_id: bytes, record: DomainRecord) -> Domain:
        return open_domain(self._vault_id, domain_id, record, self._by_id)

    def _keep(self, domain: Domain, root: Root) -> Domain:
        """Hold a domain that was read under *root*, unless the keys were changed since."""
        with self._lock:
            if root is not self.root:
                return domain
            self._domains[domain.id] = domain
            if not domain.is_records:
                self._subjects[domain.subject] = domain
            while len(self._domains) > MAX_DOMAINS_HELD:
                _, old = self._domains.popitem(last=False)
                if self._subjects.get(old.subject) is old:
                    del self._subjects[old.subject]
        return domain

    def check_shard(self, number: int) -> None:
        """Read one shard anew; DamagedData when it is missing or altered."""
        digest = self._current().shards[number]
        with self._lock:
            shard = self._shards.pop(digest, None)
            self._cached_bytes -= len(shard.payload) if shard is not None else 0
        self.current_shard(number)

    # ---- adding

    def imagine(self, subjects: Iterable[SubjectKey | None]) -> dict[SubjectKey | None, Domain]:
        """Give domains for a dry run: the known ones, and others that are never stored."""
        wanted = set(subjects)
        found = self.find_many(wanted)
        for subject in wanted - found.keys():
            home, _tag = place(self.home_key, subject)
            found[subject] = self._open(*new_record(subject, home, self.root.generation))
        return found

    def new_rows(self, subjects: Iterable[SubjectKey | None], status: int = DATA) -> list[ShardRow]:
        """Make a row with fresh keys for each subject; nothing is stored yet."""
        rows = []
        for subject in subjects:
            home, tag = place(self.home_key, subject)
            domain_id, record = new_record(subject, home, self.root.generation, status)
            rows.append((tag, domain_id, codec.encode(record)))
        return rows

    def _write_shards(
        self, state: KeyState, shards: dict[int, list[ShardRow]]
    ) -> list[tuple[int, bytes, bytes]]:
        changes = []
        for number, rows in shards.items():
            shard = Shard.build(rows)
            data = seal_shard(self.root, number, shard)
            digest = names.content_hash(data)
            self._store.put(names.shard_name(digest), data)
            self._hold(digest, shard)
            changes.append((number, state.shards.get(number, b""), digest))
        return changes

    def open_rows(self, rows: list[ShardRow]) -> dict[SubjectKey | None, Domain]:
        """Give the domains of rows that a ledger record has just made current."""
        opened = [
            self._keep(self._open(domain_id, codec.decode(record, DomainRecord)), self.root)
            for _tag, domain_id, record in rows
        ]
        return {domain.subject: domain for domain in opened}

    def store_rows(self, state: KeyState, rows: list[ShardRow]) -> list[tuple[int, bytes, bytes]]:
        """
        Write shards that hold *rows* too, for a ledger record to make current.

        Into a young shard, or all young ones are spread when they are full.

        Returns:
            (number, hash replaced or empty, new hash) of each shard.
        """
        for number in YOUNG:
            shard = self.shard(state, number)
            held = len(shard.payload) if shard is not None else 0
            if held < YOUNG_LIMIT_BYTES:
                old = list(shard.rows()) if shard is not None else []
                return self._write_shards(state, {number: old + rows})
        young: dict[int, list[ShardRow]] = {number: [] for number in range(HOMES)}
        for number in YOUNG:
            shard = self.shard(state, number)
            for row in shard.rows() if shard is not None else ():
                young[row[1][0]].append(row)
        for row in rows:
            young[row[1][0]].append(row)
        changes = []
        for number, more in young.items():
            if more:
                home = self.shard(state, number)
                old = list(home.rows()) if home is not None else []
                changes += self._write_shards(state, {number: old + more})
        return changes + self._write_shards(state, {number: [] for number in YOUNG})
