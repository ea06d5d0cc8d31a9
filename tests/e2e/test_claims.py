"""Claims: what an unfinished run has put stays, is taken over by its series, and ends."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.e2e.support import Clock, create, items, noise, read_snapshot, reopen

import loopbackup as lb
from loopbackup.testing.faults import BitFlip, Call, FaultStore, Refused, Rule, damage, script
from loopbackup.vault.format import names
from loopbackup.vault.format import record as rec
from loopbackup.vault.ledger.log import Draft
from loopbackup.vault.ledger.state import State, split_fronts
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.wrappers import CountingStore
from loopbackup.vault.vault import Vault
from loopbackup.vault.verbs import backup
from loopbackup.vault.verbs.claims import RENEW_S, TICK_S, Claimer, lapse_claims, series_tag
from loopbackup.vault.verbs.refold import refold

PATIENCE_S = 20.0
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


def stop_in_the_middle(vault: Vault, name: str, **more: Any) -> None:
    """Begin a backup and interrupt it once most of its content is stored."""

    def interrupted() -> bytes:
        until = time.monotonic() + PATIENCE_S
        while len(list(vault._session.store.list(names.PACKS))) < 8:
            if time.monotonic() > until:
                raise TimeoutError("the packs do not come")
            time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vault.backup([*items(PARTS, **more), lb.Item("last", data=interrupted, **more)], name=name)


def claims_made(vault: Vault) -> list[rec.Claimed]:
    """Give what the claims of all runs say, oldest first."""
    vault._session.log.refresh()
    found = [folded.record for folded in refold(vault._session)]
    return [r.facts() for r in found if r is not None and r.frame.kind == "claim"]


def new_claimer(vault: Vault, clock: Callable[[], float]) -> Claimer:
    """Make what claims for a run that has put nothing yet."""
    session = vault._session
    job = backup.BackupJob(source=None, name="slow", actor=lb.Actor("job"))  # type: ignore[arg-type]
    run = backup._Run(session, job, b"s" * 16, None)  # type: ignore[arg-type]
    return Claimer(session, job.actor, run.upload, series_tag(session, "slow"), clock=clock)


def put_a_pack(claimer: Claimer, vault: Vault) -> None:
    """Let the run put a pack and rely on another."""
    domain, data = vault._session.keyring.none, noise(1000, "of the run")
    claimer._upload.put(domain, domain.chunk_id(data), data)
    claimer._upload.flush()
    claimer._upload.relied.add(b"p" + bytes(32))


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
        key=names.record_name(1 + len(list(store.list("ledger/")))),
        times=2,
    )
    faulty = FaultStore(store, script(refused))
    with reopen(faulty, clock=clock) as vault:
        snapshot = vault.backup(items(PARTS), name="big")
        tried = [call for call in faulty.calls if (call.method, call.key) == ("put", refused.key)]
        claimed = [front for facts in claims_made(vault) for front in split_fronts(facts.packs)]
        state = state_of(vault)
        packs = vault._session.log.packs_of(state.segments[-1].name)

        assert read_snapshot(snapshot) == PARTS
        assert len(tried) >= 3
        assert len(claimed) >= 8
        assert claimed == packs[: len(claimed)]


def test_silent_run_says_that_it_lives(store: MemoryStore, clock: Clock) -> None:
    """Also where nothing was put since: a slow source is no dead run."""
    now = 0.0
    with reopen(store, clock=clock) as vault:
        claimer = new_claimer(vault, lambda: now)

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


def test_claim_renewed_since_the_fold_does_not_lapse(store: MemoryStore, clock: Clock) -> None:
    """A prune that took the run for dead looks once more before it says so."""
    now = 0.0
    with reopen(store, clock=clock) as vault, reopen(store, clock=clock) as pruner:
        claimer = new_claimer(vault, lambda: now)
        now = RENEW_S
        claimer.tick()
        state_of(pruner)
        clock.pass_by(hours=25)
        now = 2 * RENEW_S
        claimer.tick()

        lapse_claims(pruner._session, lb.Actor("job"))

        assert claimer.run in state_of(vault).claims
        clock.pass_by(hours=25)
        lapse_claims(pruner._session, lb.Actor("job"))
        assert claimer.run not in state_of(vault).claims


@pytest.mark.parametrize("known", [True, False], ids=["folded", "not folded yet"])
def test_run_whose_claim_was_ended_claims_everything_anew(
    store: MemoryStore, clock: Clock, *, known: bool
) -> None:
    """What it had named before counts for nothing any more."""
    now = 0.0
    with reopen(store, clock=clock) as vault, reopen(store, clock=clock) as pruner:
        claimer = new_claimer(vault, lambda: now)
        put_a_pack(claimer, vault)
        now = RENEW_S
        claimer.tick()
        before = state_of(vault).claims[claimer.run]
        pruner._session.log.commit_draft(Draft("claim-lapsed", rec.RunEnded(claimer.run)))
        if known:
            assert state_of(vault).claims == {}
        now = 2 * RENEW_S
        claimer.tick()

        assert len(before.packs) == len(before.relies) == 1
        assert state_of(vault).claims[claimer.run].names == before.names


def test_ledger_that_reads_wrong_does_not_end_claiming(store: MemoryStore, clock: Clock) -> None:
    """The thread that claims goes on, and the next tick makes up for it."""
    now = 0.0
    head = names.record_name(len(list(store.list("ledger/"))))
    flips: list[BitFlip] = []

    def plan(call: Call) -> BitFlip | None:
        return flips.pop() if flips and (call.method, call.key) == ("get", head) else None

    faulty = FaultStore(store, plan)
    with reopen(store, clock=clock) as other, reopen(faulty, clock=clock) as vault:
        claimer = new_claimer(vault, lambda: now)
        flips += [BitFlip(8), BitFlip(16)]
        other.backup(items({"a": b"a"}), name="other")
        now = RENEW_S
        claimer.tick()
        missed = claims_made(other)
        claimer.tick()

        assert (flips, missed) == ([], [])
        assert claimer.run in state_of(other).claims


def test_damage_of_one_person_in_a_claimed_pack_ends_no_run(
    store: MemoryStore, clock: Clock
) -> None:
    """The pack is left behind, and the run puts anew what it needs."""
    with reopen(store, clock=clock) as vault:
        vault.backup(items({"a": b"a"}), name="other")
        before = state_of(vault).shards
        for number in range(100):
            # Until one has keys in a shard of his own.
            person = f"user-{number}"
            vault.backup(items({"a": b"a"}, subject=person), name="other")
            own = state_of(vault).shards.keys() - before.keys()
            if own:
                break
        stop_in_the_middle(vault, "big", subject=person)
        shards = state_of(vault).shards
    for number in own:
        damage(store, names.shard_name(shards[number]), bit=8 * 100)
    with reopen(store, clock=clock) as vault:
        snapshot = vault.backup(items({"a": b"a"}), name="big")

        assert read_snapshot(snapshot) == {"a": b"a"}
