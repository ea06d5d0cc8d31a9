"""The part of a vault's handle that sets marks, and what the ledger takes from other layers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from ..errors import InputError, NotFoundError
from ..terms import Action, Actor, Hold, Subject, SubjectKey, subject_key
from .entry import raw_path
from .looking import Looking
from .verbs.session import Session

__all__ = ["Appended", "Marking", "append"]

Appended = bytes | bytearray | memoryview | Mapping[str, Any]
"""What may be given as a payload: a mapping, or JSON text of one; for a register any bytes."""
_P = TypeVar("_P", bound=Struct)
_REGISTER: Final = re.compile(r"register\.([a-z0-9][a-z0-9_.-]{0,63})")


class Marking(Looking):
    """What :class:`Vault` can mark, so that every program obeys it."""

    def hold(
        self,
        subject: Subject | None = None,
        *,
        paths: Sequence[str] = (),
        reason: str,
        review_at: datetime,
    ) -> Hold:
        """
        Place a hold: what it covers can be neither forgotten nor erased until it is released.

        Args:
            subject: Whose data; a tenant's own subject covers its people. One
                that the vault does not know yet is fine: what comes is covered.
            paths: Instead of a subject gitignore patterns: the entries that they
                match, in all snapshots.
            reason: Why; sealed under the subject's keys.
            review_at: Aware instant at which somebody should look at it again.
                The hold does not end then.

        Raises:
            InputError: Both or none of *subject* and *paths*, no time zone, no
                reason, a pattern that can match nothing.
            PolicyError: Refused.

        Cost: one record; for a new subject one more.
        """
        from .verbs.marking import run_hold

        return run_hold(
            self._session,
            self._actor,
            subject=None if subject is None else subject_key(subject),
            paths=paths,
            reason=reason,
            review_at=review_at,
        )

    def release(self, hold: Hold | str, *, reason: str) -> None:
        """
        End a hold, given as it is or by its id.

        Raises:
            NotFoundError: It is not in force; kind "hold".
            InputError: No reason, or *hold* is neither.
            PolicyError: Refused.
        """
        from .verbs.marking import run_release

        name = hold.id if isinstance(hold, Hold) else hold
        run_release(self._session, self._actor, _mark_id("hold", name), reason=reason)

    @property
    def holds(self) -> tuple[Hold, ...]:
        """
        The holds in force, oldest first; each look folds what was committed since.

        Of one whose text is lost the reason is empty, and ``review_at`` says
        when it was placed.
        """
        from .verbs.marking import holds_in_force

        self._session.begin(Action.READ, self._actor)
        return holds_in_force(self._session)


def append(
    session: Session, actor: Actor, kind: object, payload: Appended, subject: Subject | None
) -> str:
    """
    Append what :meth:`Ledger.append` takes; give the id of the mark or event.

    Raises:
        InputError: Another kind, or a payload that is none of it.
    """
    key = None if subject is None else subject_key(subject)
    register = _REGISTER.fullmatch(kind) if isinstance(kind, str) else None
    if register is not None:
        from .verbs.marking import run_register

        return run_register(session, actor, register[1], _event(payload), subject=key)
    if kind not in ("restriction", "overlay"):
        raise InputError('what is appended is "restriction", "overlay" or "register.<name>"')
    if key is None:
        raise InputError(f"a {kind} is about a subject: subject=...")
    if kind == "restriction":
        return _restrict(session, actor, key, _parsed(payload, _Restriction))
    return _rectify(session, actor, key, payload)


class _Restriction(Struct, forbid_unknown_fields=True, kw_only=True):
    reason: str
    until: Annotated[datetime, Meta(tz=True)] | None = None
    lifts: str | None = None
    """Id of the restriction that ends."""


class _Overlay(Struct, forbid_unknown_fields=True, kw_only=True):
    path: str
    replacement: bytes
    snapshots: Literal["all"] | list[str] = "all"
    reason: str | None = None


def _restrict(session: Session, actor: Actor, subject: SubjectKey, found: _Restriction) -> str:
    from .verbs.marking import run_lift, run_restrict

    if found.lifts is None:
        return run_restrict(session, actor, subject, reason=found.reason, until=found.until)
    if found.until is not None:
        raise InputError("a restriction is lifted at once; leave until out")
    mark_id = _mark_id("restriction", found.lifts)
    return run_lift(session, actor, subject, mark_id, reason=found.reason)


def _rectify(session: Session, actor: Actor, subject: SubjectKey, payload: Appended) -> str:
    from .verbs.rectify import run_rectify

    path: Any = None
    if isinstance(payload, Mapping) and isinstance(payload.get("path"), bytes):
        # Bytes are what a path is on disk; the schema knows them as base64 only.
        path, payload = payload["path"], {**payload, "path": ""}
    if isinstance(payload, Mapping) and isinstance(payload.get("replacement"), str):
        # The schema would take it for base64, which only JSON has to stand in for bytes.
        raise InputError("the replacement of an overlay is bytes")
    found = _parsed(payload, _Overlay)
    raw = raw_path(found.path if path is None else path)
    if not raw:
        raise InputError("the path of an overlay is empty")
    named = [] if isinstance(found.snapshots, str) else found.snapshots
    if not isinstance(found.snapshots, str) and not named:
        raise InputError('snapshots is "all", or names at least one')
    return run_rectify(
        session,
        actor,
        subject,
        path=raw,
        replacement=found.replacement,
        snapshots=[_snapshot_id(session, name) for name in named],
        reason=found.reason,
    )


def _snapshot_id(session: Session, name: str) -> bytes:
    """Find a live snapshot by its whole id."""
    session.check_open()
    session.log.refresh()
    try:
        snapshot_id = bytes.fromhex(name)
    except ValueError:
        snapshot_id = b""
    if snapshot_id not in session.log.state.snapshots:
        raise NotFoundError("a snapshot that an overlay names is not there", kind="snapshot")
    return snapshot_id


def _mark_id(what: str, name: object) -> bytes:
    try:
        found = bytes.fromhex(name) if isinstance(name, str) else b""
    except ValueError:
        found = b""
    if len(found) != 16:
        raise InputError(f"a {what} is named by its id, 32 hex digits")
    return found


def _parsed(payload: Appended, type_: type[_P]) -> _P:
    """Take a payload as what it should be; the errors of the schema name fields, not values."""
    try:
        if isinstance(payload, Mapping):
            return msgspec.convert(dict(payload), type_)
        if isinstance(payload, bytes | bytearray | memoryview):
            return msgspec.json.decode(payload, type=type_)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        raise InputError(f"the payload is malformed: {exc}") from None
    raise InputError(f"a payload is a mapping or bytes of JSON, not {type(payload).__name__}")


def _event(payload: Appended) -> bytes:
    """Give the bytes of a register's event; a mapping becomes JSON."""
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload)
    if not isinstance(payload, Mapping):
        raise InputError(f"a payload is bytes or a mapping, not {type(payload).__name__}")
    try:
        return msgspec.json.encode(payload, order="deterministic")
    except (TypeError, ValueError, RecursionError) as exc:
        raise InputError(f"the payload cannot be written as JSON: {exc}") from exc
