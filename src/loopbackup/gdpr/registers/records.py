"""
What registers hold: one frozen value for each kind of record.

Terms are those of the GDPR; field by field after Art. 4, 6, 9, 15, 19, 30 and 34 CFR 99.32.
Whatever is given is checked when it is recorded, and again when it is read.
"""

from __future__ import annotations

import zoneinfo
from datetime import date, datetime
from typing import Annotated, Final, Literal, TypeAlias

from attrs import field, frozen
from msgspec import Meta

from ...errors import InputError
from ...terms import Subject, subject_key

__all__ = [
    "KEEPER_ID",
    "Activity",
    "DataCategory",
    "Disclosure",
    "Measure",
    "Notice",
    "Party",
    "PartyRole",
    "Purpose",
    "Recipient",
    "Record",
    "RetentionLimit",
    "check_day",
]

KEEPER_ID: Final = "0" * 32
"""Of the party that keeps the registers, in every vault: there is one, whoever was first."""

Short: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]
Text: TypeAlias = Annotated[str, Meta(min_length=1, max_length=16_384)]
Country: TypeAlias = Annotated[str, Meta(pattern="^[A-Z]{2}$")]
"""ISO 3166-1 alpha-2."""
Id: TypeAlias = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
Shorts: TypeAlias = Annotated[tuple[Short, ...], Meta(max_length=1024)]
Ids: TypeAlias = Annotated[tuple[Id, ...], Meta(max_length=1024)]
Countries: TypeAlias = Annotated[tuple[Country, ...], Meta(max_length=256)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**53 - 1)]

PartyRole: TypeAlias = Literal[
    "controller",
    "joint_controller",
    "processor",
    "sub_processor",
    "representative",
    "dpo",
    "recipient",
    "third_party",
    "authority",
    "data_subject",
    "parent",
    "eligible_student",
]
Basis: TypeAlias = Literal["A6-1-a", "A6-1-b", "A6-1-c", "A6-1-d", "A6-1-e", "A6-1-f"]
SpecialBasis: TypeAlias = Literal[
    "A9-2-a",
    "A9-2-b",
    "A9-2-c",
    "A9-2-d",
    "A9-2-e",
    "A9-2-f",
    "A9-2-g",
    "A9-2-h",
    "A9-2-i",
    "A9-2-j",
]


def check_day(what: str, value: object) -> date:
    """Give *value* if it is a day without a time; InputError if not, *what* names it."""
    if isinstance(value, datetime) or not isinstance(value, date):
        raise InputError(f"{what} is a day: date(2026, 11, 25), not {type(value).__name__}")
    return value


def _subject(subject: Subject | None) -> tuple[str, ...] | None:
    return None if subject is None else subject_key(subject)


@frozen(kw_only=True)
class Record:
    """
    What every record has; all but ``subject`` is filled by the register.

    ``subject`` is whom it is about: the record is sealed under the keys of that
    subject's records, and goes with them (``scope="records"`` of an erasure).
    """

    id: str = ""
    """Thirty-two hex digits; empty before it is recorded."""
    version: int = 0
    """How many changes made it what it is."""
    recorded_at: datetime | None = None
    """When the last of them was recorded, by the writer's clock."""
    recorded_by: str | None = None
    """The id of the actor who recorded it; None where the audit key is gone."""
    event: str = ""
    """The id of that event in the ledger."""
    subject: tuple[str, ...] | None = field(default=None, converter=_subject)


