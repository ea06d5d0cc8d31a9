"""The folders that a walk is in: bounded descriptors at any depth, no link followed."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

from attrs import define, field

from ...terms import SubjectKey
from .. import disk
from .base import Found

__all__ = ["Folder", "FolderStack", "list_folder", "open_quietly"]

MAX_OPEN_FOLDERS: Final = 64
"""Deeper down, shallower folders are closed and opened again on the way back."""
LOOK_AHEAD: Final = 256
"""So many entries are looked at in one go."""
FRESH_S: Final = 1.0
"""After so long, spent in folders below, those that are left are looked at again."""

_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Linux only; elsewhere a backup moves the times of last access.
_NOATIME: Final = getattr(os, "O_NOATIME", 0)
_ENCODING: Final = sys.getfilesystemencoding()
_ERRORS: Final = sys.getfilesystemencodeerrors()


def open_quietly(name: bytes, flags: int, dir_fd: int) -> int:
    """Open without moving the time of last access, where the system lets us."""
    try:
        return os.open(name, flags | _NOATIME, dir_fd=dir_fd)
    except PermissionError as exc:
        # Only the owner may ask for it.
        if exc.errno != errno.EPERM or not _NOATIME:
            raise
        return os.open(name, flags, dir_fd=dir_fd)


def list_folder(fd: int) -> list[bytes]:
    """Give the names in a folder, the first one last."""
    return sorted([name.encode(_ENCODING, _ERRORS) for name in os.listdir(fd)], reverse=True)


@define
class Folder:
    """A folder that the walk is in, or will come back to."""

    path: bytes
    """Relative to the root and ending with a slash; empty for the root."""
    name: bytes
    fd: int
    """-1 while it is closed."""
    identity: tuple[int, int]
    """Device and inode."""
    names: list[bytes]
    """What is still to be looked at, the next one last."""
    subject: SubjectKey | None = None
    pending: Found | None = None
    """Its own entry, held back until something in it is selected."""
    _ahead: list[Any] = field(factory=list)
    """What was found of the last names, in their order."""
    _looked_at: float = 0.0

    def next(self) -> tuple[bytes, Any]:
        """Take the next name, with what ``lstat`` says of it, or the OSError that it gives."""
        if not self._ahead or time.monotonic() - self._looked_at > FRESH_S:
            self._ahead = disk.look(self.fd, self.names[-LOOK_AHEAD:])
            self._looked_at = time.monotonic()
        return self.names.pop(), self._ahead.pop()

    def close(self) -> None:
        """Close the descriptor, if it is open."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class FolderStack:
    """The way from the root down to the current folder."""

    def __init__(self, root: Folder) -> None:
        self._folders = [root]

    def __iter__(self) -> Iterator[Folder]:
        return iter(self._folders)

    def __bool__(self) -> bool:
        return bool(self._folders)

    @property
    def current(self) -> Folder:
        """The deepest folder."""
        return self._folders[-1]

    def enter(self, above: Folder, name: bytes, identity: tuple[int, int]) -> Folder:
        """
        Open and list the folder *name* in *above*, the current one.

        Raises:
            OSError: It cannot be listed, or is no longer the folder of that
                *identity*.
        """
        fd = _open_same(name, above.fd, identity)
        try:
            names = list_folder(fd)
        except BaseException:
            os.close(fd)
            raise
        folder = Folder(above.path + name + b"/", name, fd, identity, names)
        self._folders.append(folder)
        # The root stays open: the way back begins there.
        if len(self._folders) > MAX_OPEN_FOLDERS + 1:
            self._folders[-1 - MAX_OPEN_FOLDERS].close()
        return folder

    def leave(self) -> None:
        """Go back to the folder above; it may be closed."""
        self._folders.pop().close()

    def reopen(self) -> bool:
        """
        Open the current folder again, and some above it for the way back.

        Goes down from the deepest open folder by name; every folder must be
        the one that it was. Tells whether it came through.
        """
        folders = self._folders
        kept_from = len(folders) - MAX_OPEN_FOLDERS // 2
        start = max(depth for depth, folder in enumerate(folders) if folder.fd >= 0)
        for depth in range(start + 1, len(folders)):
            above, folder = folders[depth - 1], folders[depth]
            try:
                folder.fd = _open_same(folder.name, above.fd, folder.identity)
            except OSError:
                return False
            finally:
                if 1 < depth <= kept_from:
                    above.close()
        return True

    def close(self) -> None:
        """Close every folder."""
        while self._folders:
            self.leave()


def _open_same(name: bytes, dir_fd: int, identity: tuple[int, int]) -> int:
    fd = open_quietly(name, _FLAGS, dir_fd)
    status = os.fstat(fd)
    if (status.st_dev, status.st_ino) != identity:
        os.close(fd)
        raise OSError(errno.ESTALE, "another folder stands in its place")
    return fd
