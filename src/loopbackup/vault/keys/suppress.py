"""
Erased subjects in the keyring: their keys go, and a tag stays that shows who must not come back.

The tag is a keyed hash under a secret of the keyring root: whoever has a
credential can test a guessed name, nobody else anything.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from functools import cached_property
from typing import Final, NamedTuple

from attrs import field, frozen

from ...terms import SubjectKey
from ..format import codec, seal
from .domains import DATA, ERASED, RECORDS, DomainRecord, encode_label, place
from .shards import HOMES, YOUNG, Shard, ShardRow

__all__ = ["Owned", "Suppression", "mark_of"]

_NO_KEY: Final = bytes(32)
_LABEL: Final = {DATA: "suppression", RECORDS: "suppression/records"}


class Owned(NamedTuple):
    """Whose a domain is, and of which kind (:data:`DATA` or :data:`RECORDS`)."""

    subject: SubjectKey
    status: int = DATA


def mark_of(secret: bytes, vault_id: bytes, subject: SubjectKey, status: int = DATA) -> list[str]:
    """Give what stands in the place of an erased subject's name."""
    return [seal.derive(secret, _LABEL[status], vault_id + encode_label(subject)).hex()]


@frozen(slots=False)
class Suppression:
    """
    Takes subjects out of keyring shards and leaves their marks.

    Args:
        subjects: Whom; a tenant's own takes all its children along.
        erasure: Sixteen random bytes that name this erasure in every mark.
        secret, vault_id, home_key: Of the keyring.
        statuses: Which domains of theirs go. Those of records leave a mark too, which
            suppresses nothing, and only says by which erasure they went.
    """

    subjects: frozenset[SubjectKey]
    erasure: bytes
    secret: bytes = field(repr=False)
    vault_id: bytes
    home_key: bytes = field(repr=False)
    statuses: frozenset[int] = frozenset({DATA})

    @property
    def tenants(self) -> frozenset[str]:
        """Whose children go too."""
        return frozenset(subject[0] for subject in self.subjects if len(subject) == 1)

    def numbers(self, present: Collection[int]) -> list[int]:
        """Give the shards in which any of them may stand: for a tenant, all."""
        if self.tenants:
            return sorted(present)
        return sorted({*self._by_home, *YOUNG} & set(present))

    def carried(self, number: int, present: Collection[int]) -> list[Owned]:
        """Give the tenants whose mark shard *number* carries, whether they have a domain or not."""
        carried: list[Owned] = []
        for tenant in sorted(self.tenants):
            home = place(self.home_key, (tenant,))[0]
            # Where a vault has few subjects, a home shard may not be there yet.
            if number == (home if home in present else min({*YOUNG} & {*present}, default=-1)):
                carried += [Owned((tenant,), status) for status in sorted(self.statuses)]
        return carried

    def covers(self, subject: SubjectKey) -> bool:
        """Tell whether this erases *subject*."""
        return subject in self.subjects or (len(subject) == 2 and subject[0] in self.tenants)

    def find(self, number: int, shard: Shard) -> dict[bytes, Owned]:
        """Give the domains that a shard loses, and whose they are."""
        if self.tenants:
            return dict(self._by_label(shard))
        wanted = self._by_home.get(number, ()) if number < HOMES else self._all
        return {
            domain_id: Owned(subject, record.status)
            for tag, subject in wanted
            for domain_id, record in shard.find_all(tag, list(subject))
            if record.status in self.statuses
        }

    def apply(
        self,
        number: int,
        shard: Shard,
        taken: Collection[Owned],
        carried: Collection[Owned],
    ) -> list[ShardRow]:
        """
        Give the rows of a shard without the subjects.

        A mark takes the place of each row; those of *carried* are there in any
        case. An older mark of somebody in *taken*, all that the erasure takes, goes:
        that person has been readmitted since, or has had new records.
        """
        found = self.find(number, shard)
        old: set[bytes] = set()
        marked = dict.fromkeys(found.values())
        for owned in {*taken, *carried}:
            tag = place(self.home_key, owned.subject)[1]
            label = mark_of(self.secret, self.vault_id, *owned)
            standing = {domain_id for domain_id, _ in shard.find_all(tag, label)}
            if owned in taken:
                old |= standing
            if owned in carried and (owned in taken or not standing):
                marked[owned] = None
        rows = [row for row in shard.rows() if row[1] not in found and row[1] not in old]
        return [*rows, *map(self._mark, marked)]

    @cached_property
    def _all(self) -> list[tuple[int, SubjectKey]]:
        return [(tag, subject) for of_home in self._by_home.values() for tag, subject in of_home]

    @cached_property
    def _by_home(self) -> dict[int, list[tuple[int, SubjectKey]]]:
        """Each subject with its search tag, by the shard that it belongs to."""
        found: dict[int, list[tuple[int, SubjectKey]]] = {}
        for subject in self.subjects:
            home, tag = place(self.home_key, subject)
            found.setdefault(home, []).append((tag, subject))
        return found

    def _by_label(self, shard: Shard) -> Iterator[tuple[bytes, Owned]]:
        # Most shards have nothing of them, which one search shows for less than a decoding.
        parts = {part for subject in self.subjects for part in subject}
        if not any(codec.encode(part) in shard.payload for part in parts):
            return
        for _tag, domain_id, encoded in shard.rows():
            record = codec.decode(encoded, DomainRecord)
            if record.label and record.status in self.statuses:
                subject: SubjectKey = tuple(record.label)  # type: ignore[assignment]
                if self.covers(subject):
                    yield domain_id, Owned(subject, record.status)

    def _mark(self, owned: Owned) -> ShardRow:
        home, tag = place(self.home_key, owned.subject)
        record = DomainRecord(
            self.erasure + os.urandom(16),
            [(0, _NO_KEY)],
            mark_of(self.secret, self.vault_id, *owned),
            ERASED,
        )
        return tag, bytes([home]) + os.urandom(15), codec.encode(record)
