"""Which entries of a snapshot a restore is about, and the folders above them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ...errors import DamagedData, NotFoundError
from ...terms import SubjectKey
from ..content.streams import Cursor, StreamReader
from ..format.entries import DIRECTORY, Node
from ..format.snapshot import TableRow
from ..keys.domains import Domain
from ..source.patterns import Patterns
from .look import Described, read_table
from .session import Session
from .streams import streams_of

__all__ = ["Selection"]


class Selection:
    """
    Yields the entries of a snapshot that patterns and a subject select.

    Args:
        session: Of the vault.
        snapshot: A live one.
        patterns: Select by path; none select everything.
        subject: Select one subject's entries; a tenant's cover its children's.
        on_damage: Told of lists of entries that cannot be read.
        on_restricted: Told of subjects whose entries are left out.
    """

    def __init__(
        self,
        session: Session,
        snapshot: Described,
        patterns: Patterns,
        subject: SubjectKey | None,
        on_damage: Callable[[DamagedData], None],
        on_restricted: Callable[[Domain, TableRow], None],
    ) -> None:
        self._session = session
        self._snapshot = snapshot
        self._patterns = patterns
        self._subject = subject
        self._on_damage = on_damage
        self._on_restricted = on_restricted
        self._above: dict[bytes, Node] = {}

    def __iter__(self) -> Iterator[tuple[Domain, Node]]:
        streams = streams_of(
            self._session,
            self._snapshot,
            self._subject,
            on_damage=self._on_damage,
            on_restricted=self._on_restricted,
        )
        for domain, stream in streams:
            nodes = self._nodes(stream)
            for node in self._filtered(nodes) if self._patterns else nodes:
                yield domain, node

    def _nodes(self, stream: StreamReader) -> Iterator[Node]:
        for number in range(len(stream.chunks)):
            try:
                nodes = stream.nodes(number)
            except DamagedData as exc:
                # What it names is unknown; everything else can be restored.
                self._on_damage(exc)
                continue
            yield from nodes

    def _filtered(self, nodes: Iterable[Node]) -> Iterator[Node]:
        """Yield what is selected, and remember the folders above that are not."""
        above: list[Node] = []
        for node in nodes:
            while above and not node.path.startswith(above[-1].path + b"/"):
                above.pop()
            is_dir = node.kind == DIRECTORY
            if self._patterns.matches(node.path, is_dir=is_dir):
                self._above.update((folder.path, folder) for folder in above)
                above.clear()
                yield node
            elif is_dir:
                above.append(node)

    def folders(self, paths: Iterable[bytes]) -> Iterator[Node]:
        """
        Yield the snapshot's entries of folders above what was selected.

        Those that neither stand in the stream of something selected nor are
        about nobody are left out.

        Args:
            paths: In tree order.

        Raises:
            DamagedData: The entries about nobody cannot be read.
        """
        cursor: Cursor | None = None
        looked = False
        for path in paths:
            node = self._above.get(path)
            if node is None and not looked:
                looked, cursor = True, self._about_nobody()
            if node is None and cursor is not None:
                node = cursor.find(path)
            if node is not None and node.kind == DIRECTORY:
                yield node

    def _about_nobody(self) -> Cursor | None:
        table = read_table(self._session, self._snapshot.record)
        row = table.find(self._session.log.state.none_domain)
        if row is None:
            return None
        try:
            domain = self._session.keyring.by_id(row.domain)
        except NotFoundError:
            return None
        return Cursor(StreamReader(domain, row, self._session.reader))
