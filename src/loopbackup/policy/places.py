"""Destinations that a host can offer to its customers."""

from __future__ import annotations

from datetime import UTC, datetime

from ..errors import InputError
from .policy import check_aware
from .tables import Region, Tables, shipped

__all__ = ["destinations"]


def destinations(
    *,
    zone: str | None = None,
    provider: str | None = None,
    country: str | None = None,
    at: datetime | None = None,
    tables: Tables | None = None,
) -> list[Region]:
    """
    List the regions of cloud providers, by provider and name.

    Args:
        zone: Only what lies in it with all its countries: ``"EEA"``, ``"EU"``.
        provider: Only this one's: ``"aws"``, ``"azure"``, ``"gcp"``.
        country: Only what lies in this country alone.
        at: On which day the zone counts; default that of the tables.
        tables: Others than those of the library.

    Raises:
        InputError: No such zone or provider.

    A region of Azure tells its ``pair``: where a geo-redundant account is copied.
    """
    found = tables or shipped()
    if at is not None:
        check_aware("at", at)
    day = at or datetime.combine(found.as_of, datetime.min.time(), UTC)
    wanted = None
    if zone is not None:
        wanted = found.zone(zone, day)
        if wanted is None:
            raise InputError(f"there is no zone {zone!r}: {', '.join(found.zones)}")
    providers = sorted({row.provider for row in found.regions})
    if provider is not None and provider not in providers:
        raise InputError(f"the tables have no provider {provider!r}: {', '.join(providers)}")
    return [
        row
        for row in found.regions
        if (provider is None or row.provider == provider)
        and (country is None or row.countries == (country,))
        and (wanted is None or (row.countries and wanted.issuperset(row.countries)))
    ]
