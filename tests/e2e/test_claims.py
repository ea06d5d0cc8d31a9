"""Claims: what an unfinished run has put stays, is taken over by its series, and ends."""

from __future__ import annotations

import errno
import time

import pytest
from tests.e2e.support import Clock, create, items, noise, read_snapshot, reopen

import loopbackup as lb
from loopbackup.progress import Reporter
from loopbackup.testing.faults import FaultStore, Refused, Rule, script
from loopbackup.vault.format import names
from loopbackup.vault.ledger.state import State
from loopbackup.vault.source import open_source
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.wrappers import CountingStore
from loopbackup.vault.vault import Vault
from loopbackup.vault.verbs import backup
from loopbackup.vault.verbs.claims import RENEW_S, TICK_S, Claimer, series_tag

PARTS = {f"big/{number:02d}": noise(300_000, str(number)) for number in range(40)}


@pytest.fixture
def clock() -> Clock:
    """Give a clock that the test moves."""
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    """Make a vault with small packs."""
    store = MemoryStore(clock=clock)
    create(store, clock=clock)
    return store


def stop_in_the_middle(vault: Vault, name: str) -> None:
    """Begin a backup and interrupt it once most of its content is stored."""

    def interrupted() -> bytes:
        end = time.monotonic() + 30
        while len(list(vault._session.store.list(names.PACKS))) < 8:
            assert time.monotonic() < end, "no packs come"
            time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vault.backup([*items(PARTS), lb.Item("last", data=interrupted)], name=name)


def state_of(vault: Vault) -> State:
    """Fold, and give the state."""
    vault._session.log.refresh()
    return vault._session.log.state


def test_each_pack_is_claimed_once(store: MemoryStore, clock: Clock) -> None:
    """A record names what is new since the last, so a long run's claims stay short."""
    with reopen(store, clock=clock) as vault:
        stop_in_the_middle(vault, "big")
        (claim,) = state_of(vault).claims.values()
        stored = {entry.key for entry in store.list(names.PACKS)}

        assert {names.pack_name(front.name[1:]) for front in claim.packs} == stored
        assert len(claim.packs) == len(set(claim.packs)) >= 8
        kinds = [entry.kind for entry in vault.ledger.entries()]
        assert 2 <= kinds.count("claim") <= 7


def test_only_the_same_series_takes_packs_over(store: MemoryStore, clock: Clock) -> None:
    """Another series neither reads them nor ends the claim."""
    with reopen(store, clock=clock) as vault:
        stop_in_the_middle(vault, "big")
    counting = CountingStore(store)
    with reopen(counting, clock=clock) as vault:
        counting.reset()
        vault.backup(items({"small": b"small"}), name="other")

        assert counting.snapshot().requests["get"] < 10
        assert len(state_of(vault).claims) == 1
        again = vault.backup(items(PARTS), name="big")
        assert again.report.bytes_added < 6_000_000
        assert read_snapshot(again) == PARTS
        assert vault.check(data=True).ok


def test_prune_leaves_claimed_packs_alone_until_the_run_has_been_silent_for_the_grace(
    store: MemoryStore, clock: Clock
) -> None:
    """Then the claim lapses, and the packs go like any that nobody knows."""
    with reopen(store, clock=clock) as vault:
        stop_in_the_middle(vault, "big")
        before = len(list(store.list(names.PACKS)))
        clock.pass_by(hours=20)
        vault.prune()
        assert len(list(store.list(names.PACKS))) == before
        clock.pass_by(hours=5)
        vault.prune()
        clock.pass_by(hours=25)
        vault.prune()

        assert state_of(vault).claims == {}
        assert list(store.list(names.PACKS)) == []


def test_commit_ends_claims_of_its_series_that_are_stale(store: MemoryStore, clock: Clock) -> None:
    """A young one may belong to a run that is alive, and stays."""
    with reopen(store, clock=clock) as vault:
        stop_in_the_middle(vault, "big")
        vault.backup(items({"a": b"a"}), name="big")
        young = len(state_of(vault).claims)
        clock.pass_by(hours=1)
        vault.backup(items({"a": b"b"}), name="big")

        assert (young, state_of(vault).claims) == (1, {})


def test_claim_that_cannot_be_made_ends_no_run(store: MemoryStore, clock: Clock) -> None:
    """It only costs work: what the store refuses is tried again with the next pack."""
    refused = Rule(
        Refused(lambda: PermissionError(errno.EACCES, "denied")),
        method="put",
        key=names.record_name(len(list(store.list("ledger/")))),
        times=2,
    )
    faults = FaultStore(store, script(refused))
    with reopen(faults, clock=clock) as vault:
        snapshot = vault.backup(items(PARTS), name="big")
        kinds = [entry.kind for entry in vault.ledger.entries()]

        assert read_snapshot(snapshot) == PARTS
    tried = [call for call in faults.calls if (call.method, call.key) == ("put", refused.key)]
    assert len(tried) == 3
    assert "claim" in kinds


def test_lapsed_run_claims_everything_anew(store: MemoryStore, clock: Clock) -> None:
    """What it had named before is protected by nothing any more."""
    with reopen(store, clock=clock) as vault:
        session = vault._session
        source = open_source(items(PARTS))
        job = backup.BackupJob(source=source, name="n", actor=lb.Actor("job"))
        run = backup._Run(session, job, b"s" * 16, Reporter("backup", None, None))
        domain = session.keyring.none
        for number in range(8):
            data = noise(400_000, f"{number}")
            run.upload.put(domain, domain.chunk_id(data), data)
        run.upload.flush()
        run.claimer.last()
        before = state_of(vault).claims[run.claimer.run].packs
        clock.pass_by(days=2)
        vault.prune()
        assert state_of(vault).claims == {}

        data = noise(400_000, "more")
        run.upload.put(domain, domain.chunk_id(data), data)
        run.upload.flush()
        run.claimer.last()

        assert set(state_of(vault).claims[run.claimer.run].packs) > set(before)


def test_claim_from_the_future_lapses(store: MemoryStore, clock: Clock) -> None:
    """A clock that was years ahead must not protect packs for years."""
    with reopen(store, clock=clock) as vault:
        clock.pass_by(days=4000)
        stop_in_the_middle(vault, "big")
        clock.pass_by(days=-4000)
        vault.prune()

        assert state_of(vault).claims == {}


def test_silent_run_says_that_it_lives(store: MemoryStore, clock: Clock) -> None:
    """Also where nothing was put since: a slow source is no dead run."""
    now = 0.0
    with reopen(store, clock=clock) as vault:
        session = vault._session
        job = backup.BackupJob(source=None, name="slow", actor=lb.Actor("job"))  # type: ignore[arg-type]
        run = backup._Run(session, job, b"s" * 16, None)  # type: ignore[arg-type]
        tag = series_tag(session, "slow")
        claimer = Claimer(session, job.actor, run.upload, tag, clock=lambda: now)

        claimer.tick()
        now = TICK_S + 1
        claimer.tick()
        assert state_of(vault).claims == {}
        now = RENEW_S + 1
        claimer.tick()
        first = state_of(vault).claims[claimer.run]
        now = 2 * RENEW_S
        claimer.tick()
        assert state_of(vault).claims[claimer.run] == first
        now = 2 * RENEW_S + 2
        claimer.tick()

        renewed = state_of(vault).claims[claimer.run]
        assert renewed.at_us > first.at_us
        assert (renewed.packs, renewed.relies) == ((), frozenset())
