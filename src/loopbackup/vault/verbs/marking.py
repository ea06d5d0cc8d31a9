"""Setting and ending marks, and events of registers: each is one record of the ledger."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from ...errors import InputError, NotFoundError, PolicyError
from ...terms import Action, Actor, Facts, Hold, SubjectKey, check_reason
from ..format import codec
from ..format import record as rec
from ..format.markfacts import MAX_PATTERN_CHARS, MAX_PATTERNS, HoldBody, NoteBody
from ..keys.domains import RECORDS
from ..ledger.log import Body, Draft, Fresh
from ..ledger.state import Mark, State
from ..source.patterns import Patterns
from .domains import ensure_domains
from .fences import erased_error
from .session import Session
from .standing import standing

__all__ = [
    "aware_us",
    "begin_mark",
    "domain_of",
    "holds_in_force",
    "run_hold",
    "run_lift",
    "run_register",
    "run_release",
    "run_restrict",
]

MAX_EVENT_BYTES: Final = 8 << 20
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def begin_mark(
    session: Session,
    action: Action,
    actor: Actor,
    *,
    subject: SubjectKey | None = None,
    reason: str | None = None,
) -> None:
    """
    Ask whether a mark may be set or ended.

    Raises:
        PolicyError: Refused; kind "role": this process signs without the role
            admin, so that nobody would heed its record.
        InputError: The vault is closed, or open for reading only.
    """
    session.check_open()
    session.check_writable()
    session.begin(action, actor, Facts(actor=actor, subject=subject, reason=reason))
    signer = session.log.signer
    if signer is None or "admin" not in signer.roles:
        raise PolicyError(f"{action} needs a credential with the role admin", kind="role")


def aware_us(what: str, moment: object) -> int:
    """Give an instant in microseconds; InputError where it has no zone or is none."""
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise InputError(f"{what} is a datetime with a zone: datetime(..., tzinfo=UTC)")
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def domain_of(session: Session, subject: SubjectKey) -> bytes:
    """Give the id of a subject's domain, which is made if there is none yet."""
    found = ensure_domains(session.store, session.log, session.keyring, [subject])
    if subject not in found:
        raise erased_error(session, subject) or NotFoundError("no such subject", kind="subject")
    return found[subject].id


def _records_of(session: Session, subject: SubjectKey) -> bytes:
    """Give the id of the domain of a subject's records, which is made if there is none yet."""
    store, log, keyring = session.store, session.log, session.keyring
    return ensure_domains(store, log, keyring, [subject], status=RECORDS)[subject].id


def holds_in_force(session: Session) -> tuple[Hold, ...]:
    """Give the holds that stand, in the order in which they were placed."""
    return tuple(held.hold for held in standing(session).holds)


# ---- holds


def run_hold(
    session: Session,
    actor: Actor,
    *,
    subject: SubjectKey | None,
    paths: Sequence[str],
    reason: str,
    review_at: datetime,
) -> Hold:
    """
    Place a hold on a subject, or on what patterns match.

    Raises:
        InputError: Not exactly one of both, or an argument is out of bounds.
        PolicyError: Refused.
    """
    paths = _checked_paths(paths)
    if (subject is None) == (not paths):
        raise InputError("a hold is on a subject, or on paths=[...] of all snapshots")
    body = HoldBody(
        reason=check_reason(reason), review_us=aware_us("review_at", review_at), paths=paths
    )
    begin_mark(session, Action.HOLD, actor, subject=subject, reason=reason)
    domain = b"" if subject is None else domain_of(session, subject)
    mark = os.urandom(16)

    def draft(_state: State) -> Draft:
        bodies = _bodies(session, actor, Action.HOLD, domain, codec.encode(body))
        return Draft("hold", rec.Held(mark, domain), bodies)

    session.log.commit(Fresh(draft))
    return Hold(mark.hex(), reason, review_at, subject, paths)


def _checked_paths(paths: Sequence[str]) -> tuple[str, ...]:
    Patterns(paths, what="paths")
    found = (paths,) if isinstance(paths, str) else tuple(paths)
    if len(found) > MAX_PATTERNS or any(len(path) > MAX_PATTERN_CHARS for path in found):
        raise InputError(
            f"a hold has at most {MAX_PATTERNS} patterns of {MAX_PATTERN_CHARS:,} characters"
        )
    try:
        "".join(found).encode()
    except UnicodeEncodeError as exc:
        raise InputError("a pattern in paths contains surrogates, which are no text") from exc
    return found


