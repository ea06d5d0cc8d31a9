"""What the commit loop owes to its intents and to its callers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from attrs import define, field
from tests.stateful.processes import Shared, still
from tests.stateful.world import World, content

from loopbackup.errors import DamagedData
from loopbackup.testing.faults import FaultStore, Refused, Rule, script
from loopbackup.vault.content.segment import read_front
from loopbackup.vault.content.upload import Upload
from loopbackup.vault.format import record as rec
from loopbackup.vault.format.pack import Block, PackDirectory
from loopbackup.vault.ledger import summary
from loopbackup.vault.ledger.log import Draft
from loopbackup.vault.ledger.state import State
from loopbackup.vault.vault import Vault
from loopbackup.vault.verbs.session import Session


@pytest.fixture
def shared() -> Iterator[Shared]:
    """A vault in memory, without chance."""
    with still():
        yield Shared(grace_s=0)


@define
class Curious:
    """An intent that reads while it validates, and so folds on."""

    session: Session
    other: Session
    sizes: list[int] = field(factory=list)
    commit_id: bytes = bytes(16)

    def validate(self, state: State) -> Draft:
        """Note the state, and let somebody else commit in the midst of it at first."""
        self.sizes.append(state.size)
        if len(self.sizes) == 1:
            self.other.log.commit_draft(Draft("read", rec.Looked(count=1)))
            self.session.log.refresh()
        return Draft("read", rec.Looked(count=1))


def test_a_verdict_on_an_older_state_is_not_committed(shared: Shared) -> None:
    """When a read inside ``validate`` folds further, the intent is asked again."""
    one, other = shared.open(shared.store), shared.open(shared.store)
    intent = Curious(one, other)

    index = one.log.commit(intent)

    assert intent.sizes == [1, 2]
    assert index == 2


def test_a_summary_that_fails_does_not_fail_the_commit(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the caller wanted is committed, whatever becomes of the summary after it."""
    monkeypatch.setattr(summary, "SUMMARY_EVERY", 1)
    full = Refused(lambda: OSError(28, "No space left on device"))
    store = FaultStore(shared.store, script(Rule(full, method="put", key="summary/*", times=99)))
    session = shared.open(store)

    index = session.log.commit_draft(Draft("read", rec.Looked(count=1)))

    assert index == 1
    assert not list(shared.store.list("summary/"))


def test_two_processes_that_summarise_at_once_leave_no_void_record(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The summary that comes second and says less is not committed."""
    world = World(shared)
    slow, fast = world.process(), world.process()
    slow.run(world.backup("mail", {"x": (content(0, 500), None)}))
    monkeypatch.setattr(summary, "SUMMARY_EVERY", 1)
    slow.begin(world.backup("mail", {"x": (content(1, 500), None)}))
    slow.until_record("summary")

    fast.run(world.backup("files", {"x": (content(2, 500), None)}))
    slow.finish()

    world.live()
    assert world.onlooker.log.state.alarms == ()


def test_a_pack_that_cannot_be_taken_over_in_full_is_not_taken_over(shared: Shared) -> None:
    """Chunks of a directory that proves damaged half-way do not count as stored."""
    session = shared.open(shared.store)
    vault = Vault(session, None)
    World(shared).backup("mail", {"x": (content(0, 500), None)})(vault)
    segment = session.log.state.segments[0]
    directory, front = read_front(
        session.store,
        session.keyring.index_secret,
        session.header.vault_id,
        segment.name,
        segment.front,
    )
    assert isinstance(directory, PackDirectory)
    first = directory.blocks[0]
    broken = PackDirectory(
        directory.salt, [first, Block(first.domain, first.generation, bytes(100))]
    )
    upload = Upload(
        session.store,
        session.log,
        session.keyring,
        session.index,
        executor=session.executor,
        pack_size=session.header.pack_size,
        bundle_size=session.header.bundle_size,
    )

    with pytest.raises(DamagedData):
        upload.adopt(front, broken)

    assert upload.packs == []
    assert upload.own_places() == {}
    assert not any(upload._mine.values())
