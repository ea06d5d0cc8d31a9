"""The registers that need no verb beyond those that all share."""

from __future__ import annotations

from .records import Activity, Disclosure, Notice, Recipient
from .register import OpenRegister

__all__ = ["Activities", "Disclosures", "Notices", "Recipients"]


class Activities(OpenRegister[Activity]):
    """Processing activities (Art. 30)."""

    name = "activities"
    type = Activity


class Recipients(OpenRegister[Recipient]):
    """To whom data go (Art. 15(1)(c), 30(1)(d))."""

    name = "recipients"
    type = Recipient


class Disclosures(OpenRegister[Disclosure]):
    """To whom data went, when and why (Art. 15(1)(c); 34 CFR 99.32)."""

    name = "disclosures"
    type = Disclosure


class Notices(OpenRegister[Notice]):
    """What recipients were told of rectifications, erasures and restrictions (Art. 19)."""

    name = "notices"
    type = Notice
