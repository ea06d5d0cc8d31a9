"""The verb set that all registers share."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from datetime import UTC, date
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar
from zoneinfo import ZoneInfo

import attrs
import msgspec

from ...errors import ConflictError, InputError, NotFoundError
from ...terms import is_covered, subject_key
from .event import VERSION, Event, checked, plain
from .journal import Change, Journal, Unread
from .records import KEEPER_ID, Party, Record

if TYPE_CHECKING:
    from ... import Vault

__all__ = ["OpenRegister", "Register"]

R = TypeVar("R", bound=Record)


class Register(Generic[R]):
    """
    Records of one kind, each the sum of its events in the ledger.

    Nothing is overwritten: a change is an event of its own, with who made it,
    when and why, and :meth:`history` shows all of them.

    Cost of each call: what the ledger got since the last call of any register.
    """

    name: ClassVar[str]
    """After ``register.`` in the ledger, where it stands in clear."""
    type: ClassVar[builtins.type[Any]]
    begins: ClassVar[str] = "add"
    """The event that a record begins with."""
    fixed: ClassVar[frozenset[str]] = frozenset()
    """Fields that have verbs of their own, and that ``change`` leaves alone."""

    def __init__(self, vault: Vault, journal: Journal) -> None:
        self._vault = vault
        self._journal = journal
        journal.know(self.name, self.apply)

    def get(self, record: R | str) -> R:
        """
        Give the newest version of a record, by its id or an older version.

        Raises:
            NotFoundError: There is none; kind "erased": its keys are gone.
        """
        shelf = self._journal.shelf(self._vault, self.name)
        record_id = self._id(record)
        found: R | None = shelf.current.get(record_id)
        if found is None:
            gone = record_id in shelf.unread and shelf.unread[record_id].kind == "sealed"
            raise NotFoundError(
                f"the record {record_id[:8]} in {self.name} was erased"
                if gone
                else f"there is no record {record_id[:8]} in {self.name}",
                kind="erased" if gone else "record",
            )
        return found

    def list(self, **where: Any) -> builtins.list[R]:
        """
        Give the records of which all of *where* holds, oldest first.

        A value is compared with the field of that name; with one of many values it
        has to be among them; a tenant as ``subject`` takes its people along.

        Raises:
            InputError: The records have no such field.
        """
        unknown = where.keys() - attrs.fields_dict(self.type).keys()
        if unknown:
            raise InputError(f"a {self.type.__name__} has no {min(unknown)[:64]!r}")
        if where.get("subject") is not None:
            where["subject"] = subject_key(where["subject"])
        shelf = self._journal.shelf(self._vault, self.name)
        return [record for record in [*shelf.current.values()] if _matches(record, where)]

    def history(self, record: R | str) -> builtins.list[Change]:
        """
        Give every event of a record, oldest first, those without effect included.

        Raises:
            NotFoundError: As for :meth:`get`.
        """
        found = self.get(record)
        shelf = self._journal.shelf(self._vault, self.name)
        return [*shelf.changes.get(found.id, ())]

    def change(self, record: R | str, *, reason: str | None = None, **fields: Any) -> R:
        """
        Record that fields have other values now; those that are not named stay.

        Args:
            record: As it was given by this register, or its id. Given as it was, it has
                to be the newest version still.
            reason: Why.
            **fields: The new values.

        Raises:
            NotFoundError: There is no such record.
            ConflictError: It was changed meanwhile.
            InputError: No field, or one that is not as it must be.
        """
        if not fields:
            raise InputError("nothing is to be changed")
        return self._go_on("change", record, self._known(fields), reason=reason)

    def _known(self, fields: dict[str, Any]) -> dict[str, Any]:
        own = attrs.fields_dict(self.type).keys() - attrs.fields_dict(Record).keys()
        for name in fields:
            if name not in own:
                raise InputError(f"a {self.type.__name__} has no {name[:64]!r} to be changed")
        return fields

    @property
    def unread(self) -> tuple[Unread, ...]:
        """The events of this register that no record shows, and why; oldest first."""
        return tuple(self._journal.shelf(self._vault, self.name).unread.values())

    def apply(self, old: R | None, event: Event, actor: str | None) -> R:
        """
        Give what an event makes of a record; pure, and the one rule of writing and reading.

        Raises:
            InputError: The event may not be.
        """
        fields = dict(event.fields)
        if event.op == self.begins and old is None:
            if not self.begins_with(event.record):
                raise InputError(f"a {self.type.__name__} does not begin under that id")
            return self._made(event, fields)
        if event.op == "change" and old is not None:
            if fields.keys() & self.fixed:
                raise InputError(f"{min(fields.keys() & self.fixed)!r} has a verb of its own")
            return self._made(event, {**plain(old), **fields})
        raise InputError(f"a {self.type.__name__} knows no event {event.op!r} here")

    def begins_with(self, record_id: str | None) -> bool:
        """Tell whether a record may begin under that id; None: that of its first event."""
        return record_id is None

    def _made(self, event: Event, fields: dict[str, Any]) -> R:
        """Make a record of all its fields and the subject of an event."""
        record: R = checked(self.type, fields)
        subject = None if event.subject is None else subject_key(tuple(event.subject))
        return attrs.evolve(record, subject=subject)

    def _keeper(self) -> Party | None:
        """Give the keeper as last seen: a look of its own would cost a request."""
        found: Party | None = self._journal.known(self._vault, "parties").current.get(KEEPER_ID)
        return found

    def _today(self) -> date:
        """Give the day that it is where the keeper of the registers is."""
        keeper = self._keeper()
        zone = UTC if keeper is None or keeper.time_zone is None else ZoneInfo(keeper.time_zone)
        return self._journal.clock().astimezone(zone).date()

    def _begin(self, record: R, *, record_id: str | None = None, reason: str | None = None) -> R:
        """Record that a record begins."""
        subject = None if record.subject is None else [*record.subject]
        event = Event(
            v=VERSION,
            op=self.begins,
            record=record_id,
            subject=subject,
            fields=plain(record),
            reason=reason,
        )
        made: R = self._journal.write(self._vault, self.name, event)
        return made

    def _go_on(
        self, op: str, record: R | str, fields: Mapping[str, Any], *, reason: str | None = None
    ) -> R:
        """Record an event of a record that there is; on the version that the caller knows."""
        known = self.get(record)
        if isinstance(record, Record) and record.event != known.event:
            raise ConflictError(
                f"the record {self._id(record)[:8]} was changed meanwhile; get it again"
            )
        event = Event(
            v=VERSION,
            op=op,
            record=known.id,
            after=known.event,
            subject=None if known.subject is None else [*known.subject],
            fields=plain_values(fields),
            reason=reason,
        )
        made: R = self._journal.write(self._vault, self.name, event)
        return made

    def _id(self, record: object) -> str:
        found = record.id if isinstance(record, self.type) else record
        if not isinstance(found, str) or not found:
            raise InputError(f"{self.name} takes a recorded {self.type.__name__}, or its id")
        return found


class OpenRegister(Register[R]):
    """A register whose records are what somebody says that they are."""

    def add(self, record: R, *, reason: str | None = None) -> R:
        """
        Record *record*, and give it with its id.

        Args:
            record: A new one. With ``subject`` it is sealed under that subject's records.
            reason: Why; sealed with it.

        Raises:
            InputError: It is recorded already, of another kind, or a field is not as it must be.
            PolicyError: Refused.
        """
        if not isinstance(record, self.type):
            raise InputError(f"{self.name} holds {self.type.__name__}, not {type(record).__name__}")
        if record.id:
            raise InputError(f"the record {record.id[:8]} is there already: change it")
        return self._begin(record, reason=reason)


def plain_values(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Give values as JSON has them; InputError for what it has not."""
    try:
        return {name: msgspec.to_builtins(value) for name, value in fields.items()}
    except (TypeError, ValueError, RecursionError):
        raise InputError(f"a value of {', '.join(sorted(fields))} cannot be recorded") from None


def _matches(record: Record, where: Mapping[str, Any]) -> bool:
    for name, wanted in where.items():
        value = getattr(record, name)
        if name == "subject":
            if wanted is None and value is None:
                continue
            if wanted is None or not is_covered(value, {wanted}):
                return False
        elif isinstance(value, tuple) and not isinstance(wanted, tuple):
            if wanted not in value:
                return False
        elif value != wanted:
            return False
    return True
