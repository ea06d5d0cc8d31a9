"""
What holds and restrictions keep: whose data, and which snapshots may not be forgotten.

What cannot be read is taken for held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Final

from attrs import define, field

from ...errors import DamagedData, HoldActive, NotFoundError, PolicyError
from ...terms import Blocker, Hold, Overlay, Restriction, SubjectKey, is_covered
from ..content.streams import StreamReader
from ..format.entries import DIRECTORY
from ..format.snapshot import TableRow
from ..keys.domains import Domain
from ..ledger.state import SnapshotRecord, State
from ..source.patterns import Patterns
from .look import read_table
from .session import Session
from .standing import Binding, Held, binding, standing

__all__ = [
    "blockers_of",
    "domain_ids",
    "holds_on",
    "marks_on",
    "refuse_erasure",
    "refuse_kept",
]

MAX_COMPILED: Final = 64


def holds_on(session: Session, subjects: Sequence[SubjectKey]) -> tuple[Hold, ...]:
    """
    Give the holds that keep anything of *subjects*, of their tenants' or their children's.

    Cost: for holds by patterns the lists of entries of all snapshots that have
    anything of the subjects.
    """
    state = session.log.state
    wanted = _Wanted(subjects)
    look = _Look(session, state)
    records = list(state.snapshots.values())
    return tuple(
        held.hold
        for held in standing(session, state).holds
        if held.unreadable
        or wanted.concerns(held.hold.subject)
        or (held.hold.paths and any(look.matches(held, record, wanted) for record in records))
    )


def marks_on(
    session: Session, subject: SubjectKey
) -> tuple[tuple[Hold, ...], tuple[Restriction, ...], tuple[Overlay, ...]]:
    """Give the holds, the restrictions and the overlays that concern a subject."""
    found, wanted = standing(session), _Wanted([subject])
    now_us = int(session.log.now().timestamp() * 1_000_000)
    restrictions = (r for mark, r in found.restrictions if r is not None and mark.binds(now_us))
    overlays = (shown.overlay for shown in chain.from_iterable(found.overlays.values()))
    return (
        holds_on(session, [subject]),
        tuple(r for r in restrictions if wanted.concerns(r.subject)),
        tuple(overlay for overlay in overlays if wanted.has(overlay.subject)),
    )


def refuse_erasure(session: Session, subjects: Sequence[SubjectKey]) -> None:
    """
    Refuse to erase subjects of whom something is held or restricted.

    Raises:
        HoldActive: Something of one of them is held; ``holds`` has all of these holds.
        PolicyError: Kind "restricted": one of them is restricted (GDPR Art. 18).
    """
    holds = holds_on(session, subjects)
    if holds:
        raise HoldActive(
            f"{len(holds)} holds stand against the erasure, the first of them {holds[0].id[:8]}; "
            "nothing was changed. They have to be released first (vault.holds lists them)",
            hold=holds[0],
            holds=holds,
        )
    wanted = _Wanted(subjects)
    now_us = int(session.log.now().timestamp() * 1_000_000)
    for mark, restriction in standing(session).restrictions:
        concerned = restriction is None or wanted.concerns(restriction.subject)
        if mark.binds(now_us) and concerned:
            raise PolicyError(
                "one of the subjects is restricted, so nothing of it is deleted; nothing was "
                "changed. The restriction has to end or be lifted first",
                kind="restricted",
            )


def refuse_kept(session: Session, state: State, records: Iterable[SnapshotRecord]) -> None:
    """
    Refuse to let snapshots go of which something is held or restricted.

    Raises:
        HoldActive: It is held.
        PolicyError: Kind "restricted": it is restricted.

    Cost: nothing where no mark stands; the labels of their subjects where one
    does; their lists of entries for holds by patterns.
    """
    marks = standing(session, state)
    restricted = binding(session)
    if not marks.holds and not restricted:
        return
    look = _Look(session, state)
    for record in records:
        held = look.holding(record, marks.holds)
        if held is not None:
            raise HoldActive(
                f"snapshot {record.id.hex()[:8]} has data under hold {held.hold.id[:8]}; nothing "
                "was changed. The hold has to be released first (vault.holds lists it)",
                hold=held.hold,
                snapshot=record.id.hex(),
            )
        if restricted and look.has_restricted(record, restricted):
            raise PolicyError(
                f"snapshot {record.id.hex()[:8]} has data of a subject that is restricted; nothing "
                "was changed. The restriction has to end or be lifted first",
                kind="restricted",
                snapshot=record.id.hex(),
            )


def domain_ids(session: Session, record: SnapshotRecord) -> Iterator[bytes]:
    """Give the ids of the domains that a snapshot has something of."""
    ids = record.domains
    if not ids and record.domains_list:
        ids = session.log.fetch_list(record.domains_list)
    return (ids[at : at + 16] for at in range(0, len(ids), 16))


def blockers_of(
    session: Session,
    state: State,
    records: Iterable[SnapshotRecord],
    requests: Sequence[SubjectKey] = (),
) -> Iterator[tuple[SnapshotRecord, tuple[Blocker, ...]]]:
    """
    Say what stands against forgetting each snapshot: a hold, a restriction, an open request.

    Cost: as :func:`refuse_kept`; for requests the labels of all its subjects.
    """
    marks, restricted = standing(session, state), binding(session)
    if not (marks.holds or restricted or requests):
        return
    look, asking = _Look(session, state), _Wanted(requests)
    for record in records:
        found = []
        held = look.holding(record, marks.holds)
        if held is not None:
            found.append(Blocker("hold", held.hold.id))
        if restricted and look.has_restricted(record, restricted):
            found.append(Blocker("restriction"))
        if requests and look.has_any(record, asking):
            found.append(Blocker("access request"))
        yield record, tuple(found)


@define
class _Wanted:
    """Subjects that somebody asks for; a tenant's own stands for its children too."""

    subjects: Sequence[SubjectKey]

    def has(self, subject: SubjectKey | None) -> bool:
        """Tell whether a subject's data are meant."""
        return is_covered(subject, self.subjects)

    def concerns(self, held: SubjectKey | None) -> bool:
        """Tell whether a hold on a subject keeps anything that is meant."""
        if held is None:
            return False
        return self.has(held) or any(is_covered(subject, (held,)) for subject in self.subjects)


