"""Events of registers as bytes: JSON of one strict, versioned and bounded form."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, TypeVar

import attrs
import msgspec
from msgspec import Meta, Struct

from ...errors import InputError
from ...terms import MAX_REASON_CHARS

__all__ = ["VERSION", "Event", "UnreadableError", "checked", "decode", "encode", "plain"]

VERSION: Final = 1
MAX_EVENT_BYTES: Final = 1 << 20

_T = TypeVar("_T")
_Id = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
_VALUE = re.compile(r"enum value .*(?= - at `)|enum value .*$", re.DOTALL)
_SEPARATE: Final = frozenset(
    {"id", "version", "recorded_at", "recorded_by", "event", "subject"},
)
"""What a record has beside its own fields; it comes from the ledger."""


class Event(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One change of one record."""

    v: int
    op: Annotated[str, Meta(pattern="^[a-z][a-z_]{0,31}$")]
    record: _Id | None = None
    """Which; None of one that begins here and is named by its first event."""
    after: _Id | None = None
    """The event that this one was made in knowledge of; None at the beginning."""
    subject: Annotated[list[str], Meta(min_length=1, max_length=2)] | None = None
    fields: dict[str, Any] = {}
    reason: Annotated[str, Meta(min_length=1, max_length=MAX_REASON_CHARS)] | None = None


class _Head(Struct):
    v: int


class UnreadableError(Exception):
    """What stands there is no event that this library knows; ``kind`` says why."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def encode(event: Event) -> bytes:
    """
    Give the bytes of an event, which :func:`decode` takes.

    Raises:
        InputError: It holds what JSON has not, or is longer than 1 MiB.
    """
    try:
        data = msgspec.json.encode(event, order="deterministic")
        decode(data)
    except (TypeError, ValueError, RecursionError) as exc:
        raise InputError(f"this cannot be recorded: {_mend(exc)}") from None
    except UnreadableError as exc:
        raise InputError(f"this cannot be recorded: {exc}") from None
    return data


def decode(data: bytes) -> Event:
    """
    Read an event.

    Raises:
        UnreadableError: It is of a newer version ("newer"), or not one of these ("foreign").
    """
    if len(data) > MAX_EVENT_BYTES:
        raise UnreadableError("foreign", f"it is longer than {MAX_EVENT_BYTES:,} bytes")
    try:
        version = msgspec.json.decode(data, type=_Head).v
        if version > VERSION:
            raise UnreadableError(
                "newer", f"it has version {version}; this library reads {VERSION}"
            )
        event = msgspec.json.decode(data, type=Event)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        raise UnreadableError("foreign", f"it is no event of a register: {_mend(exc)}") from None
    if event.v != VERSION:
        raise UnreadableError("foreign", f"there is no version {version}")
    return event


def plain(record: attrs.AttrsInstance) -> dict[str, Any]:
    """
    Give a record's own fields as JSON has them, without those that are left at their default.

    Raises:
        InputError: A value is of no type that a record has.
    """
    found = {
        field.name: getattr(record, field.name)
        for field in attrs.fields(type(record))
        if field.name not in _SEPARATE and getattr(record, field.name) != field.default
    }
    try:
        return {name: msgspec.to_builtins(value) for name, value in found.items()}
    except (TypeError, ValueError, RecursionError) as exc:
        raise InputError(f"this cannot be recorded: {_mend(exc)}") from None


def checked(type_: type[_T], fields: dict[str, Any]) -> _T:
    """
    Make a record of fields as JSON has them.

    Raises:
        InputError: A field is missing, unknown or not of its type. The text names
            fields and types, never values.
    """
    what = type_.__name__
    try:
        record = msgspec.convert(fields, type_)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise InputError(f"a {what} is not as it must be: {_mend(exc)}") from None
    unknown = _unknown(fields, msgspec.to_builtins(record), "")
    if unknown:
        raise InputError(f"a {what} has no {unknown[0]!r}")
    return record


def _unknown(given: Any, taken: Any, at: str) -> list[str]:
    """Name what was given and not taken: the conversion leaves out what it does not know."""
    if isinstance(given, dict) and isinstance(taken, dict):
        names = [f"{at}{name}"[:64] for name in given if name not in taken]
        for name in given.keys() & taken.keys():
            names += _unknown(given[name], taken[name], f"{at}{name}.")
        return names
    if isinstance(given, list | tuple) and isinstance(taken, list | tuple):
        return [
            name
            for one, other in zip(given, taken, strict=True)
            for name in _unknown(one, other, at)
        ]
    return []


def _mend(exc: Exception) -> str:
    """Take values, which may name people, out of a message of the decoder."""
    return _VALUE.sub("word: not on the list", str(exc))
