"""
The marks that stand, opened: what is held, restricted and rectified, and for whom.

What cannot be opened is never taken for less than it may be: a hold that
cannot be read holds everything, and an overlay's subject keeps all it has.
"""

from __future__ import annotations

from typing import Final, TypeVar

from attrs import define, field, frozen
from msgspec import Struct

from ...errors import DamagedData, NotFoundError
from ...logs import get_logger
from ...terms import Hold, Overlay, Problem, Restriction, SubjectKey, is_covered
from ..format import codec, names
from ..format.markfacts import HoldBody, NoteBody, OverlayBody
from ..keys.domains import Domain
from ..ledger.state import Mark, SnapshotRecord, State
from .session import Session, to_moment

__all__ = ["Binding", "Held", "Rectified", "Standing", "binding", "standing"]

_B = TypeVar("_B", bound=Struct)


@frozen
class Held:
    """A hold in force, and what of the vault it is about."""

    hold: Hold
    domain: bytes
    """Empty for a hold by patterns."""
    unreadable: bool = False
    """Nobody can say any more what it covers, so it covers everything."""


@frozen
class Rectified:
    """An overlay, and the content that it shows."""

    mark: Mark
    overlay: Overlay
    body: OverlayBody

    def chunk_ids(self) -> list[bytes]:
        """Give the ids of its chunks, in order."""
        chunks = self.body.chunks
        return [chunks[at : at + 32] for at in range(0, len(chunks), 32)]


@define
class Standing:
    """All marks of one state of a vault, in the order of their records."""

    marks: dict[bytes, Mark]
    """What they were opened from."""
    holds: list[Held] = field(factory=list)
    restrictions: list[tuple[Mark, Restriction | None]] = field(factory=list)
    """None where its subject cannot be read: it binds its domain all the same."""
    overlays: dict[bytes, list[Rectified]] = field(factory=dict)
    """By domain id."""
    lost_overlays: set[bytes] = field(factory=set)
    """Domains with overlays of which nobody can say what they show."""
    problems: list[Problem] = field(factory=list)
    settled: bool = True
    """Every key was at hand; if not, the next look may open more."""

    def shown_in(self, snapshot: SnapshotRecord, domain_id: bytes) -> dict[bytes, Rectified]:
        """Give what overlays show of a domain in a snapshot, by path; the last one counts."""
        return {
            found.body.path: found
            for found in self.overlays.get(domain_id, ())
            if found.mark.changes(snapshot)
        }


@frozen
class Binding:
    """Whose data may not be touched now."""

    ids: frozenset[bytes]
    subjects: frozenset[SubjectKey]

    def __bool__(self) -> bool:
        return bool(self.ids)

    def covers(self, domain: Domain) -> bool:
        """Tell whether a domain's data are restricted."""
        return domain.id in self.ids or is_covered(domain.subject, self.subjects)


def binding(session: Session) -> Binding:
    """Give the restrictions that bind at this moment, by the vault's clock."""
    found = standing(session).restrictions
    if not found:
        return Binding(frozenset(), frozenset())
    now_us = int(session.log.now().timestamp() * 1_000_000)
    now = [(mark, restriction) for mark, restriction in found if mark.binds(now_us)]
    return Binding(
        frozenset(mark.domain for mark, _ in now),
        frozenset(restriction.subject for _, restriction in now if restriction is not None),
    )


def standing(session: Session, state: State | None = None) -> Standing:
    """
    Open the marks of a state, by default the one folded now.

    Cost: nothing while no mark is set or ended; else a keyring shard and a
    body for each mark.
    """
    marks = (state or session.log.state).marks
    known = session.opened_marks
    if isinstance(known, Standing) and known.marks is marks:
        return known
    found = _open(session, marks)
    if found.settled:
        # Two threads may open them twice; what they come to is the same.
        session.opened_marks = found
    return found


