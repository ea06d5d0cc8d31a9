"""Folders and files of this machine."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from typing import Final, Self

from ...errors import InputError
from ...terms import SubjectKey
from ..format.entries import (
    BLOCK,
    CHAR,
    DIRECTORY,
    FIFO,
    FILE,
    MAX_PATH_BYTES,
    SOCKET,
    SYMLINK,
    Extra,
    Node,
)
from .base import Found, ScanProblem
from .folders import Folder, FolderStack, list_folder, open_quietly
from .patterns import Patterns
from .streams import reason_of
from .subjects import SubjectRule, as_subjects

__all__ = ["FileReader", "TreeSource"]

_KINDS: Final = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFIFO: FIFO,
    stat.S_IFCHR: CHAR,
    stat.S_IFBLK: BLOCK,
    stat.S_IFSOCK: SOCKET,
}
# A file that has become a named pipe would block for ever without O_NONBLOCK.
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_ROOT_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE})


class FileReader:
    """Read one regular file; owns the descriptor."""

    __slots__ = ("_fd", "_node")

    def __init__(self, fd: int, node: Node) -> None:
        self._fd = fd
        self._node = node

    def readinto(self, buffer: memoryview, /) -> int:
        """Read into *buffer*; 0 means the end."""
        return os.readv(self._fd, (buffer,))

    def changed(self) -> bool:
        """Tell whether the file is no longer what the scan saw."""
        now, node = os.fstat(self._fd), self._node
        return (
            now.st_size != node.size
            or now.st_mtime_ns != node.mtime_ns
            or now.st_ctime_ns != node.ctime_ns
            or now.st_ino != node.inode
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)


class TreeSource:
    """
    Back up a folder, or a single file, of this machine.

    Nothing is recorded of the root folder itself but what lies in it. A root
    that is a symbolic link is followed (a single file then goes by its real
    name); no other link is.

    Args:
        path: The root.
        subject: Whom entries are about, as for :func:`as_subjects`.
        include: Select only these; the folders that they lie in come along.
        exclude: Leave these out.
        forbidden: (device, inode) of files and folders to pass over, such as
            the vault's own; ``skipped`` lists the paths where they were met.

    Raises:
        InputError: There is nothing at *path*, or it is forbidden itself.

    Cost: about 6 microseconds an entry; memory for the names in the folders
    from the root to the current one; 66 descriptors at most.
    """

    in_order = True
    opens_later = False

    def __init__(
        self,
        path: str | bytes | os.PathLike[str],
        *,
        subject: SubjectRule = None,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        forbidden: Collection[tuple[int, int]] = (),
    ) -> None:
        self._path = os.fsencode(path)
        self.name = self._path.decode("utf-8", "backslashreplace")
        self.description = {"kind": "tree", "path": self.name}
        self.skipped: list[bytes] = []
        self._subjects = as_subjects(subject)
        self._patterns = Patterns(include, exclude)
        self._forbidden = frozenset(forbidden)
        self._stack: FolderStack | None = None
        # The name of an id may come over the network: ask once a run.
        self._user = lru_cache(maxsize=4096)(_user_name)
        self._group = lru_cache(maxsize=4096)(_group_name)
        try:
            status = os.stat(self._path)
        except (OSError, ValueError) as exc:
            raise InputError(f"the source cannot be found: {reason_of(exc)}") from exc
        if (status.st_dev, status.st_ino) in self._forbidden:
            raise InputError("the source is a part of the vault itself")
        self._is_folder = stat.S_ISDIR(status.st_mode)

    def scan(self) -> Iterator[Found | ScanProblem]:
        """
        Yield every entry, in tree order.

        Raises:
            InputError: The root cannot be listed.
        """
        self.close()
        stack = self._stack = FolderStack(self._open_root())
        while stack:
            folder = stack.current
            if not folder.names:
                stack.leave()
            elif folder.fd < 0 and not stack.reopen():
                yield self._problem(folder, "vanished", "it was moved away during the backup")
                stack.leave()
            else:
                yield from self._walk(stack, folder)

    def _open_root(self) -> Folder:
        root, name = self._path, None
        if not self._is_folder:
            root, name = os.path.split(os.path.realpath(root))
        try:
            fd = os.open(root, _ROOT_FLAGS)
        except OSError as exc:
            raise InputError(f"the source cannot be read: {reason_of(exc)}") from exc
        status = os.fstat(fd)
        folder = Folder(b"", b"", fd, (status.st_dev, status.st_ino), [])
        try:
            folder.names = list_folder(fd) if name is None else [name]
        except OSError as exc:
            folder.close()
            raise InputError(f"the source cannot be listed: {reason_of(exc)}") from exc
        return folder

    def _walk(self, stack: FolderStack, folder: Folder) -> Iterator[Found | ScanProblem]:
        """Yield what comes next in *folder*, up to the next folder, and enter that."""
        while folder.names:
            name = folder.names.pop()
            path = folder.path + name
            try:
                status = os.lstat(name, dir_fd=folder.fd)
                found = self._look(folder, path, name, status)
            except OSError as exc:
                yield self._lost(path, folder.subject, exc)
                continue
            if found is None:
                continue
            if isinstance(found, ScanProblem):
                yield found
                continue
            if found.node.kind == DIRECTORY:
                yield from self._enter(stack, folder, name, found, status)
                return
            if self._patterns:
                yield from _release(stack)
            yield found

    def _look(
        self, folder: Folder, path: bytes, name: bytes, status: os.stat_result
    ) -> Found | ScanProblem | None:
        """Describe one entry; None leaves it out."""
        if self._forbidden and (status.st_dev, status.st_ino) in self._forbidden:
            self.skipped.append(path)
            return None
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        is_dir = kind == DIRECTORY
        if self._patterns and self._leaves_out(path, is_dir=is_dir):
            return None
        if kind is None:
            subject, _ = self._subjects.resolve(path, folder.subject, is_dir=False)
            return ScanProblem(path, "unknown_kind", "neither file, folder nor link", subject)
        if len(path) > MAX_PATH_BYTES:
            return self._problem(folder, "too_long", "something in it has a path over 64 KiB")
        extra = None
        if kind == SYMLINK:
            extra = Extra(target=os.readlink(name, dir_fd=folder.fd))
        elif kind in (CHAR, BLOCK):
            extra = Extra(rdev=status.st_rdev)
        node = Node(
            path,
            kind,
            status.st_mode & 0o7777,
            status.st_uid,
            status.st_gid,
            self._user(status.st_uid),
            self._group(status.st_gid),
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_ino,
            status.st_size if kind == FILE else 0,
            b"",
            extra,
        )
        subject, missing = self._subjects.resolve(path, folder.subject, is_dir=is_dir)
        return Found(node, subject, "stat", folder, missing)

    def _leaves_out(self, path: bytes, *, is_dir: bool) -> bool:
        # A folder that is not selected may hold something that is.
        if is_dir:
            return self._patterns.prune(path)
        return not self._patterns.matches(path, is_dir=False)

    def _enter(
        self,
        stack: FolderStack,
        folder: Folder,
        name: bytes,
        found: Found,
        status: os.stat_result,
    ) -> Iterator[Found | ScanProblem]:
        """Enter a folder and yield it, unless something in it has to be selected first."""
        node, problem = found.node, None
        selected = not self._patterns or self._patterns.matches(node.path, is_dir=True)
        if selected:
            yield from _release(stack)
        try:
            inner = stack.enter(folder, name, (status.st_dev, status.st_ino))
            inner.subject = found.subject
            inner.pending = None if selected else found
        except OSError as exc:
            problem = self._lost(node.path, found.subject, exc)
            problem.in_tree = selected
            node.extra = Extra(problem=problem.kind)
        if selected:
            yield found
        if problem is not None:
            yield problem

    def _lost(self, path: bytes, subject: SubjectKey | None, exc: OSError) -> ScanProblem:
        kind = "vanished" if exc.errno in _GONE else "unreadable"
        if subject is None:
            subject = self._subjects.resolve(path, is_dir=False)[0]
        return ScanProblem(path, kind, reason_of(exc), subject)

    def _problem(self, folder: Folder, kind: str, message: str) -> ScanProblem:
        return ScanProblem(folder.path[:-1], kind, message, folder.subject, in_tree=True)

    def open(self, found: Found) -> FileReader:
        """
        Open the content of a regular file.

        Raises:
            OSError: It is gone, may not be read, or is no regular file any more.
        """
        folder: Folder = found.ref
        fd = open_quietly(found.node.path[len(folder.path) :], _FILE_FLAGS, folder.fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.ESTALE, "it is no regular file any more")
        return FileReader(fd, found.node)

    def refresh(self, found: Found) -> Found:
        """
        Look at *found* once more, for a second reading after a change.

        Raises:
            OSError: It is gone, or no regular file any more.
        """
        folder: Folder = found.ref
        name = found.node.path[len(folder.path) :]
        status = os.lstat(name, dir_fd=folder.fd)
        again = self._look(folder, found.node.path, name, status)
        if not isinstance(again, Found) or again.node.kind != found.node.kind:
            raise OSError(errno.ESTALE, "something else stands in its place")
        return again

    def close(self) -> None:
        """Close what the scan holds open."""
        if self._stack is not None:
            self._stack.close()


def _release(stack: FolderStack) -> Iterator[Found]:
    """Yield the folders that were held back until something in them is selected."""
    for folder in stack:
        if folder.pending is not None:
            yield folder.pending
            folder.pending = None


def _user_name(uid: int) -> str:
    try:
        return _text(pwd.getpwuid(uid).pw_name)
    except (KeyError, OverflowError):
        return ""


def _group_name(gid: int) -> str:
    try:
        return _text(grp.getgrgid(gid).gr_name)
    except (KeyError, OverflowError):
        return ""


def _text(name: str) -> str:
    # A name that is no text cannot be stored; the number is there in any case.
    return "" if any("\ud800" <= char <= "\udfff" for char in name) else name
