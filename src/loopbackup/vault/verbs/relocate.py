"""
Finding new places for what a concurrent prune has condemned.

A chunk that some other pack holds is fine as it is. One that only condemned
packs hold is put again while those still stand; one that is gone is marked in
its entry, which the next backup then reads from the source.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from ...errors import ConflictError, DamagedData, LoopbackupError, NotFoundError
from ...terms import Problem
from ..content.segment import Place, SegmentReader
from ..content.streams import StreamReader, StreamWriter, TableWriter, content_ids
from ..content.upload import Upload
from ..format import codec
from ..format.entries import Extra, Node
from ..format.snapshot import TableRow
from ..keys.domains import Domain
from ..ledger.state import State
from .session import Session

__all__ = ["Relocator"]


class Relocator:
    """Walks a run's own streams once more and writes them again where needed."""

    def __init__(self, session: Session, upload: Upload, table: TableWriter, base: int) -> None:
        self._session = session
        self._upload = upload
        self._table = table
        self._base = base
        self._own = upload.own_places()
        self._old: dict[bytes, dict[bytes, Place]] = {}
        self._gone: list[bytes] = []
        self._old_packs: list[SegmentReader] | None = None
        self.problems: list[Problem] = []

    def run(self, state: State) -> TableWriter:
        """
        Settle every chunk of the run; give the table of the new streams.

        Raises:
            ConflictError: The run's own streams are gone with their packs.
        """
        meta = self._session.keyring.meta
        self._gone = [
            name
            for name, (index, _at) in state.condemned.items()
            if index >= self._base and name[:1] == b"p"
        ]
        self._upload.drop_condemned(state)
        # By now others may have stored something of them as well.
        self._upload.new_domains.clear()
        table = TableWriter(meta, self._upload)
        try:
            for row in self._table.rows_again(self):
                if row.domain in state.fenced:
                    table.add(row)  # Whoever commits takes it out, and says so.
                    continue
                domain = self._session.keyring.by_id(row.domain)
                table.add(self._stream(domain, row))
        except (DamagedData, NotFoundError) as exc:
            raise ConflictError(
                "a prune removed what this run had put before it could commit; "
                "nothing is lost, run the backup again",
                kind="run_again",
            ) from exc
        return table

    def _stream(self, domain: Domain, row: TableRow) -> TableRow:
        writer = StreamWriter(domain, self._upload)
        for node in StreamReader(domain, row, self):
            if not self._settle_entry(domain, node):
                node.extra = node.extra or Extra()
                node.extra.problem = "lost"
                node.chunks = b""
                self.problems.append(
                    Problem("lost", "a prune took it before the commit; run again", node.path)
                )
            writer.add(node.path, codec.encode(node), node.size)
        return writer.finish()

    def _settle_entry(self, domain: Domain, node: Node) -> bool:
        if node.extra is not None and node.extra.listed:
            if not all(self._settle(domain, list_id, "ids") for list_id in node.chunk_ids()):
                return False
            # What was put again lies in the open pack, where nobody can read it yet.
            self._upload.flush()
            self._own = self._upload.own_places()
        return all(self._settle(domain, i) for i in content_ids(node, domain, self))

    def _settle(self, domain: Domain, chunk_id: bytes, kind: str = "data") -> bool:
        """See to it that a chunk has a place that will last."""
        if self._upload.has(domain, chunk_id):
            return True
        place = self._old_place(domain, chunk_id)
        if place is None:
            return False
        try:
            data = self._session.reader.read_place(domain, chunk_id, place, kind)
        except (DamagedData, NotFoundError):
            return False
        self._upload.put(domain, chunk_id, bytes(data), kind)
        return True

    def read(self, domain: Domain, chunk_id: bytes, kind: str = "data") -> bytes | memoryview:
        """Read a chunk of this run, which the ledger's index does not know yet."""
        place = self._own.get(domain.id, {}).get(chunk_id)
        if place is None:
            state = self._session.log.state
            place = next(iter(self._session.index.places(domain, chunk_id, state)), None)
        if place is None:
            place = self._old_place(domain, chunk_id)
        if place is None:
            raise NotFoundError("a chunk of this run has no place")
        return self._session.reader.read_place(domain, chunk_id, place, kind)

    def may_read(self, domain: Domain) -> object:
        """Raise DamagedData if the domain was erased since."""
        return self._session.reader.may_read(domain)

    def expect(self, domain: Domain, chunk_ids: Iterable[bytes]) -> int:
        """Begin to fetch chunks that the ledger's index knows."""
        return self._session.reader.expect(domain, chunk_ids)

    def _old_place(self, domain: Domain, chunk_id: bytes) -> Place | None:
        places = self._old.get(domain.id)
        if places is None:
            places = self._old[domain.id] = {}
            if self._old_packs is None:
                self._old_packs = self._standing()
            for pack in self._old_packs:
                with contextlib.suppress(LoopbackupError):
                    places.update(pack.places(domain))
        return places.get(chunk_id)

    def _standing(self) -> list[SegmentReader]:
        """Read the directory of each pack that was condemned since the run began, once."""
        found = []
        for short in self._gone:
            with contextlib.suppress(LoopbackupError):
                found.append(self._session.index.pack(short))
        return found
