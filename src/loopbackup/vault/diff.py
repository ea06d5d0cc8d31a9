"""Comparing two snapshots: only what they do not share is read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from attrs import define, field, frozen

from ..errors import DamagedData, NotFoundError
from ..show import html
from .content.merge import merge_rows, merge_streams
from .content.streams import StreamReader
from .entry import ENTRY_COLUMNS, Entries, Entry, differences, entry_row, to_entry
from .format.entries import FILE, ITEM, Node, tree_order
from .format.snapshot import TableRow
from .keys.domains import Domain
from .verbs.look import Described, read_table

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
    found = _Found()
    tables = (read_table(session, described.record) for described in (older, newer))
    for before, after in merge_rows(*tables):
        row = before or after
        assert row is not None
        found.add_domain(_domain(session, row), before, after, session)
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
    added: list[Entry] = field(factory=list)
    removed: list[Entry] = field(factory=list)
    changes: list[Change] = field(factory=list)
    renamed: list[Renamed] = field(factory=list)

    def add_domain(
        self, domain: Domain, before: TableRow | None, after: TableRow | None, session: Session
    ) -> None:
        """Add what differs in one domain."""
        old, new = (
            None if row is None else StreamReader(domain, row, session.reader)
            for row in (before, after)
        )
        gone: list[Node] = []
        come: list[Node] = []
        for left, right in merge_streams(old, new):
            if left is None and right is not None:
                come.append(right)
            elif right is None and left is not None:
                gone.append(left)
            elif left is not None and right is not None and (what := differences(left, right)):
                change = Change(to_entry(left, domain), to_entry(right, domain), what)
                self.changes.append(change)
        pairs = renames(gone, come)
        moved = {id(node) for pair in pairs for node in pair}
        self.renamed += [(to_entry(a, domain), to_entry(b, domain)) for a, b in pairs]
        self.removed += [to_entry(node, domain) for node in gone if id(node) not in moved]
        self.added += [to_entry(node, domain) for node in come if id(node) not in moved]


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
