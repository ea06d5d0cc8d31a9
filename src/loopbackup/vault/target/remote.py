"""Restore to any fsspec URL: content only."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from threading import Lock
from typing import Any, Final, Literal, get_args

from ...errors import InputError, LoopbackupError
from ...terms import Problem
from ..format.entries import DIRECTORY, FILE, ITEM, Node
from ..source.urls import open_file_system
from .base import Buffer, NotRestored, Overwrite, check_restorable, check_size

__all__ = ["RemoteTarget"]

_ONE_REQUEST_BYTES: Final = 8 * 1024 * 1024
"""Files up to here are written whole; larger ones under another name first."""

_TYPE_OF: Final = {FILE: "file", ITEM: "file", DIRECTORY: "directory"}


class RemoteTarget:
    """
    Restore files and folders below an fsspec URL; thread-safe as its back end.

    Back ends keep no owners, permissions and times that one could rely on:
    ``finish`` says once that they were left out, and for
    ``overwrite="changed"`` every file that stands there counts as changed.

    Args:
        url: Any URL that fsspec can write to.
        options: For the file system, as for ``open_file_system``.
        overwrite: What happens to files that stand there already.

    Raises:
        InputError: The file system cannot be opened, or *overwrite* is no choice.

    Cost: one request a file up to 8 MiB; above that a copy within the store.
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
        self._overwrite = overwrite
        self._left_out = 0
        self._lock = Lock()

    def prepare(self, node: Node) -> Literal["write", "skip"]:
        """
        Say whether *node* is to be restored.

        Raises:
            NotRestored: An unsafe path, a name that is no text, anything but a
                file or a folder, or the other of the two stands in its way.
        """
        place = self._place(node)
        with _reported(node):
            try:
                there = self._fs.info(place)["type"]
            except FileNotFoundError:
                return "write"
        if self._overwrite == "never":
            return "skip"
        if there != _TYPE_OF[node.kind]:
            message = "a folder is not replaced by a file nor a file by a folder"
            raise NotRestored(Problem("in_the_way", message, path=node.path))
        return "skip" if node.kind == DIRECTORY else "write"

    def make(self, node: Node) -> None:
        """
        Make a folder, as far as the back end knows of any.

        Raises:
            NotRestored: It could not be made.
        """
        check_restorable(node, (DIRECTORY,))
        place = self._place(node)
        with _reported(node):
            self._fs.makedirs(place, exist_ok=True)

    def write(self, node: Node, pieces: Iterable[Buffer]) -> None:
        """
        Write a file, as :meth:`Target.write` says.

        Raises:
            NotRestored: It could not be written, or *pieces* do not add up to
                its size.
        """
        place = self._place(node)
        rest = iter(pieces)
        head = bytearray()
        for piece in rest:
            head += piece
            if len(head) > _ONE_REQUEST_BYTES:
                self._write_large(node, place, chain((head,), rest))
                break
        else:
            self._write_small(node, place, bytes(head))
        if node.kind == FILE:
            with self._lock:
                self._left_out += 1

    def _write_small(self, node: Node, place: str, content: bytes) -> None:
        check_size(node, len(content))
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
                    size = 0
                    for piece in pieces:
                        stream.write(piece)
                        size += len(piece)
                check_size(node, size)
                self._fs.mv(temporary, place)
        except BaseException:
            with suppress(Exception):
                self._fs.rm_file(temporary)
            raise

    def _in_parent(self, place: str, action: Callable[[], Any]) -> Any:
        """Do *action*, after making the folder around *place* where that is missing."""
        try:
            return action()
        except FileNotFoundError:
            self._fs.makedirs(place.rpartition("/")[0], exist_ok=True)
            return action()

    def _place(self, node: Node) -> str:
        check_restorable(node, _TYPE_OF)
        try:
            return f"{self._root}/{node.path.decode()}"
        except UnicodeDecodeError as exc:
            message = "its name is no valid text"
            raise NotRestored(Problem("name", message, path=node.path)) from exc

    def finish(self) -> list[Problem]:
        """Say what was left out."""
        count, self._left_out = self._left_out, 0
        if not count:
            return []
        message = f"owners, permissions and times of {count} files have no place there"
        return [Problem("metadata", message)]

    def close(self) -> None:
        """Close archives, which completes them; connections end by themselves."""
        close = getattr(self._fs, "close", None)
        if callable(close):
            close()


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
