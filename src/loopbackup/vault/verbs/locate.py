"""Where a vault lies: what its operator declares, and what the provider says when asked."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from attrs import frozen

from ...errors import InputError
from ...show import text
from ...terms import Action, Actor, Facts, Location, Place, check_text
from ..format import record as rec
from ..ledger.log import Draft
from ..ledger.state import State
from ..store.protocol import StoreInfo
from .session import Session, to_datetime

__all__ = [
    "Whereabouts",
    "check_declared",
    "declared_text",
    "observed_in",
    "run_locate",
    "told_place",
    "whereabouts",
]


MAX_LOCATION_CHARS: Final = 4096
"""It stands in record 0, whose frame has 64 KiB."""


@frozen
class Whereabouts:
    """
    Where a vault lies.

    Args:
        declared: What its operator said when he made it.
        observed: What the provider said when he was last asked; None where he
            cannot be asked, or no host can believe the answer.
        asked_at: When that was.
    """

    declared: str | None
    observed: Location | None
    asked_at: datetime | None

    @property
    def agree(self) -> bool:
        """Whether nothing that is known speaks against what was declared."""
        return self.declared is None or self.observed is None or _same(self.declared, self.observed)

    def __str__(self) -> str:
        declared = self.declared or "not declared"
        if self.observed is None or self.asked_at is None:
            return declared if self.declared is None else f"{declared}, as declared"
        found = f"{self.observed.region} (asked from the provider {text.moment(self.asked_at)})"
        if self.declared is None:
            return found
        return found if self.agree else f"{found}, but declared {declared}"


def check_declared(
    verb: str, where: str, info: StoreInfo, declared: str | None, now: datetime
) -> None:
    """
    Refuse a place for a vault, or a replica, that is not as declared, or known to nobody.

    Args:
        verb: What is refused.

    Raises:
        InputError: Kind "location".
    """
    found = info.location
    if found is not None and declared is not None and not _same(declared, found):
        raise InputError(
            f"{verb} refused: {where} lies in {found.region} (asked from the provider "
            f"{text.moment(now)}), declared {declared}. Nothing was written",
            kind="location",
        )
    if found is None and declared is None and info.tls is not None:
        why = (
            "the provider does not tell"
            if info.tells_location
            else "such a server names whatever region it likes"
        )
        raise InputError(
            f"{verb} refused: nobody can be asked where {where} lies, {why}. Say so yourself: "
            'location="eu-north-1", or whatever you call it',
            kind="location",
        )


def declared_text(location: object) -> str | None:
    """
    Give what an operator declares as text: of a ``Location`` its region, or else its country.

    Raises:
        InputError: It is neither text nor a location, or too long.
    """
    if isinstance(location, Location):
        return location.region or location.country
    if location is None:
        return None
    if not isinstance(location, str):
        raise InputError("location is text or a Location: where the bytes lie, as you declare it")
    return check_text("location", location, max_chars=MAX_LOCATION_CHARS)


def told_place(info: StoreInfo, declared: str | None, url: str, now: datetime) -> Place:
    """Give a place as its store has just described it."""
    found = info.location
    if found is None or found.region is None:
        return Place("vault", declared, url=url)
    return Place("vault", declared, found, now, url)


def observed_in(info: StoreInfo) -> rec.Observed | None:
    """Give what the provider said in the form that records keep."""
    return _recorded(info.location)


def _recorded(found: Location | None) -> rec.Observed | None:
    if found is None or found.region is None or found.provider is None:
        return None
    return rec.Observed(found.provider, found.region)


def whereabouts(state: State) -> Whereabouts:
    """Give what the ledger knows."""
    if state.observed is None:
        return Whereabouts(state.location, None, None)
    said, at_us = state.observed
    location = Location(None, region=said.region, provider=said.provider)
    return Whereabouts(state.location, location, to_datetime(at_us))


def run_locate(session: Session, actor: Actor) -> Whereabouts:
    """
    Ask the provider anew where the vault lies, and record what he says.

    Raises:
        PolicyError: Refused.
        StoreError: The store failed.

    Cost: what :meth:`.Store.describe` costs, and one record.
    """
    session.begin(Action.CHECK, actor, Facts(actor=actor))
    place = session.place(anew=True)
    observed = _recorded(place.observed)
    if observed is None:
        return whereabouts(session.log.state)
    if session.log.signer is not None and not session.read_only:
        audit = session.audit(actor, Action.CHECK)
        session.log.commit_draft(Draft("located", rec.Located(observed), [audit]))
        return whereabouts(session.log.state)
    location = Location(None, region=observed.region, provider=observed.provider)
    return Whereabouts(session.log.state.location, location, session.log.now())


def _same(declared: str, found: Location) -> bool:
    return found.region is not None and declared.lower() == found.region.lower()
