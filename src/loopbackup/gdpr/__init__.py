"""Registers and duties of data-protection law, kept through the vault."""

from ..receipts import Receipt
from .all_registers import Registers
from .registers.journal import Change, Unread
from .registers.marks import HoldRecord, RestrictionRecord
from .registers.records import (
    Activity,
    DataCategory,
    Disclosure,
    Measure,
    Notice,
    Party,
    Purpose,
    Recipient,
    RetentionLimit,
)
from .requests.request import Refusal, Request

__all__ = [
    "Activity",
    "Change",
    "DataCategory",
    "Disclosure",
    "HoldRecord",
    "Measure",
    "Notice",
    "Party",
    "Purpose",
    "Receipt",
    "Recipient",
    "Refusal",
    "Registers",
    "Request",
    "RestrictionRecord",
    "RetentionLimit",
    "Unread",
]
