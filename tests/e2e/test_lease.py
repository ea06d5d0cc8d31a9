"""Keys are used only while the ledger was looked at lately, by whoever has the vault open."""

from __future__ import annotations

import io
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.support import Clock, create, noise, read_snapshot, reopen

import loopbackup as lb
from loopbackup.testing import FaultStore
from loopbackup.testing.faults import Call, Fault, LostRequest
from loopbackup.vault.ledger.lease import LEASE_S, RENEW_S
from loopbackup.vault.store.memory import MemoryStore

ACME = ("acme", "user-42")
OTHER = ("acme", "user-4")


def later(vault: lb.Vault, seconds: float) -> None:
    """Let time pass for one process that has the vault open."""
    lease = vault._session.log.lease
    running = lease.running
    lease.running = lambda: running() + seconds


class Away:
    """Makes the ledger of a store answer nothing for as long as it is set."""

    def __init__(self) -> None:
        self.is_away = False
        self.asked = 0

    def __call__(self, call: Call) -> Fault | None:
        """Lose what is asked of the ledger."""
        is_ledger = call.key.startswith("ledger/")
        self.asked += is_ledger
        return LostRequest() if is_ledger and self.is_away else None


def items(size: int = 300_000) -> list[lb.Item]:
    """Give a long item of each of two people."""
    return [
        lb.Item("a", data=noise(size, "a"), subject=ACME),
        lb.Item("b", data=noise(size, "b"), subject=OTHER),
    ]


def vault_of_two(**options: Any) -> tuple[MemoryStore, Clock]:
    """Make a vault that holds something of two people."""
    store, clock = MemoryStore(), Clock()
    create(store, clock=clock)
    with reopen(store, clock=clock) as vault:
        vault.backup(items(**options), name="n")
    return store, clock


def erase(store: MemoryStore, clock: Clock) -> lb.Receipt:
    """Erase one of them from another process."""
    with reopen(store, clock=clock) as vault:
        return vault.erase_subjects([ACME], reason="request 118")


@pytest.mark.parametrize("read_only", [False, True])
def test_open_file_reads_no_more_once_the_lease_is_over(read_only: bool) -> None:
    """Nobody calls a verb in between; what others hold can still be read."""
    store, clock = vault_of_two()
    with reopen(store, clock=clock, read_only=read_only) as vault:
        snapshot = vault.snapshot()
        with snapshot.open("a") as erased, snapshot.open("b") as other:
            assert erased.read(10) == noise(300_000, "a")[:10]
            assert other.read(10) == noise(300_000, "b")[:10]
            began = clock.now
            receipt = erase(store, clock)
            later(vault, (receipt.effective_by - began).total_seconds())

            with pytest.raises(lb.DamagedData) as caught:
                erased.read()

            assert caught.value.kind == "erased"
            assert other.read() == noise(300_000, "b")[10:]


def test_chunk_that_is_held_is_not_given_out_either() -> None:
    """A second read of the same place, without any request for content."""
    store, clock = vault_of_two(size=40_000)
    with reopen(store, clock=clock) as vault, vault.snapshot().open("a") as file:
        raw = file.raw  # type: ignore[attr-defined]
        assert len(raw.read(10)) == 10
        erase(store, clock)
        later(vault, LEASE_S + 5)

        with pytest.raises(lb.DamagedData):
            raw.read(10)


def test_listing_that_is_under_way_ends_with_the_lease() -> None:
    """Names and sizes are under the same keys as content."""
    store, clock = MemoryStore(), Clock()
    create(store, clock=clock)
    with reopen(store, clock=clock) as vault:
        many = [lb.Item(f"{n:06}" + "x" * 200, data=b"x", subject=ACME) for n in range(3000)]
        vault.backup(many, name="n")
        listing = vault.snapshot().ls(recursive=True)
        next(listing)
        erase(store, clock)
        later(vault, LEASE_S + 5)

        with pytest.raises(lb.DamagedData) as caught:
            list(listing)

        assert caught.value.kind == "erased"


def test_long_restore_leaves_out_whom_the_lease_shows_as_erased(tmp_path: Path) -> None:
    """It goes on with the others, and says how many it left out."""
    store, clock = MemoryStore(), Clock()
    create(store, clock=clock)
    people = [("acme", f"user-{n}") for n in range(40, 45)]
    with reopen(store, clock=clock) as vault:
        vault.backup(
            [
                lb.Item(f"{p[1]}/{n}", data=noise(200_000, f"{p}{n}"), subject=p)
                for p in people
                for n in range(30)
            ],
            name="n",
        )
    gets: list[Call] = []

    def strike(call: Call) -> None:
        if call.method == "get" and call.key.startswith("packs/"):
            gets.append(call)
            if len(gets) == 8:
                with reopen(store, clock=clock) as other:
                    other.erase_subjects(people[1:], reason="request 118")
                later(vault, LEASE_S + 5)

    with reopen(FaultStore(store, strike), clock=clock) as vault:
        snapshot = vault.snapshot()
        gets.clear()

        done = vault.restore(snapshot, tmp_path / "out")

        assert {p.kind for p in done.problems} == {"erased"}
        assert all(p.path is None for p in done.problems)
        left_out = len(done.problems)
        assert left_out > 0
        found = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
        for path in found:
            name = f"{('acme', path.parent.name)}{path.name}"
            assert path.read_bytes() == noise(200_000, name)
        assert {p.parent.name for p in found} >= {"user-40"}


