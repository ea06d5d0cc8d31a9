"""Counting, read-only and slow stores."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.wrappers import CountingStore, LatencyStore, ReadOnlyStore


def test_requests_and_bytes_are_counted() -> None:
    """Every method counts one request, put and get their bytes."""
    store = CountingStore(MemoryStore())

    store.put("a", memoryview(b"12345"), if_absent=True)
    store.get("a", start=1, length=2)
    list(store.list(""))
    store.delete("a")
    store.describe()

    counts = store.snapshot()
    assert counts.requests == {"put": 1, "get": 1, "list": 1, "delete": 1, "describe": 1}
    assert (counts.total, counts.bytes_up, counts.bytes_down) == (5, 5, 2)


def test_a_failed_request_counts_too() -> None:
    """A request is paid for whatever its outcome."""
    store = CountingStore(MemoryStore())

    with pytest.raises(FileNotFoundError):
        store.get("missing")

    assert store.snapshot().requests == {"get": 1}


def test_a_reset_returns_what_was_counted() -> None:
    """reset() hands out the counts and starts at zero; earlier snapshots stay as they were."""
    store = CountingStore(MemoryStore())
    store.put("a", b"1", if_absent=True)

    before = store.reset()
    after = store.snapshot()

    assert (before.total, before.bytes_up) == (1, 1)
    assert (after.total, after.bytes_up) == (0, 0)


def test_threads_lose_no_count() -> None:
    """Counts add up over threads."""
    store = CountingStore(MemoryStore())
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(lambda n: store.put(f"a/{n}", b"12", if_absent=True), range(400)))

    counts = store.snapshot()

    assert (counts.requests["put"], counts.bytes_up) == (400, 800)


def test_a_read_only_store_refuses_writes() -> None:
    """Writes are PermissionErrors without effect; the rest works."""
    inner = MemoryStore()
    inner.put("a", b"1", if_absent=True)
    store = ReadOnlyStore(inner)

    with pytest.raises(PermissionError):
        store.put("b", b"2", if_absent=False)
    with pytest.raises(PermissionError):
        store.delete("a")

    assert store.get("a") == b"1"
    assert [entry.key for entry in store.list("")] == ["a"]


def test_a_slow_store_waits_before_each_request() -> None:
    """Each method waits once for the given time."""
    waits: list[float] = []
    store = LatencyStore(MemoryStore(), request_s=0.04, sleep=waits.append)

    store.put("a", b"1", if_absent=True)
    store.get("a")
    list(store.list(""))
    store.delete("a")
    store.describe()

    assert waits == [0.04] * 5
