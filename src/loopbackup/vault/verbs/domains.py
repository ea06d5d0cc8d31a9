"""
Adding domains: committed in batches before the first chunk is encrypted.

A lost race is noticed because every record names the shards that it replaces.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import Final

from attrs import define, field

from ...errors import LoopbackupError
from ...terms import SubjectKey
from ..format import names
from ..format import record as rec
from ..keys.domains import Domain
from ..keys.keyring import Keyring
from ..ledger.log import Draft, Log, put_list
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
) -> dict[SubjectKey | None, Domain]:
    """
    Give the domains of *subjects*; what is missing is made and committed.

    The ids of new ones, of which nothing can be stored yet, are added to *new*.

    Cost: one record and under 1 MB written for each call that adds any, but
    for one in about 16 MB of new records, which rewrites all shards.
    """
    found: dict[SubjectKey | None, Domain] = {}
    missing: list[SubjectKey | None] = []
    for subject in keyring.in_order(subjects):
        domain = keyring.find(subject)
        if domain is None:
            missing.append(subject)
        else:
            found[subject] = domain
    if missing:
        intent = _AddDomains(store, keyring, missing)
        log.commit(intent)
        intent.drop_superseded()
        for subject in missing:
            domain = keyring.find(subject)
            assert domain is not None
            found[subject] = domain
            if new is not None:
                new.add(domain.id)
    return found


@define
class _AddDomains:
    """Adds domains for subjects that have none, whoever else does the same."""

    store: StoreSeam
    keyring: Keyring
    subjects: list[SubjectKey | None]
    commit_id: bytes = field(factory=lambda: os.urandom(16))
    changes: list[tuple[int, bytes, bytes]] = field(factory=list)

    def validate(self, state: State) -> Draft | None:
        """Look again under the lock: somebody may have been faster."""
        self.changes = []
        missing = [s for s in self.subjects if self.keyring.find(s) is None]
        if not missing:
            return None
        rows = self.keyring.new_rows(missing)
        self.changes = self.keyring.store_rows(state, rows)
        added = b"".join(row[1] for row in rows)
        if len(rows) <= INLINE_DOMAINS:
            return Draft("domains", rec.DomainsAdded(self.changes, added))
        listed = put_list(self.store, added)
        return Draft("domains", rec.DomainsAdded(self.changes, b"", listed))

    def drop_superseded(self) -> None:
        """Delete the replaced shards; what stays now is found by the next prune."""
        for _number, base, _new in self.changes:
            if base:
                with contextlib.suppress(LoopbackupError):
                    self.store.delete(names.shard_name(base))
