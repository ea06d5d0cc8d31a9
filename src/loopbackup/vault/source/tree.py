"""Folders and files of this machine."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from ...errors import InputError
from ...terms import SubjectKey
from .. import disk
from ..format import codec
from ..format.entries import (
    BLOCK,
    CHAR,
    DIRECTORY,
    FIFO,
    FILE,
    MAX_PATH_BYTES,
    SOCKET,
    SYMLINK,
    TIMES_NS,
    Extra,
    Node,
    clamp_ns,
)
from .base import Found, ScanProblem
from .files import FileReader, SparseReader
from .folders import Folder, FolderStack, list_folder, open_quietly
from .links import LinkNumbers
from .options import TreeOptions
from .patterns import Patterns
from .sparse import data_extents
from .streams import reason_of
from .subjects import SubjectRule, as_subjects
from .xattrs import read_xattrs

__all__ = ["TreeSource", "clock_ns"]

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
# How the kernel names what stands in an open folder to calls that take no descriptor of one.
_OPEN_FILES: Final = b"/proc/self/fd"

MAX_ROOT_XATTRS_BYTES: Final = 16 << 10
"""More of the root's own attributes do not fit into a snapshot's description."""

clock_ns: Callable[[], int] = time.time_ns
"""The clock that file systems take the times of files from."""


class TreeSource:
    """
    Back up a folder, or a single file, of this machine.

    The root folder is no entry of its own; owner, permissions, time and
    attributes of it stand in ``description["root"]``. A root that is a symbolic
    link is followed (a single file then goes by its real name); no other link is.

    Args:
        path: The root.
        subject: Whom entries are about, as for :func:`as_subjects`.
        include: Select only these; the folders that they lie in come along.
        exclude: Leave these out.
        forbidden: (device, inode) of files and folders to pass over, such as
            the vault's own; ``skipped`` lists the paths where they were met.
        secrets: (device, inode) of files that open the vault: never stored,
            and reported wherever they are met.
        options: As :class:`TreeOptions` says.

    Raises:
        InputError: There is nothing at *path*, it is forbidden itself, or an
            option is unknown or of the wrong type.

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
        secrets: Collection[tuple[int, int]] = (),
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._path = os.fsencode(path)
        self._options = TreeOptions.parse(options or {})
        self.name = self._path.decode("utf-8", "backslashreplace")
        self.description = {"kind": "tree", "path": self.name, **self._options.describe()}
        self.skipped: list[bytes] = []
        self._subjects = as_subjects(subject)
        self._patterns = Patterns(include, exclude)
        self._forbidden = frozenset(forbidden)
        self._secrets = frozenset(secrets)
        self._links = LinkNumbers()
        self._names_open_files = os.path.isdir(_OPEN_FILES)
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

        When it begins, ``description["began_ns"]`` says so: files that were
        changed after that cannot be told from what was read.

        Raises:
            InputError: The root cannot be listed.
        """
        self.close()
        self._links = LinkNumbers()
        self.description["began_ns"] = str(clock_ns())
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
        self._root = root
        try:
            fd = os.open(root, _ROOT_FLAGS)
        except OSError as exc:
            raise InputError(f"the source cannot be read: {reason_of(exc)}") from exc
        status = os.fstat(fd)
        self._device = status.st_dev
        self._links.meet(status.st_dev)
        folder = Folder(b"", b"", fd, (status.st_dev, status.st_ino), [])
        try:
            if name is None:
                folder.names = self._options.keep(fd, list_folder(fd))
                self.description["root"] = self._described_root(fd, status)
            else:
                folder.names = [name]
        except OSError as exc:
            folder.close()
            raise InputError(f"the source cannot be listed: {reason_of(exc)}") from exc
        return folder

    def _described_root(self, fd: int, status: os.stat_result) -> str:
        """Give the folder itself as an entry without a path, for it is none of the tree's."""
        node = Node(
            b"",
            DIRECTORY,
            status.st_mode & 0o7777,
            status.st_uid,
            status.st_gid,
            self._user(status.st_uid),
            self._group(status.st_gid),
            clamp_ns(status.st_mtime_ns),
        )
        xattrs, _ = read_xattrs(fd)
        if xattrs and sum(map(len, (*xattrs, *xattrs.values()))) <= MAX_ROOT_XATTRS_BYTES:
            node.extra = Extra(xattrs=xattrs)
        return codec.encode(node).hex()

    def _walk(self, stack: FolderStack, folder: Folder) -> Iterator[Found | ScanProblem]:
        """Yield what comes next in *folder*, up to the next folder, and enter that."""
        while folder.names:
            name, status = folder.next()
            path = folder.path + name
            try:
                if isinstance(status, OSError):
                    raise status
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
            return self._refused(path, folder, "unknown_kind", "neither file, folder nor link")
        if self._secrets and (status.st_dev, status.st_ino) in self._secrets:
            return self._refused(path, folder, "credential", "it opens this vault")
        if len(path) > MAX_PATH_BYTES:
            return self._problem(folder, "too_long", "something in it has a path over 64 KiB")
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
        )
        subject, missing = self._subjects.resolve(path, folder.subject, is_dir=is_dir)
        found = Found(node, subject, "stat", folder, missing)
        if status.st_mtime_ns not in TIMES_NS or status.st_ctime_ns not in TIMES_NS:
            _clamp_times(found)
        if is_dir:
            self._links.meet(status.st_dev)
        elif kind != FILE or status.st_nlink > 1:
            self._look_closer(found, folder, name, status)
        return found

    def _look_closer(
        self, found: Found, folder: Folder, name: bytes, status: os.stat_result
    ) -> None:
        """Add what plain files do not have, and what has no descriptor to ask later."""
        node = found.node
        if node.kind == SYMLINK:
            node.extra = node.extra or Extra()
            node.extra.target = os.readlink(name, dir_fd=folder.fd)
        elif node.kind in (CHAR, BLOCK):
            node.extra = node.extra or Extra()
            node.extra.rdev = status.st_rdev
        if status.st_nlink > 1:
            node.extra = node.extra or Extra()
            node.extra.link, found.links = self._links.number(status), status.st_nlink
        if node.kind != FILE:
            _add_xattrs(found, self._place(folder, name))

    def _place(self, folder: Folder, name: bytes) -> bytes:
        """Give a path for calls that take none relative to a folder."""
        if self._names_open_files:
            return b"%s/%d/%s" % (_OPEN_FILES, folder.fd, name)
        return os.path.join(self._root, folder.path + name)

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
            if self._options.one_file_system and status.st_dev != self._device:
                _add_xattrs(found, self._place(folder, name))
            else:
                inner = stack.enter(folder, name, (status.st_dev, status.st_ino))
                inner.names = self._options.keep(inner.fd, inner.names)
                inner.subject = found.subject
                inner.pending = None if selected else found
                _add_xattrs(found, inner.fd)
        except OSError as exc:
            _add_xattrs(found, self._place(folder, name))
            problem = self._lost(node.path, found.subject, exc)
            problem.in_tree = selected
            node.extra = node.extra or Extra()
            node.extra.problem = problem.kind
        if selected:
            yield found
        if problem is not None:
            yield problem

    def _refused(self, path: bytes, folder: Folder, kind: str, message: str) -> ScanProblem:
        subject, _ = self._subjects.resolve(path, folder.subject, is_dir=False)
        return ScanProblem(path, kind, message, subject)

    def _lost(self, path: bytes, subject: SubjectKey | None, exc: OSError) -> ScanProblem:
        kind = "vanished" if exc.errno in _GONE else "unreadable"
        if subject is None:
            subject = self._subjects.resolve(path, is_dir=False)[0]
        return ScanProblem(path, kind, reason_of(exc), subject)

    def _problem(self, folder: Folder, kind: str, message: str) -> ScanProblem:
        return ScanProblem(folder.path[:-1], kind, message, folder.subject, in_tree=True)

    def read(self, found: Found) -> bytes | None:
        """Give the content of a plain file as a whole, if it is as the scan saw it."""
        node = found.node
        if disk.read is None or node.extra is not None:
            return None
        folder: Folder = found.ref
        name = node.path[len(folder.path) :]
        return disk.read(folder.fd, name, node.size, node.mtime_ns, node.ctime_ns, node.inode)

    def open(self, found: Found) -> FileReader:
        """
        Open the content of a regular file; note its holes and extended attributes.

        Raises:
            OSError: It is gone, may not be read, or is no regular file any more.
        """
        folder: Folder = found.ref
        node = found.node
        fd = open_quietly(node.path[len(folder.path) :], _FILE_FLAGS, folder.fd)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.ESTALE, "it is no regular file any more")
            _add_xattrs(found, fd)
            # Asking costs as much as reading a small file; few files have holes.
            extents = None
            if status.st_blocks * 512 < node.size:
                extents = data_extents(fd, node.size)
            if extents is None:
                return FileReader(fd, node)
            node.extra = node.extra or Extra()
            node.extra.extents = extents
            return SparseReader(fd, node, extents)
        except BaseException:
            os.close(fd)
            raise

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


def _clamp_times(found: Found) -> None:
    node = found.node
    node.mtime_ns, node.ctime_ns = clamp_ns(node.mtime_ns), clamp_ns(node.ctime_ns)
    node.extra = Extra(problem="time")
    message = "its time lies outside 1677 to 2554, and the nearest of these is stored"
    found.problem = ScanProblem(node.path, "time", message, found.subject, in_tree=True)


def _add_xattrs(found: Found, place: int | bytes) -> None:
    """Put extended attributes into an entry, and what of them could not be read beside it."""
    xattrs, failed = read_xattrs(place)
    if xattrs is None and not failed:
        return
    node = found.node
    node.extra = node.extra or Extra()
    node.extra.xattrs = xattrs
    if failed:
        node.extra.problem = "xattr"
        message = f"{failed} of its extended attributes could not be read or are too large"
        found.problem = ScanProblem(node.path, "xattr", message, found.subject, in_tree=True)


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
