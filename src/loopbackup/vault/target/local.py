"""Restore into a folder of this machine, whatever the entries say."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from threading import Lock
from typing import Final, get_args

from msgspec.structs import replace

from ...errors import InputError, LoopbackupError
from ...terms import Problem
from .. import disk
from ..format.entries import DIRECTORY, FILE, ITEM, Node, tree_order
from .attributes import Attributes, NamedEntry, OpenEntry
from .base import Answer, Buffer, NotRestored, Overwrite
from .content import is_plain, write_content
from .folders import Folders
from .kinds import Leaf, check_local, is_same, make_special
from .links import LinkGroups, link_number
from .names import NO_LINKS, rename_new

__all__ = ["LocalTarget"]

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# What has become a named pipe would block for ever without O_NONBLOCK.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
# No links there, or the other name lies on another disk, or is gone by now.
_NO_SECOND_NAME: Final = NO_LINKS | {errno.EXDEV, errno.EACCES, errno.ENOENT}
_SAME_ID: Final = 2**32 - 1
"""Leaves an owner as it is."""
MAX_REFUSED: Final = 64
"""After so many files that the quick way could not make it is not tried any more."""
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


class LocalTarget:
    """
    Restore below a folder of this machine, with all that a file system keeps.

    No link is ever followed below *path*, no folder is replaced by anything
    else or the other way round, and a file gets its name when it is complete:
    a process that is killed leaves ``.loopbackup-*`` files behind and no half
    ones. Items become files that only their owner can read. Nothing is forced
    to the disk. No file that has other names is changed in place, for those
    may lie elsewhere. Thread-safe as :class:`Target` says.

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
            made = not os.path.lexists(path)
            os.makedirs(path, mode=0o700, exist_ok=True)
            root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (OSError, ValueError) as exc:
            code = exc.errno if isinstance(exc, OSError) else None
            reason = os.strerror(code).lower() if code else "not a path"
            raise InputError(f"cannot restore there: {reason}") from exc
        self._folders = Folders(root)
        self._made_root = made
        self._unfinished: dict[bytes, Node] = {}
        self._attributes = Attributes()
        self._links = LinkGroups()
        self._leaf = Leaf()
        # Nobody can foresee the names, so no entry can stand in their way.
        self._temporary = b".loopbackup-" + secrets.token_hex(8).encode() + b"-"
        self._number = 0
        self._lock = Lock()
        self._refused = 0

    def prepare(self, node: Node) -> Answer:
        """
        Say what is to be done with *node*, as :meth:`Target.prepare` says.

        Raises:
            NotRestored: Its path would leave the target, it cannot be made on
                this machine, or something else stands in its way.
        """
        check_local(node)
        self._leaf.check(node)
        try:
            answer = self._look(node)
        except FileNotFoundError:
            answer = self._renew(node)
        except OSError as exc:
            raise _not_restored(node, exc) from exc
        if answer != "skip":
            self._leaf.note(node)
        return answer

    def _look(self, node: Node) -> Answer:
        folder, _, name = node.path.rpartition(b"/")
        if folder in self._folders.made and node.path not in self._folders.made:
            # Most likely nothing stands there; what does is met when the entry gets its name.
            return self._renew(node)
        with self._folders.lend(folder, make=False) as fd:
            there = os.lstat(name, dir_fd=fd)
            return self._decide(node, there, fd, name)

    def _decide(self, node: Node, there: os.stat_result, fd: int, name: bytes) -> Answer:
        if node.path in self._folders.made and node.kind == DIRECTORY:
            return "write"
        if self._overwrite == "never":
            if link_number(node) and is_same(node, there, fd, name):
                self._links.adopt(node, there)
            return "skip"
        if stat.S_ISDIR(there.st_mode) != (node.kind == DIRECTORY):
            raise NotRestored(
                Problem(
                    "in_the_way",
                    "a folder is not replaced by a file nor a file by a folder",
                    path=node.path,
                )
            )
        if node.kind == DIRECTORY:
            # What is written into it changes its times, so they come anew.
            return "write"
        if self._overwrite == "always" or not is_same(node, there, fd, name):
            return self._renew(node)
        return self._compare(node, there, NamedEntry(name, fd))

    def _compare(self, node: Node, there: os.stat_result, entry: NamedEntry) -> Answer:
        """Decide on an entry whose content is right."""
        if node.kind == ITEM:
            return "skip"
        right = there.st_mtime_ns == node.mtime_ns and self._attributes.are_as(node, entry, there)
        # What is cheap to make again, or has names that may lie elsewhere, is.
        if not right and (node.kind != FILE or there.st_nlink > 1):
            return self._renew(node)
        if link_number(node) and not self._links.adopt(node, there):
            return self._renew(node)
        return "skip" if right else "repair"

    def _renew(self, node: Node) -> Answer:
        return "link" if link_number(node) and self._links.claim(node) else "write"

    def make(self, node: Node) -> None:
        """
        Make a folder, a symbolic link, a named pipe, a socket or a device.

        Raises:
            NotRestored: Nothing was made.
        """
        check_local(node)

        def make(name: bytes, fd: int) -> int:
            make_special(node, name, fd)
            fresh = not self._folders.inherits(node.path.rpartition(b"/")[0])
            self._attributes.apply(NamedEntry(name, fd), node, fresh=fresh)
            return 0

        if node.kind == DIRECTORY:
            self._make_folder(node)
        else:
            self._put(node, make)

    def _make_folder(self, node: Node) -> None:
        above, _, name = node.path.rpartition(b"/")

        def make(fd: int) -> int:
            try:
                os.mkdir(name, 0o700, dir_fd=fd)
                self._folders.made.add(node.path)
            except FileExistsError:
                if not stat.S_ISDIR(os.lstat(name, dir_fd=fd).st_mode):
                    raise
            return 0

        try:
            self._within(above, make)
        except OSError as exc:
            raise _not_restored(node, exc) from exc
        self._folders.unnamed.discard(node.path)
        # What follows is written into it: permissions and times come last.
        self._unfinished[node.path] = node

    def write(self, node: Node, pieces: Iterable[Buffer]) -> int:
        """
        Write a file, as :meth:`Target.write` says.

        Raises:
            NotRestored: It could not be written, or *pieces* do not add up to
                its size.
        """
        check_local(node)

        def fill(name: bytes, fd: int) -> int:
            out = os.open(name, _CREATE, 0o600, dir_fd=fd)
            try:
                size = write_content(out, node, pieces)
                fresh = not self._folders.inherits(node.path.rpartition(b"/")[0])
                self._attributes.apply(OpenEntry(out), node, fresh=fresh)
            finally:
                os.close(out)
            return size

        return self._put(node, fill)

    def write_plain(self, files: Sequence[tuple[Node, Buffer]]) -> list[bool]:
        """
        Write many plain files with one call, as :meth:`Target.write_plain` says.

        Plain is what needs no look at what stands there: new, of one name,
        without holes or attributes. Nothing that fails is told here.
        """
        done = [False] * len(files)
        if disk.write is None or self._overwrite != "never" or self._refused > MAX_REFUSED:
            return done
        with ExitStack() as lent:
            entries = self._plain_entries(files, lent)
            codes = disk.write(
                self._temporary, self._take_numbers(len(entries)), [*entries.values()]
            )
        for at, code in zip(entries, codes, strict=True):
            done[at] = code == 0
        # Without root, say, no owner can be set: the other way has to find out for each file.
        self._refused += len(codes) - codes.count(0)
        return done

    def _plain_entries(
        self, files: Sequence[tuple[Node, Buffer]], lent: ExitStack
    ) -> dict[int, disk.NewFile]:
        """Give, by its number, what the quick way can make; folders are lent meanwhile."""
        entries: dict[int, disk.NewFile] = {}
        folders: dict[bytes, int] = {}
        for at, (node, data) in enumerate(files):
            folder, _, name = node.path.rpartition(b"/")
            if not is_plain(node) or len(data) != node.size:
                continue
            try:
                check_local(node)
                if folder not in folders:
                    folders[folder] = lent.enter_context(self._folders.lend(folder))
            except (NotRestored, OSError):
                continue
            if self._folders.inherits(folder):
                continue
            entries[at] = (folders[folder], name, data, *self._facts(node))
        return entries

    def _facts(self, node: Node) -> tuple[int, int, int, int]:
        """Give permissions, owner, group and time of a plain file."""
        if node.kind == ITEM:
            return 0o600, _SAME_ID, _SAME_ID, node.mtime_ns or time.time_ns()
        return node.mode & 0o7777, *self._attributes.owner(node), node.mtime_ns

    def _take_numbers(self, count: int) -> int:
        """Give the first of so many numbers that no other temporary name has."""
        with self._lock:
            first, self._number = self._number, self._number + count
        return first

    def _put(self, node: Node, build: Callable[[bytes, int], int]) -> int:
        """Link an entry to another of its group, or build it; give the bytes written."""
        folder, _, name = node.path.rpartition(b"/")

        def put(fd: int) -> int:
            if not link_number(node):
                return self._build(build, name, fd)
            with self._links.hold(node):
                if self._link(node, name, fd):
                    return 0
                size = self._build(build, name, fd)
                self._links.note(node, os.lstat(name, dir_fd=fd))
                return size

        try:
            return self._within(folder, put)
        except LoopbackupError:
            raise
        except OSError as exc:
            raise _not_restored(node, exc) from exc

    def _within(self, folder: bytes, action: Callable[[int], int]) -> int:
        """Do something in a folder, once more if its owner first has to let himself write there."""
        try:
            with self._folders.lend(folder) as fd:
                return action(fd)
        except PermissionError:
            if not self._folders.open_up(folder):
                raise
        with self._folders.lend(folder) as fd:
            return action(fd)

    def _build(self, build: Callable[[bytes, int], int], name: bytes, fd: int) -> int:
        """Let *build* make the entry under another name, then give it its own."""
        temporary = self._temporary + b"%d" % self._take_numbers(1)
        try:
            size = build(temporary, fd)
            self._publish(temporary, name, fd)
        except BaseException:
            _remove(temporary, fd)
            raise
        return size

    def _link(self, node: Node, name: bytes, fd: int) -> bool:
        """Make a hard link to the member of the group that stands already, if one does."""
        member = self._links.member(node)
        if member is None:
            return False
        if not member.fits(node):
            self._attributes.lose("links")
            return False
        folder, _, old = member.path.rpartition(b"/")
        try:
            with self._folders.lend(folder, make=False) as source:
                if not member.is_at(os.lstat(old, dir_fd=source)):
                    # Somebody has put something else there.
                    self._attributes.lose("links")
                    return False
                self._publish_link(old, source, name, fd)
        except OSError as exc:
            if exc.errno not in _NO_SECOND_NAME:
                raise
            self._attributes.lose("links")
            return False
        return True

    def _publish_link(self, old: bytes, source: int, name: bytes, fd: int) -> None:
        if self._overwrite == "never":
            os.link(old, name, src_dir_fd=source, dst_dir_fd=fd, follow_symlinks=False)
            return
        temporary = self._temporary + b"%d" % self._take_numbers(1)
        os.link(old, temporary, src_dir_fd=source, dst_dir_fd=fd, follow_symlinks=False)
        try:
            os.rename(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)
        finally:
            # Between two names of one file a rename does nothing at all.
            _remove(temporary, fd)

    def _publish(self, temporary: bytes, name: bytes, fd: int) -> None:
        if self._overwrite == "never":
            rename_new(temporary, name, fd)
        else:
            os.rename(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)

    def repair(self, node: Node) -> None:
        """
        Set the metadata of a file whose content is right.

        Raises:
            NotRestored: Something else stands there by now.
        """
        try:
            fd = self._open(node)
        except PermissionError:
            self._attributes.lose("mode")
            return
        except OSError as exc:
            raise _not_restored(node, exc) from exc
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                raise NotRestored(Problem("changed", "it was just replaced", path=node.path))
            self._attributes.apply(OpenEntry(fd), node, fresh=False)
        finally:
            os.close(fd)

    def open_old(self, node: Node) -> int:
        """Open the regular file that stands at the place of *node*; -1 if there is none."""
        try:
            fd = self._open(node)
        except OSError:
            return -1
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        return -1

    def _open(self, node: Node) -> int:
        check_local(node)
        folder, _, name = node.path.rpartition(b"/")
        with self._folders.lend(folder, make=False) as above:
            return os.open(name, _READ, dir_fd=above)

    def describe_root(self, node: Node) -> None:
        """Give the target itself the metadata of *node*, if it did not stand there before."""
        if self._made_root:
            self._unfinished[b""] = node

    def unnamed_folders(self) -> list[bytes]:
        """Give the folders that were made on the way to others, in tree order."""
        return sorted(self._folders.unnamed, key=tree_order)

    def finish(self, *, early: bool = False) -> list[Problem]:
        """Set the metadata of folders, as :meth:`Target.finish` says; sum up what was lost."""
        problems = []
        # The deepest first: a folder may forbid to enter it from now on.
        for path in sorted(
            {*self._unfinished, *self._folders.opened}, key=tree_order, reverse=True
        ):
            node = self._unfinished.pop(path, None)
            try:
                if node is None:
                    self._folders.close_up(path)
                else:
                    self._finish_folder(node, early=early)
            except OSError as exc:
                problems.append(_not_restored(node or Node(path, DIRECTORY), exc).problem)
        return problems + self._attributes.problems()

    def _finish_folder(self, node: Node, *, early: bool) -> None:
        if early:
            node = replace(node, mode=node.mode | stat.S_IRWXU)
        above = node.path.rpartition(b"/")[0]
        fresh = node.path in self._folders.made and not self._folders.inherits(above)
        with self._folders.lend(node.path) as fd:
            self._attributes.apply(OpenEntry(fd), node, fresh=fresh)

    def close(self) -> None:
        """Close all descriptors."""
        self._folders.close()


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
