"""Writing the content of files in workers: fetched, verified, handed to the target."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing, suppress
from itertools import islice
from typing import Final

from attrs import define, field

from ...errors import DamagedData
from ...progress import Reporter
from ...terms import Problem
from ..content.streams import content_ids
from ..format.entries import Node
from ..keys.domains import Domain
from ..target import Buffer, NotRestored, Overwrite, Target, data_size, is_plain
from ..target.links import link_number
from .session import Session

__all__ = ["ERASED", "POINTLESS", "ContentWriter", "Written", "is_long"]

LONG_BYTES: Final = 8 << 20
"""Of shorter files whole ones are written side by side."""
EXPECT_CHUNKS: Final = 16
AHEAD: Final = 3
"""Chunks of a long file that are fetched while one is written; at most 4 MiB each."""
POINTLESS: Final = ("full", "read_only")
"""What stops the whole restore."""
ERASED: Final = "it belongs to a subject that was just erased"


def is_long(node: Node) -> bool:
    """Tell whether a file is fetched ahead by whoever writes it, and not with others."""
    return data_size(node) >= LONG_BYTES or bool(node.extra and node.extra.listed)


@define
class Written:
    """What came of a batch."""

    files: int = 0
    bytes_written: int = 0
    problems: list[Problem] = field(factory=list)


@define(eq=False)
class ContentWriter:
    """Writes batches of files; :meth:`write` runs in several workers at once."""

    session: Session
    overwrite: Overwrite
    reporter: Reporter
    stopped: bool = False
    """To go on is pointless."""
    flowed: int = 0
    """Bytes that were handed to the target."""
    _lock: threading.Lock = field(factory=threading.Lock)

    def write(self, target: Target, batch: list[tuple[Domain, Node]]) -> Written:
        """Write files; what fails is a problem of what is returned."""
        done = Written()
        for domain, node in self._write_small(target, batch, done):
            if self.stopped:
                break
            try:
                self.reporter.check()
                done.bytes_written += self._write_one(target, domain, node)
                done.files += 1
            except NotRestored as exc:
                done.problems.append(exc.problem)
                if exc.problem.kind in POINTLESS:
                    break
            except DamagedData as exc:
                done.problems.append(_lost(node, exc))
        return done

    def _write_small(
        self, target: Target, batch: list[tuple[Domain, Node]], done: Written
    ) -> list[tuple[Domain, Node]]:
        """Write the small and plain ones of a batch; give those that are left."""
        small: dict[int, tuple[Node, bytes | memoryview]] = {}
        for number, (domain, node) in enumerate(batch):
            if len(node.chunks) == 32 and is_plain(node):
                self.reporter.check()
                # What is damaged is met again, and told, by whoever writes what is left.
                with suppress(DamagedData):
                    small[number] = node, self.session.reader.read(domain, node.chunks)
        if self.stopped or not small:
            return batch
        written = set()
        files = list(small.values())
        for number, is_done in zip(small, target.write_plain(files), strict=True):
            if is_done:
                size = len(small[number][1])
                written.add(number)
                done.files += 1
                done.bytes_written += size
                self._count(size)
        return [file for number, file in enumerate(batch) if number not in written]

    def _write_one(self, target: Target, domain: Domain, node: Node) -> int:
        is_listed = node.extra is not None and node.extra.listed
        is_plain = len(node.chunks) == 32 and not is_listed and not link_number(node)
        if is_plain and self.overwrite != "changed":
            # Most files are one chunk; a generator and its closing cost as much as the chunk.
            # A second name of a file may need no content, which a generator fetches when asked.
            piece = self.session.reader.read(domain, node.chunks)
            self._count(len(piece))
            return target.write(node, (piece,))
        with closing(self._pieces(target, domain, node)) as pieces:
            return target.write(node, pieces)

    def _count(self, size_bytes: int) -> None:
        with self._lock:
            self.flowed += size_bytes

    def _pieces(self, target: Target, domain: Domain, node: Node) -> Generator[Buffer, None, None]:
        """Yield the content; what the old file has of it in its place is not fetched."""
        is_sparse = node.extra is not None and node.extra.extents is not None
        old = -1
        if self.overwrite == "changed" and not is_sparse:
            old = target.open_old(node)
        try:
            ids = content_ids(node, domain, self.session.reader)
            pieces: Iterator[Buffer]
            if old >= 0:
                pieces = self._renewed(old, domain, ids)
            elif data_size(node) >= LONG_BYTES:
                pieces = self._ahead(domain, ids)
            else:
                pieces = (self.session.reader.read(domain, chunk_id) for chunk_id in ids)
            for piece in pieces:
                self.reporter.check()
                self._count(len(piece))
                yield piece
        finally:
            if old >= 0:
                os.close(old)

    def _ahead(self, domain: Domain, ids: Iterable[bytes]) -> Iterator[bytes | memoryview]:
        """Yield chunks in order, while the next few are fetched and decompressed."""
        read, submit = self.session.reader.read, self.session.fetchers.submit
        coming: deque[Future[bytes | memoryview]] = deque()
        try:
            for chunk_id in self._expected(domain, ids):
                coming.append(submit(read, domain, chunk_id))
                if len(coming) > AHEAD:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for future in coming:
                future.cancel()

    def _expected(self, domain: Domain, ids: Iterable[bytes]) -> Iterator[bytes]:
        """Yield ids, while a distant store is asked for those that come a while later."""
        reader, rest = self.session.reader, iter(ids)
        ahead: deque[tuple[list[bytes], int]] = deque()
        if not reader.window_bytes:
            yield from rest
            return
        with reader.ahead():
            while group := list(islice(rest, EXPECT_CHUNKS)):
                ahead.append((group, reader.expect(domain, group)))
                while sum(size for _, size in ahead) > reader.window_bytes:
                    yield from self._again(domain, ahead.popleft()[0])
            for group, _ in ahead:
                yield from self._again(domain, group)

    def _again(self, domain: Domain, group: list[bytes]) -> list[bytes]:
        """Ask for what there was no room for when it was asked for first."""
        self.session.reader.expect(domain, group)
        return group

    def _renewed(self, old: int, domain: Domain, ids: Iterable[bytes]) -> Iterator[Buffer]:
        """Yield chunks in order, those from the old file that it has in their place."""
        at = 0
        for chunk_id in ids:
            held = self._from_old(old, at, domain, chunk_id)
            piece = self.session.reader.read(domain, chunk_id) if held is None else held
            at += len(piece)
            yield piece

    def _from_old(self, old: int, at: int, domain: Domain, chunk_id: bytes) -> bytes | None:
        """Read a chunk from the file that stands there, if it is that chunk."""
        place = self.session.index.find(domain, chunk_id, self.session.log.state)
        if place is None:
            return None
        try:
            piece = os.pread(old, place.length, at)
        except OSError:
            return None
        return piece if domain.chunk_id(piece) == chunk_id else None


def _lost(node: Node, exc: DamagedData) -> Problem:
    if exc.kind == "erased":
        return Problem("erased", ERASED)
    return Problem("damaged", str(exc), node.path, exc.context.get("object"))
