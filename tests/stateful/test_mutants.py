"""
The protocol broken on purpose: each break loses data or lies, and is noticed.

Every schedule runs twice. With the library as it is nothing happens; with one
rule taken out of it the same calls in the same order violate an invariant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import pytest
from tests.stateful.processes import Process, Shared, still
from tests.stateful.world import Content, Violation, World, content

from loopbackup.errors import AlreadyExistsError, DamagedData, NotFoundError, StoreError
from loopbackup.testing.faults import LostResponse
from loopbackup.vault.content.index import Index
from loopbackup.vault.content.reader import ChunkReader
from loopbackup.vault.content.segment import SegmentReader
from loopbackup.vault.content.upload import Upload
from loopbackup.vault.format import record as rec
from loopbackup.vault.format.pack import CONTENT_KINDS
from loopbackup.vault.ledger import log as log_module
from loopbackup.vault.ledger.log import Draft, Log
from loopbackup.vault.ledger.state import State, object_name
from loopbackup.vault.store.seam import StoreSeam
from loopbackup.vault.verbs import backup, mark, plan_prune, prune
from loopbackup.vault.verbs.collect import Collector

Schedule: TypeAlias = Callable[[World, pytest.MonkeyPatch], None]
Mutation: TypeAlias = Callable[[pytest.MonkeyPatch], None]

X, Y, Z = (content(number, 12_000) for number in range(3))
BIG: Content = {f"big-{number}": (content(100 + number, 30_000), None) for number in range(3)}


def items(**data: bytes) -> Content:
    """Give items that are about nobody."""
    return {path: (value, None) for path, value in data.items()}


def claim(process: Process, pack: bytes) -> None:
    """Claim a committed pack, as a run does that was not told of its commit."""
    facts = rec.Claimed(bytes(16), bytes(16), b"", pack)
    process.session.log.commit_draft(Draft("claim", facts))


def data_pack(world: World) -> str:
    """Give the name of a pack that holds content and no list of entries."""
    session = world.onlooker
    session.log.refresh()
    state = session.log.state
    rows = [
        (blob.pack, CONTENT_KINDS[blob.kind])
        for domain in (session.keyring.meta, session.keyring.none)
        for reader in session.index.segments(state)
        for blob, _members in reader.rows(domain)
        if blob.pack not in state.condemned
    ]
    lists = {pack for pack, kind in rows if kind not in ("data", "bundle")}
    return object_name(min({pack for pack, _kind in rows} - lists))


# ---- schedules


def a_crash_between_pack_and_record(world: World, _patch: pytest.MonkeyPatch) -> None:
    """Die once the record could be there and a pack is not."""
    writer = world.process()
    writer.begin(world.backup("mail", items(x=X)))

    if writer.until("put", "packs/*"):
        writer.kill()
    world.process().run(world.backup("mail", items(x=X)))

    world.check_quiet()


def a_prune_before_the_commit(world: World, _patch: pytest.MonkeyPatch) -> None:
    """Let a prune condemn what a backup relies on, just before the backup's record."""
    writer, pruner = world.process(), world.process()
    writer.run(world.backup("old", items(x=X)))
    pruner.run(world.forget(world.live()[0]))
    pruner.begin(world.prune)
    pruner.until_record("prune")
    writer.begin(world.backup("new", items(x=X, y=Y)))
    writer.until_record("snapshot")

    pruner.until("delete", "packs/*")
    writer.finish()
    pruner.finish()

    world.check_quiet()


def a_prune_of_unclaimed_packs(world: World, _patch: pytest.MonkeyPatch) -> None:
    """Let a prune condemn what a slow backup has put, just before the backup's record."""
    writer, pruner = world.process(), world.process()
    writer.begin(world.backup("mail", items(x=X)))
    writer.until_record("snapshot")
    world.shared.clock.pass_time(60)

    pruner.begin(world.prune)
    pruner.until("delete", "packs/*")
    writer.finish()
    pruner.finish()

    world.check_quiet()


def a_backup_before_the_prune(world: World, _patch: pytest.MonkeyPatch) -> None:
    """Let a backup rely on what a prune is about to condemn, and be faster."""
    writer, pruner = world.process(), world.process()
    writer.run(world.backup("old", items(x=X)))
    pruner.run(world.forget(world.live()[0]))
    pruner.begin(world.prune)
    pruner.until_record("prune")

    writer.run(world.backup("new", items(x=X, y=Y)))
    pruner.finish()

    world.check_quiet()


