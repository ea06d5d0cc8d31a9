"""Where data may lie: what providers say, held against dated tables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

import loopbackup as lb
from loopbackup import policy

NOW = datetime(2026, 11, 23, 16, tzinfo=UTC)
URL = "s3://acme-vault"


def seen(region: str, provider: str = "aws", **more: Any) -> policy.Place:
    """Give a place as a provider tells it."""
    location = lb.Location(None, region=region, provider=provider, copies=more.pop("copies", ()))
    return policy.Place("vault", observed=location, asked_at=NOW, url=URL, **more)


def ask(place: policy.Place | None, *, at: datetime = NOW, **rule: Any) -> policy.Decision:
    """Ask for a backup there."""
    known = policy.Facts(places=() if place is None else (place,))
    return policy.Policy(policy.Residency(**{"allow": "EU", **rule})).decide("backup", known, at=at)


@pytest.mark.parametrize(
    ("place", "country"),
    [
        (seen("eu-west-2"), "London, GB"),
        (seen("eu-central-2"), "Zurich, CH"),
        (seen("europe-west2", "gcp"), "London, GB"),
        (seen("europe-west6", "gcp"), "Zürich, CH|Zurich, CH"),
        (seen("EUR7", "gcp"), "DE, GB"),
        (seen("EUR8", "gcp"), "CH, DE"),
        (seen("us-east-1"), "US"),
        (seen("uksouth", "azure"), "GB"),
    ],
    ids=lambda value: getattr(getattr(value, "observed", None), "region", None),
)
def test_place_outside_the_union_is_refused_with_its_country(
    place: policy.Place, country: str
) -> None:
    """Whatever its name begins with."""
    decision = ask(place)

    assert decision.outcome == "deny"
    assert place.observed is not None
    assert str(place.observed.region) in str(decision)
    assert any(part in str(decision) for part in country.split("|"))
    assert 'Residency(allow="EU") needs a country of the EU' in str(decision)


@pytest.mark.parametrize(
    "place",
    [
        seen("eu-north-1"),
        seen("EU-NORTH-1"),
        seen("EU", "gcp"),
        seen("EUR4", "gcp"),
        seen("europe-west1-b", "gcp"),
        seen("swedencentral", "azure"),
        seen("northeurope", "azure", copies=("westeurope",)),
        policy.Place("vault", "SE"),
        policy.Place("vault", "eu-north-1"),
    ],
    ids=str,
)
def test_place_inside_the_union_is_allowed(place: policy.Place) -> None:
    """A region, a multi-region, a zone, a pair, a declaration."""
    assert ask(place).outcome == "allow"


def test_pair_of_brazil_south_leaves_the_country() -> None:
    """Azure copies geo-redundant accounts of Brazil South to Texas."""
    assert ask(seen("brazilsouth", "azure"), allow="BR").allowed
    copied = ask(seen("brazilsouth", "azure", copies=("southcentralus",)), allow="BR")

    assert copied.outcome == "deny"
    assert "BR, US" in str(copied)
    assert "copies to southcentralus" in str(copied)
    (row,) = [row for row in policy.destinations(provider="azure") if row.region == "brazilsouth"]
    assert (row.country, row.pair, row.pair_countries) == ("BR", "southcentralus", ("US",))


@pytest.mark.parametrize(
    ("place", "advice"),
    [
        (None, ""),
        (policy.Place("vault"), "say where it lies"),
        (policy.Place("vault", "the cellar of Acme AB"), "add a row"),
        (seen("mars-1"), "add a row"),
        (seen("ASIA", "gcp"), "add a row"),
        (seen("eu-north-1", "acme"), "add a row"),
    ],
    ids=["nothing", "not declared", "a name", "unknown region", "not fixed", "unknown provider"],
)
def test_place_that_nobody_knows_cannot_be_decided(place: policy.Place | None, advice: str) -> None:
    """A strict policy refuses, and says what would help."""
    decision = ask(place)

    assert (decision.outcome, decision.allowed) == ("indeterminate", False)
    assert advice in str(decision)


def test_word_of_the_provider_counts_and_not_the_declaration() -> None:
    """The nearest change is what was meant."""
    decision = ask(seen("us-east-1", declared="eu-north-1"), allow="EEA")

    assert str(decision) == (
        "refused: s3://acme-vault lies in us-east-1 (Virginia, US; asked from the provider "
        "2026-11-23 16:00 UTC), declared eu-north-1. "
        'Residency(allow="EEA") needs a country of the EEA. '
        "Nearest: a bucket in eu-north-1, as declared."
    ).replace("Virginia", policy.tables().find("us-east-1", "aws").city)  # type: ignore[union-attr]


def test_nearest_region_is_one_of_the_same_provider() -> None:
    """A bucket of another one is no small change."""
    assert ask(seen("eu-west-2"), allow="SE").nearest == "a bucket in eu-north-1 (SE)"
    assert "europe-north2" in str(ask(seen("EUR7", "gcp"), allow="SE").nearest)


def test_denied_country_is_denied_within_an_allowed_zone() -> None:
    """And a region may be allowed all alone."""
    assert not ask(seen("eu-central-1"), deny="DE").allowed
    assert ask(seen("eu-west-2"), allow=["EU", "eu-west-2"]).allowed
    assert not ask(seen("eu-west-1"), allow="eu-north-1").allowed
    assert not ask(seen("EUR7", "gcp"), allow=["EU", "europe-west2"]).allowed


@pytest.mark.parametrize(
    ("place", "deny"),
    [
        (seen("francecentral", "azure", copies=("francesouth",)), "francecentral"),
        (seen("francesouth", "azure", copies=("francecentral",)), "francecentral"),
        (policy.Place("vault", "francecentral"), "francesouth"),
        (seen("EUR4", "gcp"), "europe-north1"),
        (seen("EU", "gcp"), "europe-west1"),
        (seen("northeurope", "azure", copies=("westeurope",)), "NL"),
    ],
    ids=["itself", "its copy", "its pair", "part", "may be part", "country of its copy"],
)
def test_denied_region_is_denied_as_a_copy_or_a_part(place: policy.Place, deny: str) -> None:
    """What the provider copies there, or may hold there, lies there too."""
    assert ask(place).allowed
    assert ask(place, deny=deny).outcome == "deny"


@pytest.mark.parametrize(("code", "meant"), [("EL", "GR"), ("UK", "GB"), ("XX", "")])
def test_code_that_is_no_country_is_refused(code: str, meant: str) -> None:
    """It would never match anything."""
    with pytest.raises(lb.InputError, match=f"ISO 3166-1.*{meant}"):
        policy.Policy(policy.Residency(allow="EU", deny=code))
    assert ask(policy.Place("vault", code)).outcome == "indeterminate"
    with pytest.raises(lb.InputError, match="ISO 3166-1"):
        policy.Region("acme", "cellar", [code])


def test_declared_region_counts_with_its_pair() -> None:
    """Unless its operator says that it is copied nowhere."""
    found = ask(policy.Place("vault", "brazilsouth"), allow="BR")

    assert found.outcome == "deny"
    assert found.nearest == 'if it is copied nowhere, location="brazilsouth LRS"'
    assert ask(policy.Place("vault", "brazilsouth LRS"), allow="BR").allowed
    assert ask(policy.Place("vault", "brazilsouth RA-GRS"), allow="BR").outcome == "deny"


def test_whoever_acts_is_somewhere_whatever_he_does() -> None:
    """And a key that is added is where its service is."""
    rules = policy.Policy(policy.Residency(allow="EEA", access_from="SE", keys_in="SE"))

    def outcome(action: str, **more: str) -> str | None:
        return rules.decide(action, policy.Facts(more=more), at=NOW).outcome

    for action in ("erase", "read", "forget", "policy", "prune"):
        assert outcome(action, access_from="US") == "deny"
        assert outcome(action, access_from="SE") == "allow"
    assert outcome("keys", access_from="SE", keys_in="US") == "deny"
    assert outcome("keys", access_from="SE", keys_in="") == "indeterminate"
    assert outcome("keys", access_from="SE", keys_in="SE") == "allow"


def test_zone_is_that_of_the_day() -> None:
    """The United Kingdom was a member until the end of January 2020."""
    assert ask(seen("eu-west-2"), at=datetime(2020, 1, 31, tzinfo=UTC)).allowed
    assert not ask(seen("eu-west-2"), at=datetime(2020, 2, 1, tzinfo=UTC)).allowed
    assert ask(policy.Place("vault", "NO"), allow="EEA").allowed
    assert not ask(policy.Place("vault", "NO"), allow="EU").allowed


def test_every_place_that_an_action_touches_is_judged() -> None:
    """A replica elsewhere is refused although the vault lies well."""
    known = policy.Facts(places=(seen("eu-north-1"), policy.Place("replica", "US")))

    decision = policy.Policy(policy.Residency(allow="EEA")).decide("replicate", known, at=NOW)

    assert decision.outcome == "deny"
    assert "the replica lies in" in str(decision)


@pytest.mark.parametrize(
    ("rule", "fact"), [("keys_in", "the key service"), ("access_from", "the actor")]
)
def test_keys_and_access_have_places_of_their_own(rule: str, fact: str) -> None:
    """Known, elsewhere, and not known."""
    residency = policy.Policy(policy.Residency(allow="EEA", **{rule: "EEA"}))

    def outcome(**more: str) -> policy.Decision:
        known = policy.Facts(places=(seen("eu-north-1"),), more=more)
        return residency.decide("open", known, at=NOW)

    assert outcome(**{rule: "SE"}).allowed
    assert outcome(**{rule: "eu-west-1"}).allowed
    assert f"{fact} is in US" in str(outcome(**{rule: "US"}))
    assert outcome().outcome == "indeterminate"


def test_rows_of_a_host_count() -> None:
    """In the place of the library's, and beside them."""
    cellar = policy.Region("acme", "cellar", ["SE"])
    moved = policy.Region("aws", "eu-west-2", ["IE"])
    tables = policy.tables().with_regions(cellar, moved)
    rules = policy.Policy(policy.Residency(allow="EU"), tables=tables)

    for place in (policy.Place("vault", "cellar"), seen("eu-west-2"), seen("cellar", "acme")):
        assert rules.decide("open", policy.Facts(places=(place,)), at=NOW).allowed
    assert tables.digest != policy.tables().digest


