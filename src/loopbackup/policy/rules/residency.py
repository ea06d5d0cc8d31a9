"""Where data may lie: countries of zones, held against what the provider says."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from attrs import evolve, field, frozen

from ...errors import InputError
from ...terms import Action, Facts, Location, Place
from ..tables import Region, Tables, check_country
from .base import PASS, Deny, Missing, Verdict, described, named, options_of, texts

__all__ = ["Residency"]

_FIELDS: Final = ("allow", "deny", "keys_in", "access_from")
GATED: Final = frozenset(
    {
        Action.CREATE,
        Action.OPEN,
        Action.BACKUP,
        Action.REPLICATE,
        Action.RESTORE,
        Action.EXPORT,
        Action.REPAIR,
        Action.PROMOTE,
    }
)


@frozen
class Residency:
    """
    Let data lie in some places only.

    What the provider says counts; where nobody can be asked, what was declared.
    A region counts with all countries that it spans, and those to which the
    provider copies it by himself. Where nobody can be asked, a region of Azure counts
    with its pair, unless ``"brazilsouth LRS"`` is declared.

    Args:
        allow: A zone (``"EEA"``, ``"EU"``), a country (``"SE"``), a provider's region
            (``"eu-north-1"``), or several of these.
        deny: What of that is not allowed all the same: neither the place itself, nor one
            that it is copied to, nor a part of a multi-region.
        keys_in: Likewise, where a key service that opens the vault has to be; of a key that
            is added too.
        access_from: Likewise, from where people and programs may act, whatever they do.
        id: Names the rule in decisions; default as it is written.

    A place that is not known cannot be decided: a strict policy refuses.

    Raises:
        InputError: Nothing is allowed; a zone, country or region that the tables
            do not know (when the policy is made).
    """

    version: ClassVar[str] = "1"
    allow: Collection[str]
    deny: Collection[str] = field(default=frozenset(), kw_only=True)
    keys_in: Collection[str] = field(default=frozenset(), kw_only=True)
    access_from: Collection[str] = field(default=frozenset(), kw_only=True)
    id: str = field(default="", kw_only=True)
    has_own_id: bool = field(init=False, default=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        for name in _FIELDS:
            object.__setattr__(self, name, texts(name, getattr(self, name)))
        if not self.allow:
            raise InputError("a residency allows some place")
        named(self)

    def options(self) -> dict[str, Any]:
        """Give what makes the same rule again."""
        found = options_of(self)
        # One place is written as it is given.
        return {k: v[0] if isinstance(v, list) and len(v) == 1 else v for k, v in found.items()}

    def __str__(self) -> str:
        return described(self)

    def check(self, tables: Tables) -> None:
        """Refuse places that the tables do not know; InputError."""
        for what in _FIELDS:
            for text in getattr(self, what):
                if text not in tables.zones and tables.declared(text) is None:
                    if text.isupper() and len(text) == 2:
                        check_country(text)
                    raise InputError(
                        f"{what}: {text!r} is no zone ({', '.join(tables.zones)}), no country of "
                        "two capital letters, and no region that the tables know"
                    )

    def evaluate(self, action: str, facts: Facts, *, at: datetime, tables: Tables) -> Verdict:
        """Hold every place that the action touches against what is allowed."""
        unknown: Verdict = PASS
        for verdict in self._verdicts(action, facts, at, tables):
            if isinstance(verdict, Deny):
                return verdict
            if isinstance(verdict, Missing) and unknown is PASS:
                unknown = verdict
        return unknown

    def _verdicts(
        self, action: str, facts: Facts, at: datetime, tables: Tables
    ) -> Iterator[Verdict]:
        is_gated = action in GATED
        if is_gated and not facts.places:
            yield Missing("where it lies", self._required(self.allow))
        for place in facts.places if is_gated else ():
            yield self._judge(place, at, tables)
        for what, allowed, name, is_asked in (
            ("the key service", self.keys_in, "keys_in", is_gated or action == Action.KEYS),
            ("the actor", self.access_from, "access_from", True),
        ):
            if allowed and is_asked:
                yield self._judge_fact(what, allowed, facts.more.get(name), at, tables)

    def _judge(self, place: Place, at: datetime, tables: Tables) -> Verdict:
        location = place.observed
        if location is None and place.declared is not None:
            location = tables.placed(place.declared)
        countries = None if location is None else tables.countries(location)
        required = self._required(self.allow)
        if location is None or countries is None:
            return Missing(f"where the {place.what} lies", required, _declare(place, location))
        if self._fits(location, countries, at, tables):
            return PASS
        return Deny(
            required, _told(place, location, countries, tables), self._near(place, at, tables)
        )

    def _judge_fact(
        self, what: str, allowed: Collection[str], found: object, at: datetime, tables: Tables
    ) -> Verdict:
        location = tables.declared(found) if isinstance(found, str) else None
        countries = None if location is None else tables.countries(location)
        if location is None or countries is None:
            return Missing(f"where {what} is", f"{what} in {_listed(allowed)}")
        if all(_is_in(country, location, allowed, at, tables) for country in countries):
            return PASS
        return Deny(f"{what} in {_listed(allowed)}", f"{what} is in {', '.join(sorted(countries))}")

    def _fits(
        self, location: Location, countries: Collection[str], at: datetime, tables: Tables
    ) -> bool:
        if any(_touches(text, location, countries, at, tables) for text in self.deny):
            return False
        return all(_is_in(country, location, self.allow, at, tables) for country in countries)

    def _required(self, allowed: Collection[str]) -> str:
        if len(allowed) == 1 and next(iter(allowed)) in ("EU", "EEA"):
            return f"a country of the {_listed(allowed)}"
        return f"a place in {_listed(allowed)}"

    def _near(self, place: Place, at: datetime, tables: Tables) -> str | None:
        """Name a region that would do: the declared one, else one of the same provider."""
        if place.declared is not None:
            said = tables.placed(place.declared)
            countries = None if said is None else tables.countries(said)
            if said is not None and countries and self._fits(said, countries, at, tables):
                return f"{_thing(place)} in {said.region or said.country}, as declared"
            alone = None if said is None else evolve(said, copies=())
            countries = None if alone is None else tables.countries(alone)
            if alone and countries and alone != said and self._fits(alone, countries, at, tables):
                return f'if it is copied nowhere, location="{alone.region} LRS"'
        provider = None if place.observed is None else place.observed.provider
        for row in tables.regions:
            location = _of_row(row)
            if (
                row.provider == (provider or row.provider)
                and row.country
                and self._fits(location, row.countries, at, tables)
            ):
                return f"{_thing(place)} in {row.region} ({row.country})"
        return None


def _of_row(row: Region) -> Location:
    return Location(row.country, region=row.region, provider=row.provider)


def refuse_nowhere(rules: Sequence[object], tables: Tables) -> None:
    """
    Refuse residencies that leave no place at all.

    Raises:
        InputError: Neither a region of the tables nor a country is allowed by all of them.
    """
    found = [rule for rule in rules if isinstance(rule, Residency)]
    at = datetime.combine(tables.as_of, datetime.min.time(), UTC)
    countries = {country for row in tables.regions for country in row.countries}
    named = {text for rule in found for text in rule.allow if len(text) == 2}
    zones = {c for name in tables.zones for c in tables.zone(name, at) or ()}
    places = [
        Location(row.country, region=row.region, provider=row.provider) for row in tables.regions
    ]
    places += [Location(country) for country in sorted(countries | named | zones)]
    for location in places if found else ():
        there = tables.countries(location)
        if there and all(rule._fits(location, there, at, tables) for rule in found):
            return
    if found:
        raise InputError(f"these leave no place at all: {' and '.join(rule.id for rule in found)}")


def _is_in(
    country: str, location: Location, allowed: Collection[str], at: datetime, tables: Tables
) -> bool:
    for text in allowed:
        zone = tables.zone(text, at)
        if country == text or (zone is not None and country in zone):
            return True
        # A region is allowed as itself, and not for what its provider copies elsewhere.
        if location.region is not None and not location.copies and zone is None:
            row = tables.find(text, location.provider)
            if row is not None and row.region.lower() == location.region.lower():
                return True
    return False


def _touches(
    text: str, location: Location, countries: Collection[str], at: datetime, tables: Tables
) -> bool:
    """Tell whether any of what lies there lies, or may lie, in what *text* names."""
    zone = tables.zone(text, at)
    if zone is not None:
        return not zone.isdisjoint(countries)
    if text in countries:
        return True
    if location.region is None:
        return False
    for name in (location.region, *location.copies):
        row, denied = tables.find(name, location.provider), tables.find(text, location.provider)
        if row is None or denied is None or row.provider != denied.provider:
            continue
        if row.region == denied.region or denied.region.lower() in map(str.lower, row.regions):
            return True
        # Of a multi-region nobody says which of the regions in its countries it is made of.
        is_open = row.kind == "multi-region" and not row.regions
        if is_open and denied.kind == "region" and set(denied.countries) <= set(row.countries):
            return True
    return False


def _told(place: Place, location: Location, countries: Collection[str], tables: Tables) -> str:
    where = place.url or f"the {place.what}"
    row = None if location.region is None else tables.find(location.region, location.provider)
    inner = ", ".join([*([row.city] if row and row.city else []), *sorted(countries)])
    found = f"{location.region} ({inner}" if location.region else f"{inner}"
    if place.observed is not None and place.asked_at is not None:
        how = f"asked from the provider {place.asked_at:%Y-%m-%d %H:%M} UTC"
    else:
        how = "as declared"
    found += f"; {how})" if location.region else f" ({how})"
    if location.copies:
        found += f", which the provider copies to {', '.join(location.copies)}"
    said = place.declared
    differs = place.observed is not None and said is not None
    if differs and said is not None and said.lower() != (location.region or "").lower():
        found += f", declared {said}"
    return f"{where} lies in {found}"


def _declare(place: Place, location: Location | None) -> str:
    if location is None and place.declared is None:
        word = "target_location" if place.what == "target" else "location"
        return f'say where it lies: {word}="SE", or a region'
    return "declare a country or a region that the tables know, or add a row to them"


def _thing(place: Place) -> str:
    return "a bucket" if (place.url or "").startswith(("s3:", "gs:")) else "a place"


def _listed(allowed: Collection[str]) -> str:
    return ", ".join(sorted(allowed))