def a_backup_before_a_merge(world: World, patch: pytest.MonkeyPatch) -> None:
    """Let a backup rely on a dead pack that a merged index is about to leave out."""
    patch.setattr(prune, "MANY_SEGMENTS", 2)
    patch.setattr(plan_prune, "MAX_WASTE", 1.0)
    writer, pruner = world.process(), world.process()
    writer.run(world.backup("old", BIG))
    writer.run(world.backup("kept", {"big-2": BIG["big-2"]}))
    pruner.run(world.forget(world.live()[0]))
    pruner.begin(world.prune)
    pruner.until_record("prune")

    writer.run(world.backup("new", {"big-0": BIG["big-0"]}))
    pruner.finish()

    world.check_quiet()


def two_prunes_of_different_minds(world: World, patch: pytest.MonkeyPatch) -> None:
    """Let one prune condemn the pack into which another has just moved a chunk."""
    first, second = world.process(), world.process()
    first.run(world.backup("old", items(x=X, y=Y)))
    first.run(world.backup("kept", items(x=X)))
    first.run(world.forget(world.live()[0]))
    first.begin(world.prune)
    first.until_record("prune")
    patch.setattr(plan_prune, "MAX_WASTE", 1.0)

    second.run(world.prune)
    first.finish()

    world.check_quiet()


def two_prunes_and_two_copies(world: World, patch: pytest.MonkeyPatch) -> None:
    """
    Let each of two prunes keep the copy of a chunk that the other condemns.

    A merge in between, which spares the claimed copy, changes which copy
    comes first and is thus the one to keep.
    """
    patch.setattr(prune, "MANY_SEGMENTS", 5)
    patch.setattr(plan_prune, "MANY_TAILS", 99)
    patch.setattr(plan_prune, "MAX_WASTE", 1.0)
    first, second = world.process(), world.process()
    many = {f"small-{number}": (content(number, 8), None) for number in range(150)}
    second.begin(world.backup("other", {**many, **items(x=X)}))
    second.until("put", "packs/*")
    first.begin(world.backup("one", items(x=X)))
    first.until("put", "packs/*")
    first.finish()
    second.finish()
    one, other = world.live()
    packs = [segment.name for segment in world.onlooker.log.state.segments]
    first.run(world.backup("kept", items(x=X, y=Y)))
    first.run(world.forget(one))
    first.run(world.forget(other))
    first.run(world.backup("more", items(z=Z)))
    first.begin(world.prune)
    first.until_record("prune")

    second.run(world.backup("most", items(z=Z, y=Y)))
    claim(second, packs[1])
    second.run(world.prune)
    world.shared.clock.pass_time(1)
    second.run(world.prune)
    first.finish()

    world.check_quiet()


def a_lost_reply(world: World, _patch: pytest.MonkeyPatch) -> None:
    """Lose the reply to the creation of a record."""
    writer = world.process()
    writer.begin(world.backup("mail", items(x=X)))
    writer.until_record("snapshot")

    writer.step(LostResponse())
    writer.finish()

    world.check_quiet()


def two_records_of_one_number(world: World, _patch: pytest.MonkeyPatch) -> None:
    """Let another process take the number of a record."""
    slow, fast = world.process(), world.process()
    slow.begin(world.backup("mail", items(x=X)))
    slow.until_record("snapshot")

    fast.run(world.backup("files", items(y=Y)))
    slow.finish()

    world.check_quiet()


def a_forgotten_parent(world: World, _patch: pytest.MonkeyPatch) -> None:
    """Forget and prune the snapshot from which a backup takes what has not changed."""
    writer, pruner = world.process(), world.process()
    writer.run(world.backup("mail", items(x=X)))
    writer.begin(world.backup("mail", items(x=X, y=Y)))
    writer.until("put", "packs/*")
    pruner.run(world.forget(world.live()[0]))
    pruner.begin(world.prune)
    pruner.until_record("prune")
    writer.until_record("snapshot")

    pruner.until("delete", "packs/*")
    writer.finish()
    pruner.finish()

    world.check_quiet()


