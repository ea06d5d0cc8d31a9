"""Restore into a folder of this machine, whatever the entries say."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import count
from threading import Lock
from typing import Final, Literal, get_args

from ...errors import InputError, LoopbackupError
from ...terms import Problem
from ..format.entries import (
    DIRECTORY,
    FIFO,
    FILE,
    ITEM,
    SYMLINK,
    Node,
    tree_order,
)
from .base import Buffer, NotRestored, Overwrite, check_restorable, check_size
from .folders import Folders

__all__ = ["LocalTarget"]

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SET_IDS: Final = stat.S_ISUID | stat.S_ISGID
_NO_LINKS: Final = frozenset(
    {errno.EPERM, errno.ENOSYS, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP}
)
_KIND_OF: Final = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EROFS: "read_only",
    errno.EEXIST: "exists",
    errno.ENOTDIR: "in_the_way",
    errno.EISDIR: "in_the_way",
    errno.ELOOP: "in_the_way",
    errno.ENAMETOOLONG: "name",
}
_TYPE_OF: Final = {
    FILE: stat.S_IFREG,
    ITEM: stat.S_IFREG,
    DIRECTORY: stat.S_IFDIR,
    SYMLINK: stat.S_IFLNK,
    FIFO: stat.S_IFIFO,
}
_LOST: Final = {
    "owner": "the owner of {} entries was not restored: not permitted",
    "mode": "the permissions of {} entries were not restored",
    "times": "the time of change of {} entries was not restored",
}


class LocalTarget:
    """
    Restore below a folder of this machine.

    No link is ever followed below *path*, no folder is replaced by anything
    else or the other way round, and a file gets its name when it is complete:
    a process that is killed leaves ``.loopbackup-*`` files behind and no half
    ones. Items become files that only their owner can read. Nothing is forced
    to the disk. Thread-safe as :class:`Target` says.

    Args:
        path: Made if missing, for its owner alone.
        overwrite: What happens to entries that stand there already. Folders
            are merged in any case; with ``"never"`` an old one keeps its
            permissions and times.

    Raises:
        InputError: *path* cannot be a folder, or *overwrite* is no choice.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: Overwrite = "never") -> None:
        if overwrite not in get_args(Overwrite):
            raise InputError('overwrite is "never", "changed" or "always"')
        self._overwrite = overwrite
        try:
            os.makedirs(path, mode=0o700, exist_ok=True)
            root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (OSError, ValueError) as exc:
            code = exc.errno if isinstance(exc, OSError) else None
            reason = os.strerror(code).lower() if code else "not a path"
            raise InputError(f"cannot restore there: {reason}") from exc
        self._folders = Folders(root)
        self._unfinished: dict[bytes, Node] = {}
        self._lost: Counter[str] = Counter()
        self._lock = Lock()
        # Nobody can foresee the names, so no entry can stand in their way.
        self._temporary = b".loopbackup-" + secrets.token_hex(8).encode() + b"-"
        self._numbers = count()

    def prepare(self, node: Node) -> Literal["write", "skip"]:
        """
        Say whether *node* is to be restored, as :meth:`Target.prepare` says.

        Raises:
            NotRestored: Its path would leave the target, it cannot be made on
                this machine, or something else stands in its way.
        """
        _check(node)
        folder, _, name = node.path.rpartition(b"/")
        try:
            with self._folders.lend(folder) as fd:
                try:
                    there = os.lstat(name, dir_fd=fd)
                except FileNotFoundError:
                    return "write"
                return self._decide(node, there, fd, name)
        except OSError as exc:
            raise _not_restored(node, exc) from exc

    def _decide(
        self, node: Node, there: os.stat_result, fd: int, name: bytes
    ) -> Literal["write", "skip"]:
        if node.path in self._folders.made and node.kind == DIRECTORY:
            return "write"
        if self._overwrite == "never":
            return "skip"
        if stat.S_ISDIR(there.st_mode) != (node.kind == DIRECTORY):
            raise NotRestored(
                Problem(
                    "in_the_way",
                    "a folder is not replaced by a file nor a file by a folder",
                    path=node.path,
                )
            )
        if self._overwrite == "changed" and _is_same(node, there, fd, name):
            return "skip"
        return "write"

    def make(self, node: Node) -> None:
        """
        Make a folder, a symbolic link or a named pipe.

        Raises:
            NotRestored: Nothing was made.
        """
        _check(node)
        folder, _, name = node.path.rpartition(b"/")
        try:
            with self._folders.lend(folder) as fd:
                if node.kind == DIRECTORY:
                    self._make_folder(node, name, fd)
                else:
                    self._place(node, name, fd, self._make_special)
        except OSError as exc:
            raise _not_restored(node, exc) from exc

    def _make_folder(self, node: Node, name: bytes, fd: int) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=fd)
            self._folders.made.add(node.path)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(name, dir_fd=fd).st_mode):
                raise
        # What follows is written into it: permissions and times come last.
        self._unfinished[node.path] = node

    def _make_special(self, node: Node, name: bytes, fd: int) -> None:
        if node.kind == SYMLINK:
            os.symlink(_link_target(node), name, dir_fd=fd)
        else:
            os.mkfifo(name, 0o600, dir_fd=fd)
        mode = self._own(
            node, lambda: os.chown(name, node.uid, node.gid, dir_fd=fd, follow_symlinks=False)
        )
        if node.kind != SYMLINK:
            self._try("mode", lambda: os.chmod(name, mode, dir_fd=fd))
        times = (node.mtime_ns, node.mtime_ns)
        self._try("times", lambda: os.utime(name, ns=times, dir_fd=fd, follow_symlinks=False))

    def write(self, node: Node, pieces: Iterable[Buffer]) -> None:
        """
        Write a file, as :meth:`Target.write` says.

        Raises:
            NotRestored: It could not be written, or *pieces* do not add up to
                its size.
        """
        _check(node)
        folder, _, name = node.path.rpartition(b"/")

        def fill(node: Node, temporary: bytes, fd: int) -> None:
            out = os.open(temporary, _CREATE, 0o600, dir_fd=fd)
            try:
                _write_all(out, node, pieces)
                self._describe(out, node)
            finally:
                os.close(out)

        try:
            with self._folders.lend(folder) as fd:
                self._place(node, name, fd, fill)
        except LoopbackupError:
            raise
        except OSError as exc:
            raise _not_restored(node, exc) from exc

    def _place(
        self, node: Node, name: bytes, fd: int, make: Callable[[Node, bytes, int], None]
    ) -> None:
        """Let *make* build the entry under another name, then give it its own."""
        temporary = self._temporary + b"%d" % next(self._numbers)
        try:
            make(node, temporary, fd)
            self._publish(temporary, name, fd)
        except BaseException:
            _remove(temporary, fd)
            raise

    def _publish(self, temporary: bytes, name: bytes, fd: int) -> None:
        if self._overwrite == "never":
            # Unlike a rename, a link never takes the place of something.
            try:
                os.link(temporary, name, src_dir_fd=fd, dst_dir_fd=fd, follow_symlinks=False)
            except OSError as exc:
                if exc.errno not in _NO_LINKS:
                    raise
            else:
                os.unlink(temporary, dir_fd=fd)
                return
        os.rename(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)

    def _describe(self, fd: int, node: Node) -> None:
        """Set owner, permissions and times of the open file or folder *fd*."""
        if node.kind != ITEM:
            mode = self._own(node, lambda: os.chown(fd, node.uid, node.gid))
            self._try("mode", lambda: os.fchmod(fd, mode))
        if node.kind != ITEM or node.mtime_ns:
            self._try("times", lambda: os.utime(fd, ns=(node.mtime_ns, node.mtime_ns)))

    def _own(self, node: Node, chown: Callable[[], None]) -> int:
        """Set the owner, and give the permissions that are right after that."""
        mode = node.mode & 0o7777
        # A program that runs as its owner must not run as somebody else.
        return mode if self._try("owner", chown) else mode & ~_SET_IDS

    def _try(self, what: str, action: Callable[[], None]) -> bool:
        try:
            action()
        except (OSError, OverflowError):
            with self._lock:
                self._lost[what] += 1
            return False
        return True

    def finish(self) -> list[Problem]:
        """Set owners, permissions and times of folders, and sum up what was lost."""
        problems = []
        # The deepest first: a folder may forbid to enter it from now on.
        for path in sorted(self._unfinished, key=tree_order, reverse=True):
            node = self._unfinished.pop(path)
            try:
                with self._folders.lend(path) as fd:
                    self._describe(fd, node)
            except OSError as exc:
                problems.append(_not_restored(node, exc).problem)
        problems += [Problem(what, _LOST[what].format(n)) for what, n in self._lost.items()]
        self._lost.clear()
        return problems

    def close(self) -> None:
        """Close all descriptors."""
        self._folders.close()


