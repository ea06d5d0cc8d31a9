"""A reader of the first snapshot beside everything that the commit model does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from tests.model.commit import CommitModel
from tests.model.ledger import NAMES, Options
from tests.model.state import State

__all__ = ["ReadState", "WithReader"]

READ_LOST, READ_DONE = 7, 8
READER_ALONE_MAX: Final = 12


class Reader(NamedTuple):
    """A reader of the first snapshot: fold, fetch the index, fetch a pack for each chunk."""

    at: int = 0
    segments: tuple[int, ...] = ()
    condemned: int = 0
    packs: tuple[int, ...] = ()


class ReadState(NamedTuple):
    """Everything, and a reader."""

    state: State
    reader: Reader = Reader()


class WithReader:
    """The commit model with a reader of the first snapshot."""

    def __init__(self, options: Options, *, refold: bool = True) -> None:
        self._model = CommitModel(options)
        self._refold = refold
        self.start = ReadState(self._model.start)

    def _read(self, both: ReadState) -> Iterator[tuple[str, ReadState]]:
        s, me = both
        fold = self._model.fold(s.ledger)
        lost = Reader() if self._refold else Reader(READ_LOST)
        if me.at == 0:
            after = Reader(1, tuple(sorted(fold.index)), fold.condemned)
            yield (
                "the reader folds",
                ReadState(s, after if "s0" in fold.live else Reader(READ_DONE)),
            )
        elif me.at == 1:
            if all(s.objects >> index & 1 for index in me.segments):
                places = {
                    chunk: pack
                    for index in me.segments
                    for chunk, pack in NAMES.values[index].places
                    if not me.condemned >> pack & 1
                }
                packs = tuple(places[chunk] for chunk in fold.snapshots["s0"][0])
                yield "the reader has the index", ReadState(s, Reader(2, packs=packs))
            else:
                yield "the reader misses a segment", ReadState(s, lost)
        elif me.at == 2:
            if not me.packs:
                yield "the reader is done", ReadState(s, Reader(READ_DONE))
            elif s.objects >> me.packs[0] & 1:
                yield "the reader gets a pack", ReadState(s, me._replace(packs=me.packs[1:]))
            else:
                yield "the reader misses a pack", ReadState(s, lost)

    def successors(self, both: ReadState) -> Iterator[tuple[str, ReadState]]:
        """Yield what may happen next."""
        for label, after in self._model.successors(both.state):
            yield label, ReadState(after, both.reader)
        yield from self._read(both)

    def check(self, both: ReadState) -> str | None:
        """Say what is wrong with a state."""
        error = self._model.check(both.state)
        if error:
            return error
        if both.reader.at == READ_LOST and "s0" in self._model.fold(both.state.ledger).live:
            return "(a) the reader of a committed snapshot, not forgotten, failed"
        for _ in range(READER_ALONE_MAX):
            if both.reader.at >= READ_LOST:
                return None
            both = next(self._read(both))[1]
        return "(e) the reader alone does not end"
