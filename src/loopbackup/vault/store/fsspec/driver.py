"""A store on any file system of fsspec, as far as that can be one."""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final, TypeVar

from attrs import frozen

from ....errors import InputError
from ..protocol import (
    DISTANT,
    Data,
    Remains,
    StoredObject,
    StoreInfo,
    check_key,
    check_prefix,
    check_range,
    is_key,
)
from .errors import translate
from .opening import Opened, check_url, open_file_system, refuse_unprotected
from .writing import ONE_BY_ONE, TMP, Way, way_of

__all__ = ["FsspecStore"]

_T = TypeVar("_T")

_BLOCK_BYTES: Final = 1 << 20
_LEFTOVER_AGE: Final = timedelta(days=1)
_UNSEEN: Final = (
    "this file system does not show whether the connection is encrypted and the other side "
    "checked: make sure of both"
)
_UNTOLD: Final = (
    "whether the provider keeps older versions or deleted bytes is not asked, so nothing counts as "
    "gone: switch both off there, and say so by storage_options={'keeps_deleted': False}"
)
_FORGETFUL: Final = ("file", "local", "memory", "sftp")
"""What is deleted there is gone."""
_PARTS: Final = (
    "a write that is cut off may leave a part of an object, and two writers may undo each other's: "
    "a driver of its own would be safer"
)


@frozen
class _Connection:
    opened: Opened
    way: Way
    pid: int
    turn: AbstractContextManager[object]


