"""
Adding domains: committed in batches before the first chunk is encrypted.

A lost race is noticed because every record names the shards that it replaces.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from attrs import define, field

from ...errors import DamagedData, NotFoundError
from ...terms import SubjectKey
from ..format import record as rec
from ..keys.domains import DATA, Domain
from ..keys.keyring import Keyring
from ..keys.shards import ShardRow
from ..ledger.log import Body, Draft, Log, Rebuild, put_list
from ..ledger.state import State
from ..store.seam import StoreSeam

__all__ = ["ensure_domains"]

INLINE_DOMAINS: Final = 2048


def ensure_domains(
    store: StoreSeam,
    log: Log,
    keyring: Keyring,
    subjects: Iterable[SubjectKey | None],
    new: set[bytes] | None = None,
    *,
    readmit: Body | None = None,
    status: int = DATA,
) -> dict[SubjectKey | None, Domain]:
    """
    Give the domains of *subjects*; what is missing is made and committed.

    The ids of new ones, of which nothing can be stored yet, are added to *new*.
    Those who were erased are left out, unless a body says who readmits them. Domains
    of records are made of anybody: what registers say of an erased person is new.

    Cost: one record and under 1 MB written for each call that adds any, but
    for one in about 16 MB of new records, which rewrites all shards.
    """
    wanted = set(subjects)
    seen = log.state.shards
    found = keyring.find_many(wanted, status)
    missing = wanted - found.keys()
    suppressed = readmit is None and status == DATA
    if missing and log.state.fenced and suppressed:
        missing -= keyring.erasures(missing).keys()
    if missing:
        intent = _AddDomains(store, keyring, missing, seen, readmit, status)
        log.commit(intent)
        made = keyring.open_rows(intent.rows)
        made |= keyring.find_many(missing - made.keys(), status)
        if log.state.fenced and status == DATA:
            # Somebody may have been erased since.
            missing -= keyring.erasures(missing - made.keys()).keys()
        if made.keys() != missing:
            raise DamagedData("the keyring does not hold what was just committed to it")
        if new is not None:
            new.update(domain.id for domain in made.values())
        found |= made
    return found


@define
class _AddDomains:
    """Adds domains for subjects that have none, whoever else does the same."""

    store: StoreSeam
    keyring: Keyring
    subjects: set[SubjectKey | None]
    seen: dict[int, bytes]
    """The shards in which none of the subjects was found."""
    readmit: Body | None = None
    status: int = DATA
    commit_id: bytes = field(factory=lambda: os.urandom(16))
    changes: list[tuple[int, bytes, bytes]] = field(factory=list)
    rows: list[ShardRow] = field(factory=list)

    def validate(self, state: State) -> Draft | Rebuild | None:
        """Look again under the lock: somebody may have been faster."""
        try:
            return self._validate(state)
        except NotFoundError:
            # A change of epoch deletes the shards that it replaces at once.
            if not self.keyring.refresh():
                raise
            return Rebuild(lambda _state: None)

    def _validate(self, state: State) -> Draft | None:
        self.changes, self.rows = [], []
        missing = self.subjects
        if state.shards is not self.seen:
            missing = missing - self.keyring.find_many(missing, self.status).keys()
            if state.fenced and self.readmit is None and self.status == DATA:
                missing = missing - self.keyring.erasures(missing).keys()
        if not missing:
            return None
        rows = self.rows = self.keyring.new_rows(missing, self.status)
        self.changes = self.keyring.store_rows(state, rows)
        added = b"".join(row[1] for row in rows)
        bodies = [] if self.readmit is None else [self.readmit]
        if len(rows) <= INLINE_DOMAINS:
            return Draft("domains", rec.DomainsAdded(self.changes, added), bodies)
        listed = put_list(self.store, added)
        return Draft("domains", rec.DomainsAdded(self.changes, b"", listed), bodies)