def run_release(session: Session, actor: Actor, hold_id: bytes, *, reason: str) -> None:
    """
    End a hold.

    Raises:
        InputError: The reason is empty or too long.
        NotFoundError: No such hold is in force; kind "hold".
        PolicyError: Refused.
    """
    note = NoteBody(reason=check_reason(reason))
    session.check_open()
    # The gate has to know whom it is about, and another process may have placed it just now.
    session.log.refresh()
    found = (held.hold for held in standing(session).holds if held.hold.id == hold_id.hex())
    about = next(found, None)
    subject = None if about is None else about.subject
    begin_mark(session, Action.RELEASE, actor, subject=subject, reason=reason)

    def draft(state: State) -> Draft:
        held = _standing_mark(state, hold_id, "hold")
        bodies = _bodies(session, actor, Action.RELEASE, held.domain, codec.encode(note))
        return Draft("release", rec.Released(hold_id), bodies)

    session.log.commit(Fresh(draft))


# ---- restrictions


def run_restrict(
    session: Session, actor: Actor, subject: SubjectKey, *, reason: str, until: datetime | None
) -> str:
    """
    Restrict what is about a subject to being stored; give the restriction's id.

    Raises:
        InputError: The reason is empty or too long, or *until* has no zone.
        PolicyError: Refused.
    """
    note = NoteBody(reason=check_reason(reason))
    until_us = None if until is None else aware_us("until", until)
    begin_mark(session, Action.RESTRICT, actor, subject=subject, reason=reason)
    domain, mark = domain_of(session, subject), os.urandom(16)

    def draft(_state: State) -> Draft:
        bodies = _bodies(session, actor, Action.RESTRICT, domain, codec.encode(note))
        return Draft("restriction", rec.Restricted(mark, domain, until_us), bodies)

    session.log.commit(Fresh(draft))
    return mark.hex()


def run_lift(
    session: Session, actor: Actor, subject: SubjectKey, mark_id: bytes, *, reason: str
) -> str:
    """
    Lift a restriction of a subject; give its id.

    Raises:
        InputError: The reason is empty or too long.
        NotFoundError: No such restriction of that subject stands; kind "restriction".
        PolicyError: Refused.
    """
    note = NoteBody(reason=check_reason(reason))
    begin_mark(session, Action.RESTRICT, actor, subject=subject, reason=reason)
    whose = {
        mark.id: restriction.subject
        for mark, restriction in standing(session).restrictions
        if restriction is not None
    }

    def draft(state: State) -> Draft:
        mark = _standing_mark(state, mark_id, "restriction")
        if whose.get(mark_id, subject) != subject:
            raise _no_such("restriction")
        bodies = _bodies(session, actor, Action.RESTRICT, mark.domain, codec.encode(note))
        return Draft("lift", rec.Lifted(mark_id), bodies)

    session.log.commit(Fresh(draft))
    return mark_id.hex()


# ---- registers


def run_register(
    session: Session, actor: Actor, name: str, payload: bytes, *, subject: SubjectKey | None
) -> str:
    """
    Record an event of a register, sealed to its subject's records, else to the audit key.

    Returns:
        Its id.

    Raises:
        InputError: It is longer than 8 MiB.
        PolicyError: Refused.
    """
    if len(payload) > MAX_EVENT_BYTES:
        raise InputError(f"an event has at most {MAX_EVENT_BYTES:,} bytes, not {len(payload):,}")
    begin_mark(session, Action.RECORD, actor, subject=subject)
    domain = None if subject is None else _records_of(session, subject)
    event = os.urandom(16)

    def draft(_state: State) -> Draft:
        audit = session.audit(actor, Action.RECORD)
        key, ref = ("domain", domain) if domain is not None else (audit.key, audit.ref)
        return Draft(
            "register", rec.Registered(name, event), [session.body(key, ref, payload), audit]
        )

    session.log.commit(Fresh(draft))
    return event.hex()


# ---- the rest


def _bodies(
    session: Session, actor: Actor, action: Action, domain: bytes, payload: bytes
) -> list[Body]:
    """
    Seal what a mark says under its subject's domain, and who set it for the audit.

    The reason stands in the first only: it may well name the person.
    """
    key, ref = ("domain", domain) if domain else ("meta", session.keyring.generation_ref)
    return [session.body(key, ref, payload), session.audit(actor, action)]


def _standing_mark(state: State, mark_id: bytes, kind: str) -> Mark:
    mark = state.marks.get(mark_id)
    if mark is None or mark.kind != kind:
        raise _no_such(kind)
    return mark


def _no_such(kind: str) -> NotFoundError:
    return NotFoundError(f"no such {kind} is in force (any more)", kind=kind)
