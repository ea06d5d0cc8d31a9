"""Who acts on what, about whom and where: the plain words that all packages share."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

from attrs import field, frozen

from ..errors import InputError

__all__ = [
    "Action",
    "Actor",
    "Hold",
    "Location",
    "Overlay",
    "Place",
    "Problem",
    "Restriction",
    "Subject",
    "SubjectKey",
    "check_actor",
    "check_reason",
    "check_text",
    "is_covered",
    "show_subject",
    "subject_key",
    "text_size",
]

Subject: TypeAlias = str | tuple[str, ...]
"""Who data is about: an opaque string, or ``(tenant, person)``."""

SubjectKey: TypeAlias = tuple[str] | tuple[str, str]
"""A :data:`Subject` in its one canonical form, a tuple of one or two."""

MAX_SUBJECT_PART_BYTES = 256
MAX_ROLES = 256
MAX_APPROVALS = 16
MAX_ACTOR_CHARS = 4096
MAX_REASON_CHARS = 16_384
"""Together with an actor's texts it fits the 16 MiB of a record's body many times over."""


class Action(StrEnum):
    """Everything that a policy may be asked about."""

    CREATE = "create"
    OPEN = "open"
    BACKUP = "backup"
    READ = "read"
    RESTORE = "restore"
    EXPORT = "export"
    REPLICATE = "replicate"
    FORGET = "forget"
    PRUNE = "prune"
    ERASE = "erase"
    RECTIFY = "rectify"
    HOLD = "hold"
    RELEASE = "release"
    CHECK = "check"
    REPAIR = "repair"
    RESTRICT = "restrict"
    READMIT = "readmit"
    AUDIT = "audit"
    RECORD = "record"
    KEYS = "keys"
    POLICY = "policy"
    DISCLOSE = "disclose"
    PROMOTE = "promote"


def text_size(what: str, value: object) -> int:
    """
    Give the size of *value* in bytes of UTF-8; *what* names it in the error.

    Raises:
        InputError: It is not text, or text with surrogates.
    """
    if not isinstance(value, str):
        raise InputError(f"{what} must be text, not {type(value).__name__}")
    try:
        return len(value.encode())
    except UnicodeEncodeError as exc:
        raise InputError(f"{what} contains surrogates, which are no text") from exc


def check_text(what: str, value: object, *, max_chars: int) -> str:
    """
    Give *value* if it is text of 1 to *max_chars* characters; *what* names it in the error.

    Raises:
        InputError: It is not.
    """
    if not text_size(what, value):
        raise InputError(f"{what} is empty; leave it out or say something")
    text = str(value)
    if len(text) > max_chars:
        raise InputError(f"{what} has at most {max_chars:,} characters, not {len(text):,}")
    return text


def subject_key(subject: Subject) -> SubjectKey:
    """
    Give the canonical form of *subject*.

    A string is never split and never normalised: two spellings are two
    subjects.

    Raises:
        InputError: Empty, longer than two parts, a part over 256 bytes of
            UTF-8, or a part that is no valid Unicode text.

    >>> subject_key("user-42")
    ('user-42',)
    """
    if not isinstance(subject, str | tuple | list):
        raise InputError(f"a subject is text or a tuple of texts, not {type(subject).__name__}")
    parts: tuple[Any, ...] = (subject,) if isinstance(subject, str) else tuple(subject)
    if not 1 <= len(parts) <= 2:
        raise InputError(f"a subject has one part or two, not {len(parts)}")
    for part in parts:
        size = text_size("a part of a subject", part)
        if not 1 <= size <= MAX_SUBJECT_PART_BYTES:
            raise InputError(
                f"a part of a subject has 1 to {MAX_SUBJECT_PART_BYTES} bytes, not {size}"
            )
    return parts


def show_subject(key: SubjectKey | None) -> Subject | None:
    """Give a subject as its owner would write it: one part is a string."""
    return key[0] if key is not None and len(key) == 1 else key


def is_covered(subject: SubjectKey | None, by: Collection[SubjectKey]) -> bool:
    """Tell whether *by* has a subject itself or its tenant, whose own subject covers it."""
    return subject is not None and (subject in by or subject[:1] in by)


def _roles(value: Collection[str]) -> frozenset[str]:
    if isinstance(value, str) or not isinstance(value, Collection):
        raise InputError('roles is a collection: Actor("user-42", roles={"dpo"})')
    if len(value) > MAX_ROLES:
        raise InputError(f"an actor has at most {MAX_ROLES} roles, not {len(value):,}")
    return frozenset(check_text("a role", role, max_chars=MAX_ACTOR_CHARS) for role in value)


def _approvals(value: object) -> tuple[Actor, ...]:
    if not isinstance(value, Collection) or len(value) > MAX_APPROVALS:
        raise InputError(f"approved_by is a collection of at most {MAX_APPROVALS} actors")
    return tuple(check_actor(actor) for actor in value)


@frozen
class Actor:
    """
    Who acts. A value, asserted by the host, which authenticates people.

    Args:
        id: Name of the person or service, as the host knows it.
        roles: What the host lets them be; policies grant actions to roles.
        purpose: Why they act, for the audit log.
        ip: Where from, as text.
        device: On what.
        country: Where they are, as two capital letters, for rules that ask.
        approved_by: Who else has agreed to what is done: actors of their own, whom the
            host has authenticated too. They stand in the ledger beside who acts.

    Raises:
        InputError: No id or an empty role, something that is not text, a text
            over 4,096 characters, or over 256 roles; over 16 who have agreed.
    """

    id: str
    roles: frozenset[str] = field(default=frozenset(), converter=_roles, kw_only=True)
    purpose: str | None = field(default=None, kw_only=True)
    ip: str | None = field(default=None, kw_only=True)
    device: str | None = field(default=None, kw_only=True)
    country: str | None = field(default=None, kw_only=True)
    approved_by: tuple[Actor, ...] = field(default=(), converter=_approvals, kw_only=True)

    def __attrs_post_init__(self) -> None:
        check_text("an actor's id", self.id, max_chars=MAX_ACTOR_CHARS)
        for name in ("purpose", "ip", "device", "country"):
            value = getattr(self, name)
            # An empty one is what a host's form gives for "not said".
            if value is not None and text_size(f"an actor's {name}", value):
                check_text(f"an actor's {name}", value, max_chars=MAX_ACTOR_CHARS)


def check_actor(value: object) -> Actor:
    """Give *value* if it is an :class:`Actor`; InputError if not."""
    if not isinstance(value, Actor):
        raise InputError(f'an actor is an Actor("user-42"), not {type(value).__name__}')
    return value


def check_reason(value: object) -> str:
    """Give a reason that a person may be shown: text, not empty; InputError if it is not."""
    return check_text("a reason", value, max_chars=MAX_REASON_CHARS)


@frozen
class Location:
    """
    Where bytes lie: ISO 3166-1 alpha-2 country, provider's region, provider.

    The country is None where a region is all that is known.
    """

    country: str | None
    region: str | None = field(default=None, kw_only=True)
    provider: str | None = field(default=None, kw_only=True)
    copies: tuple[str, ...] = field(default=(), kw_only=True)
    """Other regions of the provider to which he copies all by himself, as far as is known."""


@frozen
class Place:
    """
    Where something lies, and how that is known.

    Args:
        what: ``vault``, ``replica`` or ``target``.
        declared: What its operator said: a region, a country, or what he calls it.
        observed: What the provider said; None where nobody can be asked.
        asked_at: When that was.
        url: Its address without credentials, for people.
    """

    what: str
    declared: str | None = None
    observed: Location | None = None
    asked_at: datetime | None = None
    url: str | None = None


@frozen
class Problem:
    """
    One thing that is missing or wrong.

    Args:
        kind: Stable code: ``unreadable``, ``changed``, ``vanished``, ...
        message: For people, without names.
        path: The entry concerned, as raw bytes, if there is one.
        object: The stored object concerned, if there is one.
        snapshots: Ids of the snapshots concerned.
    """

    kind: str
    message: str
    path: bytes | None = None
    object: str | None = None
    snapshots: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


@frozen
class Hold:
    """A legal hold: what it covers, why, and when to look at it again."""

    id: str
    reason: str
    review_at: datetime
    subject: SubjectKey | None = None
    paths: tuple[str, ...] = ()


@frozen
class Restriction:
    """
    A restriction of processing: until it ends, data of the subject are stored and no more.

    ``until`` is None where it binds until it is lifted. Source: GDPR Art. 18.
    """

    id: str
    reason: str
    subject: SubjectKey
    placed_at: datetime
    until: datetime | None = None


@frozen
class Overlay:
    """
    A rectification: what is shown in the place of an entry's own content.

    ``snapshots`` names those that it changes; None: all that were made before
    it. Source: GDPR Art. 16.
    """

    id: str
    subject: SubjectKey
    raw_path: bytes
    size_bytes: int
    placed_at: datetime
    reason: str | None = None
    snapshots: tuple[str, ...] | None = None
