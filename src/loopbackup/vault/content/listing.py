"""Folders in entry streams: what lies in one, read from the chunks that cover it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from ..format.entries import Node, tree_order
from .streams import StreamReader

__all__ = ["FolderReader", "below"]

MAX_CHUNKS_HELD: Final = 32


def below(stream: StreamReader, folder: bytes) -> Iterator[Node]:
    """
    Yield the entry at *folder* and all below it, in tree order; all for ``b""``.

    Cost: reads the chunks that cover the folder and no others.
    """
    prefix = folder + b"/"
    for number in stream.span(folder):
        for node in stream.nodes(number):
            if not folder or node.path == folder or node.path.startswith(prefix):
                yield node


class FolderReader:
    """
    Reads single folders of streams; the last chunks stay decoded.

    Folders asked for in tree order cost each chunk one reading.
    """

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[bytes, bytes], list[Node]] = OrderedDict()

    def children(self, stream: StreamReader, folder: bytes) -> Iterator[Node]:
        """
        Yield what lies right in *folder*, and of each subfolder at least one entry.

        Also the entry at *folder* itself. Chunks that hold only what lies in
        subfolders are left out, so the caller has to look at each path.
        """
        prefix = folder + b"/" if folder else b""
        span = stream.span(folder)
        number = span.start
        while number < span.stop:
            nodes = self._nodes(stream, number)
            for node in nodes:
                if node.path == folder or node.path.startswith(prefix):
                    yield node
            number = max(number + 1, _next(stream, nodes, prefix))

    def find(self, stream: StreamReader, path: bytes) -> Node | None:
        """Give the entry at *path*, or None."""
        key = tree_order(path)
        last = stream.covering(path) + 1 if stream.firsts is not None else len(stream.chunks)
        for number in range(stream.covering(path), min(last, len(stream.chunks))):
            nodes = self._nodes(stream, number)
            if nodes and tree_order(nodes[-1].path) >= key:
                return next((node for node in nodes if node.path == path), None)
        return None

    def _nodes(self, stream: StreamReader, number: int) -> list[Node]:
        key = (stream.domain.id, stream.chunks[number])
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = stream.nodes(number)
            while len(self._held) > MAX_CHUNKS_HELD:
                self._held.popitem(last=False)
        else:
            self._held.move_to_end(key)
        return held


def _next(stream: StreamReader, nodes: list[Node], prefix: bytes) -> int:
    """Give the chunk behind the subfolder in which *nodes* ends; 0 where it ends in none."""
    if not nodes or not nodes[-1].path.startswith(prefix):
        return 0
    child, inside, _ = nodes[-1].path[len(prefix) :].partition(b"/")
    return stream.past(prefix + child) if inside else 0
