"""What a target without metadata cannot keep, as JSON Lines beside the content."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterator
from threading import Lock
from typing import IO, Any, Final

from ..format.entries import (
    BLOCK,
    CHAR,
    DIRECTORY,
    FIFO,
    FILE,
    ITEM,
    SOCKET,
    SYMLINK,
    Extra,
    Node,
)

__all__ = ["SideFile", "line_of"]

_KINDS: Final = {
    FILE: "file",
    DIRECTORY: "directory",
    SYMLINK: "symlink",
    FIFO: "fifo",
    CHAR: "char_device",
    BLOCK: "block_device",
    SOCKET: "socket",
    ITEM: "item",
}
_IN_MEMORY_BYTES: Final = 1 << 20
_PIECE_BYTES: Final = 1 << 20


class SideFile:
    """
    Collects one line an entry; thread-safe.

    Cost: 1 MiB of memory; more lines wait in a temporary file without a name.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._lines: IO[bytes] | None = None
        self.described = 0
        """Entries, other than items, that have a line."""

    def add(self, node: Node) -> None:
        """Add the line of *node*; their order means nothing."""
        line = line_of(node)
        with self._lock:
            if self._lines is None:
                self._lines = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115
            self._lines.write(line)
            self.described += node.kind != ITEM

    def pieces(self) -> Iterator[bytes]:
        """Yield all that was added, in order."""
        if self._lines is None:
            return
        self._lines.seek(0)
        while piece := self._lines.read(_PIECE_BYTES):
            yield piece

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            lines, self._lines, self.described = self._lines, None, 0
        if lines is not None:
            lines.close()


def line_of(node: Node) -> bytes:
    """Describe one entry in one line; docs/reference/metadata-file.md says how."""
    facts: dict[str, Any] = {**_text("path", node.path), "kind": _KINDS[node.kind]}
    if node.kind != ITEM:
        facts |= {"mode": node.mode, "uid": node.uid, "gid": node.gid}
        facts |= {"user": node.user, "group": node.group}
    if node.kind != ITEM or node.mtime_ns:
        facts["mtime_ns"] = node.mtime_ns
    if node.kind in (FILE, ITEM):
        facts["size"] = node.size
    facts |= _extra(node.extra or Extra())
    return json.dumps(facts, separators=(",", ":")).encode() + b"\n"


def _extra(extra: Extra) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if extra.target is not None:
        facts |= _text("target", extra.target)
    if extra.link:
        facts["link"] = extra.link
    if extra.extents is not None:
        facts["extents"] = extra.extents
    if extra.xattrs:
        facts["xattrs"] = {
            _name(name): base64.b64encode(value).decode() for name, value in extra.xattrs.items()
        }
    if extra.rdev:
        facts["rdev"] = extra.rdev
    return facts


def _text(key: str, raw: bytes) -> dict[str, str]:
    try:
        return {key: raw.decode()}
    except UnicodeDecodeError:
        return {key: raw.decode("utf-8", "backslashreplace"), f"{key}_hex": raw.hex()}


def _name(name: bytes) -> str:
    # Names of attributes begin with a namespace, and none is called "hex:".
    try:
        return name.decode()
    except UnicodeDecodeError:
        return "hex:" + name.hex()
