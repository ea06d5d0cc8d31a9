"""What the ledger shows is verified: no altered, forged or missing record passes for a real one."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from attrs import evolve
from tests.e2e.support import Clock, create, dump, items, load, new_vault, reopen

import loopbackup as lb
from loopbackup.errors import DamagedData, InputError, NotFoundError
from loopbackup.vault.format import names
from loopbackup.vault.format import record as rec
from loopbackup.vault.ledger.commit import Draft
from loopbackup.vault.ledgerview import LedgerEntry
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.wrappers import WrapperStore


@pytest.fixture
def store() -> MemoryStore:
    """A vault of a few records, the last of them a forget."""
    store = MemoryStore()
    create(store)
    with reopen(store) as vault:
        for number in range(3):
            vault.backup(items({"a": b"%d" % number}), name="s")
        vault.forget(vault.snapshot("latest"), reason="case 17")
    return store


def read_to_the_error(vault: lb.Vault) -> tuple[list[LedgerEntry], DamagedData]:
    """Read entries up to the damage that ends them."""
    found: list[LedgerEntry] = []
    with pytest.raises(DamagedData) as caught:
        found.extend(vault.ledger.entries())
    return found, caught.value


def altered(data: bytes, at: int) -> bytes:
    """Flip a bit."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_entries_are_the_records_that_were_committed(store: MemoryStore) -> None:
    """Each in its order, with who and why."""
    with reopen(store, actor=lb.Actor("user-42")) as vault:
        entries = list(vault.ledger.entries())

    assert [entry.index for entry in entries] == list(range(len(entries)))
    assert entries[0].kind == "created"
    assert (entries[-1].kind, entries[-1].reason) == ("forget", "case 17")


