"""Stores around a store: counted, read-only, slow."""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from attrs import frozen

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

__all__ = ["CountingStore", "Counts", "LatencyStore", "ReadOnlyStore", "WrapperStore"]


class WrapperStore:
    """Pass every call on to another store: the base of all that change one thing."""

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
