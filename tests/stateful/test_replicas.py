"""
A replica beside everything: backups, prunes, erasures, other replications, readers, and faults.

Every store call of every verb, on the vault's store and on the replica's, is a step of its
own. After each that changes the replica it is opened as it then is: it has to be a
valid vault, a prefix of its source, all of whose snapshots restore.

More examples: ``pytest tests/stateful --hypothesis-profile=thorough --timeout=0``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeAlias

import pytest
from attrs import evolve, frozen
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from tests.stateful.copies import Copies, CopyingProcess
from tests.stateful.processes import Shared, still
from tests.stateful.test_vault_model import Drawn, make
from tests.stateful.world import Violation, content

from loopbackup.errors import LoopbackupError
from loopbackup.testing.faults import (
    Crash,
    Crashed,
    Delayed,
    Fault,
    LostRequest,
    LostResponse,
    Method,
)
from loopbackup.vault.ledger import summary
from loopbackup.vault.ledger.log import Log
from loopbackup.vault.store.seam import StoreSeam
from loopbackup.vault.verbs import (
    plan_prune,
    prune,
    replica_keys,
    replica_records,
    replica_sweep,
    replicate,
)

PROCESSES = 4
GRACE_S = 3600
STOPS: tuple[int | tuple[Method, str], ...] = (
    *(0, 1, 2, 4, 8, 16),
    ("put", "ledger/*"),
    ("put", "copy/ledger/*"),
    ("put", "copy/ledger/*"),
    ("put", "copy/packs/*"),
    ("put", "copy/keys/*"),
    ("list", "copy/*"),
    ("delete", "*"),
    ("describe", "never"),
    ("describe", "never"),
)
FAULTS: dict[str, tuple[Fault, ...]] = {
    "put": (Crash("before"), Crash("after"), LostRequest(), LostResponse(), Delayed()),
    "get": (Crash("before"), LostRequest(), LostResponse()),
    "delete": (Crash("before"), Crash("after"), LostRequest(), LostResponse()),
    "list": (Crash("before"), LostRequest()),
    "describe": (),
}
SUBJECTS = ("user-42", "Acme AB")
pieces = st.tuples(st.integers(0, 5), st.sampled_from([None, *SUBJECTS]))


@frozen
class Turn:
    """What happens next; a part that does not fit the state is left out."""

    aside: str
    which: int
    verb: str
    drawn: Drawn
    number: int
    stop: int | tuple[Method, str]
    fault: int


turns = st.builds(
    Turn,
    aside=st.sampled_from([""] * 24 + ["land", "half", "grace", "quiet"]),
    which=st.integers(0, PROCESSES - 1),
    verb=st.sampled_from(
        ["replicate"] * 6
        + ["backup"] * 4
        + ["prune"] * 3
        + ["forget"] * 2
        + ["erase"] * 2
        + ["visit", "visit", "rotate"]
    ),
    drawn=st.dictionaries(st.sampled_from("abcd"), pieces, min_size=1, max_size=4),
    number=st.integers(0, 7),
    stop=st.sampled_from(STOPS),
    fault=st.integers(0, 63),
)


class ReplicaMachine(RuleBasedStateMachine):
    """Whatever happens to vault and replica, who opens the replica finds a valid vault."""

    @initialize(grace=st.sampled_from([0, 0, GRACE_S]))
    def create(self, grace: int) -> None:
        """Make the vault and start the processes."""
        self.stack = ExitStack()
        self.stack.enter_context(still())
        patch = self.stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(summary, "SUMMARY_EVERY", 12)
        patch.setattr(prune, "MANY_SEGMENTS", 4)
        patch.setattr(plan_prune, "MANY_TAILS", 3)
        self.copies = Copies(Shared(grace_s=grace))
        self.stack.callback(self.copies.close)
        self.processes = [self.copies.process() for _ in range(PROCESSES)]

    def teardown(self) -> None:
        """Let all come to rest, and check everything."""
        if hasattr(self, "processes"):
            with self.stack:
                self.quieten()
                self.copies.check_completed()

    @rule(turn=turns)
    def turn(self, turn: Turn) -> None:
        """Let one process begin something or go on, perhaps struck by a fault."""
        self.happen(turn.aside)
        process = self.processes[turn.which]
        if not process.busy:
            process.begin(self.verb(process, turn))
        elif process.pending is not None:
            faults = FAULTS[process.pending[0]]
            process.step(faults[turn.fault] if turn.fault < len(faults) else None)
            if isinstance(turn.stop, int):
                for _ in range(turn.stop):
                    if process.pending is not None:
                        process.step()
            else:
                process.until(*turn.stop)
        self.look_at(turn.which)

    def verb(self, process: CopyingProcess, turn: Turn) -> Callable[[Any], Any]:
        """Choose a verb."""
        copies = self.copies
        match turn.verb:
            case "replicate":
                return copies.replicate(process)
            case "prune":
                return lambda vault: vault.prune()
            case "forget":
                return copies.forget(turn.number)
            case "erase":
                who = SUBJECTS[turn.number % 2]
                return copies.erase(process, who, given=turn.number % 4 < 3)
            case "visit":
                return copies.visit(process)
            case "rotate":
                return lambda vault: vault.keys.rotate()
            case _:
                return copies.backup("mail" if turn.number % 2 else "files", make(turn.drawn))

    def happen(self, what: str) -> None:
        """Let something happen that needs no process."""
        match what:
            case "land":
                for process in self.copies.processes:
                    process.handle.release()
                    process.copy_handle.release()
                self.copies.look()
            case "half":
                self.copies.shared.clock.pass_time(GRACE_S / 2)
            case "grace":
                self.copies.shared.clock.pass_time(GRACE_S + 1)
            case "quiet":
                self.quieten()

    def quieten(self) -> None:
        """Let every verb finish alone, then check everything."""
        for which, process in enumerate(list(self.processes)):
            process.until("describe", "never")
            self.look_at(which)
        self.copies.check_quiet()

    def look_at(self, which: int) -> None:
        """Look at how a verb ended, if it did."""
        process = self.processes[which]
        if process.busy or process.error is None:
            return
        error, process.error = process.error, None
        if isinstance(error, Crashed):
            self.processes[which] = self.copies.process()
        elif isinstance(error, AssertionError) or not isinstance(error, LoopbackupError):
            raise error


# Each step opens the replica: half as many examples as the profile says.
TestReplicas = ReplicaMachine.TestCase
assert settings.default is not None
TestReplicas.settings = settings(
    settings.default, max_examples=settings.default.max_examples // 2, stateful_step_count=50
)


# ---- the protocol broken on purpose

X, Y = (content(number, 12_000) for number in range(2))
Schedule: TypeAlias = Callable[[Copies], None]
Mutation: TypeAlias = Callable[[pytest.MonkeyPatch], None]


def filled(copies: Copies) -> CopyingProcess:
    """Back up two people, and replicate."""
    process = copies.process()
    process.run(copies.backup("mail", {"x": (X, "user-42"), "y": (Y, "Acme AB")}))
    process.run(copies.replicate(process))
    return process


def stopped_before_the_last_record(copies: Copies) -> None:
    """A snapshot comes and goes between two replications; the second is killed at its end."""
    process = filled(copies)
    process.run(copies.backup("mail", {"z": (content(7, 30_000), "user-42")}))
    process.run(copies.forget(0))
    process.run(lambda vault: vault.prune())
    process.begin(copies.replicate(process))
    for _ in range(3):
        assert process.until("put", "copy/ledger/*")
        process.step()
    process.kill()
    copies.check_quiet()


def forgotten_since_the_last_replication(copies: Copies) -> None:
    """What the replica shows is gone in the vault; the next replication is killed early."""
    process = filled(copies)
    process.run(copies.forget(0))
    process.run(lambda vault: vault.prune())
    process.begin(copies.replicate(process))
    assert process.until("put", "copy/ledger/*")
    process.kill()
    copies.check_quiet()


def erased_while_the_replica_is_behind(copies: Copies) -> None:
    """An erasure reaches the keys of a replica that lacks its record."""
    process = filled(copies)
    process.run(copies.backup("mail", {"z": (content(7, 900), "user-42")}))
    process.run(copies.erase(process, "user-42", given=True))
    copies.check_quiet()


def new_subjects_while_the_replica_is_behind(copies: Copies) -> None:
    """A replication brings a shard with newcomers, and is killed before their record."""
    process = filled(copies)
    process.run(copies.backup("mail", {"z": (content(7, 900), "newcomer")}))
    process.begin(copies.replicate(process))
    assert process.until("put", "copy/ledger/*")
    process.kill()
    copies.check_quiet()


def install_upwards(patch: pytest.MonkeyPatch) -> None:
    """Put the records from the first one on."""
    patch.setattr(replica_records, "reversed", iter, raising=False)


def delete_old_roots(patch: pytest.MonkeyPatch) -> None:
    """Delete a root where a tombstone should stand in its place."""
    patch.setattr(StoreSeam, "overwrite", lambda seam, name, _data: seam.delete(name))


def put_keys_last(patch: pytest.MonkeyPatch) -> None:
    """Bury the old keys of a replica, and leave the new ones for later."""
    patch.setattr(replica_keys, "_put", lambda *_args: [])


def delete_every_old_shard(patch: pytest.MonkeyPatch) -> None:
    """Take every key object that does not count for one that nobody needs."""
    patch.setattr(replica_keys, "_still_needed", lambda *_args: {})


def sweep_by_records_to_come(patch: pytest.MonkeyPatch) -> None:
    """Delete what the vault has condemned before the replica has the records that say so."""
    copy = replicate._Job._copy

    def copy_and_sweep(job: Any) -> Any:
        state = copy(job)
        known = evolve(job.replica, size=state.size)
        replica_sweep.sweep_replica(job.session, state, known, job.target, job.there)
        return state

    patch.setattr(replicate._Job, "_copy", copy_and_sweep)


def follow_no_tombstone(patch: pytest.MonkeyPatch) -> None:
    """Open a replica with the keys of its own records only."""
    patch.setattr(Log, "_look_ahead", lambda _log: None)


BROKEN: dict[str, tuple[Schedule, Mutation]] = {
    "records upwards": (stopped_before_the_last_record, install_upwards),
    "swept by records to come": (forgotten_since_the_last_replication, sweep_by_records_to_come),
    "old roots deleted": (erased_while_the_replica_is_behind, delete_old_roots),
    "old keys buried before the new are there": (erased_while_the_replica_is_behind, put_keys_last),
    "no tombstone followed": (erased_while_the_replica_is_behind, follow_no_tombstone),
    "old shards deleted": (new_subjects_while_the_replica_is_behind, delete_every_old_shard),
}


@pytest.mark.parametrize("case", BROKEN)
def test_break_of_the_protocol_is_noticed(case: str) -> None:
    """The same calls in the same order are fine without it."""
    schedule, mutation = BROKEN[case]
    for broken in (False, True):
        with still(), pytest.MonkeyPatch.context() as patch:
            copies = Copies(Shared(grace_s=0))
            try:
                if broken:
                    mutation(patch)
                    with pytest.raises((Violation, LoopbackupError)):
                        schedule(copies)
                else:
                    schedule(copies)
                    assert copies.looks > 5
            finally:
                copies.close()
