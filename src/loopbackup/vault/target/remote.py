"""Restore to any fsspec URL: content there, and all the rest in a file beside it."""

from __future__ import annotations

import secrets
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, count
from tempfile import SpooledTemporaryFile
from typing import Any, Final, get_args

from ...errors import InputError, LoopbackupError
from ...terms import Problem
from ..format.entries import (
    BLOCK,
    CHAR,
    DIRECTORY,
    FIFO,
    FILE,
    ITEM,
    SOCKET,
    SYMLINK,
    Node,
)
from ..source.urls import open_file_system
from .base import Answer, Buffer, NotRestored, Overwrite, check_restorable
from .content import data_size, filled
from .sidefile import SideFile

__all__ = ["RemoteTarget", "check_remote"]

_ONE_REQUEST_BYTES: Final = 8 * 1024 * 1024
"""Files up to here are written whole; larger ones under another name first."""

_SIDE_FILE: Final = ".loopbackup-metadata"
_TYPE_OF: Final = {FILE: "file", ITEM: "file", DIRECTORY: "directory"}
_DESCRIBED: Final = frozenset({SYMLINK, FIFO, CHAR, BLOCK, SOCKET})
"""What has no place there, and stands in the side file alone."""


class RemoteTarget:
    """
    Restore files and folders below an fsspec URL; thread-safe as its back end.

    Back ends keep no owners, permissions and times that one could rely on, and
    no links: all that goes into ``.loopbackup-metadata.jsonl``, and ``finish``
    says so once. Where that name is taken, by an entry or, with
    ``overwrite="never"``, by an earlier restore, the file gets a number. For
    ``overwrite="changed"`` every file that stands there counts as changed.
    Holes are filled with zeros.

    Args:
        url: Any URL that fsspec can write to.
        options: For the file system, as for ``open_file_system``.
        overwrite: What happens to files that stand there already.

    Raises:
        InputError: The file system cannot be opened, or *overwrite* is no choice.

    Cost: one request a file up to 8 MiB; above that a copy within the store. In
    an archive one member is written at a time, the larger ones after they were
    gathered in a temporary file of this machine.
    """

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any] | None = None,
        *,
        overwrite: Overwrite = "never",
    ) -> None:
        if overwrite not in get_args(Overwrite):
            raise InputError('overwrite is "never", "changed" or "always"')
        try:
            self._fs, root = open_file_system(url, options or {})
        except Exception as exc:
            # The text of the original may hold credentials.
            raise InputError(f"the target cannot be opened: {type(exc).__name__}") from exc
        self._root = root.rstrip("/")
        self._is_archive = _is_archive(self._fs)
        self._turn = threading.Lock()
        self._overwrite = overwrite
        self._side = SideFile()
        self._taken: set[bytes] = set()
        """Entries that have the names of side files."""

    def prepare(self, node: Node) -> Answer:
        """
        Say whether *node* is to be restored.

        Raises:
            NotRestored: An unsafe path, a name that is no text, or a folder
                stands in the way of a file or the other way round.
        """
        check_remote(node)
        if node.kind in _DESCRIBED:
            return "write"
        with _reported(node):
            try:
                there = self._fs.info(self._place(node))["type"]
            except FileNotFoundError:
                return "write"
        if self._overwrite == "never":
            return "skip"
        if there != _TYPE_OF[node.kind]:
            message = "a folder is not replaced by a file nor a file by a folder"
            raise NotRestored(Problem("in_the_way", message, path=node.path))
        return "write"

    def make(self, node: Node) -> None:
        """
        Make a folder, as far as the back end knows of any; describe what is no file.

        Raises:
            NotRestored: It could not be made.
        """
        check_remote(node)
        if node.kind == DIRECTORY:
            with _reported(node):
                self._fs.makedirs(self._place(node), exist_ok=True)
        self._side.add(node)

    def write(self, node: Node, pieces: Iterable[Buffer]) -> int:
        """
        Write a file, as :meth:`Target.write` says.

        Raises:
            NotRestored: It could not be written, or *pieces* do not add up to
                its size.
        """
        check_remote(node)
        if node.path.startswith(_SIDE_FILE.encode()):
            self._taken.add(node.path)
        self._store(node, filled(node, pieces))
        self._side.add(node)
        return data_size(node)

    def _store(self, node: Node, pieces: Iterable[Buffer]) -> None:
        place = self._place(node)
        if self._is_archive:
            self._write_member(node, place, pieces)
            return
        rest = iter(pieces)
        head = bytearray()
        for piece in rest:
            head += piece
            if len(head) > _ONE_REQUEST_BYTES:
                self._write_large(node, place, chain((head,), rest))
                return
        self._write_small(node, place, bytes(head))

    def _write_small(self, node: Node, place: str, content: bytes) -> None:
        with _reported(node):
            self._in_parent(place, lambda: self._fs.pipe_file(place, content))

    def _write_large(self, node: Node, place: str, pieces: Iterable[Buffer]) -> None:
        # No back end is trusted to forget a file that was begun and not ended.
        folder = place.rpartition("/")[0]
        temporary = f"{folder}/.loopbackup-{secrets.token_hex(8)}"
        try:
            with _reported(node):
                stream = self._in_parent(temporary, lambda: self._fs.open(temporary, "wb"))
                with stream:
                    for piece in pieces:
                        stream.write(piece)
                self._fs.mv(temporary, place)
        except BaseException:
            with suppress(Exception):
                self._fs.rm_file(temporary)
            raise

    def _write_member(self, node: Node, place: str, pieces: Iterable[Buffer]) -> None:
        # An archive has one writer, and what stands in it is neither renamed nor removed.
        with _reported(node), SpooledTemporaryFile(max_size=_ONE_REQUEST_BYTES) as whole:
            for piece in pieces:
                whole.write(piece)
            whole.seek(0)
            with self._turn, self._fs.open(place, "wb") as member:
                shutil.copyfileobj(whole, member, 1 << 20)

    def _in_parent(self, place: str, action: Callable[[], Any]) -> Any:
        """Do *action*, after making the folder around *place* where that is missing."""
        try:
            return action()
        except FileNotFoundError:
            self._fs.makedirs(place.rpartition("/")[0], exist_ok=True)
            return action()

    def _place(self, node: Node) -> str:
        return f"{self._root}/{node.path.decode()}"

    def write_plain(self, files: Sequence[tuple[Node, Buffer]]) -> list[bool]:
        """Write none: there is no quicker way."""
        return [False] * len(files)

    def repair(self, node: Node) -> None:
        """Do nothing: nothing there has metadata."""

    def open_old(self, node: Node) -> int:
        """Open nothing: what stands there is not compared."""
        return -1

    def describe_root(self, node: Node) -> None:
        """Do nothing: the target is the host's own."""

    def unnamed_folders(self) -> list[bytes]:
        """Give none: folders have no metadata there."""
        return []

    def finish(self, *, early: bool = False) -> list[Problem]:
        """Write the side file, if there is something to say, and say so."""
        described = self._side.described
        if not described:
            return []
        try:
            name = self._free_name()
            self._store(Node(name.encode(), FILE), self._side.pieces())
        except NotRestored as exc:
            return [exc.problem]
        self._side.close()
        message = f"owners, permissions, times and links of {described} entries are in {name}"
        return [Problem("metadata", message)]

    def _free_name(self) -> str:
        """Give the first name for a side file that belongs to nothing else."""
        for number in count(1):
            name = f"{_SIDE_FILE}{f'-{number}' if number > 1 else ''}.jsonl"
            node = Node(name.encode(), FILE)
            if node.path in self._taken:
                continue
            with _reported(node):
                if self._overwrite != "never" or not self._fs.exists(self._place(node)):
                    return name
        raise AssertionError("numbers do not end")

    def close(self) -> None:
        """Close archives, which completes them; connections end by themselves."""
        self._side.close()
        close = getattr(self._fs, "close", None)
        if callable(close):
            close()


def _is_archive(fs: object) -> bool:
    from fsspec.archive import AbstractArchiveFileSystem

    return isinstance(fs, AbstractArchiveFileSystem)


def check_remote(node: Node) -> None:
    """
    Refuse a node that has no place on any back end.

    Raises:
        NotRestored: It has none.
    """
    check_restorable(node, _TYPE_OF.keys() | _DESCRIBED)
    if node.kind in _TYPE_OF:
        try:
            node.path.decode()
        except UnicodeDecodeError as exc:
            message = "its name is no valid text"
            raise NotRestored(Problem("name", message, path=node.path)) from exc


@contextmanager
def _reported(node: Node) -> Iterator[None]:
    """Turn whatever a back end raises into a problem of this one entry."""
    try:
        yield
    except (LoopbackupError, NotRestored):
        raise
    except Exception as exc:
        # The text of the original may hold credentials and names.
        raise NotRestored(Problem("unwritable", type(exc).__name__, path=node.path)) from exc
