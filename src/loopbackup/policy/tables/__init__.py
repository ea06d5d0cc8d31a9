"""
The dated tables that rules look things up in: regions of providers, and countries of zones.

They are data with a version and a date. A host adds rows of his own, or puts them in the place of
others, without a release of the library.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from functools import cached_property, lru_cache
from importlib.resources import files
from typing import Any, Final

from attrs import asdict, evolve, field, frozen

from ...errors import InputError
from ...terms import Location

__all__ = ["Region", "Tables", "shipped"]

_MEANT: Final = {"EL": "GR", "UK": "GB"}
"""What statistics and habit write, and ISO 3166-1 does not."""
_REDUNDANCY: Final = re.compile(r"(.+?) +(?:(LRS|ZRS)|(?:RA-)?GZ?RS)")


def _tuple(value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InputError('countries are a list: ["SE"]')
    return tuple(value)


@frozen
class Region:
    """
    A region of a provider, as a destination for data.

    Args:
        provider: ``aws``, ``azure``, ``gcp``, or whatever a host calls another one.
        region: The provider's own name.
        countries: Where the data lie: ISO 3166-1 alpha-2. Several for a region that
            spans them; none where the provider does not say.
        city: For people.
        kind: ``region``, ``multi-region`` or ``dual-region``.
        pair: The region to which Azure copies geo-redundant accounts by itself.
        pair_countries: The countries of that.
        regions: Those that a dual-region is made of.
    """

    provider: str
    region: str
    countries: tuple[str, ...] = field(converter=_tuple)
    city: str = ""
    kind: str = "region"
    pair: str | None = None
    pair_countries: tuple[str, ...] = field(default=(), converter=tuple)
    regions: tuple[str, ...] = field(default=(), converter=tuple)

    def __attrs_post_init__(self) -> None:
        if not self.provider or not self.region:
            raise InputError('a region has a provider, a name, and countries=["SE"]')
        for country in self.countries:
            check_country(country)

    @property
    def country(self) -> str | None:
        """The country, if it is one."""
        return self.countries[0] if len(self.countries) == 1 else None

    def __str__(self) -> str:
        parts = [*([self.city] if self.city else []), *(self.countries or ["countries not fixed"])]
        return f"{self.provider} {self.region} ({', '.join(parts)})"


def check_country(code: object) -> str:
    """Give a country's code; InputError where ISO 3166-1 has none such."""
    if not isinstance(code, str) or code not in _countries():
        meant = _MEANT.get(code) if isinstance(code, str) else None
        hint = f"; did you mean {meant!r}?" if meant else ""
        raise InputError(f"a country is two capital letters of ISO 3166-1, not {code!r}{hint}")
    return code


@frozen
class _Membership:
    country: str
    first: date
    last: date | None


