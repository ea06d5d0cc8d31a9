"""Summaries: folds in the store that spare a client most of the ledger."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from attrs import field, frozen

from ...errors import DamagedData, NotFoundError
from ..format import names
from ..format import record as rec
from ..format.bounds import MAX_SUMMARY_BYTES
from ..format.header import Header
from ..format.record import Record
from ..store.seam import StoreSeam
from .commit import Draft
from .core import decode_state, encode_state
from .state import State

__all__ = ["MAGIC", "SUMMARY_EVERY", "Candidate", "NamesSummary", "candidates", "put_summary"]

MAGIC: Final = b"LBKSUM1"
TRIED: Final = 8
SUMMARY_EVERY = 64
"""After so many records whoever commits writes another."""


@frozen
class Candidate:
    """A summary that nobody vouches for until a record of the ledger names it."""

    state: State
    digest: bytes

    def is_confirmed_by(self, record: Record, header: Header) -> bool:
        """
        Tell whether a valid record of a certified maintainer names this summary.

        The certificate is that of the summary itself, so its signature counts.
        """
        if record.frame.kind != "summary":
            return False
        facts, state = record.facts(), self.state
        # None: the keys were changed between the summary and the record.
        certificate = state.writers.get(record.frame.writer)
        named = (facts.size, facts.hash, facts.tree)
        return (
            named == (state.size, self.digest, state.tree.head())
            and certificate is not None
            and rec.verify_certificate(
                certificate, vault_id=header.vault_id, authority=header.authority
            )
        )


def candidates(store: StoreSeam, header: Header, max_size: int | None) -> Iterator[Candidate]:
    """
    Yield the newest summaries, the newest first.

    Args:
        max_size: Only of so many records: a head that somebody has seen can be
            held against a fold that passes it, and no other.
    """
    found = sorted((entry.key for entry in store.list(names.SUMMARY)), reverse=True)
    for name in found[:TRIED]:
        size = names.summary_size(name)
        if size is None or (max_size is not None and size > max_size):
            continue
        try:
            data = store.get_whole(name, MAX_SUMMARY_BYTES)
            if data[: len(MAGIC)] != MAGIC:
                continue
            state = decode_state(data[len(MAGIC) :], authority=header.authority)
        except (NotFoundError, DamagedData):
            continue
        if state.size == size and state.vault_id == header.vault_id:
            yield Candidate(state, names.content_hash(data))


@frozen
class NamesSummary:
    """An intent that names a summary, unless another process has named one as new."""

    draft: Draft
    size: int
    commit_id: bytes = field(factory=lambda: os.urandom(16))

    def validate(self, state: State) -> Draft | None:
        """Give the draft while it is news."""
        return self.draft if state.last_summary < self.size else None


def put_summary(store: StoreSeam, state: State) -> NamesSummary:
    """Store a summary of *state*; give the intent that makes it count."""
    body = encode_state(state)
    data = MAGIC + body
    digest = names.content_hash(data)
    facts = rec.Summarised(state.size, digest, state.tree.head(), names.content_hash(body))
    store.put(names.summary_name(state.size, digest), data)
    return NamesSummary(Draft("summary", facts), state.size)