def test_store_out_of_reach_beyond_the_lease_stops_the_use_of_keys() -> None:
    """With an error that says to try again; and it goes on once the store is back."""
    store, clock = vault_of_two()
    away = Away()
    with reopen(FaultStore(store, away), clock=clock) as vault:
        snapshot = vault.snapshot()
        vault._session.store._attempts = 1
        with snapshot.open("b") as file:
            file.read(10)
            away.is_away = True
            later(vault, LEASE_S + 5)

            with pytest.raises(lb.StoreError) as caught:
                file.read()

            assert (caught.value.kind, caught.value.transient) == ("lease", True)
            away.is_away = False
            file.seek(0)
            assert file.read() == noise(300_000, "b")


def test_store_away_for_a_while_stops_nobody() -> None:
    """Within the lease what was known is known; the failed look is not repeated at every chunk."""
    store, clock = vault_of_two()
    away = Away()
    with reopen(FaultStore(store, away), clock=clock) as vault:
        vault._session.store._attempts = 1
        with vault.snapshot().open("b") as file:
            away.is_away, away.asked = True, 0
            later(vault, RENEW_S + 5)

            assert file.read() == noise(300_000, "b")

            assert away.asked == 1


def test_reading_costs_no_look_at_the_ledger_within_five_minutes() -> None:
    """However many files; and one look when they are over."""
    store, clock = MemoryStore(), Clock()
    create(store, clock=clock)
    away = Away()
    with reopen(FaultStore(store, away), clock=clock) as vault:
        vault.backup([lb.Item(f"{n}", data=noise(5_000, f"{n}")) for n in range(300)], name="n")
        files = [vault.snapshot().open(f"{n}") for n in range(300)]
        away.asked = 0

        for file in files[:200]:
            file.read()
        assert away.asked == 0
        later(vault, RENEW_S + 5)
        for file in files[200:]:
            file.read()
        assert away.asked == 1


def test_backup_takes_nothing_more_of_whom_the_lease_shows_as_erased() -> None:
    """It commits the others; what it counts is what the snapshot has."""
    store, clock = vault_of_two()

    def late() -> io.BytesIO:
        erase(store, clock)
        later(vault, LEASE_S + 5)
        return io.BytesIO(noise(300_000, "late"))

    with reopen(store, clock=clock) as vault:
        with pytest.raises(lb.ErasedSubject) as caught:
            vault.backup(
                [
                    lb.Item("a", data=noise(300_000, "a2"), subject=ACME),
                    lb.Item("late", data=late),
                    lb.Item("z", data=noise(300_000, "z"), subject=ACME),
                    lb.Item("zz", data=noise(300_000, "zz"), subject=OTHER),
                ],
                name="n",
            )

        found = read_snapshot(caught.value.snapshot)
        assert set(found) == {"late", "zz"}
        assert caught.value.snapshot.report.files == 2


def test_check_that_is_under_way_finds_nothing_amiss_with_an_erasure() -> None:
    """What it cannot open any more is nobody's damage."""
    store, clock = vault_of_two()
    struck: list[Call] = []

    def strike(call: Call) -> None:
        if call.method == "get" and call.key.startswith("packs/") and not struck:
            struck.append(call)
            erase(store, clock)
            later(vault, LEASE_S + 5)

    with reopen(FaultStore(store, strike), clock=clock) as vault:
        vault._session.reader.drop()
        report = vault.check(data=True)

    assert struck
    assert report.ok, report


def test_receipt_says_from_when_on_it_is_effective_everywhere() -> None:
    """The lease after the record; asked for again, it says the same."""
    store, clock = vault_of_two()
    receipt = erase(store, clock)

    erased_at = datetime.fromisoformat(receipt.facts["erased_at"])
    assert timedelta(0) <= receipt.effective_by - erased_at - timedelta(seconds=LEASE_S)
    assert receipt.effective_by < clock.now + timedelta(seconds=LEASE_S + 2)
    clock.pass_by(hours=3)
    assert erase(store, clock).effective_by == receipt.effective_by


CHILD = """
import sys
import loopbackup as lb

with lb.Vault.open(sys.argv[1], lb.KeyFile(sys.argv[2]), read_only=True, state_dir=None) as vault:
    lease = vault._session.log.lease
    running = lease.running
    with vault.snapshot().open("a") as file:
        print("has read", len(file.read(10)), flush=True)
        ahead_s = float(sys.stdin.readline())
        lease.running = lambda: running() + ahead_s
        try:
            print("goes on", len(file.read()), flush=True)
        except lb.DamagedData as exc:
            print("refused", exc.kind, flush=True)
"""


@pytest.mark.parametrize(("ahead_s", "outcome"), [(0, "goes on"), (LEASE_S + 5, "refused erased")])
def test_another_process_obeys_within_the_lease(tmp_path: Path, ahead_s: int, outcome: str) -> None:
    """One that only reads, and does nothing but read on in a file that it had opened."""
    key = lb.KeyFile.generate(tmp_path / "key")
    with lb.Vault.create(tmp_path / "vault", key, state_dir=None) as vault:
        vault.backup(items(), name="n")
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "vault"), str(tmp_path / "key")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "has read 10\n"
        receipt = vault.erase_subjects([ACME], reason="request 118")
        assert receipt.effective_by > datetime.now(UTC)

        said, _ = child.communicate(f"{ahead_s}\n", timeout=60)

    assert said.startswith(outcome)
    assert child.returncode == 0
