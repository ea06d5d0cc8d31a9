"""A store in the memory of this process, for tests and trials."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import ClassVar

from ...errors import InputError
from .protocol import (
    Data,
    Remains,
    StoredObject,
    StoreInfo,
    check_key,
    check_prefix,
    check_range,
)

__all__ = ["MemoryStore"]

_SCHEME = "memory://"


def _utc_now() -> datetime:
    return datetime.now(UTC)


class MemoryStore:
    """
    Keep objects in a dict; gone with the process.

    Thread-safe. Not picklable: another process would see another store.

    Args:
        clock: Gives the aware instant that ``modified_at`` shows; the system's
            by default.
    """

    concurrency: ClassVar[int] = 1
    _named: ClassVar[dict[str, MemoryStore]] = {}
    _named_lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, clock: Callable[[], datetime] | None = None) -> None:
        self._clock = clock or _utc_now
        self._lock = threading.Lock()
        self._objects: dict[str, tuple[bytes, datetime]] = {}

    @classmethod
    def at(cls, url: str, *, clock: Callable[[], datetime] | None = None) -> MemoryStore:
        """
        Return the store that this process knows as ``memory://name``, made at the first call.

        It lives as long as the process. A clock counts at the first call only.

        Raises:
            InputError: The URL has no name.
        """
        name = url[len(_SCHEME) :]
        if url[: len(_SCHEME)].lower() != _SCHEME or not name:
            raise InputError("a store in memory needs a name: memory://name", kind="url")
        with cls._named_lock:
            if name not in cls._named:
                cls._named[name] = cls(clock)
            return cls._named[name]

    def put(self, key: str, data: Data, *, if_absent: bool) -> None:
        """Store a copy of *data*; see :class:`Store`."""
        check_key(key)
        entry = bytes(data), self._clock()
        with self._lock:
            if if_absent and key in self._objects:
                raise FileExistsError(f"object exists: {key}")
            self._objects[key] = entry

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Return a range of an object; see :class:`Store`."""
        check_key(key)
        check_range(start, length)
        try:
            data, _ = self._objects[key]
        except KeyError:
            raise FileNotFoundError(f"no such object: {key}") from None
        return data[start : None if length is None else start + length]

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects as they are at the call; see :class:`Store`."""
        check_prefix(prefix)
        with self._lock:
            entries = tuple(self._objects.items())
        return (
            StoredObject(key, len(data), modified_at)
            for key, (data, modified_at) in entries
            if key.startswith(prefix)
        )

    def delete(self, key: str) -> Remains:
        """Delete an object; see :class:`Store`."""
        check_key(key)
        with self._lock:
            self._objects.pop(key, None)
        return Remains()

    def describe(self) -> StoreInfo:
        """Say that creates are exclusive, that nothing outlives the process, and no network."""
        return StoreInfo(exclusive_create=True, durable_put=False, tls=None)