def _open(session: Session, marks: dict[bytes, Mark]) -> Standing:
    found = Standing(marks)
    for mark in marks.values():
        try:
            domain = session.keyring.by_id(mark.domain) if mark.domain else None
        except NotFoundError:
            continue  # Erased with its subject: nothing is left that it could be about.
        except DamagedData as exc:
            _tell(found, mark, str(exc))
            _add_unreadable(found, mark)
            found.settled = False
            continue
        subject = None if domain is None else domain.subject
        _ADD[mark.kind](session, found, mark, subject)
    return found


def _add_unreadable(found: Standing, mark: Mark) -> None:
    """Note a mark of which not even the subject is known any more."""
    if mark.kind == "hold":
        found.holds.append(Held(_bare(mark, None), mark.domain, unreadable=True))
    elif mark.kind == "restriction":
        found.restrictions.append((mark, None))
    else:
        found.lost_overlays.add(mark.domain)


def _add_hold(session: Session, found: Standing, mark: Mark, subject: SubjectKey | None) -> None:
    body = _body(session, found, mark, HoldBody)
    if body is None:
        # Of a subject's hold only the reason is gone.
        unreadable = not mark.domain
        found.holds.append(Held(_bare(mark, subject), mark.domain, unreadable))
        return
    hold = Hold(mark.id.hex(), body.reason, to_moment(body.review_us), subject, tuple(body.paths))
    found.holds.append(Held(hold, mark.domain, unreadable=subject is None and not body.paths))


def _add_restriction(
    session: Session, found: Standing, mark: Mark, subject: SubjectKey | None
) -> None:
    body = _body(session, found, mark, NoteBody)
    until = None if mark.until_us is None else to_moment(mark.until_us)
    shown = None
    if subject is not None:
        reason = "" if body is None else body.reason
        shown = Restriction(mark.id.hex(), reason, subject, to_moment(mark.at_us), until)
    found.restrictions.append((mark, shown))


def _add_overlay(session: Session, found: Standing, mark: Mark, subject: SubjectKey | None) -> None:
    body = _body(session, found, mark, OverlayBody)
    if body is None and mark.body is None:
        found.lost_overlays.add(mark.domain)
    if body is None or subject is None:
        return
    if len(body.chunks) % 32:
        _tell(found, mark, "its list of chunks is cut short")
        return
    shown = Overlay(
        mark.id.hex(),
        subject,
        body.path,
        body.size,
        to_moment(mark.at_us),
        body.reason,
        tuple(snapshot.hex() for snapshot in mark.snapshots) or None,
    )
    found.overlays.setdefault(mark.domain, []).append(Rectified(mark, shown, body))


_ADD: Final = {"hold": _add_hold, "restriction": _add_restriction, "overlay": _add_overlay}


def _body(session: Session, found: Standing, mark: Mark, type_: type[_B]) -> _B | None:
    """Open a mark's body; None where it is lost, or is none."""
    ref = mark.ref
    is_own = ref is not None and (
        (ref.key, ref.ref) == ("domain", mark.domain) if mark.domain else ref.key == "meta"
    )
    if ref is None or not is_own:
        _tell(found, mark, "nothing is sealed beside it that is its own")
        return None
    if mark.body is None:
        _tell(found, mark, "what it says is lost")
        return None
    try:
        return codec.decode(session.open_body(ref, mark.body), type_)
    except (DamagedData, NotFoundError) as exc:
        _tell(found, mark, str(exc))
        return None


def _tell(found: Standing, mark: Mark, why: str) -> None:
    name = names.record_name(mark.index)
    get_logger().error("a mark cannot be read", kind=mark.kind, index=mark.index)
    text = f"the {mark.kind} of ledger record {mark.index} cannot be read: {why}"
    found.problems.append(Problem("unreadable_mark", text, object=name))


def _bare(mark: Mark, subject: SubjectKey | None) -> Hold:
    return Hold(mark.id.hex(), "", to_moment(mark.at_us), subject)