def a_prune_under_a_reader(world: World, _patch: pytest.MonkeyPatch) -> None:
    """Move and delete what a reader is about to fetch."""
    reader, pruner = world.process(), world.process()
    pruner.run(world.backup("old", items(x=X, y=Y)))
    pruner.run(world.backup("kept", items(x=X)))
    pruner.run(world.forget(world.live()[0]))
    reader.begin(world.read(world.live()[0]))
    reader.until("get", "packs/*")

    pruner.run(world.prune)
    reader.finish()

    world.check_quiet()


def a_pack_that_vanishes(world: World, _patch: pytest.MonkeyPatch) -> None:
    """Let the store lose a pack, a check find it, a backup heal it and a prune clear up."""
    writer = world.process()
    writer.run(world.backup("mail", BIG))
    world.vanish(data_pack(world))

    world.process().run(lambda vault: vault.check())
    world.process().run(world.backup("mail", BIG))
    world.shared.clock.pass_time(1)
    world.process().run(world.prune)

    world.check_quiet()


def a_pack_that_vanishes_after_its_chunks_moved(world: World, patch: pytest.MonkeyPatch) -> None:
    """Let the store lose what a prune has moved chunks into, while the old pack stands."""
    patch.setattr(plan_prune, "MANY_TAILS", 99)
    writer, pruner = world.process(), world.process()
    writer.run(world.backup("old", BIG))
    writer.run(world.backup("kept", {"big-0": BIG["big-0"]}))
    pruner.run(world.forget(world.live()[0]))
    pruner.begin(world.prune)
    pruner.until("delete", "packs/*")
    pruner.kill()
    world.vanish(data_pack(world))

    world.process().run(world.prune)
    world.shared.clock.pass_time(1)
    world.process().run(world.prune)

    world.check_quiet()


def a_backup_beside_a_prune_that_retires(world: World, patch: pytest.MonkeyPatch) -> None:
    """Let a process that can still read a pack rely on it while another one gives it up."""
    writer, pruner = world.process(), world.process()
    writer.run(world.backup("old", items(x=X)))
    pruner.run(world.backup("kept", items(y=Y)))
    pruner.run(world.forget(world.live()[0]))
    lost = world.onlooker.log.state.segments[0].name
    other = world.process()
    read = Index.pack

    def refuse(self: Index, short: bytes) -> Any:
        if short == lost and self is other.session.index:
            raise DamagedData("as this process sees it")
        return read(self, short)

    patch.setattr(Index, "pack", refuse)
    load = Index._load
    patch.setattr(
        Index,
        "_load",
        lambda self, short, *more: (
            SegmentReader.missing(self._store, short, DamagedData("as this process sees it"))
            if short == lost and self is other.session.index
            else load(self, short, *more)
        ),
    )
    other.begin(world.prune)
    other.until_record("prune")

    writer.run(world.backup("new", items(x=X, z=Z)))
    other.finish()

    world.check_quiet()


# ---- mutations


def commits_before_the_packs(patch: pytest.MonkeyPatch) -> None:
    """Put the packs of a run after its record."""
    put, commit = StoreSeam.put, Log.commit
    late: list[tuple[StoreSeam, str, bytes]] = []

    def put_late(self: StoreSeam, key: str, data: Any) -> None:
        if key.startswith("packs/"):
            late.append((self, key, bytes(data)))
        else:
            put(self, key, data)

    def commit_first(self: Log, intent: Any) -> int | None:
        index = commit(self, intent)
        if isinstance(intent, backup._Run):
            for call in late:
                put(*call)
        return index

    patch.setattr(StoreSeam, "put", put_late)
    patch.setattr(Log, "commit", commit_first)


def ignores_what_it_relies_on(patch: pytest.MonkeyPatch) -> None:
    """Hold only the own packs against what is condemned."""

    def lost(self: Upload, state: State) -> bool:
        return any(pack.name in state.condemned for pack in self.packs)

    patch.setattr(Upload, "lost", lost)


def folds_leniently(patch: pytest.MonkeyPatch) -> None:
    """Let records that name condemned objects count; a second line of defence is gone."""
    for name in ("_commit_snapshot", "_prune"):
        strict = getattr(State, name)

        def lenient(self: State, *args: Any, strict: Any = strict) -> Any:
            condemned, self.condemned = self.condemned, {}
            try:
                return strict(self, *args)
            finally:
                self.condemned = condemned

        patch.setattr(State, name, lenient)


