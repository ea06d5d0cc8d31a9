"""The events of all registers as the ledger has them, read once and then followed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from attrs import Factory, define, evolve, frozen

from ...errors import ConflictError, InputError
from .event import Event, UnreadableError, decode, encode
from .records import Record

if TYPE_CHECKING:
    from ... import Cursor, LedgerEntry, Vault

__all__ = ["Apply", "Change", "Journal", "Shelf", "Unread"]

_PREFIX: Final = "register."


@frozen
class Change:
    """
    One event of a record, as history shows it.

    ``record`` is what it was from then on; None where the event has no effect,
    and ``problem`` says why: somebody else was faster, or it may not be.
    ``actor`` is None where the audit key of that month is gone.
    """

    index: int
    event: str
    op: str
    at: datetime | None
    actor: str | None
    roles: tuple[str, ...]
    purpose: str | None
    reason: str | None
    record: Any
    problem: str | None = None


@frozen
class Unread:
    """
    An event that stands in the ledger, and that no record shows.

    ``kind``: ``"newer"``, written by a newer library; ``"foreign"``, not written by this one;
    ``"sealed"``, its keys are gone: it was about somebody whose records were erased;
    ``"refused"``, of no record, or against the rules of its register.
    """

    index: int
    event: str
    kind: Literal["newer", "foreign", "sealed", "refused"]
    message: str
    at: datetime | None
    actor: str | None


Apply: TypeAlias = Callable[[Any, Event, str | None], Any]
"""Makes the next version of a record of the last one, an event, and the id of who acts."""


@define
class Shelf:
    """What one register holds."""

    apply: Apply
    changes: dict[str, list[Change]] = Factory(dict)
    """By id of the record, oldest first."""
    current: dict[str, Any] = Factory(dict)
    unread: dict[str, Unread] = Factory(dict)
    """By id of the event."""

    def take(self, entry: LedgerEntry) -> None:
        """Fold one event."""
        event_id = str(entry.facts["event"])
        if entry.payload is None:
            return self._leave(entry, event_id, "sealed", "its keys are gone")
        try:
            event = decode(entry.payload)
        except UnreadableError as exc:
            return self._leave(entry, event_id, exc.kind, str(exc))
        record_id = event_id if event.record is None else event.record
        old = self.current.get(record_id)
        try:
            new, problem = self.next(old, event, entry.actor), None
        except (InputError, ConflictError) as exc:
            new, problem = None, str(exc)
        if old is None and new is None:
            return self._leave(entry, event_id, "refused", problem or "")
        if new is not None:
            new = self.current[record_id] = evolve(
                new,
                id=record_id,
                version=1 if old is None else old.version + 1,
                recorded_at=entry.at,
                recorded_by=entry.actor,
                event=event_id,
            )
        change = Change(
            entry.index,
            event_id,
            event.op,
            entry.at,
            entry.actor,
            entry.roles,
            entry.purpose,
            event.reason,
            new,
            problem,
        )
        self.changes.setdefault(record_id, []).append(change)
        return None

    def next(self, old: Record | None, event: Event, actor: str | None) -> Any:
        """
        Give what *event* makes of a record.

        Raises:
            ConflictError: The event was made in knowledge of another version.
            InputError: It may not be.
        """
        if event.after != (None if old is None else old.event):
            raise ConflictError(
                "the record was changed meanwhile; get it again, and repeat the change"
            )
        if old is not None and old.subject != _subject(event):
            raise InputError("an event is about the subject that its record is about")
        return self.apply(old, event, actor)

    def _leave(self, entry: LedgerEntry, event_id: str, kind: Any, message: str) -> None:
        self.unread[event_id] = Unread(entry.index, event_id, kind, message, entry.at, entry.actor)


def _subject(event: Event) -> tuple[str, ...] | None:
    return None if event.subject is None else tuple(event.subject)


class Journal:
    """
    The registers of one vault, folded as far as they were read. Thread-safe.

    Each look reads what the ledger got since the last one. When somebody was
    erased meanwhile, everything is read anew: what was opened before is not
    kept in memory when its keys are gone.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self._appliers: dict[str, Apply] = {}
        self._lock = threading.RLock()
        self._cursor: Cursor | None = None
        self._shelves: dict[str, Shelf] = {}

    def know(self, name: str, apply: Apply) -> None:
        """Learn what the events of a register do; before the first look."""
        self._appliers[name] = apply

    def shelf(self, vault: Vault, name: str) -> Shelf:
        """
        Read on, and give what a register holds; it is not to be changed.

        Raises:
            PolicyError: The actor may not audit.
            DamagedData: The ledger is not as it was signed.
        """
        with self._lock:
            if self._cursor is None or self._read(vault):
                self._restart()
                self._read(vault)
            return self._shelves[name]

    def known(self, vault: Vault, name: str) -> Shelf:
        """Give what a register held at the last look; read only if there was none."""
        with self._lock:
            return self.shelf(vault, name) if self._cursor is None else self._shelves[name]

    def _restart(self) -> None:
        from ... import Cursor

        self._cursor = Cursor()
        self._shelves = {name: Shelf(apply) for name, apply in self._appliers.items()}

    def _read(self, vault: Vault) -> bool:
        """Take new entries in; tell whether somebody was erased by one of them."""
        erased = False
        entries = vault.ledger.entries(cursor=self._cursor)  # A refusal costs nobody's reading.
        try:
            for entry in entries:
                erased = erased or bool(entry.facts.get("erasure"))
                shelf = self._shelves.get(entry.kind.removeprefix(_PREFIX))
                if shelf is not None and entry.kind.startswith(_PREFIX):
                    shelf.take(entry)
        except BaseException:
            self._cursor = None  # Part of it may have been taken in.
            raise
        return erased

    def write(self, vault: Vault, name: str, event: Event) -> Any:
        """
        Record an event, and give the record that it made.

        Raises:
            InputError: It may not be; nothing was recorded.
            ConflictError: Somebody else was faster; the event stands in the ledger without effect.
            PolicyError: Refused.

        Cost: one record of the ledger; for a new subject one more.
        """
        shelf = self.shelf(vault, name)
        old = None if event.record is None else shelf.current.get(event.record)
        shelf.next(old, event, vault.actor.id)
        payload = encode(event)
        event_id = vault.ledger.append(f"{_PREFIX}{name}", payload, subject=_subject(event))
        shelf = self.shelf(vault, name)
        record_id = event_id if event.record is None else event.record
        for change in reversed(shelf.changes.get(record_id, ())):
            if change.event == event_id and change.problem is None:
                return change.record
        raise ConflictError(
            "the event is recorded, and has no effect: somebody else changed the record first",
            event=event_id,
        )