def test_destinations_are_offered_by_zone_and_provider() -> None:
    """What spans a border of the zone is none of it."""
    inside = {row.region for row in policy.destinations(zone="EU")}

    assert {"eu-north-1", "EU", "EUR4", "swedencentral", "europe-north1"} <= inside
    assert not {"eu-west-2", "eu-central-2", "EUR7", "EUR8", "ASIA", "us-east-1"} & inside
    assert {row.provider for row in policy.destinations(provider="aws")} == {"aws"}
    assert {row.region for row in policy.destinations(country="SE", provider="aws")} == {
        "eu-north-1"
    }
    then = datetime(2019, 1, 1, tzinfo=UTC)
    assert "eu-west-2" in {row.region for row in policy.destinations(zone="EU", at=then)}
    with pytest.raises(lb.InputError, match="no zone 'Europe'"):
        policy.destinations(zone="Europe")
    with pytest.raises(lb.InputError, match="no provider 'amazon'"):
        policy.destinations(provider="amazon")
    with pytest.raises(lb.InputError, match="zone"):
        policy.destinations(zone="EU", at=NOW.replace(tzinfo=None))


def test_tables_are_dated_and_sound() -> None:
    """Each row once, each country a code, each pair a region that is there."""
    tables = policy.tables()
    keys = [(row.provider, row.region) for row in tables.regions]

    assert tables.as_of.year >= 2026
    assert len(keys) == len(set(keys)) > 150
    for row in tables.regions:
        assert row.pair is None or tables.find(row.pair, row.provider) is not None
        for part in row.regions:
            found = tables.find(part, row.provider)
            assert found is not None
            assert found.country in row.countries