@frozen
class Party(Record):
    """Somebody with a part in the processing. ``time_zone`` is an IANA name, default UTC."""

    name: Short
    country: Country = field(kw_only=True)
    subdivision: Annotated[str, Meta(pattern="^[A-Z0-9]{1,3}$")] | None = field(
        default=None, kw_only=True
    )
    """Of ISO 3166-2 without the country, such as BY; public holidays may depend on it."""
    time_zone: Short | None = field(default=None, kw_only=True)
    roles: tuple[PartyRole, ...] = field(default=(), kw_only=True)
    legal_name: Short | None = field(default=None, kw_only=True)
    address: Text | None = field(default=None, kw_only=True)
    email: Short | None = field(default=None, kw_only=True)
    phone: Short | None = field(default=None, kw_only=True)
    url: Annotated[str, Meta(min_length=1, max_length=2048)] | None = field(
        default=None, kw_only=True
    )
    represents: Id | None = field(default=None, kw_only=True)
    registration_ids: Shorts = field(default=(), kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.time_zone is not None and self.time_zone not in zoneinfo.available_timezones():
            raise InputError("a Party's time_zone is a name of the IANA database: Europe/Stockholm")


@frozen
class Purpose:
    """What for, and on what basis (Art. 6(1), 9(2)); ``interest`` where that is (f)."""

    text: Text
    basis: Basis = field(kw_only=True)
    special_basis: SpecialBasis | None = field(default=None, kw_only=True)
    interest: Text | None = field(default=None, kw_only=True)
    dpv: Short | None = field(default=None, kw_only=True)
    """IRI of the Data Privacy Vocabulary."""

    def __attrs_post_init__(self) -> None:
        if self.basis == "A6-1-f" and self.interest is None:
            raise InputError("basis A6-1-f needs the legitimate interest: interest=")


@frozen
class DataCategory:
    """A category of personal data (Art. 30(1)(c)): special (Art. 9), criminal (Art. 10)."""

    name: Short
    special: bool = field(default=False, kw_only=True)
    criminal: bool = field(default=False, kw_only=True)
    child: bool = field(default=False, kw_only=True)
    source: Text | None = field(default=None, kw_only=True)
    """Where they come from, if not from the person (Art. 14(2)(f), 15(1)(g))."""
    dpv: Short | None = field(default=None, kw_only=True)


@frozen
class RetentionLimit:
    """When data of a category are to go (Art. 30(1)(f)): an ISO 8601 duration, or a criterion."""

    data_category: Short
    limit: Annotated[str, Meta(pattern=r"^P(?=\d)(\d+Y)?(\d+M)?(\d+W)?(\d+D)?$")] | None = field(
        default=None, kw_only=True
    )
    criterion: Text | None = field(default=None, kw_only=True)
    counted_from: Literal["created", "last_use", "contract_end", "event"] = field(
        default="created", kw_only=True
    )
    authority: Text | None = field(default=None, kw_only=True)
    """The rule that asks for it."""

    def __attrs_post_init__(self) -> None:
        if (self.limit is None) == (self.criterion is None):
            raise InputError("a RetentionLimit has a limit, or a criterion where there is none")


@frozen
class Measure:
    """A technical or organisational measure (Art. 32(1)), and where its evidence is."""

    kind: Short
    description: Text = field(kw_only=True)
    evidence: Text | None = field(default=None, kw_only=True)


@frozen
class Activity(Record):
    """A processing activity (Art. 30(1), and (2) where ``role`` is processor)."""

    name: Short
    role: Literal["controller", "processor"] = field(kw_only=True)
    purposes: Annotated[tuple[Purpose, ...], Meta(max_length=256)] = field(default=(), kw_only=True)
    subject_categories: Shorts = field(default=(), kw_only=True)
    data_categories: Annotated[tuple[DataCategory, ...], Meta(max_length=256)] = field(
        default=(), kw_only=True
    )
    recipients: Ids = field(default=(), kw_only=True)
    retention: Annotated[tuple[RetentionLimit, ...], Meta(max_length=256)] = field(
        default=(), kw_only=True
    )
    measures: Annotated[tuple[Measure, ...], Meta(max_length=256)] = field(default=(), kw_only=True)
    controllers: Ids = field(default=(), kw_only=True)
    """Parties; those that a processor acts for."""
    joint_controllers: Ids = field(default=(), kw_only=True)
    representative: Id | None = field(default=None, kw_only=True)
    dpo: Id | None = field(default=None, kw_only=True)
    processing_categories: Shorts = field(default=(), kw_only=True)
    """What a processor does for them (Art. 30(2)(b))."""
    reference: Short | None = field(default=None, kw_only=True)
    department: Short | None = field(default=None, kw_only=True)
    dpia: Text | None = field(default=None, kw_only=True)
    automated_decisions: Text | None = field(default=None, kw_only=True)
    systems: Shorts = field(default=(), kw_only=True)
    series: Shorts = field(default=(), kw_only=True)
    """Names of the series of snapshots that hold its data."""
    ended_on: date | None = field(default=None, kw_only=True)


@frozen
class Recipient(Record):
    """To whom data go (Art. 15(1)(c), 30(1)(d)): a party, or a category without a name yet."""

    category: Short
    party: Id | None = field(default=None, kw_only=True)
    kind: Literal["recipient", "processor", "sub_processor", "joint_controller", "authority"] = (
        field(default="recipient", kw_only=True)
    )
    countries: Countries = field(default=(), kw_only=True)
    data_categories: Shorts = field(default=(), kw_only=True)
    safeguard: Short | None = field(default=None, kw_only=True)
    """Of a transfer to a third country, such as A45-3 or A46-2-c."""
    since: date | None = field(default=None, kw_only=True)
    until: date | None = field(default=None, kw_only=True)


@frozen
class Disclosure(Record):
    """
    That data were given to somebody: Art. 15(1)(c), and the record of 34 CFR 99.32.

    A gag, by an order that is not to be spoken of, lasts until ``gag_until``;
    without that date ``gagged`` stands until it is changed.
    """

    kind: Literal[
        "subject",
        "recipient",
        "authority",
        "legal_process",
        "sub_processor",
        "school_official",
        "redisclosure",
    ]
    party: Id = field(kw_only=True)
    disclosed_on: date = field(kw_only=True)
    legal_basis: Text = field(kw_only=True)
    what: Text = field(kw_only=True)
    """Which data, in words."""
    count: Count | None = field(default=None, kw_only=True)
    digest: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None = field(
        default=None, kw_only=True
    )
    """SHA-256 of what was handed over."""
    instrument: Text | None = field(default=None, kw_only=True)
    """The order or subpoena."""
    legitimate_interest: Text | None = field(default=None, kw_only=True)
    further_parties: Ids = field(default=(), kw_only=True)
    gagged: bool = field(default=False, kw_only=True)
    gag_until: date | None = field(default=None, kw_only=True)

    def is_gagged(self, on: date) -> bool:
        """Tell whether nobody may be told of it on that day."""
        return self.gagged and (self.gag_until is None or on <= self.gag_until)


@frozen
class Notice(Record):
    """
    What a recipient was told, or why not (Art. 19).

    ``impossible`` and ``disproportionate`` are the two reasons for not telling that
    Art. 19 knows; each needs ``why``.
    """

    kind: Literal["rectification", "erasure", "restriction"]
    recipient: Id = field(kw_only=True)
    state: Literal["due", "sent", "acknowledged", "failed", "impossible", "disproportionate"] = (
        field(default="due", kw_only=True)
    )
    request: Id | None = field(default=None, kw_only=True)
    sent_on: date | None = field(default=None, kw_only=True)
    acknowledged_on: date | None = field(default=None, kw_only=True)
    why: Text | None = field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.state in ("impossible", "disproportionate") and self.why is None:
            raise InputError(f"a Notice that is {self.state} says why (Art. 19)")
        if self.state in ("sent", "acknowledged") and self.sent_on is None:
            raise InputError(f"a Notice that is {self.state} says when it was sent: sent_on=")
