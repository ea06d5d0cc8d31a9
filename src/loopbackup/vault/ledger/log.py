"""
The ledger as a client sees it: folding, committing, and knowing when it lies.

One loop serves every commit: fold to the head, let the intent look at the
state, create the next record exclusively. A record number belongs to whoever
creates it first; nothing else decides, neither clock nor lock.
"""

from __future__ import annotations

import msgspec

from ...errors import (
    ConflictError,
    InputError,
    LoopbackupError,
)
from ...logs import get_logger
from ..format import codec, names
from ..format import record as rec
from ..format.record import BodyRef
from . import summary
from .commit import (
    Body,
    Draft,
    Fresh,
    Intent,
    Rebuild,
    Simple,
    create_record,
    inline_or_list,
    put_list,
)
from .load import Loader

__all__ = [
    "Body",
    "Draft",
    "Fresh",
    "Intent",
    "Log",
    "Rebuild",
    "Simple",
    "inline_or_list",
    "put_list",
]


class Log(Loader):
    """The ledger of one vault, to which it adds. Thread-safe; commits of one process queue."""

    def commit(self, intent: Intent) -> int | None:
        """
        Commit *intent* and give the number of its record.

        None when the intent found that nothing is left to do.

        Raises:
            StoreError: ``kind == "outcome_unknown"`` when the store does not
                answer; whether the commit was made shows at the next opening.
        """
        self.check_process()
        if self.signer is None:
            raise InputError("this vault is open for reading only")
        index = None if self._header.single_writer else self._commit_unseen(intent)
        while index is None:
            with self._lock:
                self._catch_up()
                done = self.state.commits.get(intent.commit_id)
                if done is not None:
                    return done
                size = self.state.size
                verdict = intent.validate(self.state)
                if self.state.size != size:
                    continue  # A read inside folded on: the verdict is on an older state.
                if verdict is None:
                    return None
                if isinstance(verdict, Draft):
                    index = self._attempt(intent.commit_id, verdict)
                    continue
            verdict.work(self.state)
        is_due = index - self.state.last_summary >= summary.SUMMARY_EVERY
        if is_due and not isinstance(intent, summary.NamesSummary):
            self._summarise()
        return index

    def _commit_unseen(self, intent: Intent) -> int | None:
        """
        Try to commit without a look at the head first, which spares a request; None if that fails.

        That nobody was faster is what the exclusive create shows. Of a vault of a
        single writer the store may not keep to it.
        """
        with self._lock:
            size = self.state.size
            if intent.commit_id in self.state.commits:
                return None
            if self.keys is not None and self.keys.epoch != self.state.epoch:
                return None  # Folded, but its keys are still to be taken up.
            try:
                verdict = intent.validate(self.state)
            except LoopbackupError:
                return None
            if not isinstance(verdict, Draft) or self.state.size != size:
                return None
            return self._attempt(intent.commit_id, verdict)

    def commit_draft(self, draft: Draft) -> int | None:
        """Commit something that holds whatever the state is."""
        return self.commit(Simple(draft))

    def _attempt(self, commit_id: bytes, draft: Draft) -> int | None:
        assert self.signer is not None
        state, index = self.state, self.state.size
        refs = [BodyRef(b.key, b.ref, names.content_hash(b.data)) for b in draft.bodies]
        frame = rec.Frame(
            rec.VERSION,
            index,
            commit_id,
            state.tree.head(),
            state.epoch,
            state.root,
            self.signer.writer,
            int(self._clock().timestamp() * 1_000_000),
            draft.kind,
            refs,
            msgspec.Raw(codec.encode(draft.facts)),
        )
        data = rec.encode_record(
            frame,
            tuple(b.data for b in draft.bodies),
            vault_id=self._header.vault_id,
            key=self.signer.key,
        )
        if not create_record(self._store, names.record_name(index), data):
            return None
        if self._apply(data) is None:
            raise ConflictError(f"ledger record {index} was void: {self.state.alarms[-1].reason}")
        self._memory.remember(self.state)
        return index

    def _summarise(self) -> None:
        if self.signer is None or "maintainer" not in self.signer.roles:
            return
        try:
            self.commit(summary.put_summary(self._store, self.state))
        except LoopbackupError as exc:
            # What the caller wanted is committed; any later commit summarises again.
            get_logger().warning("no summary was written", kind=exc.kind)