class Tables:
    """
    What is known of regions and zones. A value; see :func:`shipped`.

    Args:
        regions: The rows.
        zones: By name the countries, each with its first and its last day.
        version: Of the data.
        as_of: What they go back to.
    """

    def __init__(
        self,
        regions: Iterable[Region],
        zones: Mapping[str, Sequence[_Membership]],
        *,
        version: str,
        as_of: date,
        own: Sequence[Region] = (),
    ) -> None:
        self.version = version
        self.as_of = as_of
        self._zones = zones
        self._own = tuple(sorted(own, key=lambda row: (row.provider, row.region)))
        rows = {(row.provider, row.region.lower()): row for row in (*regions, *self._own)}
        self._rows = rows
        self._by_code: dict[str, list[Region]] = {}
        for (_, code), row in rows.items():
            self._by_code.setdefault(code, []).append(row)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all rows, in hex."""
        said = {
            "regions": [asdict(row) for _, row in sorted(self._rows.items())],
            "zones": {name: [asdict(m) for m in rows] for name, rows in self._zones.items()},
        }
        return hashlib.sha256(json.dumps(said, default=str, sort_keys=True).encode()).hexdigest()

    @property
    def zones(self) -> tuple[str, ...]:
        """Names of the zones."""
        return tuple(self._zones)

    @property
    def regions(self) -> tuple[Region, ...]:
        """All regions, by provider and name."""
        return tuple(row for _, row in sorted(self._rows.items()))

    @property
    def own(self) -> tuple[Region, ...]:
        """Those that a host has added."""
        return self._own

    def own_rows(self) -> list[dict[str, Any]]:
        """Give these as plain values."""
        return [_bare(row) for row in self._own]

    def with_regions(self, *rows: Region) -> Tables:
        """Give the tables with rows added, or in the place of those of the same name."""
        added = {(row.provider, row.region.lower()): row for row in (*self._own, *rows)}
        return Tables(
            self._rows.values(),
            self._zones,
            version=self.version,
            as_of=self.as_of,
            own=list(added.values()),
        )

    def zone(self, name: str, at: datetime) -> frozenset[str] | None:
        """Give the countries of a zone on a day; None where there is no such zone."""
        rows = self._zones.get(name)
        if rows is None:
            return None
        day = at.date()
        return frozenset(
            row.country
            for row in rows
            if row.first <= day and (row.last is None or day <= row.last)
        )

    def find(self, region: str, provider: str | None = None) -> Region | None:
        """
        Find a region by its name, in either case; of several providers' only with theirs.

        A zone of Google Cloud (``europe-west1-b``) is found as its region.
        """
        code = region.lower()
        found = self._by_code.get(code) or self._by_code.get(re.sub(r"-[a-z]$", "", code), [])
        if provider is not None:
            found = [row for row in found if row.provider == provider]
        return found[0] if len(found) == 1 else None

    def countries(self, location: Location) -> frozenset[str] | None:
        """
        Give the countries in which something lies, its provider's own copies included.

        None where that is not known for one of them.
        """
        found: set[str] = set()
        if location.region is not None:
            for name in (location.region, *location.copies):
                row = self.find(name, location.provider)
                if row is None or not row.countries:
                    return None
                found.update(row.countries)
        elif location.country is not None:
            found.add(location.country)
        return frozenset(found) or None

    def declared(self, text: str) -> Location | None:
        """Read what an operator declares: a region, or a country; None where it is neither."""
        row = self.find(text)
        if row is not None:
            return Location(row.country, region=row.region, provider=row.provider)
        return Location(text) if text in _countries() else None

    def placed(self, text: str) -> Location | None:
        """
        Read where an operator declares that something lies; None where nobody knows that.

        A region of Azure counts with its pair, for an account is geo-redundant unless its
        maker chose otherwise, and nobody is asked. ``"brazilsouth LRS"`` (or ``ZRS``) says
        that he did; ``GRS``, ``RA-GRS``, ``GZRS`` and ``RA-GZRS`` that he did not.
        """
        said = _REDUNDANCY.fullmatch(text)
        location = self.declared(said[1] if said else text)
        if location is None or location.region is None:
            return location
        row = self.find(location.region, location.provider)
        stays = said is not None and said[2] is not None
        if row is None or row.pair is None or stays:
            return location
        return evolve(location, copies=(row.pair,))


def _bare(row: Region) -> dict[str, Any]:
    said = {key: value for key, value in asdict(row).items() if value}
    said.pop("pair_countries", None)
    if said.get("kind") == "region":
        del said["kind"]
    return {key: list(value) if isinstance(value, tuple) else value for key, value in said.items()}


@lru_cache(maxsize=1)
def _data() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((files(__package__) / "places.json").read_text("utf-8"))
    return found


@lru_cache(maxsize=1)
def _countries() -> frozenset[str]:
    return frozenset(_data()["countries"].split())


@lru_cache(maxsize=1)
def shipped() -> Tables:
    """Give the tables that come with the library."""
    data = _data()
    rows = [Region(**row) for row in data["regions"]]
    by_name = {(row.provider, row.region): row for row in rows}
    for number, row in enumerate(rows):
        if row.pair is not None:
            pair: Any = by_name[row.provider, row.pair].countries
            rows[number] = evolve(row, pair_countries=pair)
    zones = {
        name: [
            _Membership(country, date.fromisoformat(first), last and date.fromisoformat(last))
            for country, first, last in found
        ]
        for name, found in data["zones"].items()
    }
    return Tables(
        rows, zones, version=str(data["version"]), as_of=date.fromisoformat(data["as_of"])
    )
