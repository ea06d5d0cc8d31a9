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
from .domains import Domain, DomainRecord, meta_domain, new_record, open_domain, place
from .root import KeyState, Root
from .shards import HOMES, YOUNG, YOUNG_LIMIT_BYTES, Shard, ShardRow

__all__ = ["Keyring", "first_shard"]

_Wanted = tuple[int, int, SubjectKey | None]
"""(home shard, search tag, subject)."""

CACHE_BYTES: Final = 32 << 20
"""Opened shards kept in memory; subjects are looked up shard by shard, so few suffice."""
MAX_DOMAINS_HELD: Final = 16_384


def _seal_shard(root: Root, number: int, shard: Shard) -> bytes:
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
    return home, _seal_shard(root, home, shard), domain_id


class Keyring:
    """
    Finds domains, and plans new ones. Thread-safe.

    Args:
        store: Where the key objects lie.
        root: The current epoch's root.
        current: Gives the ledger's fold as it is now.
        refresh: Folds what was committed since; False if nothing was.
    """

    def __init__(
        self,
        store: StoreSeam,
        root: Root,
        *,
        current: Callable[[], KeyState],
        refresh: Callable[[], bool],
    ) -> None:
        self._store = store
        self._current = current
        self._refresh = refresh
        self.root = root
        self._vault_id = root.vault_id
        self._home_key = seal.derive(root.secrets.shard_choice, "home", root.vault_id)
        self.meta = meta_domain(root.vault_id, root.secrets.meta)
        self.index_secret = seal.derive(root.secrets.index, "index", root.vault_id)
        self._lock = threading.RLock()
        self._shards: OrderedDict[bytes, Shard] = OrderedDict()
        self._cached_bytes = 0
        self._domains: OrderedDict[bytes, Domain] = OrderedDict()
        self._subjects: OrderedDict[SubjectKey | None, Domain] = OrderedDict()

    @property
    def none(self) -> Domain:
        """The domain of what is about nobody."""
        return self.by_id(self._current().none_domain)

    def body_key(self, key: str, ref: bytes) -> bytes:
        """
        Give the key of a ledger body.

        Raises:
            NotFoundError: It belongs to a domain that is no longer there.
        """
        if key == "audit":
            return seal.derive(self.root.secrets.audit, "body/audit", self._vault_id + ref)
        if key == "meta":
            return seal.derive(self.root.secrets.meta, "body/meta", self._vault_id)
        if key == "domain":
            return self.by_id(ref).body_key
        raise DamagedData("a body of a ledger record names no known key")

    # ---- looking up

    def _shard(self, state: KeyState, number: int) -> Shard | None:
        digest = state.shards.get(number)
        if digest is None:
            return None
        with self._lock:
            shard = self._shards.get(digest)
            if shard is not None:
                self._shards.move_to_end(digest)
                return shard
        data = self._store.get_whole(names.shard_name(digest), MAX_SHARD_BYTES)
        if names.content_hash(data) != digest:
            raise DamagedData("a keyring shard was altered", object=names.shard_name(digest))
        payload = seal.open_sealed(
            self.root.shard_key(number), seal.Kind.SHARD, self._vault_id, data, generation=number
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

    def _fresh_shard(self, number: int) -> Shard | None:
        """Read a shard; fold again when it was replaced meanwhile."""
        for _ in range(16):
            state = self._current()
            digest = state.shards.get(number)
            try:
                return self._shard(state, number)
            except NotFoundError:
                # Another thread may have folded the replacement already.
                if not self._refresh() and self._current().shards.get(number) == digest:
                    break
        name = names.shard_name(self._current().shards[number])
        raise DamagedData("a keyring shard that the ledger names is missing", object=name)

    def by_id(self, domain_id: bytes) -> Domain:
        """
        Give a domain by its id.

        Raises:
            NotFoundError: The keyring does not hold it.
        """
        if domain_id == self.meta.id:
            return self.meta
        with self._lock:
            found = self._domains.get(domain_id)
        if found is not None:
            return found
        for number in (domain_id[0], *YOUNG):
            shard = self._fresh_shard(number)
            record = shard.find_id(domain_id) if shard is not None else None
            if record is not None:
                return self._keep(open_domain(self._vault_id, domain_id, record))
        raise NotFoundError("the keyring does not hold that domain", kind="domain")

    def find(self, subject: SubjectKey | None) -> Domain | None:
        """Give the domain of a subject, or None if it has none."""
        return self.find_many([subject]).get(subject)

    def find_many(self, subjects: Iterable[SubjectKey | None]) -> dict[SubjectKey | None, Domain]:
        """
        Give the domains of those subjects that have one.

        Cost: each shard that is concerned is read once at most.
        """
        found: dict[SubjectKey | None, Domain] = {}
        missing: list[tuple[int, int, SubjectKey | None]] = []
        for subject in set(subjects):
            with self._lock:
                held = self._subjects.get(subject)
            if held is not None:
                found[subject] = held
            else:
                missing.append((*place(self._home_key, subject), subject))
        missing.sort(key=lambda row: row[:2])
        rest = self._look_at_home(missing, found)
        for number in YOUNG:
            if not rest:
                break
            shard = self._fresh_shard(number)
            rest = rest if shard is None else self._look_into(shard, rest, found)
        return found

    def _look_at_home(
        self, rows: list[_Wanted], found: dict[SubjectKey | None, Domain]
    ) -> list[_Wanted]:
        rest: list[_Wanted] = []
        for home, group in groupby(rows, key=lambda row: row[0]):
            shard = self._fresh_shard(home)
            wanted = list(group)
            rest += wanted if shard is None else self._look_into(shard, wanted, found)
        return rest

    def _look_into(
        self, shard: Shard, rows: list[_Wanted], found: dict[SubjectKey | None, Domain]
    ) -> list[_Wanted]:
        """Add what a shard holds to *found*; give what it does not."""
        rest = []
        for row in rows:
            _home, tag, subject = row
            hit = shard.find(tag, list(subject or ()))
            if hit is None:
                rest.append(row)
            else:
                found[subject] = self._keep(open_domain(self._vault_id, *hit))
        return rest

    def _keep(self, domain: Domain) -> Domain:
        with self._lock:
            self._domains[domain.id] = domain
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
        self._fresh_shard(number)

    # ---- adding

    def imagine(self, subjects: Iterable[SubjectKey | None]) -> dict[SubjectKey | None, Domain]:
        """Give domains for a dry run: the known ones, and others that are never stored."""
        wanted = set(subjects)
        found = self.find_many(wanted)
        for subject in wanted - found.keys():
            home, _tag = place(self._home_key, subject)
            found[subject] = open_domain(self._vault_id, *new_record(subject, home))
        return found

    def new_rows(self, subjects: Iterable[SubjectKey | None]) -> list[ShardRow]:
        """Make a row with fresh keys for each subject; nothing is stored yet."""
        rows = []
        for subject in subjects:
            home, tag = place(self._home_key, subject)
            domain_id, record = new_record(subject, home)
            rows.append((tag, domain_id, codec.encode(record)))
        return rows

    def _write_shards(
        self, state: KeyState, shards: dict[int, list[ShardRow]]
    ) -> list[tuple[int, bytes, bytes]]:
        changes = []
        for number, rows in shards.items():
            shard = Shard.build(rows)
            data = _seal_shard(self.root, number, shard)
            digest = names.content_hash(data)
            self._store.put(names.shard_name(digest), data)
            self._hold(digest, shard)
            changes.append((number, state.shards.get(number, b""), digest))
        return changes

    def open_rows(self, rows: list[ShardRow]) -> dict[SubjectKey | None, Domain]:
        """Give the domains of rows that a ledger record has just made current."""
        opened = [
            self._keep(open_domain(self._vault_id, domain_id, codec.decode(record, DomainRecord)))
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
            shard = self._shard(state, number)
            held = len(shard.payload) if shard is not None else 0
            if held < YOUNG_LIMIT_BYTES:
                old = list(shard.rows()) if shard is not None else []
                return self._write_shards(state, {number: old + rows})
        young: dict[int, list[ShardRow]] = {number: [] for number in range(HOMES)}
        for number in YOUNG:
            shard = self._shard(state, number)
            for row in shard.rows() if shard is not None else ():
                young[row[1][0]].append(row)
        for row in rows:
            young[row[1][0]].append(row)
        changes = []
        for number, more in young.items():
            if more:
                home = self._shard(state, number)
                old = list(home.rows()) if home is not None else []
                changes += self._write_shards(state, {number: old + more})
        return changes + self._write_shards(state, {number: [] for number in YOUNG})
