"""The streams of a snapshot: all of them, or those of one subject."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ...errors import DamagedData, NotFoundError
from ...terms import SubjectKey
from ..content.streams import StreamReader, TableReader
from ..format.snapshot import TableRow
from ..keys.domains import Domain
from .fences import erased_error
from .look import Described, read_table
from .session import Session
from .shown import ShownStream
from .standing import binding, standing

__all__ = ["streams_of"]


def streams_of(
    session: Session,
    snapshot: Described,
    subject: SubjectKey | None = None,
    *,
    on_damage: Callable[[DamagedData], None] | None = None,
    on_restricted: Callable[[Domain, TableRow], None] | None = None,
) -> Iterator[tuple[Domain, StreamReader]]:
    """
    Yield the streams of a snapshot, nobody's first, for it holds the folders above.

    Entries are as overlays show them. What is restricted is left out, and told
    to *on_restricted*. With *subject* only that subject's; a tenant's own
    covers its children. With *on_damage* a stream that cannot be opened is told
    and left out.

    Raises:
        NotFoundError: The subject has nothing in this snapshot.
        DamagedData: Without *on_damage*: a stream cannot be opened
            (``missing_keys``: nobody has its keys any more).
    """
    found = False

    def tell(exc: DamagedData) -> None:
        nonlocal found
        if on_damage is None:
            raise exc
        # What was asked for may have been in what cannot be read.
        found = True
        on_damage(exc)

    table = read_table(session, snapshot.record)
    restricted, marks = binding(session), standing(session)
    for domain, row in _domains_of(session, table, subject, tell):
        if restricted and restricted.covers(domain):
            found = True
            if on_restricted is not None:
                on_restricted(domain, row)
            continue
        try:
            shown = marks.shown_in(snapshot.record, domain.id)
            stream = ShownStream(domain, row, session.reader, shown)
        except DamagedData as exc:
            tell(exc)
            continue
        found = True
        yield domain, stream
    if subject is not None and not found:
        erased = erased_error(session, subject)
        if erased is not None:
            raise erased
        raise NotFoundError("the snapshot holds nothing of that subject", kind="subject")


def _domains_of(
    session: Session,
    table: TableReader,
    subject: SubjectKey | None,
    tell: Callable[[DamagedData], None],
) -> Iterator[tuple[Domain, TableRow]]:
    """Yield the domains that are asked for: the subject's own or nobody's, then the others."""
    first: bytes | None = session.log.state.none_domain
    if subject is not None:
        try:
            own = session.keyring.find(subject)
        except DamagedData as exc:
            tell(exc)
            own = None
        first = None if own is None else own.id
    row = None if first is None else table.find(first)
    domain = None if row is None else _domain(session, row, tell)
    if row is not None and domain is not None:
        yield domain, row
    if subject is not None and len(subject) == 2:
        return
    for row in table:
        domain = None if row.domain == first else _domain(session, row, tell)
        if domain is not None and (subject is None or _is_child(domain, subject)):
            yield domain, row


def _domain(session: Session, row: TableRow, tell: Callable[[DamagedData], None]) -> Domain | None:
    try:
        return session.keyring.by_id(row.domain)
    except NotFoundError:
        if row.domain in session.log.state.fenced:
            return None
        tell(DamagedData("the keys of a part of the snapshot are gone", kind="missing_keys"))
    except DamagedData as exc:
        tell(exc)
    return None


def _is_child(domain: Domain, tenant: SubjectKey) -> bool:
    return domain.subject is not None and domain.subject[:-1] == tenant
