"""A store in a folder of a local disk: atomic, durable, and closed to symbolic links."""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import secrets
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Final

from ...errors import InputError
from .protocol import (
    Data,
    Remains,
    StoredObject,
    StoreInfo,
    check_key,
    check_prefix,
    check_range,
    is_key,
)

__all__ = ["LocalStore"]

# Cannot be taken for a key, nor for a part of one: keys hold no dot.
_TMP: Final = ".tmp"
_LEFTOVER_AGE_S: Final = 86400

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK a FIFO that lies in an object's place would hold the reader for ever.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_UNSUPPORTED: Final = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)

# On macOS fsync leaves the data in the cache of the drive.
_FSYNC_IS_DURABLE: Final = sys.platform != "darwin"


class LocalStore:
    """
    Keep objects as files in a folder of a local POSIX file system.

    Thread-safe, safe between processes and after fork: no lock and no open
    file outlives a call. Folders are made as needed (mode 0700) by the first
    write, files have mode 0600. The folder itself may be reached through
    symbolic links; below it none is followed.

    Args:
        url: A path, as ``str`` or ``os.PathLike``, or ``file:///absolute/path``,
            taken literally: nothing is unquoted, expanded or cut off. A
            relative path is resolved now, not at each call.
        fsync: Wait until what is written has reached the disk. Without it a
            loss of power may take, or tear, what ``put`` returned for.

    Raises:
        InputError: There can be no such path.
    """

    concurrency: ClassVar[int] = 1
    """The page cache answers at once."""

    def __init__(self, url: str | os.PathLike[str], *, fsync: bool = True) -> None:
        self.root = str(Path(_path_of(url)).absolute())
        self._fsync = fsync
        # Whether the file system has hard links: found out by the first write.
        self._links = True
        # Folders that this handle has seen safely entered in their parents.
        self._folders: set[str] = set()

    def __repr__(self) -> str:
        return f"LocalStore({self.root!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(LocalStore, self.root, fsync=self._fsync), ()

    def put(self, key: str, data: Data, *, if_absent: bool) -> None:
        """
        Store *data*; see :class:`Store`.

        Written to a file of another name, synced, and given its name in one
        step. Cost: one sync of the file and one of its folder.
        """
        *parents, name = check_key(key).split("/")
        try:
            self._put(parents, name, data, if_absent=if_absent)
        except FileNotFoundError:
            # Somebody removed a folder that this handle had made, or the
            # unfinished file of a machine that slept for a day. Nothing is stored.
            self._folders.clear()
            self._put(parents, name, data, if_absent=if_absent)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """
        Return a range of an object; see :class:`Store`.

        Raises:
            FileNotFoundError: Nothing of that name, or a folder.
            OSError: A symbolic link, FIFO or the like lies in its place.
        """
        *parents, name = check_key(key).split("/")
        check_range(start, length)
        try:
            with self._opened(parents) as folder:
                fd = os.open(name, _READ, dir_fd=folder)
        except NotADirectoryError as exc:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), key) from exc
        try:
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), key)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "not a regular file", key)
            left = max(0, status.st_size - start)
            return _read(fd, start, left if length is None else min(length, left))
        finally:
            os.close(fd)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """
        Yield the objects whose keys begin with *prefix*; see :class:`Store`.

        Streams folder by folder. Whatever is no regular file with the name of
        a key is passed over.
        """
        *parents, name_prefix = check_prefix(prefix).split("/")
        return self._list(parents, name_prefix)

    def delete(self, key: str) -> Remains:
        """
        Delete an object; see :class:`Store`.

        Its folder stays, even if empty: to remove it would race with a put.
        """
        *parents, name = check_key(key).split("/")
        with suppress(FileNotFoundError, NotADirectoryError), self._opened(parents) as folder:
            with suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(name, dir_fd=folder)
            # Also when it was gone already: an earlier delete may have ended
            # before its sync, and "gone" must hold after a crash.
            self._sync(folder)
        return Remains()

    def describe(self) -> StoreInfo:
        """
        Say what this folder can do.

        ``exclusive_create`` is false once a write of this handle has met a
        file system without hard links. Creates are then ordered by a lock that
        holds between the processes of one machine and is not proven beyond.
        """
        return StoreInfo(
            exclusive_create=self._links,
            durable_put=self._fsync and _FSYNC_IS_DURABLE,
            tls=None,
        )

    def _put(self, parents: Sequence[str], name: str, data: Data, *, if_absent: bool) -> None:
        with (
            self._opened_for_writing([_TMP]) as tmp,
            self._opened_for_writing(parents) as folder,
            self._written(tmp, data) as temporary,
        ):
            try:
                if self._links and if_absent:
                    os.link(
                        temporary, name, src_dir_fd=tmp, dst_dir_fd=folder, follow_symlinks=False
                    )
                elif self._links:
                    os.replace(temporary, name, src_dir_fd=tmp, dst_dir_fd=folder)
                else:
                    _rename_locked(temporary, tmp, name, folder, if_absent=if_absent)
            finally:
                # Also for a name that is taken: whoever is told so may rely on
                # the object, and its writer may not have come this far yet.
                self._sync(folder)

    @contextmanager
    def _written(self, tmp: int, data: Data) -> Iterator[str]:
        """Give the name of a file in *tmp* that holds *data*; it is gone afterwards."""
        name = secrets.token_hex(16)
        fd = os.open(name, _CREATE, 0o600, dir_fd=tmp)
        try:
            try:
                rest = memoryview(data).cast("B")
                while rest:
                    rest = rest[os.write(fd, rest) :]
                if self._fsync:
                    os.fsync(fd)
            finally:
                os.close(fd)
            yield name
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=tmp)

    @contextmanager
    def _opened(self, parents: Sequence[str]) -> Iterator[int]:
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in parents:
                parent, fd = fd, os.open(name, _FOLDER, dir_fd=fd)
                os.close(parent)
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def _opened_for_writing(self, parents: Sequence[str]) -> Iterator[int]:
        path = "/".join(parents)
        if path not in self._folders:
            self._make_folder(parents)
            self._folders.add(path)
        with self._opened(parents) as fd:
            yield fd

    def _make_folder(self, parents: Sequence[str]) -> None:
        self._make_root(self.root)
        for depth, name in enumerate(parents):
            with self._opened(parents[:depth]) as parent:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=parent)
                # Also for a folder that stands there: its maker may have crashed.
                self._sync(parent)
        if parents == [_TMP]:
            with self._opened(parents) as tmp:
                _remove_leftovers(tmp)
                with self._written(tmp, b"") as name:
                    self._links = _can_link(name, tmp)

    def _make_root(self, path: str) -> None:
        if os.path.isdir(path):
            return
        parent = os.path.dirname(path)
        self._make_root(parent)
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._sync(fd)
        finally:
            os.close(fd)

    def _sync(self, folder: int) -> None:
        if not self._fsync:
            return
        try:
            os.fsync(folder)
        except OSError as exc:
            # Some network and FUSE file systems have no sync of folders.
            if exc.errno not in (errno.EINVAL, *_UNSUPPORTED):
                raise

    def _list(self, parents: Sequence[str], name_prefix: str) -> Iterator[StoredObject]:
        with suppress(FileNotFoundError, NotADirectoryError), self._opened(parents) as folder:
            yield from _walk(folder, "".join(f"{name}/" for name in parents), name_prefix)


