"""The nightly call: everything that is due, each duty for itself, as often as one likes."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

import pytest
from tests.e2e.support import SEED, Clock, items
from tests.e2e.test_policy import create

import loopbackup as lb
from loopbackup import policy
from loopbackup.testing.memory import open_memory_vault
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.protocol import Store
from loopbackup.vault.vault import Vault

OPS = lb.Actor("svc-upkeep", roles={"job"})
RULES = policy.Policy(
    policy.Residency(allow="EEA"),
    policy.Retention(keep_daily=3, keep_at_least="P2D"),
    policy.Access({"restore": {"support"}}, others={"job"}),
)


def opened(
    store: Store, clock: Clock, *, actor: lb.Actor = OPS, replica: Store | None = None
) -> Vault:
    """Open the vault in *store*, with a replica if there is one."""
    replicas = {} if replica is None else {"memory://replica": lambda: replica}
    return open_memory_vault(store, SEED, actor=actor, clock=clock, replicas=replicas)


def told(done: lb.Maintained, name: str) -> str:
    """Give what came of a duty."""
    (duty,) = [duty for duty in done.duties if duty.name == name]
    return duty.told


def test_night_does_what_is_due_and_the_next_call_finds_nothing() -> None:
    """Retention, prune and a replica, in one call; idempotent."""
    store, clock, replica = MemoryStore(), Clock(), MemoryStore()
    create(store, RULES, clock=clock)
    with opened(store, clock, replica=replica) as vault:
        vault.replicate("memory://replica", location="FI")
        for night in range(10):
            vault.backup(items({"a": b"%d" % night}), name="n")
            clock.pass_by(days=1)

        done = lb.maintain(vault)

        assert done.ok, str(done)
        assert told(done, "retention") == "7 snapshots forgotten"
        assert "condemned" in told(done, "prune")
        assert "copied" in told(done, "replica")
        assert told(done, "alerts") == "0 things to look at"
        assert len(vault.snapshots()) == 3
        assert 23 < (done.next_due_at - clock.now).total_seconds() / 3600 < 25
        again = lb.maintain(vault)
        assert told(again, "retention") == "0 snapshots forgotten"
        assert again.ok
        assert vault.check(data=True).ok
        assert "retention" in done._repr_html_()
        assert repr(done) == "<Maintained, 5 duties, 0 not done, 0 alerts>"


def test_duty_that_fails_keeps_no_other_from_being_done() -> None:
    """An actor who may not forget still prunes, and the report says what was not done."""
    store, clock = MemoryStore(), Clock()
    rules = policy.Policy(
        policy.Retention(keep_last=1),
        policy.Access({"forget": {"admin"}, "check": {"admin"}}, others={"job"}),
    )
    create(store, rules, clock=clock)
    with opened(store, clock) as vault:
        for night in range(3):
            vault.backup(items({"a": b"%d" % night}), name="n")

        done = lb.maintain(vault)

        assert [(duty.name, duty.ok) for duty in done.duties] == [
            ("location", False),
            ("retention", True),
            ("prune", True),
            ("alerts", True),
        ]
        assert isinstance(done.duties[0].error, lb.PolicyError)
        assert told(done, "retention") == "0 snapshots forgotten, 2 refused"
        assert "NOT DONE: check refused" in str(done)
        assert not done.ok


def test_what_was_blocked_is_taken_up_when_the_hold_has_ended() -> None:
    """By any later night."""
    store, clock = MemoryStore(), Clock()
    create(store, RULES, clock=clock)
    with opened(store, clock) as vault:
        vault.backup(items({"a": b"x"}, subject="user-42"), name="n")
        hold = vault.hold("user-42", reason="case 17", review_at=clock.now)
        for night in range(9):
            clock.pass_by(days=1)
            vault.backup(items({"b": b"%d" % night}), name="n")

        done = lb.maintain(vault)
        assert "1 blocked" in told(done, "retention")
        assert done.alerts == (f"1 hold should be reviewed by now: {hold.id[:8]}",)
        assert len(vault.snapshots()) == 4

        vault.release(hold, reason="closed")
        assert told(lb.maintain(vault), "retention") == "1 snapshot forgotten"


def test_several_processes_may_maintain_at_once() -> None:
    """Each does what the others have not."""
    store, clock = MemoryStore(), Clock()
    create(store, RULES, clock=clock)
    with opened(store, clock) as vault:
        for night in range(8):
            vault.backup(items({"a": b"%d" % night}), name="n")
            clock.pass_by(days=1)
    vaults = [opened(store, clock) for _ in range(3)]
    done: list[lb.Maintained] = []
    threads = [threading.Thread(target=lambda v=v: done.append(lb.maintain(v))) for v in vaults]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for each in done:
        assert all(duty.ok for duty in each.duties), str(each)
    assert [len(vault.snapshots()) for vault in vaults] == [3, 3, 3]
    assert vaults[0].check(data=True).ok
    for vault in vaults:
        vault.close()


def test_vault_that_cannot_be_written_to_is_not_maintained(tmp_path: Path) -> None:
    """An error that the caller can mend."""
    store, clock = MemoryStore(), Clock()
    create(store, RULES, clock=clock)
    reading = partial(open_memory_vault, store, SEED, actor=OPS, clock=clock)
    with reading(read_only=True) as vault, pytest.raises(lb.InputError, match="reading only"):
        lb.maintain(vault)
    with pytest.raises(lb.InputError, match="closed"):
        lb.maintain(vault)
