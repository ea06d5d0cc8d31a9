"""Residency on buckets: the provider is asked where they lie, and nothing else before."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.support import Clock, items
from tests.servers.aws import Aws

import loopbackup as lb
from loopbackup import policy
from loopbackup.vault.store.s3.driver import S3Store

PASSPHRASE = lb.Passphrase("correct horse battery staple")
UNION = policy.Policy(policy.Residency(allow="EU"))


def given(aws: Aws, **more: Any) -> dict[str, Any]:
    """Give what every call takes."""
    return {"storage_options": aws.options(), "state_dir": None, "clock": Clock(), **more}


def of_objects(requests: list[str], url: str) -> list[str]:
    """Give what was asked about objects, rather than about the bucket."""
    bucket = url.removeprefix("s3://").partition("/")[0]
    about = [asked for asked in requests if f"/{bucket}" in asked]
    assert about, "the bucket was asked nothing at all"
    return [asked for asked in about if re.search(rf"/{bucket}/[^?]|list-type|prefix=", asked)]


@pytest.mark.parametrize(
    ("region", "city", "country"),
    [("eu-west-2", "London", "GB"), ("eu-central-2", "Zurich", "CH"), ("us-west-2", "", "US")],
)
def test_bucket_outside_the_union_gets_no_vault(
    aws: Aws, region: str, city: str, country: str
) -> None:
    """Its country is in the message, and no object was asked for, listed or written."""
    url = aws.bucket(region)
    before = len(aws.requests())

    with pytest.raises(lb.PolicyError, match=f"lies in {region} ") as caught:
        lb.Vault.create(url, PASSPHRASE, policy=UNION, location="eu-north-1", **given(aws))

    assert of_objects(aws.requests()[before:], url) == []
    assert f"{city}, {country}; asked from the provider 2026-03-01 12:00 UTC)" in str(caught.value)
    assert "declared eu-north-1" in str(caught.value)
    assert 'Residency(allow="EU") needs a country of the EU' in str(caught.value)
    assert caught.value.decision.nearest == "a bucket in eu-north-1, as declared"
    store = S3Store(url, **aws.options())
    assert list(store.list("")) == []
    store.close()


def test_bucket_inside_the_union_is_asked_at_every_opening(aws: Aws) -> None:
    """What the provider says today decides, whatever was declared when the vault was made."""
    url = aws.bucket("eu-north-1")
    with lb.Vault.create(url, PASSPHRASE, policy=UNION, **given(aws)) as vault:
        vault.backup(items({"a": b"a"}), name="n")
        assert of_objects(aws.requests(), url)
    asked = [request for request in aws.requests() if request.startswith("HEAD")]

    with lb.Vault.open(url, PASSPHRASE, **given(aws)) as vault:
        assert vault.snapshot("latest").open("a").read() == b"a"
        now = [request for request in aws.requests() if request.startswith("HEAD")]
        assert len(now) > len(asked)
        vault.set_policy(policy.Policy(policy.Residency(allow="SE")), reason="closer")
        with pytest.raises(lb.PolicyError, match=r"lies in eu-north-1 \(Stockholm, SE; asked"):
            vault.set_policy(policy.Policy(policy.Residency(allow="FI")), reason="elsewhere")


def test_replica_is_asked_where_it_lies_before_any_object(aws: Aws, tmp_path: Path) -> None:
    """A vault within the union has no copy in London."""
    url = aws.bucket("eu-west-2")
    local: dict[str, Any] = {"location": "SE", "policy": UNION, "state_dir": None}
    with lb.Vault.create(tmp_path / "v", PASSPHRASE, **local) as vault:
        vault.backup(items({"a": b"a"}), name="n")
        before = len(aws.requests())

        with pytest.raises(lb.PolicyError, match=r"replicate refused: .*London, GB; asked"):
            vault.replicate(url, storage_options=aws.options())

        assert of_objects(aws.requests()[before:], url) == []
        assert vault.replicas == ()


def test_restore_to_a_bucket_is_asked_about_before_any_object(aws: Aws, tmp_path: Path) -> None:
    """What is restored elsewhere lies elsewhere."""
    url = aws.bucket("eu-west-2")
    local: dict[str, Any] = {"location": "SE", "policy": UNION, "state_dir": None}
    with lb.Vault.create(tmp_path / "v", PASSPHRASE, **local) as vault:
        snapshot = vault.backup(items({"a": b"a"}), name="n")
        before = len(aws.requests())

        with pytest.raises(lb.PolicyError, match=r"restore refused: .*London, GB; asked"):
            vault.restore(snapshot, f"{url}/out", target_options=aws.options())
        assert of_objects(aws.requests()[before:], url) == []

        with pytest.raises(lb.PolicyError, match="where the target lies is not known"):
            vault.restore(snapshot, "memory://elsewhere")
        vault.restore(snapshot, "memory://elsewhere", target_location="SE")
        vault.restore(snapshot, tmp_path / "out")
        assert (tmp_path / "out" / "a").read_bytes() == b"a"


def test_archive_in_a_bucket_is_asked_about_by_the_bucket(aws: Aws, tmp_path: Path) -> None:
    """Options for the archive keep nobody from asking; nor does what is declared."""
    url = aws.bucket("eu-west-2")
    local: dict[str, Any] = {"location": "SE", "policy": UNION, "state_dir": None}
    with lb.Vault.create(tmp_path / "v", PASSPHRASE, **local) as vault:
        snapshot = vault.backup(items({"a": b"a"}), name="n")
        options = {"zip": {"mode": "w"}, **aws.options()}

        with pytest.raises(lb.PolicyError, match=r"restore refused: .*London, GB; asked"):
            vault.restore(
                snapshot, f"zip://::{url}/x.zip", target_options=options, target_location="SE"
            )


@pytest.mark.parametrize("scheme", ["s3", "S3", "s3a"])
def test_bucket_that_cannot_be_asked_is_restored_to_by_no_declaration(
    tmp_path: Path, scheme: str
) -> None:
    """An option that the driver of buckets does not take is an error, and no way around it."""
    local: dict[str, Any] = {"location": "SE", "policy": UNION, "state_dir": None}
    with lb.Vault.create(tmp_path / "v", PASSPHRASE, **local) as vault:
        snapshot = vault.backup(items({"a": b"a"}), name="n")

        with pytest.raises(lb.InputError):
            vault.restore(
                snapshot,
                f"{scheme}://acme-london/out",
                target_options={"anything": 1},
                target_location="SE",
            )
