"""Stores around a store: counted, traced, bounded, read-only, slow. What fails is in testing."""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, MutableSequence
from contextlib import contextmanager

from attrs import frozen

from ...errors import InputError
from .protocol import (
    DISTANT,
    Data,
    Remains,
    Store,
    StoredObject,
    StoreInfo,
    attempts_of,
    concurrency_of,
)

__all__ = [
    "BoundedStore",
    "CountingStore",
    "Counts",
    "LatencyStore",
    "ReadOnlyStore",
    "Request",
    "TracingStore",
    "WrapperStore",
]


class WrapperStore:
    """
    Pass every call on to another store: the base of all that change one thing.

    Retries are no wrapper: they are the seam's, which knows what a lost reply means.
    """

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    @property
    def attempts(self) -> int:
        """How often a call is worth trying: as the inner store says."""
        return attempts_of(self.inner)

    @property
    def concurrency(self) -> int:
        """How many requests at once pay: as the inner store says."""
        return concurrency_of(self.inner)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inner!r})"

    def put(self, key: str, data: Data, *, if_absent: bool) -> None:
        """Store an object; see :class:`Store`."""
        self.inner.put(key, data, if_absent=if_absent)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Return a range of an object; see :class:`Store`."""
        return self.inner.get(key, start=start, length=length)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield objects by prefix; see :class:`Store`."""
        return self.inner.list(prefix)

    def delete(self, key: str) -> Remains:
        """Delete an object; see :class:`Store`."""
        return self.inner.delete(key)

    def describe(self) -> StoreInfo:
        """Say what the store can do; see :class:`Store`."""
        return self.inner.describe()

    def close(self) -> None:
        """Close the inner store's connections, if it keeps any."""
        close = getattr(self.inner, "close", None)
        if close is not None:
            close()


@frozen
class Counts:
    """
    Say what went through a :class:`CountingStore`.

    Args:
        requests: Calls by method name, failed ones included. A listing is one,
            however many pages a provider makes of it.
        bytes_up: Bytes handed to ``put``, failed ones included.
        bytes_down: Bytes that ``get`` returned.
    """

    requests: Mapping[str, int]
    bytes_up: int
    bytes_down: int

    @property
    def total(self) -> int:
        """All requests."""
        return sum(self.requests.values())


