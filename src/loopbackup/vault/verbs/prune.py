"""
Pruning: condemn what is dead, move what is alive out of wasteful packs, sweep.

Nothing is deleted that an earlier record has not condemned by name. After a
lost race the set of what is condemned only shrinks.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from typing import Final

from attrs import define, field

from ...errors import ConflictError, DamagedData, NotFoundError
from ...logs import get_logger
from ...receipts import Receipt
from ...terms import Action, Actor, Problem
from ..content.segment import SegmentReader, build_index
from ..content.upload import Upload, Uploaded
from ..format import names
from ..format import record as rec
from ..format.pack import CONTENT_KINDS, MEMBER, ROW, PackFront, join_block
from ..keys.domains import Domain
from ..ledger.log import Draft, Rebuild, inline_or_list
from ..ledger.state import Front, State, epoch_short, join_fronts, join_names
from .claims import lapse_claims
from .clearing import cleared_by, holders, is_waiting, named_by
from .complete import Waiting, complete_erasures
from .mark import LivePart, Marks, basis, domains_of, live_chunks, live_parts, mark
from .plan_prune import Listing, Plan, condemnations, look
from .rescue import rescue
from .session import Session
from .sweep import Swept, ahead, sweep

__all__ = ["Pruned", "run_prune"]

MANY_SEGMENTS: Final = 16
KEEP_SUMMARIES: Final = 2
INLINE_BYTES: Final = 16 << 10
MAX_REPLANS: Final = 8


@define
class Pruned:
    """Counts of a prune."""

    condemned: int = 0
    """Objects that no longer count."""
    moved_bytes: int = 0
    """Stored bytes of live chunks that were copied out."""
    swept: int = 0
    """Objects deleted."""
    freed_bytes: int = 0
    kept: int = 0
    """Objects that the store refused to delete, or of which it keeps versions."""
    receipts: list[Receipt] = field(factory=list)
    """Of erasures that are complete since now: nothing with their bytes is left."""
    waiting: list[Waiting] = field(factory=list)
    """For others, each store that they wait for, and why."""
    problems: list[Problem] = field(factory=list)

    def __str__(self) -> str:
        waiting = len({one.erasure for one in self.waiting})
        text = (
            f"{self.condemned:,} objects condemned, {self.moved_bytes / 1e6:,.1f} MB moved, "
            f"{self.swept:,} objects deleted, {self.freed_bytes / 1e6:,.1f} MB freed"
        )
        text += f", {self.kept:,} could not be deleted yet" if self.kept else ""
        text += f", {len(self.receipts):,} erasures completed" if self.receipts else ""
        text += f", {waiting:,} not complete yet" if waiting else ""
        return text + (f", {len(self.problems):,} problems" if self.problems else "")


def run_prune(session: Session, actor: Actor) -> Pruned:
    """
    Prune once; see the module.

    Raises:
        PolicyError: Refused; nothing was changed.
        DamagedData: A live snapshot's root cannot be read, so that nothing
            can be called dead.
    """
    session.begin(Action.PRUNE, actor)
    result = Pruned()
    clocks = ahead(session)
    lapse_claims(session, actor)
    job = _Job(session, actor, result)
    counted = job.go()
    result.problems += clocks
    if job.plan.complete:
        swept = sweep(session, actor, counted)
    else:
        swept = Swept()
        get_logger().warning("nothing is swept while parts of the vault cannot be read")
    result.swept, result.freed_bytes, result.kept = swept.objects, swept.bytes, swept.kept
    _drop_old_summaries(session)
    result.receipts, result.waiting = complete_erasures(session, actor, swept)
    return result


def _drop_old_summaries(session: Session) -> None:
    confirmed = session.log.state.last_summary
    older = [
        entry.key
        for entry in session.store.list(names.SUMMARY)
        if (size := names.summary_size(entry.key)) is not None and size <= confirmed
    ]
    for key in sorted(older)[:-KEEP_SUMMARIES]:
        session.store.delete(key)


@define(eq=False)
class _Job:
    """One condemnation, over as many attempts as it takes."""

    session: Session
    actor: Actor
    result: Pruned
    commit_id: bytes = field(factory=lambda: os.urandom(16))
    upload: Upload = field(init=False)
    uploaded: Uploaded = field(factory=lambda: Uploaded([], []))
    plan: Plan = field(init=False)
    condemned: set[bytes] = field(factory=set)
    moved: dict[bytes, set[bytes]] = field(factory=dict)
    merged: list[bytes] = field(factory=list)
    merged_into: list[Front] = field(factory=list)
    merged_packs: list[Front] = field(factory=list)
    touched: set[int] = field(factory=set)
    """Records of erasures of which something goes."""
    _replans: int = 0

    def go(self) -> int:
        """
        Plan, move, commit.

        Returns:
            Up to which record every live chunk is known to have a place in a
            pack that is not condemned.
        """
        self._prepare()
        moves = self.condemned or self.merged or self.uploaded.packs
        if moves or is_waiting(self.session.log.state):
            index = self.session.log.commit(self)
            self.result.condemned = len(self.condemned)
            if index is not None:
                return index + 1
        return self.plan.size

    def _prepare(self) -> None:
        """Plan and move, again if what was looked at is swept by another prune meanwhile."""
        while True:
            seen = basis(self.session.log.state)
            try:
                self._plan_and_move()
            except (DamagedData, NotFoundError):
                if not self._may_have_moved(seen):
                    raise
            else:
                return

    def _may_have_moved(self, seen: object) -> bool:
        """
        Tell whether to look again for what was not found.

        Any run that claims moves the ledger on; only what a look rests on excuses it.
        """
        self._replans += 1
        self.session.log.refresh()
        return self._replans <= MAX_REPLANS and basis(self.session.log.state) != seen

    def _plan_and_move(self) -> None:
        session = self.session
        listing = Listing.take(session)
        # What the listing shows may be older than this fold: fold once more, so
        # that nothing committed meanwhile looks unknown.
        session.log.refresh()
        state = session.log.state
        # The state moves on while its packs are read; what the plan rests on is
        # what it was before, so that ``validate`` looks at all that came since.
        segments, condemned = {s.name for s in state.segments}, condemnations(state)
        size, snapshots = state.size, state.snapshots
        marks = mark(session, snapshots.values(), state)
        self.plan = Plan(size, set(snapshots), segments, condemned)
        look(self.plan, session, state, marks, listing)
        self.result.problems = self.plan.problems
        self.upload = Upload(
            session.store,
            session.log,
            session.keyring,
            session.index,
            executor=session.executor,
            pack_size=session.header.pack_size,
            bundle_size=session.header.bundle_size,
        )
        try:
            self._move(state, marks, listing)
            self.uploaded = self.upload.finish()
        except BaseException:
            self.upload.abandon()
            raise
        self.moved = {d: set(places) for d, places in self.upload.own_places().items()}
        self.condemned = self.plan.dead | self.plan.rewrite | self.plan.unknown
        self.condemned |= self.plan.retired
        self._merge(state)
        self.touched = self._touched(state)

    def _touched(self, state: State) -> set[int]:
        if not state.fenced:
            return set()
        segments = [r for r in self.session.index.segments(state) if r.short in self.plan.of_erased]
        unknown = holders(self.session, (n for n in self.plan.unknown if n[:1] in b"pi"), state)
        return named_by(segments, state).union(*unknown.values())

    def _move(self, state: State, marks: Marks, listing: Listing) -> None:
        """Copy live chunks out of the packs to rewrite, verified, under fresh salts."""
        plan, session = self.plan, self.session
        if plan.rewrite:
            for domain in domains_of(session, state, marks):
                if domain is None:
                    continue
                live = live_chunks(session, marks, domain)
                parts = [
                    part
                    for part in live_parts(session, state, domain, live)
                    if part.live and part.blob.pack in plan.rewrite
                ]
                # In another order than before, so that lengths tell less.
                random.SystemRandom().shuffle(parts)
                for part in parts:
                    self._copy(domain, part)
        lost = self._clear(state, listing)
        if plan.rescue or lost:
            self._rescue(state, listing, lost)

    def _clear(self, state: State, listing: Listing) -> list[tuple[Domain, bytes]]:
        """
        Move what can still be read out of distrusted packs.

        Returns:
            The chunks that cannot be read from any place. The packs that
            should hold them stay, for what is unreadable today may be mended.
        """
        plan, session = self.plan, self.session
        lost = []
        for domain, chunk_id in plan.doubtful:
            places = session.index.places(domain, chunk_id, state)
            for place in places:
                if place.blob.pack not in listing.sizes:
                    continue
                with contextlib.suppress(DamagedData, NotFoundError):
                    self._copy(domain, LivePart(domain, place.blob, b"", [(chunk_id, place)]))
                    break
            else:
                packs = {place.blob.pack for place in places}
                plan.clearing -= packs
                plan.dead -= packs
                lost.append((domain, chunk_id))
        plan.rewrite |= plan.clearing
        return lost

    def _copy(self, domain: Domain, part: LivePart) -> None:
        kind = CONTENT_KINDS[part.blob.kind]
        if kind != "bundle":
            data = self.session.reader.read_place(domain, part.blob.id, part.live[0][1], kind)
            self.upload.put(domain, part.blob.id, bytes(data), kind)
        else:
            group = int.from_bytes(part.blob.id[:8], "little")
            for chunk_id, place in part.live:
                data = self.session.reader.read_place(domain, chunk_id, place)
                self.upload.put_small(domain, group, chunk_id, bytes(data))
        self.result.moved_bytes += round(part.live_bytes)

    def _rescue(self, state: State, listing: Listing, lost: list[tuple[Domain, bytes]]) -> None:
        """Look for what no good pack holds in the condemned ones that still stand."""
        plan = self.plan
        standing = {p for p in state.condemned.keys() & listing.sizes.keys() if p[:1] == b"p"}
        left, problems = rescue(self.session, self.upload, plan.rescue, standing)
        self.result.problems += problems
        if left:
            plan.complete = False
            text = f"no pack holds {sum(map(len, left.values())):,} chunks of live snapshots"
            self.result.problems.append(Problem("missing_chunk", text))
        _, problems = rescue(self.session, self.upload, lost, standing)
        self.result.problems += problems

    # ---- merging segments

    def _merge(self, state: State) -> None:
        """Merge the small segments once there are many; write lost index objects anew."""
        self.merged, self.merged_into, self.merged_packs = [], [], []
        chosen = _mergeable(
            [
                reader
                for reader in self.session.index.segments(state)
                if reader.short not in self.condemned
                and not reader.lost
                # Its packs would not be known for theirs any more.
                and self.plan.of_erased.get(reader.short, set()) <= self.condemned
            ],
            self.plan.of_erased,
        )
        if not chosen:
            return
        contents = self._contents(chosen, state)
        if contents is None:
            return
        session = self.session
        front, data = build_index(session.keyring.index_secret, session.header.vault_id, contents)
        session.store.put(names.index_name(front.name[1:]), data)
        self.merged = [reader.short for reader in chosen]
        self.merged_into = [front]
        packs = {entry[0] for entries in contents.values() for entry in entries}
        self.merged_packs = sorted(Front(pack.name, pack.hash) for pack in packs)
        self.condemned |= {short for short in self.merged if short[:1] == b"i"}

    def _contents(
        self, readers: list[SegmentReader], state: State
    ) -> dict[Domain, list[tuple[PackFront, int, bytes]]] | None:
        """
        Collect what the segments hold of packs that stay.

        Memory: the rows as they are stored, 54 bytes a chunk, and 36 more for one in a bundle.
        """
        named = Counter(pack.name for reader in readers for pack in reader.packs)
        # A pack that was taken over from a run is named by two segments.
        twice = {pack for pack, count in named.items() if count > 1}
        contents: dict[Domain, list[tuple[PackFront, int, bytes]]] = {}
        for domain_id in sorted({d for reader in readers for d in reader.domains()}):
            try:
                domain = self.session.keyring.by_id(domain_id)
            except NotFoundError:
                if domain_id in self.plan.fenced:
                    continue  # So its blocks go with the segments that are merged.
                return None
            # Bytes, not objects: a segment may have tens of millions of rows.
            packs: dict[tuple[PackFront, int], tuple[bytearray, bytearray]] = {}
            seen: set[tuple[bytes, int]] = set()
            for reader in readers:
                fronts = {pack.name: pack for pack in reader.packs}
                for blob, members in reader.rows(domain):
                    if blob.pack in state.condemned or blob.pack in self.condemned:
                        continue
                    if blob.pack in twice:
                        if (blob.pack, blob.offset) in seen:
                            continue
                        seen.add((blob.pack, blob.offset))
                    front = fronts[blob.pack]
                    key = (front, blob.generation)
                    rows, parts = packs.setdefault(key, (bytearray(), bytearray()))
                    rows += ROW.pack(
                        0,
                        blob.id,
                        blob.offset - front.length,
                        blob.stored,
                        blob.plain,
                        len(members) // MEMBER.size,
                        blob.codec,
                        blob.kind,
                    )
                    parts += members
            if packs:
                contents[domain] = [(*key, join_block(*packs.pop(key))) for key in list(packs)]
        return contents

    # ---- the commit

    def validate(self, state: State) -> Draft | Rebuild | None:
        """Shrink what is condemned by what was committed since the plan."""
        live = {segment.name for segment in state.segments}
        if condemnations(state) != self.plan.condemned or not live.issuperset(
            self.plan.segments | set(self.merged)
        ):
            # Another prune was faster. It may have condemned what this one has put,
            # or the copy of a chunk for whose sake this one calls another copy dead.
            return Rebuild(self._replan)
        if state.snapshots.keys() - self.plan.snapshots:
            return Rebuild(self._spare)
        if state.size != self.plan.size:
            self._shrink(state)
        gone = {*self.condemned, *self.merged}
        cleared = cleared_by(self.session, state, gone, self.touched)
        if not gone and not self.uploaded.packs and not cleared:
            return None
        return self._draft(state, cleared)

    def _replan(self, state: State) -> None:
        self._replans += 1
        if self._replans > MAX_REPLANS:
            raise ConflictError("other prunes were faster again and again; run this one later")
        self._prepare()

    def _spare(self, state: State) -> None:
        """
        Keep what snapshots need that were committed since the plan.

        Outside the lock, for it reads their streams, and once for each snapshot: what
        would make the answer untrue makes :meth:`validate` plan anew.
        """
        new = state.snapshots.keys() - self.plan.snapshots
        try:
            marks = mark(self.session, [state.snapshots[snapshot] for snapshot in new], state)
            self._keep_for(state, marks)
        except (DamagedData, NotFoundError):
            if not self._may_have_moved(basis(state)):
                raise
        else:
            self.plan.snapshots |= new

    def _shrink(self, state: State) -> None:
        """Condemn nothing that was claimed or named since the plan, nor what depends on it."""
        session = self.session
        claimed = state.claimed()
        named = {segment.name for segment in state.segments if segment.name not in self.merged}
        named |= {b"l" + digest for digest in state.lists}
        named |= {b"s" + digest for digest in state.shards.values()}
        named.add(epoch_short(state.epoch))
        for reader in session.index.segments(state):
            if reader.short not in self.merged:
                known = {pack.name for pack in reader.packs}
                named |= known & self.plan.unknown
        chosen = self.plan.dead | self.plan.rewrite | self.plan.retired
        self.condemned -= claimed | (named - chosen)
        if not self.condemned >= chosen:
            # The merged segment leaves out what was to go and now stays.
            self.condemned -= set(self.merged)
            self.merged, self.merged_into, self.merged_packs = [], [], []

    def _keep_for(self, state: State, marks: Marks) -> None:
        """Condemn no pack that leaves a chunk of a new snapshot without a place."""
        session = self.session
        for domain_id in (*marks.rows, session.keyring.meta.id):
            try:
                domain = session.keyring.by_id(domain_id)
            except NotFoundError:
                if domain_id not in state.fenced:
                    marks.pinned.add(domain_id)
                continue
            live = live_chunks(session, marks, domain) - self.moved.get(domain.id, set())
            where: dict[bytes, set[bytes]] = defaultdict(set)
            for reader in session.index.segments(state):
                for pack, chunk_id in reader.chunk_packs(domain, live):
                    if pack not in state.condemned:
                        where[chunk_id].add(pack)
            for packs in where.values():
                good = {p for p in packs if not session.index.distrusts(p, state)} or packs
                if good <= self.condemned:
                    self.condemned -= good
            if not where.keys() >= live:
                # It may stand in what only this process cannot read.
                self.condemned -= self.plan.retired
        if marks.pinned:
            self.condemned -= self.plan.dead | self.plan.rewrite | self.plan.retired

    def _draft(self, state: State, cleared: Sequence[bytes] = ()) -> Draft:
        condemned = sorted(self.condemned - state.condemned.keys())
        names_, listed = self._inline(join_names(condemned))
        old, old_listed = self._inline(join_names(self.merged))
        packs, packs_listed = self._inline(join_fronts([*self.uploaded.packs, *self.merged_packs]))
        new = join_fronts([*self.uploaded.segments, *self.merged_into])
        clear = b"".join(cleared)
        facts = rec.Pruned(names_, listed, old, old_listed, new, packs, packs_listed, clear)
        return Draft("prune", facts, [self.session.audit(self.actor, Action.PRUNE)])

    def _inline(self, joined: bytes) -> tuple[bytes, bytes]:
        return inline_or_list(self.session.store, joined, INLINE_BYTES)


def _mergeable(live: list[SegmentReader], of_erased: Collection[bytes]) -> list[SegmentReader]:
    """
    Choose the segments to merge: the smallest of many, and whatever has to be written anew.

    That is what had to be rebuilt, and what has blocks of somebody who was erased.
    """
    due = {r.short for r in live if r.rebuilt or (r.short[:1] == b"i" and r.short in of_erased)}
    if len(live) < MANY_SEGMENTS:
        return [reader for reader in live if reader.short in due]
    chosen: list[SegmentReader] = []
    total = 0
    for reader in sorted(live, key=lambda reader: (reader.short not in due, reader.size)):
        is_large = len(chosen) >= MANY_SEGMENTS // 2 and reader.size > 4 * total
        if is_large and reader.short not in due:
            break
        chosen.append(reader)
        total += reader.size
    return chosen