@pytest.mark.parametrize("index", [0, 1, 3, -1])
@pytest.mark.parametrize("where", ["signature", "frame"])
def test_an_altered_record_is_never_shown(store: MemoryStore, index: int, where: str) -> None:
    """Neither as a real one nor as void: the error names it; what came before was real."""
    with reopen(store, read_only=True) as vault:
        whole = list(vault.ledger.entries())
        index %= len(whole)
        name = names.record_name(index)
        data = store.get(name)
        signed = rec.take_apart(data)
        at = 11 + (len(signed.frame) // 2 if where == "frame" else len(signed.frame) + 5)
        store.put(name, altered(data, at), if_absent=False)

        shown, error = read_to_the_error(vault)

    assert shown == whole[:index]
    assert isinstance(error, DamagedData)


@pytest.mark.parametrize("cut", [True, False], ids=["cut off", "altered"])
def test_who_and_why_are_not_shown_from_altered_bytes(store: MemoryStore, cut: bool) -> None:
    """The signature still covers what the record does; nobody vouches for the rest any more."""
    with reopen(store, read_only=True) as vault:
        whole = list(vault.ledger.entries())
        name = names.record_name(len(whole) - 1)
        data = store.get(name)
        store.put(name, data[:-9] if cut else altered(data, len(data) - 9), if_absent=False)

        shown = list(vault.ledger.entries())

    nobody: dict[str, Any] = dict.fromkeys(("actor", "action", "reason", "purpose", "policy"))
    assert whole[-1].reason == "case 17"
    assert shown == [*whole[:-1], evolve(whole[-1], roles=(), **nobody)]


def test_a_forged_record_is_never_shown(store: MemoryStore) -> None:
    """One that the same credential signed in another copy of the vault, and so has its form."""
    other = load(dump(store))
    for copy, reason in ((store, "mine"), (other, "theirs")):
        with reopen(copy) as vault:
            vault.forget(vault.snapshots()[0], reason=reason)
    with reopen(store, read_only=True) as vault:
        last = names.record_name(len(vault.ledger) - 1)
        store.put(last, other.get(last), if_absent=False)

        shown, error = read_to_the_error(vault)

    assert error.kind == "altered_ledger"
    assert "mine" not in {entry.reason for entry in shown}


@pytest.mark.parametrize("index", [1, -1])
def test_a_missing_record_ends_the_entries(store: MemoryStore, index: int) -> None:
    """The error names it."""
    with reopen(store, read_only=True) as vault:
        index %= len(vault.ledger)
        store.delete(names.record_name(index))

        shown, error = read_to_the_error(vault)

    assert [entry.index for entry in shown] == list(range(index))
    assert (error.kind, error.object) == ("missing_record", names.record_name(index))


def test_a_void_record_is_shown_as_void(store: MemoryStore) -> None:
    """What nobody enrolled has signed stands in the ledger all the same, without effect."""
    with reopen(store, read_only=True) as vault:
        size = len(vault.ledger)
    store.put(names.record_name(size), b"nonsense", if_absent=True)

    with reopen(store) as vault:
        vault.backup(items({"a": b"after"}), name="s")
        entries = list(vault.ledger.entries())

    assert [entry.index for entry in entries if entry.kind == "void"] == [size]
    assert entries[-1].kind == "snapshot"


def test_entries_show_what_was_there_when_they_were_begun(store: MemoryStore) -> None:
    """Commits meanwhile neither come nor disturb."""
    with reopen(store) as vault:
        before = len(vault.ledger)
        entries = vault.ledger.entries()
        shown = [next(entries)]
        vault.backup(items({"a": b"meanwhile"}), name="s")
        shown += entries

    assert len(shown) == before


def test_records_are_fetched_ahead_but_not_all_at_once() -> None:
    """A reader who stops early has not paid for the whole ledger."""
    asked: list[str] = []

    class Watched(WrapperStore):
        def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
            if key.startswith(names.LEDGER):
                asked.append(key)
            return super().get(key, start=start, length=length)

    store = MemoryStore()
    create(store)
    with reopen(store) as vault:
        for _ in range(80):
            vault._session.log.commit_draft(Draft("check", rec.Checked(0, 0.0)))
    with reopen(Watched(store), read_only=True) as vault:
        entries = vault.ledger.entries()
        asked.clear()

        next(entries)
        del entries

        assert len(set(asked)) <= 33


def test_a_vault_that_is_closed_ends_its_entries(store: MemoryStore) -> None:
    """With a clear error, and no thread is left behind."""
    vault = reopen(store)
    begun, never_begun = vault.ledger.entries(), vault.ledger.entries()
    next(begun)
    threads = threading.active_count()
    vault.close()

    for entries in (never_begun, begun):
        with pytest.raises(InputError, match="closed"):
            list(entries)

    assert threading.active_count() <= threads


# ---- filters


def test_entries_are_filtered_by_time_and_subject() -> None:
    """From an instant on, up to one, both included."""
    clock = Clock()
    with new_vault(clock=clock) as vault:
        vault.backup(items({"a": b"a"}, subject="user-42"), name="s")
        clock.pass_by(days=1)
        vault.backup(items({"b": b"b"}, subject="user-43"), name="s")
        times = [entry.at for entry in vault.ledger.entries()]
        instant = times[-1]
        assert instant is not None
        moment = timedelta(microseconds=1)

        def count(**asked: Any) -> int:
            return len(list(vault.ledger.entries(**asked)))

        assert count() == len(times)
        assert count(since=instant, until=instant) == 1
        assert count(since=instant + moment) == 0
        assert count(until=instant - moment) == len(times) - 1
        assert count(subject="user-42") == 2
        assert count(subject="user-42", since=instant) == 0


@pytest.mark.parametrize(
    "asked",
    [
        {"since": datetime(2026, 1, 1)},  # noqa: DTZ001 - the mistake that is tested
        {"until": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"since": "yesterday"},
        {"until": 7},
        {"subject": 42},
        {"subject": ""},
        {"subject": "\ud800"},
        {"subject": ("a", "b", "c")},
        {"subject": {"a"}},
    ],
    ids=ascii,
)
def test_what_cannot_be_asked_for_is_refused_at_the_call(asked: dict[str, Any]) -> None:
    """Not when somebody begins to read."""
    with new_vault() as vault, pytest.raises(InputError):
        vault.ledger.entries(**asked)


def test_an_unknown_subject_is_told_at_the_call() -> None:
    """Nothing was said about it, and nothing is shown."""
    with new_vault() as vault, pytest.raises(NotFoundError):
        vault.ledger.entries(subject="user-99")


def test_a_clock_out_of_all_bounds_does_not_hide_the_ledger(store: MemoryStore) -> None:
    """Its record has no time, and is there."""

    class FarAway(datetime):
        def timestamp(self) -> float:
            return 1e12

    with reopen(store) as vault:
        vault._session.log._clock = lambda: FarAway(2026, 1, 1, tzinfo=UTC)
        vault._session.log.commit_draft(Draft("check", rec.Checked(0, 0.0)))
        last = list(vault.ledger.entries())[-1]

    assert (last.kind, last.at) == ("check", None)
    assert str(last)


def test_facts_of_an_unknown_kind_are_of_a_newer_library(store: MemoryStore) -> None:
    """No KeyError."""
    record = rec.parse_record(store.get(names.record_name(1)), 1)
    frame = msgspec.structs.replace(record.frame, kind="gossip")

    with pytest.raises(lb.NewerFormat, match="newer kind"):
        evolve(record, frame=frame).facts()