def ignores_its_own_packs(patch: pytest.MonkeyPatch) -> None:
    """Hold only what is relied on against what is condemned."""
    folds_leniently(patch)

    def validate(self: backup._Run, state: State) -> Draft:
        return self._draft(state)

    patch.setattr(backup._Run, "validate", validate)


def uses_names_again(patch: pytest.MonkeyPatch) -> None:
    """Put condemned packs again under their old names, and let those count."""
    folds_leniently(patch)
    put = StoreSeam.put
    packs: dict[str, bytes] = {}

    def remember(self: StoreSeam, key: str, data: Any) -> None:
        if key.startswith("packs/"):
            packs[key] = bytes(data)
        put(self, key, data)

    def validate(self: backup._Run, state: State) -> Draft:
        for name, _front in self.uploaded.packs:
            if name in state.condemned:
                put(self.session.store, object_name(name), packs[object_name(name)])
        return self._draft(state)

    patch.setattr(StoreSeam, "put", remember)
    patch.setattr(backup._Run, "validate", validate)


def sweeps_before_its_record(patch: pytest.MonkeyPatch) -> None:
    """Delete what is about to be condemned."""
    draft = prune._Job._draft

    def delete_first(self: prune._Job, state: State, cleared: Sequence[bytes] = ()) -> Draft:
        for short in self.condemned:
            self.session.store.delete(object_name(short))
        return draft(self, state, cleared)

    patch.setattr(prune._Job, "_draft", delete_first)


def does_not_shrink(patch: pytest.MonkeyPatch) -> None:
    """Condemn what was planned, whatever was committed since."""
    patch.setattr(prune._Job, "_shrink", lambda self, state: None)
    patch.setattr(prune._Job, "_keep_for", lambda self, state, marks: None)


def keeps_its_merged_index(patch: pytest.MonkeyPatch) -> None:
    """Shrink what is condemned and still replace the segments that name it."""
    shrink = prune._Job._shrink

    def shrink_only(self: prune._Job, state: State) -> None:
        merged = list(self.merged), list(self.merged_into), list(self.merged_packs)
        shrink(self, state)
        self.merged, self.merged_into, self.merged_packs = merged
        self.condemned |= {short for short in self.merged if short[:1] == b"i"}

    patch.setattr(prune._Job, "_shrink", shrink_only)


def does_not_plan_again(patch: pytest.MonkeyPatch) -> None:
    """Shrink for new snapshots only, and never mind other prunes."""
    folds_leniently(patch)

    def validate(self: prune._Job, state: State) -> Draft:
        if state.snapshots.keys() - self.plan.snapshots:
            self._spare(state)
        self._shrink(state)
        return self._draft(state)

    patch.setattr(prune._Job, "validate", validate)


def validates_once(patch: pytest.MonkeyPatch) -> None:
    """Go on to the next number after a lost race without looking at what won it."""

    def commit(self: Log, intent: Any) -> int | None:
        self.refresh()
        draft = intent.validate(self.state)
        assert isinstance(draft, Draft | None)
        while draft is not None:
            index = self._attempt(intent.commit_id, draft)
            if index is not None:
                return index
            self.refresh()
        return None

    patch.setattr(Log, "commit", commit)


def believes_a_lost_reply(patch: pytest.MonkeyPatch) -> None:
    """Take a lost reply for a lost request, and run the backup once more."""
    run = backup.run_backup

    def create(store: StoreSeam, name: str, data: bytes) -> bool:
        try:
            store.create_once(name, data)
        except AlreadyExistsError:
            return False
        return True

    def again(*args: Any) -> Any:
        with suppress(StoreError):
            return run(*args)
        return run(*args)

    patch.setattr(log_module, "create_record", create)
    patch.setattr(backup, "run_backup", again)


def takes_any_record_for_its_own(patch: pytest.MonkeyPatch) -> None:
    """Take "exists" for success without comparing."""

    def create(store: StoreSeam, name: str, data: bytes) -> bool:
        with suppress(AlreadyExistsError):
            store.create_once(name, data)
        return True

    patch.setattr(log_module, "create_record", create)