def _check(node: Node) -> None:
    check_restorable(node, _TYPE_OF)
    if node.kind == SYMLINK and b"\0" in (_link_target(node) or b"\0"):
        raise NotRestored(Problem("malformed", "a link without a valid target", path=node.path))


def _link_target(node: Node) -> bytes:
    return (node.extra and node.extra.target) or b""


def _is_same(node: Node, there: os.stat_result, fd: int, name: bytes) -> bool:
    if stat.S_IFMT(there.st_mode) != _TYPE_OF[node.kind]:
        return False
    if node.kind == SYMLINK:
        return os.readlink(name, dir_fd=fd) == _link_target(node)
    if node.kind == ITEM and not node.mtime_ns:
        return False
    return (
        node.kind in (FILE, ITEM)
        and there.st_size == node.size
        and there.st_mtime_ns == node.mtime_ns
    )


def _write_all(out: int, node: Node, pieces: Iterable[Buffer]) -> None:
    size = 0
    for piece in pieces:
        view = memoryview(piece)
        size += len(view)
        while view:
            view = view[os.write(out, view) :]
    check_size(node, size)


def _remove(name: bytes, fd: int) -> None:
    try:
        os.unlink(name, dir_fd=fd)
    except OSError:
        # It was not made; the first error is the one to tell about.
        return


def _not_restored(node: Node, exc: OSError) -> NotRestored:
    kind = _KIND_OF.get(exc.errno or 0, "unwritable")
    # The text of the exception itself holds names.
    reason = os.strerror(exc.errno).lower() if exc.errno else type(exc).__name__
    return NotRestored(Problem(kind, reason, path=node.path))
