"""Overlays: other bytes for one entry of a subject, stored as chunks of the subject's own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from attrs import define, field

from ...errors import InputError, NotFoundError
from ...terms import Action, Actor, SubjectKey, check_reason
from ..content.chunker import Chunker
from ..content.listing import FolderReader
from ..content.streams import StreamReader
from ..content.upload import Upload, Uploaded
from ..format import codec
from ..format import record as rec
from ..format.entries import FILE, ITEM
from ..format.markfacts import MAX_NAMED_IDS_BYTES, MAX_SNAPSHOTS_NAMED, OverlayBody
from ..keys.domains import Domain
from ..ledger.log import Draft, Rebuild, inline_or_list
from ..ledger.state import SnapshotRecord, State, join_fronts
from .look import read_table
from .marking import begin_mark
from .session import Session, chunker_params

__all__ = ["run_rectify"]

INLINE_BYTES: Final = 16 << 10
MAX_REPLACEMENT_BYTES: Final = 1 << 30


def run_rectify(
    session: Session,
    actor: Actor,
    subject: SubjectKey,
    *,
    path: bytes,
    replacement: bytes,
    snapshots: Sequence[bytes],
    reason: str | None,
) -> str:
    """
    Show *replacement* for the entry at *path* of a subject from now on; give the overlay's id.

    What was backed up stays stored. In *snapshots*, or where none are named in
    all that there are: a later backup is shown as it is.

    Raises:
        InputError: The replacement is longer than 1 GiB, or too many snapshots
            are named.
        NotFoundError: The subject has no file or item at *path* in any of them.
        PolicyError: Refused.

    Cost: the parts of the snapshots' tables and streams that cover the path,
    until one has it.
    """
    if len(replacement) > MAX_REPLACEMENT_BYTES:
        raise InputError(f"a replacement has at most {MAX_REPLACEMENT_BYTES:,} bytes")
    if len(snapshots) > MAX_SNAPSHOTS_NAMED:
        raise InputError(f"an overlay names at most {MAX_SNAPSHOTS_NAMED:,} snapshots")
    if reason is not None:
        check_reason(reason)
    begin_mark(session, Action.RECTIFY, actor, subject=subject, reason=reason)
    domain = session.keyring.find(subject)
    if domain is None:
        raise NotFoundError("the vault knows nothing of that subject", kind="subject")
    job = _Overlay(session, actor, domain, path, replacement, tuple(snapshots), reason)
    job.require_entry(session.log.state)
    job.put(session.log.state)
    session.log.commit(job)
    return job.mark.hex()


@define(eq=False)
class _Overlay:
    """One overlay, over as many attempts as it takes."""

    session: Session
    actor: Actor
    domain: Domain
    path: bytes
    replacement: bytes
    snapshots: tuple[bytes, ...]
    reason: str | None
    commit_id: bytes = field(factory=lambda: os.urandom(16))
    mark: bytes = field(factory=lambda: os.urandom(16))
    uploaded: Uploaded = field(factory=lambda: Uploaded([], []))
    chunks: list[bytes] = field(factory=list)

    def require_entry(self, state: State) -> None:
        """Raise NotFoundError where it would change nothing: a slip must not pass for done."""
        if not any(self._has_entry(record) for record in self._changed(state)):
            raise NotFoundError(
                "none of the snapshots has a file or an item of that subject at that path",
                kind="path",
                path=self.path,
            )

    def _changed(self, state: State) -> list[SnapshotRecord]:
        """Give the live snapshots that it is about, newest first."""
        named = [state.snapshots.get(snapshot) for snapshot in self.snapshots]
        found = [r for r in named if r is not None] if named else [*state.snapshots.values()]
        return sorted(found, key=lambda record: record.index, reverse=True)

    def _has_entry(self, record: SnapshotRecord) -> bool:
        row = read_table(self.session, record).find(self.domain.id)
        if row is None:
            return False
        stream = StreamReader(self.domain, row, self.session.reader)
        node = FolderReader().find(stream, self.path)
        return node is not None and node.kind in (FILE, ITEM)

    def put(self, _state: State) -> None:
        """
        Store the replacement.

        Whole, whatever is stored already: a chunk that nothing but a running
        prune's plan knows of must not be relied on without being marked.
        """
        session, header = self.session, self.session.header
        upload = Upload(
            session.store,
            session.log,
            session.keyring,
            session.index,
            executor=session.executor,
            pack_size=header.pack_size,
            bundle_size=header.bundle_size,
        )
        self.chunks, known = [], set[bytes]()
        view, start = memoryview(self.replacement), 0
        try:
            for end in self._cuts():
                piece = bytes(view[start:end])
                start = end
                chunk_id = self.domain.chunk_id(piece)
                self.chunks.append(chunk_id)
                if chunk_id not in known:
                    known.add(chunk_id)
                    upload.put(self.domain, chunk_id, piece)
            if 32 * len(self.chunks) > MAX_NAMED_IDS_BYTES:
                raise InputError("a replacement has more chunks than one record can name")
            self.uploaded = upload.finish()
        except BaseException:
            upload.abandon()
            raise

    def _cuts(self) -> list[int]:
        size = len(self.replacement)
        if size <= self.session.header.chunk_min:
            return [size] if size else []
        chunker = Chunker(self.domain.chunker_key, chunker_params(self.session.header))
        return chunker.cut(self.replacement, final=True)

    def validate(self, state: State) -> Draft | Rebuild | None:
        """Hold what was put against what was condemned since, and against what was forgotten."""
        if self.mark in state.marks:
            return None
        put = (*self.uploaded.segments, *self.uploaded.packs)
        if any(front.name in state.condemned for front in put):
            return Rebuild(self.put)
        if not self._changed(state):
            raise NotFoundError("the snapshots are no longer in the vault", kind="snapshot")
        return self._draft()

    def _draft(self) -> Draft:
        session = self.session
        packs, listed = inline_or_list(
            session.store, join_fronts(self.uploaded.packs), INLINE_BYTES
        )
        segments = join_fronts(self.uploaded.segments)
        body = OverlayBody(
            path=self.path,
            size=len(self.replacement),
            chunks=b"".join(self.chunks),
            reason=self.reason,
        )
        return Draft(
            "overlay",
            rec.Overlaid(self.mark, self.domain.id, segments, packs, listed, self.snapshots),
            [
                session.body("domain", self.domain.id, codec.encode(body)),
                session.audit(self.actor, Action.RECTIFY),
            ],
        )