def _path_of(url: str | os.PathLike[str]) -> str:
    path = os.fspath(url)
    if isinstance(url, str) and path[:5].lower() == "file:":
        if path[5:8] != "///":
            raise InputError("a file URL holds an absolute path: file:///srv/backup", kind="url")
        path = path[7:]
    if not path or "\0" in path:
        raise InputError("the path of a store is empty or holds a NUL", kind="url")
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise InputError("the path of a store is no text", kind="url") from None
    return path


def _rename_locked(temporary: str, tmp: int, name: str, folder: int, *, if_absent: bool) -> None:
    # For file systems without hard links. To create the final name with O_EXCL
    # would be exclusive on any machine, but show half an object meanwhile and
    # keep it after a crash: wholeness is worth more, and describe() says what
    # is given up. The kernel drops the lock of a process that dies.
    fcntl.flock(tmp, fcntl.LOCK_EX)
    try:
        if if_absent and _exists(name, folder):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        os.replace(temporary, name, src_dir_fd=tmp, dst_dir_fd=folder)
    finally:
        # Explicitly: a process forked meanwhile holds this descriptor open.
        fcntl.flock(tmp, fcntl.LOCK_UN)


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _can_link(name: str, tmp: int) -> bool:
    other = secrets.token_hex(16)
    try:
        os.link(name, other, src_dir_fd=tmp, dst_dir_fd=tmp, follow_symlinks=False)
    except OSError as exc:
        if exc.errno not in _UNSUPPORTED:
            raise
        return False
    os.unlink(other, dir_fd=tmp)
    return True


def _remove_leftovers(tmp: int) -> None:
    """Remove what crashed writers left; a younger file may belong to a living one."""
    oldest = time.time() - _LEFTOVER_AGE_S
    with os.scandir(tmp) as entries:
        for entry in entries:
            with suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime < oldest:
                    os.unlink(entry.name, dir_fd=tmp)


def _read(fd: int, start: int, length: int) -> bytes:
    parts = []
    while length > 0 and (part := os.pread(fd, length, start)):
        parts.append(part)
        start += len(part)
        length -= len(part)
    return b"".join(parts)


def _walk(folder: int, path: str, name_prefix: str = "") -> Iterator[StoredObject]:
    with os.scandir(folder) as entries:
        for entry in entries:
            key = path + entry.name
            if not entry.name.startswith(name_prefix) or not is_key(key):
                continue
            # What vanishes between the reading of its name and a closer look is no object.
            with suppress(FileNotFoundError, NotADirectoryError):
                if entry.is_dir(follow_symlinks=False):
                    child = os.open(entry.name, _FOLDER, dir_fd=folder)
                    try:
                        yield from _walk(child, key + "/")
                    finally:
                        os.close(child)
                elif entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    yield StoredObject(key, status.st_size, _instant(status.st_mtime))


def _instant(timestamp_s: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(timestamp_s, UTC)
    except (OverflowError, ValueError, OSError):
        # A file can bear times that no datetime holds.
        return None
