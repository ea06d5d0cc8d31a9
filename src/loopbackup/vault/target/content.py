"""Where the bytes of a file go: all in a row, or into its extents with holes between."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Final

from ...terms import Problem
from ..format.entries import FILE, ITEM, Node
from .base import Buffer, NotRestored

__all__ = ["data_size", "filled", "is_plain", "write_content"]

_ZEROS: Final = bytes(1 << 20)


def data_size(node: Node) -> int:
    """Give the bytes of content that are stored for *node*: holes are not."""
    extents = node.extra.extents if node.extra else None
    return node.size if extents is None else sum(length for _, length in extents)


def is_plain(node: Node) -> bool:
    """Tell whether an entry is content and no more: of one name, without holes or attributes."""
    extra = node.extra
    if extra is None:
        return node.kind in (FILE, ITEM)
    # Items carry a version and words of the host's, which are no matter of the file.
    return node.kind == ITEM and not (
        extra.link or extra.listed or extra.xattrs or extra.extents is not None or extra.problem
    )


def write_content(out: int, node: Node, pieces: Iterable[Buffer]) -> int:
    """
    Write *pieces* into the new file *out*; holes stay holes.

    Returns:
        The number of bytes written.

    Raises:
        NotRestored: They do not add up to what *node* says.
        OSError: As of the system.
    """
    if node.extra is not None and node.extra.extents is not None:
        os.ftruncate(out, node.size)
        for offset, part in _placed(node, pieces):
            _write_at(out, part, offset)
        return data_size(node)
    size = 0
    for piece in pieces:
        view = memoryview(piece)
        size += len(view)
        while view:
            view = view[os.write(out, view) :]
    _check(node, size, node.size)
    return size


def filled(node: Node, pieces: Iterable[Buffer]) -> Iterator[Buffer]:
    """
    Yield the whole content of *node*: *pieces*, with zeros where it has holes.

    Raises:
        NotRestored: At the end: they do not add up to what *node* says.
    """
    if node.extra is None or node.extra.extents is None:
        size = 0
        for piece in pieces:
            size += len(piece)
            yield piece
        _check(node, size, node.size)
        return
    at = 0
    for offset, part in _placed(node, pieces):
        yield from _zeros(offset - at)
        yield part
        at = offset + len(part)
    yield from _zeros(node.size - at)


def _placed(node: Node, pieces: Iterable[Buffer]) -> Iterator[tuple[int, memoryview]]:
    """Yield (offset, data) of each part that lies in one extent."""
    expected = data_size(node)
    extents = iter((node.extra and node.extra.extents) or ())
    at = end = size = 0
    for piece in pieces:
        view = memoryview(piece)
        size += len(view)
        if size > expected:
            break
        while view:
            if at == end:
                at, length = next(extents)
                end = at + length
            part = view[: end - at]
            yield at, part
            at += len(part)
            view = view[len(part) :]
    _check(node, size, expected)


def _zeros(count: int) -> Iterator[Buffer]:
    while count > 0:
        yield memoryview(_ZEROS)[:count]
        count -= len(_ZEROS)


def _write_at(out: int, part: memoryview, offset: int) -> None:
    while part:
        count = os.pwrite(out, part, offset)
        part, offset = part[count:], offset + count


def _check(node: Node, size_bytes: int, expected_bytes: int) -> None:
    if size_bytes != expected_bytes:
        message = f"its content has {size_bytes} bytes instead of {expected_bytes}"
        raise NotRestored(Problem("size", message, path=node.path))
