"""Counting, traced, bounded, read-only and slow stores."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from loopbackup.errors import InputError
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.protocol import Data, Store
from loopbackup.vault.store.wrappers import (
    BoundedStore,
    CountingStore,
    LatencyStore,
    ReadOnlyStore,
    Request,
    TracingStore,
    WrapperStore,
)


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


def test_each_request_is_traced_when_it_is_done() -> None:
    """With its method, key, time and size; a failed one with its error."""
    traced: list[Request] = []
    ticks = iter(range(100))
    store = TracingStore(MemoryStore(), traced.append, clock=lambda: float(next(ticks)))

    store.put("a", memoryview(b"12345"), if_absent=True)
    store.get("a", start=1, length=2)
    with pytest.raises(FileNotFoundError):
        store.get("missing")
    with pytest.raises(FileExistsError):
        store.put("a", b"other", if_absent=True)
    list(store.list(""))
    store.delete("a")
    store.describe()

    assert traced == [
        Request("put", "a", 1.0, 5),
        Request("get", "a", 1.0, 2),
        Request("get", "missing", 1.0, error="FileNotFoundError"),
        Request("put", "a", 1.0, error="FileExistsError"),
        Request("list", "", 1.0),
        Request("delete", "a", 1.0),
        Request("describe", "", 1.0),
    ]


class _Busy(WrapperStore):
    """Says how many puts there were at once, each of which waits for a second one in vain."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.meeting = threading.Barrier(2)
        self.met = False

    def put(self, key: str, data: Data, *, if_absent: bool) -> None:
        try:
            self.meeting.wait(0.05)
            self.met = True
        except threading.BrokenBarrierError:
            self.meeting.reset()
        super().put(key, data, if_absent=if_absent)


@pytest.mark.parametrize(("requests", "met"), [(1, False), (2, True)])
def test_only_so_many_requests_run_at_once(requests: int, met: bool) -> None:
    """The others wait their turn, and all are done."""
    busy = _Busy()
    store = BoundedStore(busy, requests=requests)

    with ThreadPoolExecutor(4) as executor:
        list(executor.map(lambda n: store.put(f"a/{n}", b"x", if_absent=True), range(6)))

    assert busy.met is met
    assert len(list(store.list("a/"))) == 6


def test_a_bounded_store_can_be_used_while_it_is_listed() -> None:
    """A loop that deletes what it is shown does not wait for itself."""
    store = BoundedStore(MemoryStore(), requests=1)
    store.put("a", b"x", if_absent=True)

    for entry in store.list(""):
        store.get(entry.key)
        store.delete(entry.key)

    assert list(store.list("")) == []
    assert store.describe().exclusive_create


@pytest.mark.parametrize("requests", [0, -1, 1.5, True, None], ids=str)
def test_a_bound_is_a_number(requests: int) -> None:
    """From 1; with none nothing would ever run."""
    with pytest.raises(InputError):
        BoundedStore(MemoryStore(), requests=requests)


@pytest.mark.parametrize(
    "wrap",
    [
        WrapperStore,
        CountingStore,
        ReadOnlyStore,
        lambda inner: TracingStore(inner, print),
        lambda inner: BoundedStore(inner, requests=1),
        lambda inner: LatencyStore(inner, request_s=0.0),
    ],
    ids=["plain", "counting", "read-only", "tracing", "bounded", "slow"],
)
def test_a_wrapped_store_is_as_patient_as_before(wrap: Callable[[Store], WrapperStore]) -> None:
    """What a store says of its attempts reaches the seam through any wrapper."""

    class Patient(MemoryStore):
        attempts = 17

    assert wrap(Patient()).attempts == 17
    assert wrap(MemoryStore()).attempts == 6


def test_a_bounded_store_asks_for_no_more_than_it_lets_through() -> None:
    """The vault then begins no requests that would only wait."""
    distant = LatencyStore(MemoryStore(), request_s=0.0)

    assert BoundedStore(distant, requests=2).concurrency == 2
    assert BoundedStore(distant, requests=1000).concurrency == distant.concurrency