@define(eq=False)
class _Look:
    """Looks into snapshots; a chunk of entries that no pattern matched is not read again."""

    session: Session
    state: State
    _clear: dict[str, set[tuple[bytes, bytes]]] = field(factory=dict)
    """By hold: (domain id, chunk id)."""

    def holding(self, record: SnapshotRecord, holds: Iterable[Held]) -> Held | None:
        """Give a hold that keeps something of a snapshot."""
        holds = list(holds)
        ids = set(domain_ids(self.session, record))
        exact = [held for held in holds if held.unreadable or held.domain in ids]
        if exact:
            return exact[0]
        tenants = {held.hold.subject: held for held in holds if _is_tenant(held.hold.subject)}
        for domain_id in ids if tenants else ():
            subject, readable = self._subject(domain_id)
            if not readable:
                return next(iter(tenants.values()))
            if subject is not None and subject[:1] in tenants:
                return tenants[subject[:1]]
        by_paths = (held for held in holds if held.hold.paths)
        return next((held for held in by_paths if self.matches(held, record)), None)

    def has_restricted(self, record: SnapshotRecord, restricted: Binding) -> bool:
        """Tell whether a snapshot has data of somebody who is restricted."""
        ids = set(domain_ids(self.session, record))
        if ids & restricted.ids:
            return True
        if not any(map(_is_tenant, restricted.subjects)):
            return False
        found = map(self._subject, ids)
        return any(not known or is_covered(whose, restricted.subjects) for whose, known in found)

    def has_any(self, record: SnapshotRecord, wanted: _Wanted) -> bool:
        """Tell whether a snapshot has data of some subjects, or may have."""
        found = map(self._subject, domain_ids(self.session, record))
        return any(not known or wanted.has(subject) for subject, known in found)

    def _subject(self, domain_id: bytes) -> tuple[SubjectKey | None, bool]:
        """Give whom a domain is about, and whether that can be told."""
        try:
            return self.session.keyring.by_id(domain_id).subject, True
        except NotFoundError:
            return None, True  # Erased.
        except DamagedData:
            return None, False

    def matches(self, held: Held, record: SnapshotRecord, whose: _Wanted | None = None) -> bool:
        """Tell whether the patterns of a hold match an entry of a snapshot, or cannot be held."""
        try:
            for row in read_table(self.session, record):
                domain = self._domain(row)
                if domain is None or (whose is not None and not whose.has(domain.subject)):
                    continue
                if self._in_stream(held, StreamReader(domain, row, self.session.reader)):
                    return True
        except DamagedData:
            return True
        return False

    def _domain(self, row: TableRow) -> Domain | None:
        try:
            return self.session.keyring.by_id(row.domain)
        except NotFoundError:
            return None

    def _in_stream(self, held: Held, stream: StreamReader) -> bool:
        patterns = _compiled(held.hold.paths)
        clear = self._clear.setdefault(held.hold.id, set())
        for number, chunk_id in enumerate(stream.chunks):
            key = (stream.domain.id, chunk_id)
            if key in clear:
                continue
            for node in stream.nodes(number):
                if patterns.matches(node.path, is_dir=node.kind == DIRECTORY):
                    return True
            clear.add(key)
        return False


def _is_tenant(subject: SubjectKey | None) -> bool:
    """Tell whether a subject may have children."""
    return subject is not None and len(subject) == 1


@lru_cache(maxsize=MAX_COMPILED)
def _compiled(paths: tuple[str, ...]) -> Patterns:
    return Patterns(paths, what="paths")
