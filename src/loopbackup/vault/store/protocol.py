"""What a store is: five methods, the values they speak in, and the grammar of keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from attrs import field, frozen

from ...errors import InputError

if TYPE_CHECKING:
    from ...terms import Location
    from .transport import Transport

__all__ = [
    "ATTEMPTS",
    "DISTANT",
    "MAX_KEY_CHARS",
    "MAX_SEGMENT_CHARS",
    "Data",
    "Remains",
    "Store",
    "StoreInfo",
    "StoredObject",
    "attempts_of",
    "check_key",
    "check_prefix",
    "check_range",
    "concurrency_of",
    "is_key",
]

Data: TypeAlias = bytes | bytearray | memoryview

MAX_KEY_CHARS: Final = 512
ATTEMPTS: Final = 6
DISTANT: Final = 16
"""Requests at once that hide 40 ms of latency behind what compresses or writes 1 GB/s."""
# The longest name of a directory entry that common file systems take.
MAX_SEGMENT_CHARS: Final = 255

_SEGMENT = rf"[0-9a-z-]{{1,{MAX_SEGMENT_CHARS}}}"
_KEY: Final = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
_PREFIX: Final = re.compile(rf"(?:{_SEGMENT}/)*(?:{_SEGMENT})?")


@frozen
class StoredObject:
    """
    Say what a listing shows of one object.

    Args:
        key: Its name.
        size_bytes: Its length as stored.
        modified_at: Aware UTC instant by the store's clock; None where the
            store keeps none: prune then leaves what no record names.
    """

    key: str
    size_bytes: int
    modified_at: datetime | None = None


@frozen
class Remains:
    """
    Say what a delete left behind, and until when; empty when the bytes are gone.

    Args:
        versions: Older versions, soft-deleted and locked copies that remain.
        until: Aware UTC instant when the last of them goes; None where nothing
            remains, and also where nobody can say when.
    """

    versions: int = 0
    until: datetime | None = None


@frozen
class StoreInfo:
    """
    Say what a store can do and where it lies.

    Args:
        exclusive_create: ``put(if_absent=True)`` has one winner among all
            clients of the store, on whatever machine.
        durable_put: What ``put`` returned for survives a loss of power.
        tls: Whether the connection is protected, by TLS or SSH; ``"unknown"`` where
            nobody here can see it; None where there is no network.
        location: Where the bytes lie; None where neither asked nor declared.
        locks: The write-once mode in force, None without one.
        soft_delete_days: How long deleted bytes are kept; None where unknown
            or not a feature of the store.
        transport: How the connection is protected; None where there is no network.
        versioning: ``"enabled"``, ``"suspended"`` or ``"off"``; None where unknown.
        keeps_deleted: Whether bytes may stay after a ``delete`` beyond what its
            :class:`Remains` says; None where nobody can say. Unless it is False, no receipt
            gives a deadline for the store.
        findings: Sentences for people: what follows from it all, what to mend.
        tells_location: Whether the provider can be asked where the bytes lie;
            where he cannot, whoever makes a vault there has to declare it.
    """

    exclusive_create: bool = field(kw_only=True)
    durable_put: bool = field(kw_only=True)
    tls: bool | Literal["unknown"] | None = field(kw_only=True)
    location: Location | None = field(default=None, kw_only=True)
    locks: str | None = field(default=None, kw_only=True)
    soft_delete_days: int | None = field(default=None, kw_only=True)
    transport: Transport | None = field(default=None, kw_only=True)
    versioning: str | None = field(default=None, kw_only=True)
    keeps_deleted: bool | None = field(default=False, kw_only=True)
    findings: tuple[str, ...] = field(default=(), kw_only=True)
    tells_location: bool = field(default=False, kw_only=True)


class Store(Protocol):
    """
    Keep named objects: the whole interface that a storage plugin implements.

    Built as ``cls(url, **storage_options)``. Methods are called from many
    threads at once. Keys follow :func:`check_key`; no key is ever a folder of
    another (``a`` and ``a/b``), so a store may refuse such a pair.

    Errors are builtins: ``FileNotFoundError``, ``FileExistsError``,
    ``PermissionError``, ``ConnectionError`` and ``TimeoutError`` (the same call
    may work later, and a write may have taken effect), any other ``OSError``,
    and ``ValueError`` for arguments no call may have. The seam translates them
    and retries; a store need not. ``EIO``, ``EISDIR``, ``ELOOP`` and the like from
    ``get`` are damage of that object. No error text may hold credentials; texts are
    not shown all the same, but for an attribute ``code`` of the error, which holds
    what the provider says and his support asks for.

    Three things that a store may have beside its methods: ``close()``, called when
    whoever opened it is done with it, for one that keeps connections; and two
    numbers: ``attempts``, how often a call is worth trying within a minute, and
    ``concurrency``, how many requests at once pay. Beyond 1 the vault asks
    for objects before it needs them and writes some at the same time.
    """

    def put(self, key: str, data: Data, *, if_absent: bool) -> None:
        """
        Store *data* under *key*, whole or not at all, durably on return.

        No reader and no listing ever sees a part of it, also after a crash.
        Without *if_absent* an object of that name is replaced in one step.

        Args:
            key: The name.
            data: Contiguous bytes; not kept and not changed.
            if_absent: Create exclusively: of many concurrent calls, in any
                processes, exactly one returns. Check and creation are one step.

        Raises:
            FileExistsError: *if_absent* is set and the name is taken; the
                object that stands there is as durable as after its own put.
        """

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """
        Return the bytes ``[start, start + length)`` of an object, cut off at its end.

        A range that reaches beyond the end returns what is there, one that
        begins there or later ``b""``; ``length=None`` means up to the end. A
        reply cut short on the way is a ``ConnectionError``, never a short result.

        Raises:
            FileNotFoundError: There is no such object, whatever the range.
            ValueError: *start* or *length* is negative.
        """

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """
        Yield every object whose key begins with *prefix*, in any order, uncached.

        *prefix* is a plain string prefix (``packs/ab`` also matches
        ``packs/abc``); ``""`` matches all. What was put before the call and
        not deleted since is shown, once; what changes meanwhile may be either
        way. Names that are no keys and unfinished writes are not shown.
        Nothing there is no error.
        """

    def delete(self, key: str) -> Remains:
        """
        Delete an object, durably on return, and say what is left of it.

        Idempotent: a missing object is no error.
        """

    def describe(self) -> StoreInfo:
        """Say what this store can do; facts are asked from the provider where it tells."""


def is_key(key: str) -> bool:
    """Tell whether *key* could name an object."""
    return len(key) <= MAX_KEY_CHARS and _KEY.fullmatch(key) is not None


def check_key(key: str) -> str:
    """
    Return *key* if it may name an object.

    One to 512 characters of ``[0-9a-z/-]``, in segments of 1 to 255 between
    slashes: safe as a path, a URL and a glob on every store, and unable to
    climb out of its folder.

    Raises:
        InputError: It may not.
    """
    if not is_key(key):
        raise InputError(f"no key of an object: {key[:80]!r}", kind="key")
    return key


def check_prefix(prefix: str) -> str:
    """
    Return *prefix* if some key could begin with it.

    Raises:
        InputError: None could.
    """
    if len(prefix) > MAX_KEY_CHARS or _PREFIX.fullmatch(prefix) is None:
        raise InputError(f"no prefix of a key: {prefix[:80]!r}", kind="key")
    return prefix


def check_range(start: int, length: int | None) -> None:
    """
    Refuse a range that no object can have.

    Raises:
        InputError: *start* or *length* is negative.
    """
    if start < 0 or (length is not None and length < 0):
        raise InputError(f"no range of bytes: start {start}, length {length}", kind="range")


def attempts_of(store: Store) -> int:
    """Say how often a call of a store is worth trying within a minute."""
    return int(getattr(store, "attempts", ATTEMPTS))


def concurrency_of(store: Store) -> int:
    """Say how many requests at once pay; a store that does not say so is taken to be distant."""
    return int(getattr(store, "concurrency", DISTANT))
