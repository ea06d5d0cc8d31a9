"""What differs between two entry streams, or two tables of domains."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TypeAlias

from ..format.entries import Node, tree_order
from ..format.snapshot import TableRow
from .streams import StreamReader, TableReader

__all__ = ["NodePair", "RowPair", "merge_rows", "merge_streams"]

NodePair: TypeAlias = tuple[Node | None, Node | None]
"""The older entry at a path and the newer; None where there is none."""
RowPair: TypeAlias = tuple[TableRow | None, TableRow | None]


def merge_rows(old: TableReader, new: TableReader) -> Iterator[RowPair]:
    """
    Yield the domains of which two snapshots do not hold exactly the same, by domain id.

    Cost: table chunks that both have are not read.
    """
    left, right = _unshared_rows(old, new), _unshared_rows(new, old)
    before, after = next(left, None), next(right, None)
    while before is not None or after is not None:
        if after is None or (before is not None and before.domain < after.domain):
            yield before, None
            before = next(left, None)
        elif before is None or after.domain < before.domain:
            yield None, after
            after = next(right, None)
        else:
            if before != after:
                yield before, after
            before, after = next(left, None), next(right, None)


def merge_streams(old: StreamReader | None, new: StreamReader | None) -> Iterator[NodePair]:
    """
    Yield the entries of chunks that not both streams have, paired by path, in tree order.

    Pairs may be equal: a chunk differs as soon as one of its entries does. A
    path stands in a stream once, so what a shared chunk holds is in no other
    chunk of either, and need not be read.

    Memory: one chunk of each.
    """
    left, right = _unshared_nodes(old, new), _unshared_nodes(new, old)
    before, after = next(left, None), next(right, None)
    while before is not None or after is not None:
        if after is None or (before is not None and _key(before) < _key(after)):
            yield before, None
            before = next(left, None)
        elif before is None or _key(after) < _key(before):
            yield None, after
            after = next(right, None)
        else:
            yield before, after
            before, after = next(left, None), next(right, None)


def _key(node: Node) -> bytes:
    return tree_order(node.path)


def _unshared_rows(table: TableReader, other: TableReader) -> Iterator[TableRow]:
    shared = set(other.chunks)
    numbers = (n for n, chunk_id in enumerate(table.chunks) if chunk_id not in shared)
    return chain.from_iterable(map(table.rows, numbers))


def _unshared_nodes(stream: StreamReader | None, other: StreamReader | None) -> Iterator[Node]:
    if stream is None:
        return iter(())
    shared = set() if other is None else set(other.chunks)
    numbers = (n for n, chunk_id in enumerate(stream.chunks) if chunk_id not in shared)
    return chain.from_iterable(map(stream.nodes, numbers))