class FsspecStore:
    """
    Keep objects in a file system of fsspec, below a path.

    Thread-safe as far as the file system is, usable after a fork. Whole puts
    and exclusive creates are there on Google Cloud Storage, Azure, SFTP, local
    disk and memory; on any other file system a vault wants ``single_writer=True``
    and :meth:`describe` says why. Nothing is cached, in listings or instances.

    Args:
        url: ``protocol://place/path``, without password and query.
        fs: An open file system to use instead of opening one. It stays the caller's,
            and such a store cannot be pickled.
        allow_insecure_loopback: Let unprotected connections go to this machine.
        keeps_deleted: Whether a provider may keep versions or deleted bytes, which
            nobody can ask here; disks, memory and SFTP do not. False is your word for it.
        storage_options: Of the file system; for SFTP also ``host_key``.

    Raises:
        InputError: There can be no such URL.
        InsecureTransport: It asks for an unprotected connection.
    """

    attempts: ClassVar[int] = 10

    def __init__(
        self,
        url: str,
        *,
        fs: Any = None,
        allow_insecure_loopback: bool = False,
        keeps_deleted: bool = True,
        **storage_options: Any,
    ) -> None:
        self._parts = check_url(url)
        if fs is None:
            refuse_unprotected(self._parts, storage_options, loopback=allow_insecure_loopback)
        self._url, self._given, self._options = url, fs, storage_options
        self._loopback, self._keeps = allow_insecure_loopback, keeps_deleted
        self._lock = threading.Lock()
        self._connection: _Connection | None = None
        self._swept = False

    @property
    def concurrency(self) -> int:
        """How many requests at once pay: one on this machine, and where replies must not mix."""
        return 1 if self._parts.scheme in ONE_BY_ONE else DISTANT

    def __repr__(self) -> str:
        host = self._parts.netloc.rpartition("@")[2]
        return f"FsspecStore('{self._parts.scheme}://{host}{self._parts.path}')"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._given is not None or self._parts.scheme == "memory":
            raise TypeError("this store stays in its process: give the other one a URL and options")
        own = {"allow_insecure_loopback": self._loopback, "keeps_deleted": self._keeps}
        options = self._options | own
        return functools.partial(FsspecStore, self._url, **options), ()

    def put(self, key: str, data: Data, *, if_absent: bool) -> None:
        """Store an object whole; see :class:`Store`."""
        check_key(key)

        def put(there: _Connection) -> None:
            root = there.opened.root
            there.way.put(there.opened.fs, root, f"{root}/{key}", data, if_absent=if_absent)

        if not self._swept:
            self._swept = True
            self._run(_remove_leftovers)
        self._run(put)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Return a range of an object; see :class:`Store`."""
        check_key(key)
        check_range(start, length)

        def get(there: _Connection) -> bytes | None:
            read = _range if there.way.flat else _part
            return read(there.opened.fs, f"{there.opened.root}/{key}", start, length)

        try:
            data = self._run(get)
        except OSError as exc:
            if exc.errno == errno.ERANGE:
                return b""  # It begins at or beyond the end.
            if isinstance(exc, NotADirectoryError) or self._is_folder(key, exc):
                raise FileNotFoundError(f"no such object: {key}") from None
            raise
        if data is None:
            raise ConnectionError("the call was cancelled")  # as fsspec says it
        return data

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield objects, a call for each folder or for all; see :class:`Store`."""
        check_prefix(prefix)
        there = self._connected()
        folder = f"{there.opened.root}/{prefix}".rpartition("/")[0]
        if there.way.flat:
            entries = self._run(lambda there: list(_found(there.opened.fs, folder)))
            yield from _shown(there, entries, prefix)
            return
        waiting = [folder]
        while waiting:
            here = waiting.pop()
            entries = self._run(functools.partial(_listed, folder=here))
            yield from _shown(there, entries, prefix)
            waiting += [
                name
                for entry in entries
                if entry["type"] == "directory" and _may_hold(_key(there, entry), prefix)
                for name in [entry["name"].rstrip("/")]
            ]

    def delete(self, key: str) -> Remains:
        """
        Delete an object; see :class:`Store`.

        Where a provider may keep something of it, it counts as kept, for who knows how long.
        """
        check_key(key)

        def delete(there: _Connection) -> None:
            path = f"{there.opened.root}/{key}"
            # On a file system with folders such a call might take one with all that is in it.
            if there.way.flat or there.opened.fs.info(path)["type"] == "file":
                there.opened.fs.rm_file(path)

        with suppress(FileNotFoundError, NotADirectoryError):
            self._run(delete)
        # Also of what is gone already: an earlier call may have left something.
        return Remains(versions=int(self._may_keep(self._connected())))

    def _may_keep(self, there: _Connection) -> bool:
        return self._keeps and there.opened.protocol not in _FORGETFUL

    def describe(self) -> StoreInfo:
        """Say what this file system can do, and what of it is not known; see :class:`Store`."""
        there = self._connected()
        protection = there.opened.protection
        findings = [_UNSEEN] if protection == "unknown" else []
        if self._may_keep(there):
            findings.append(_UNTOLD)
        if not there.way.whole:
            findings.append(_PARTS)
        return StoreInfo(
            exclusive_create=there.way.exclusive,
            durable_put=there.way.durable,
            tls=protection,
            findings=tuple(findings),
            keeps_deleted=None if self._may_keep(there) else False,
        )

    def close(self) -> None:
        """End the connection, unless the file system was given; the next call makes a new one."""
        with self._lock:
            there, self._connection = self._connection, None
        if there is not None and there.pid == os.getpid():
            there.opened.close()

    def _connected(self) -> _Connection:
        with self._lock:
            there = self._connection
            if there is not None and there.pid == os.getpid():
                if there.opened.is_alive() or not there.opened.ours:
                    return there
                there.opened.close()
            opened = self._translated(self._open, alive=True)
            way = way_of(opened.fs, opened.protocol)
            turn = threading.Lock() if way.serial else nullcontext()
            self._connection = _Connection(opened, way, os.getpid(), turn)
            return self._connection

    def _open(self) -> Opened:
        try:
            return open_file_system(self._url, self._options, self._given, loopback=self._loopback)
        except (TypeError, ValueError) as exc:
            if isinstance(exc, InputError):
                raise
            # Its text may hold what was given.
            raise InputError(
                f"{self._parts.scheme}:// cannot be opened with these storage_options: "
                f"{type(exc).__name__}",
                kind="options",
            ) from None

    def _run(self, act: Callable[[_Connection], _T]) -> _T:
        there = self._connected()

        def in_turn() -> _T:
            with there.turn:
                return act(there)

        return self._translated(in_turn, alive=there.opened.is_alive)

    def _translated(self, act: Callable[[], _T], *, alive: bool | Callable[[], bool]) -> _T:
        try:
            return act()
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001  # of whatever library
            stands = alive if isinstance(alive, bool) else alive()
            failed = translate(exc, alive=stands)
        # Raised outside of "except": a library's text may hold a URL, and a URL a password.
        raise failed

    def _is_folder(self, key: str, error: OSError) -> bool:
        if isinstance(error, FileNotFoundError | PermissionError | ConnectionError | TimeoutError):
            return False
        with suppress(OSError):
            found = self._run(lambda there: there.opened.fs.info(f"{there.opened.root}/{key}"))
            return bool(found["type"] == "directory")
        return False


