"""Comparing two snapshots: only what they do not share is read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Final

from attrs import define, field, frozen

from ..errors import DamagedData, NotFoundError
from ..show import html
from .content.listing import FolderReader
from .content.merge import NodePair, merge_rows, merge_streams
from .content.streams import StreamReader
from .entry import ENTRY_COLUMNS, Entries, Entry, differences, entry_row, to_entry
from .format.entries import FILE, ITEM, Node, tree_order
from .format.snapshot import TableRow
from .keys.domains import Domain
from .ledger.state import SnapshotRecord
from .verbs.look import Described, read_table
from .verbs.shown import rectify
from .verbs.standing import binding, standing

if TYPE_CHECKING:
    from .verbs.session import Session

__all__ = ["Change", "Diff", "compare"]

Renamed = tuple[Entry, Entry]
_TEXT: Final = "{:,} added, {:,} removed, {:,} changed"


@frozen
class Change:
    """
    An entry that is in both snapshots and differs.

    ``what`` names how: ``type``, ``content``, ``mode``, ``owner``, ``times``,
    ``target``, ``xattrs``, ``device``, ``links``, ``version``, ``meta``,
    ``problem``.
    """

    before: Entry
    entry: Entry
    what: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.entry}  ({', '.join(self.what)})"


@frozen
class Diff:
    """
    What differs between two snapshots, each in tree order.

    An entry stands in one place only: what was renamed is not added and
    removed as well. ``changed`` has the newer entries of ``changes``.
    """

    added: Entries = field(factory=Entries, converter=Entries)
    removed: Entries = field(factory=Entries, converter=Entries)
    changes: tuple[Change, ...] = ()
    renamed: tuple[Renamed, ...] = ()
    """(older entry, newer entry): the same content at another path, about the same subject."""

    @property
    def changed(self) -> Entries:
        """What differs in content or metadata, as it is in the newer snapshot."""
        return Entries(change.entry for change in self.changes)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changes or self.renamed)

    def __str__(self) -> str:
        text = _TEXT.format(len(self.added), len(self.removed), len(self.changes))
        return text + (f", {len(self.renamed):,} renamed" if self.renamed else "")

    def __repr__(self) -> str:
        return f"<Diff {self}>"

    def _repr_html_(self) -> str:
        tables = [
            self.added.table(f"{len(self.added):,} added"),
            self.removed.table(f"{len(self.removed):,} removed"),
            html.Table(
                f"{len(self.changes):,} changed",
                (*ENTRY_COLUMNS, "What"),
                [
                    (*entry_row(change.entry), ", ".join(change.what))
                    for change in self.changes[: html.MAX_ROWS]
                ],
                len(self.changes),
            ),
            html.Table(
                f"{len(self.renamed):,} renamed",
                ("From", "To"),
                [(old.path, new.path) for old, new in self.renamed[: html.MAX_ROWS]],
                len(self.renamed),
            ),
        ]
        return html.card(f"Diff: {self}", (), *(table for table in tables if table.rows))


def compare(session: Session, older: Described, newer: Described) -> Diff:
    """
    Compare two snapshots of one vault.

    Raises:
        DamagedData: A part in which they may differ cannot be read.

    Cost: reads what their tables and entry streams do not share; memory for
    the differences.
    """
    found = _Found(session, older.record, newer.record)
    tables = [read_table(session, described.record) for described in (older, newer)]
    for before, after in merge_rows(*tables):
        row = before or after
        assert row is not None
        if row.domain not in session.log.state.fenced:
            found.add_domain(_domain(session, row), before, after)
    for domain_id in standing(session).overlays.keys() - found.compared:
        # Both have the same of it stored, and may show it differently.
        before, after = (table.find(domain_id) for table in tables)
        if before is not None and after is not None:
            found.add_rectified(_domain(session, before), before, after)
    return Diff(
        tuple(sorted(found.added, key=_order)),
        tuple(sorted(found.removed, key=_order)),
        tuple(sorted(found.changes, key=lambda change: _order(change.entry))),
        tuple(sorted(found.renamed, key=lambda pair: _order(pair[1]))),
    )


def _domain(session: Session, row: TableRow) -> Domain:
    try:
        return session.keyring.by_id(row.domain)
    except NotFoundError:
        raise DamagedData(
            "the keys of a part of the snapshots are gone", kind="missing_keys"
        ) from None


def _order(entry: Entry) -> tuple[bytes, str]:
    return tree_order(entry.raw_path), str(entry.subject or "")


@define
class _Found:
    session: Session
    older: SnapshotRecord
    newer: SnapshotRecord
    added: list[Entry] = field(factory=list)
    removed: list[Entry] = field(factory=list)
    changes: list[Change] = field(factory=list)
    renamed: list[Renamed] = field(factory=list)
    compared: set[bytes] = field(factory=set)
    """Ids of the domains that were looked into."""

    def add_domain(self, domain: Domain, before: TableRow | None, after: TableRow | None) -> None:
        """Add what differs in one domain."""
        self.compared.add(domain.id)
        if binding(self.session).covers(domain):
            return
        old, new = self._stream(domain, before), self._stream(domain, after)
        pairs = merge_streams(old, new)
        rectified = self._rectified_paths(domain)
        if rectified:
            # Shared chunks are not read above, and may be shown differently.
            others = (pair for pair in pairs if _path(pair) not in rectified)
            pairs = chain(others, _at(rectified, old, new))
        self._add_pairs(domain, pairs)

    def add_rectified(self, domain: Domain, before: TableRow, after: TableRow) -> None:
        """Add what differs by overlays only."""
        if not binding(self.session).covers(domain):
            old, new = self._stream(domain, before), self._stream(domain, after)
            self._add_pairs(domain, _at(self._rectified_paths(domain), old, new))

    def _stream(self, domain: Domain, row: TableRow | None) -> StreamReader | None:
        if row is None:
            return None
        return StreamReader(domain, row, self.session.reader)

    def _rectified_paths(self, domain: Domain) -> set[bytes]:
        marks = standing(self.session)
        shown = (marks.shown_in(record, domain.id) for record in (self.older, self.newer))
        return {path for paths in shown for path in paths}

    def _add_pairs(self, domain: Domain, pairs: Iterable[NodePair]) -> None:
        marks = standing(self.session)
        befores, afters = (marks.shown_in(r, domain.id) for r in (self.older, self.newer))
        gone: list[Node] = []
        come: list[Node] = []
        for stored_left, stored_right in pairs:
            left = stored_left and rectify(stored_left, befores.get(stored_left.path))
            right = stored_right and rectify(stored_right, afters.get(stored_right.path))
            if left is None and right is not None:
                come.append(right)
            elif right is None and left is not None:
                gone.append(left)
            elif left is not None and right is not None and (what := differences(left, right)):
                change = Change(to_entry(left, domain), to_entry(right, domain), what)
                self.changes.append(change)
        matched = renames(gone, come)
        moved = {id(node) for pair in matched for node in pair}
        self.renamed += [(to_entry(a, domain), to_entry(b, domain)) for a, b in matched]
        self.removed += [to_entry(node, domain) for node in gone if id(node) not in moved]
        self.added += [to_entry(node, domain) for node in come if id(node) not in moved]


def _path(pair: NodePair) -> bytes:
    node = pair[0] or pair[1]
    assert node is not None
    return node.path


def _at(
    paths: Iterable[bytes], old: StreamReader | None, new: StreamReader | None
) -> Iterator[NodePair]:
    """Look for single entries in both streams."""
    reader = FolderReader()
    for path in sorted(paths, key=tree_order):
        before, after = (None if s is None else reader.find(s, path) for s in (old, new))
        if before is not None or after is not None:
            yield before, after


def renames(gone: Iterable[Node], come: Iterable[Node]) -> list[tuple[Node, Node]]:
    """
    Pair what went with what came, one to one, where both have the same content.

    Empty files are never paired. Of several candidates one with the same name
    in another folder is preferred, then the first in tree order.
    """
    filled = [[n for n in nodes if n.kind in (FILE, ITEM) and n.chunks] for nodes in (gone, come)]
    pairs, *left = _paired(*filled, key=lambda node: (_content(node), _name(node)))
    return pairs + _paired(*left, key=_content)[0]


_Paired = tuple[list[tuple[Node, Node]], list[Node], list[Node]]


def _paired(gone: list[Node], come: list[Node], *, key: Callable[[Node], object]) -> _Paired:
    """Pair nodes of equal key in order; give the pairs and what is left of both."""
    candidates: dict[object, deque[Node]] = {}
    for node in gone:
        candidates.setdefault(key(node), deque()).append(node)
    pairs, left = [], []
    for node in come:
        found = candidates.get(key(node))
        if found:
            pairs.append((found.popleft(), node))
        else:
            left.append(node)
    return pairs, [node for found in candidates.values() for node in found], left


def _content(node: Node) -> tuple[object, ...]:
    extents = None if node.extra is None else node.extra.extents
    return node.kind, node.size, node.chunks, None if extents is None else tuple(extents)


def _name(node: Node) -> bytes:
    return node.path.rpartition(b"/")[2]