def reads_without_folding_again(patch: pytest.MonkeyPatch) -> None:
    """Call a chunk damaged that is not where an older state says."""

    def read(self: ChunkReader, domain: Any, chunk_id: bytes, kind: str = "data") -> Any:
        place = self._index.find(domain, chunk_id, self._log.state)
        try:
            if place is None:
                raise NotFoundError("no place for a chunk")
            return self.read_place(domain, chunk_id, place, kind)
        except NotFoundError as exc:
            raise DamagedData("a chunk is missing") from exc

    patch.setattr(ChunkReader, "read", read)


def trusts_what_a_check_found_missing(patch: pytest.MonkeyPatch) -> None:
    """Take what the index says for stored, whatever is known of the pack."""
    patch.setattr(Index, "distrusts", lambda self, pack, state: False)


def takes_the_unchanged_for_stored(patch: pytest.MonkeyPatch) -> None:
    """Take entries over from the last snapshot without holding them against the index."""
    patch.setattr(Collector, "_stored", lambda self, domain, known: True)


def keeps_the_first_copy(patch: pytest.MonkeyPatch) -> None:
    """Call the copy of a chunk in a lost pack its home, and the one that was put since dead."""
    parts = mark._parts

    def in_order(readers: Any, state: Any, domain: Any, live: Any, _without: Any) -> Any:
        yield from parts(readers, state, domain, live, set())

    patch.setattr(mark, "_parts", in_order)
    # Looking at every place of a chunk that is at home in a lost pack would save it.
    patch.setattr(prune._Job, "_clear", lambda self, state, listing: self.plan.doubtful)


def rescues_nothing(patch: pytest.MonkeyPatch) -> None:
    """Sweep condemned packs without looking for what was lost elsewhere."""
    patch.setattr(prune, "rescue", lambda *_: ({}, []))


def retires_whatever_it_cannot_read(patch: pytest.MonkeyPatch) -> None:
    """Condemn a pack that this process cannot read, whoever relies on it by now."""
    keep = prune._Job._keep_for

    def keep_for(self: prune._Job, state: State, marks: Any) -> None:
        retired = self.condemned & self.plan.retired
        keep(self, state, marks)
        self.condemned |= retired

    patch.setattr(prune._Job, "_keep_for", keep_for)


CASES: list[tuple[Mutation, Schedule]] = [
    (commits_before_the_packs, a_crash_between_pack_and_record),
    (ignores_what_it_relies_on, a_prune_before_the_commit),
    (ignores_its_own_packs, a_prune_of_unclaimed_packs),
    (uses_names_again, a_prune_of_unclaimed_packs),
    (sweeps_before_its_record, a_backup_before_the_prune),
    (does_not_shrink, a_backup_before_the_prune),
    (keeps_its_merged_index, a_backup_before_a_merge),
    (does_not_plan_again, two_prunes_of_different_minds),
    (does_not_plan_again, two_prunes_and_two_copies),
    (validates_once, a_prune_before_the_commit),
    (believes_a_lost_reply, a_lost_reply),
    (takes_any_record_for_its_own, two_records_of_one_number),
    (ignores_what_it_relies_on, a_forgotten_parent),
    (reads_without_folding_again, a_prune_under_a_reader),
    (trusts_what_a_check_found_missing, a_pack_that_vanishes),
    (takes_the_unchanged_for_stored, a_pack_that_vanishes),
    (keeps_the_first_copy, a_pack_that_vanishes),
    (rescues_nothing, a_pack_that_vanishes_after_its_chunks_moved),
    (retires_whatever_it_cannot_read, a_backup_beside_a_prune_that_retires),
]
SCHEDULES = list(dict.fromkeys(schedule for _, schedule in CASES))


@pytest.fixture
def world() -> Iterator[World]:
    """A vault that sweeps at once, as hard on its users as can be."""
    with still():
        world = World(Shared(grace_s=0))
        yield world
        world.close()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.__name__)
def test_the_library_holds(
    schedule: Schedule, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No schedule of these costs a byte as long as every rule stands."""
    schedule(world, monkeypatch)

    assert world.live()


@pytest.mark.parametrize(
    ("mutation", "schedule"), CASES, ids=[f"{m.__name__}-{s.__name__}" for m, s in CASES]
)
def test_a_broken_rule_is_noticed(
    mutation: Mutation, schedule: Schedule, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rule is needed: without it the schedule violates an invariant."""
    mutation(monkeypatch)

    with pytest.raises(Violation):
        schedule(world, monkeypatch)