def _range(fs: Any, path: str, start: int, length: int | None) -> bytes | None:
    """Read by one request."""
    data: bytes | None
    if not start and length is None:
        data = fs.cat_file(path)
        return data
    # No range of HTTP is empty: one byte is asked for, and thrown away.
    data = fs.cat_file(path, start=start, end=None if length is None else start + max(length, 1))
    return data if data is None or length is None else data[:length]


def _part(fs: Any, path: str, start: int, length: int | None) -> bytes:
    """Read block by block: one read of all that is allowed would take that much memory at once."""
    blocks: list[bytes] = []
    # Of a folder only a read shows that it is none of ours.
    wanted = sys.maxsize if length is None else max(length, 1)
    with fs.open(path, "rb") as file:
        file.seek(start)
        while wanted > 0 and (block := file.read(min(wanted, _BLOCK_BYTES))):
            blocks.append(block)
            wanted -= len(block)
    return b"".join(blocks)[:length]


def _found(fs: Any, folder: str) -> Iterator[dict[str, Any]]:
    """Give all objects below a folder; nothing where it is missing."""
    with suppress(FileNotFoundError):
        yield from fs.find(folder, detail=True).values()


def _listed(there: _Connection, *, folder: str) -> list[dict[str, Any]]:
    """
    Give what stands in a folder; nothing where it is missing.

    Not by fsspec's own walk, which leaves out folders that it cannot read.
    """
    fs = there.opened.fs
    fs.invalidate_cache(folder)
    try:
        return list(fs.ls(folder, detail=True))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as exc:
        # Over SSH a file in a folder's place is a "Failure" like any other.
        if exc.errno is None and fs.info(folder)["type"] == "file":
            return []
        raise


def _shown(
    there: _Connection, entries: list[dict[str, Any]], prefix: str
) -> Iterator[StoredObject]:
    for entry in entries:
        key = _key(there, entry)
        if entry["type"] == "file" and key.startswith(prefix) and is_key(key):
            yield StoredObject(key, int(entry["size"]), _moment(entry))


def _key(there: _Connection, entry: dict[str, Any]) -> str:
    name: str = entry["name"].rstrip("/")
    return name.removeprefix("/")[len(there.opened.root.removeprefix("/")) :].removeprefix("/")


def _may_hold(folder: str, prefix: str) -> bool:
    """Tell whether names below *folder* may begin with *prefix*."""
    return is_key(folder) and (prefix.startswith(f"{folder}/") or folder.startswith(prefix))


def _moment(entry: dict[str, Any]) -> datetime | None:
    """Give when an object was put, under whatever name the file system has it."""
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        found = entry.get(name)
        if isinstance(found, int | float):
            return datetime.fromtimestamp(found, UTC)
        if isinstance(found, str):
            with suppress(ValueError):
                found = datetime.fromisoformat(found)
        if isinstance(found, datetime):
            return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    return None


def _remove_leftovers(there: _Connection) -> None:
    """Remove what writers that were killed left unfinished a day ago or longer."""
    if there.way.flat:
        return
    oldest = datetime.now(UTC) - _LEFTOVER_AGE
    for entry in _listed(there, folder=f"{there.opened.root}/{TMP}"):
        moment = _moment(entry)
        if moment is not None and moment < oldest:
            with suppress(OSError):
                there.opened.fs.rm_file(entry["name"])