class CountingStore(WrapperStore):
    """Count requests and bytes; thread-safe if the inner store is."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self._lock = threading.Lock()
        self._requests: Counter[str] = Counter()
        self._bytes_up = 0
        self._bytes_down = 0

    def snapshot(self) -> Counts:
        """Return what was counted since the last reset."""
        with self._lock:
            return Counts(dict(self._requests), self._bytes_up, self._bytes_down)

    def reset(self) -> Counts:
        """Begin again at zero, and return what was counted until then."""
        with self._lock:
            counts = Counts(dict(self._requests), self._bytes_up, self._bytes_down)
            self._requests.clear()
            self._bytes_up = self._bytes_down = 0
            return counts

    def put(self, key: str, data: Data, *, if_absent: bool) -> None:
        """Store an object; see :class:`Store`."""
        self._count("put", up=memoryview(data).nbytes)
        super().put(key, data, if_absent=if_absent)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Return a range of an object; see :class:`Store`."""
        self._count("get")
        data = super().get(key, start=start, length=length)
        with self._lock:
            self._bytes_down += len(data)
        return data

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield objects by prefix; see :class:`Store`."""
        self._count("list")
        return super().list(prefix)

    def delete(self, key: str) -> Remains:
        """Delete an object; see :class:`Store`."""
        self._count("delete")
        return super().delete(key)

    def describe(self) -> StoreInfo:
        """Say what the store can do; see :class:`Store`."""
        self._count("describe")
        return super().describe()

    def _count(self, method: str, *, up: int = 0) -> None:
        with self._lock:
            self._requests[method] += 1
            self._bytes_up += up


@frozen
class Request:
    """
    Say what one call of a :class:`TracingStore` was.

    Args:
        method: ``"put"``, ``"get"``, ``"list"``, ``"delete"`` or ``"describe"``.
        key: The key, or the prefix of a listing; empty for ``describe``. Keys hold
            nothing of what is backed up.
        seconds: How long it took; of a listing, until its last object was taken.
        size_bytes: Of what was put or came back; 0 for other methods, and on failure.
        error: The name of the error's class; empty when there was none.
    """

    method: str
    key: str
    seconds: float
    size_bytes: int = 0
    error: str = ""


class TracingStore(WrapperStore):
    """
    Hand each request to a function when it is done; thread-safe if both parts are.

    Args:
        inner: The store.
        record: Called in the thread of the call, failed ones included. What it
            raises reaches the caller.
        clock: Gives seconds that never go back.
    """

    def __init__(
        self,
        inner: Store,
        record: Callable[[Request], object],
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        super().__init__(inner)
        self._record = record
        self._clock = clock

    def put(self, key: str, data: Data, *, if_absent: bool) -> None:
        """Store an object; see :class:`Store`."""
        with self._traced("put", key) as sizes:
            super().put(key, data, if_absent=if_absent)
            sizes.append(memoryview(data).nbytes)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Return a range of an object; see :class:`Store`."""
        with self._traced("get", key) as sizes:
            data = super().get(key, start=start, length=length)
            sizes.append(len(data))
            return data

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield objects by prefix; see :class:`Store`."""
        with self._traced("list", prefix):
            yield from super().list(prefix)

    def delete(self, key: str) -> Remains:
        """Delete an object; see :class:`Store`."""
        with self._traced("delete", key):
            return super().delete(key)

    def describe(self) -> StoreInfo:
        """Say what the store can do; see :class:`Store`."""
        with self._traced("describe", ""):
            return super().describe()

    @contextmanager
    def _traced(self, method: str, key: str) -> Iterator[MutableSequence[int]]:
        sizes: MutableSequence[int] = []
        error = ""
        begun = self._clock()
        try:
            yield sizes
        except BaseException as exc:
            error = type(exc).__name__
            raise
        finally:
            took = self._clock() - begun
            self._record(Request(method, key, took, sum(sizes), error))


class BoundedStore(WrapperStore):
    """
    Let only so many requests run at once, and the others wait.

    For a store that many vaults of one process share, or a service that
    throttles early.

    Args:
        inner: The store.
        requests: How many at once; at least 1. A listing is taken whole before
            its first object is given: about 300 bytes of memory an object.
    """

    def __init__(self, inner: Store, *, requests: int) -> None:
        super().__init__(inner)
        if type(requests) is not int or requests < 1:
            raise InputError("requests is a whole number from 1")
        self._requests = requests
        self._turn = threading.BoundedSemaphore(requests)

    @property
    def concurrency(self) -> int:
        """How many requests at once pay: no more than are let through."""
        return min(self._requests, super().concurrency)

    def put(self, key: str, data: Data, *, if_absent: bool) -> None:
        """Store an object; see :class:`Store`."""
        with self._turn:
            super().put(key, data, if_absent=if_absent)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Return a range of an object; see :class:`Store`."""
        with self._turn:
            return super().get(key, start=start, length=length)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield objects by prefix; see :class:`Store`."""
        with self._turn:
            found = tuple(super().list(prefix))
        return iter(found)

    def delete(self, key: str) -> Remains:
        """Delete an object; see :class:`Store`."""
        with self._turn:
            return super().delete(key)

    def describe(self) -> StoreInfo:
        """Say what the store can do; see :class:`Store`."""
        with self._turn:
            return super().describe()


class ReadOnlyStore(WrapperStore):
    """Refuse every write with ``PermissionError``."""

    def put(self, key: str, data: Data, *, if_absent: bool) -> None:
        """Refuse."""
        raise PermissionError(f"opened read-only; not stored: {key}")

    def delete(self, key: str) -> Remains:
        """Refuse."""
        raise PermissionError(f"opened read-only; not deleted: {key}")


class LatencyStore(WrapperStore):
    """
    Wait before every request, as a distant store does.

    Args:
        inner: The store.
        request_s: How long each request waits.
        sleep: How to wait; tests that need no real time give another.
    """

    def __init__(
        self, inner: Store, *, request_s: float, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        super().__init__(inner)
        self._wait = functools.partial(sleep, request_s)

    @property
    def concurrency(self) -> int:
        """As that of a distant store."""
        return DISTANT

    def put(self, key: str, data: Data, *, if_absent: bool) -> None:
        """Store an object; see :class:`Store`."""
        self._wait()
        super().put(key, data, if_absent=if_absent)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Return a range of an object; see :class:`Store`."""
        self._wait()
        return super().get(key, start=start, length=length)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield objects by prefix; see :class:`Store`."""
        self._wait()
        return super().list(prefix)

    def delete(self, key: str) -> Remains:
        """Delete an object; see :class:`Store`."""
        self._wait()
        return super().delete(key)

    def describe(self) -> StoreInfo:
        """Say what the store can do; see :class:`Store`."""
        self._wait()
        return super().describe()
