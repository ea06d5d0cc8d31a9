"""Checking snapshots: entry lists can be read, and every chunk of an entry has a good place."""

from __future__ import annotations

from typing import Any, Final

from attrs import define, field

from ...errors import DamagedData, LoopbackupError, NotFoundError
from ...terms import Problem
from ..content.streams import StreamReader, TableReader, content_ids
from ..format import names
from ..format.entries import FILE, Node
from ..keys.domains import Domain
from ..ledger.state import SnapshotRecord, State
from .check_packs import PackCheck
from .look import describe, read_root
from .session import Session
from .standing import standing

__all__ = ["EntryCheck"]

MAX_ENTRIES_NAMED: Final = 10_000


@define(eq=False)
class EntryCheck:
    """
    What damage costs: which entries of which snapshots.

    A chunk of an entry list that was found sound is not looked through again
    for the next snapshot, so a series costs little more than its last one.
    Memory: 200 bytes for each chunk of the lists, and up to 10,000 damaged entries.
    """

    session: Session
    packs: PackCheck
    problems: list[Problem] = field(factory=list)
    """What is wrong with snapshots as a whole."""
    needed_by: dict[str, dict[str, None]] = field(factory=dict)
    """Damaged object -> ids of the snapshots that need it, in order."""
    unnamed: int = 0
    """Damaged entries beyond those that are named."""
    _bad: dict[tuple[bytes, str, str | None], list[str]] = field(factory=dict)
    """(path, why, object) -> ids of the snapshots."""
    _sound: set[tuple[bytes, bytes]] = field(factory=set)
    """(domain id, chunk id) of chunks of entry lists of which every entry is whole."""

    def look_at_overlays(self, state: State) -> None:
        """Look at what overlays show, and for marks that cannot be read."""
        marks = standing(self.session, state)
        self.problems += marks.problems
        for domain_id, overlays in marks.overlays.items():
            domain = self.session.keyring.by_id(domain_id)
            for shown in overlays:
                changed = (s.id.hex() for s in state.snapshots.values() if shown.mark.changes(s))
                node = Node(shown.body.path, FILE, chunks=shown.body.chunks)
                for short in changed:
                    self._entry(short, domain, node)

    def look(self, record: SnapshotRecord) -> None:
        """Look at one snapshot."""
        short = record.id.hex()
        try:
            describe(self.session, record)
        except NotFoundError:
            self._keys_gone(short)
            return
        except LoopbackupError as exc:
            self._problem(exc, "snapshot", short)
            return
        try:
            root = read_root(self.session, record)
            table = TableReader(self.session.keyring.meta, root, self.session.reader)
        except LoopbackupError as exc:
            self._problem(exc, "snapshot", short)
            return
        for number in range(len(table.chunks)):
            try:
                rows = table.rows(number)
            except LoopbackupError as exc:
                self._problem(exc, "snapshot", short)
                continue
            for row in rows:
                self._domain(short, row)

    def _problem(self, exc: LoopbackupError, what: str, short: str) -> None:
        found = exc.context.get("object")
        if found is not None:
            self.needed_by.setdefault(found, {})[short] = None
        kind = exc.kind if exc.kind != "not_found" else "missing"
        self.problems.append(Problem(kind, f"{what}: {exc}", object=found, snapshots=(short,)))

    def _keys_gone(self, short: str) -> None:
        self.problems.append(
            Problem(
                "missing_keys",
                "the keys of entries that a snapshot names are gone",
                snapshots=(short,),
            )
        )

    def _domain(self, short: str, row: Any) -> None:
        try:
            domain = self.session.keyring.by_id(row.domain)
            stream = StreamReader(domain, row, self.session.reader)
        except NotFoundError:
            if row.domain not in self.session.log.state.fenced:
                self._keys_gone(short)
            return
        except LoopbackupError as exc:
            self._problem(exc, "entries", short)
            return
        for number, chunk_id in enumerate(stream.chunks):
            if (domain.id, chunk_id) in self._sound:
                continue
            try:
                nodes = stream.nodes(number)
            except LoopbackupError as exc:
                self._problem(exc, "entries", short)
                continue
            bad = [node for node in nodes if not self._entry(short, domain, node)]
            if not bad:
                self._sound.add((domain.id, chunk_id))

    def _entry(self, short: str, domain: Domain, node: Node) -> bool:
        """Tell whether every chunk of an entry has a good place; note it if not."""
        try:
            for chunk_id in content_ids(node, domain, self.session.reader):
                found = self._why(domain, chunk_id)
                if found is not None:
                    break
            else:
                return True
        except DamagedData as exc:
            found = str(exc), exc.context.get("object")
        why, where = found
        if where is not None:
            self.needed_by.setdefault(where, {})[short] = None
        key = (node.path, why, where)
        if key in self._bad or len(self._bad) < MAX_ENTRIES_NAMED:
            self._bad.setdefault(key, []).append(short)
        else:
            self.unnamed += 1
        return False

    def _why(self, domain: Domain, chunk_id: bytes) -> tuple[str, str | None] | None:
        """Say why a chunk cannot be read, and in which object it should be; None if it can."""
        session, first = self.session, None
        state = session.log.state
        if self.packs.flawless and session.index.find(domain, chunk_id, state) is not None:
            return None
        for place in session.index.places(domain, chunk_id, state):
            why = self.packs.why(place)
            if why is None:
                return None
            first = first or (why, names.pack_name(place.blob.pack[1:]))
        return first or ("no pack holds a part of it", None)

    def all_problems(self) -> list[Problem]:
        """Give what is wrong, snapshots first, then entry by entry."""
        found = list(self.problems)
        for (path, why, where), snapshots in self._bad.items():
            text = f"an entry cannot be restored: {why}"
            found.append(Problem("damaged", text, path, where, tuple(snapshots)))
        if self.unnamed:
            text = f"{self.unnamed:,} more entries cannot be restored and are not named here"
            found.append(Problem("more_damaged", text))
        return found
