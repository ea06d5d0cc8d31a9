"""Replicas in buckets and of buckets, over TLS: cut off, resumed, erased, read elsewhere."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from tests.e2e.support import noise, read_all, read_snapshot
from tests.servers.conftest import Bucket, MakeBucket, Servers
from tests.servers.front import in_front_of
from tests.servers.processes import HONEST, KEY, REGION, SECRET

import loopbackup as lb
from loopbackup.testing import find_canary
from loopbackup.testing.faults import Crash, Crashed, FaultStore, Rule, script
from loopbackup.vault.format import names
from loopbackup.vault.store.protocol import Store
from loopbackup.vault.store.registry import open_store
from loopbackup.vault.store.s3.driver import S3Store
from loopbackup.vault.store.seam import StoreSeam
from loopbackup.vault.verbs.replicate import run_replicate

CREDENTIAL = lb.Passphrase("correct horse battery staple")
ACME, OTHER = ("acme", "user-42"), ("acme", "user-4")
CANARY = noise(4096, "user-42")


@define
class Place:
    """Where a vault or a replica lies, and what it takes to get there."""

    url: str
    options: dict[str, Any] | None
    location: str

    def store(self) -> Store:
        """Open its store."""
        return open_store(self.url, self.options)


def in_bucket(bucket: Bucket) -> Place:
    """Give a place in a bucket."""
    return Place(bucket.url, bucket.server.options(), REGION)


@pytest.fixture(params=["to a bucket", "from a bucket"])
def places(
    request: pytest.FixtureRequest, make_bucket: MakeBucket, tmp_path: Path
) -> tuple[Place, Place]:
    """Give a place for a vault and one for its replica."""
    folder = Place(str(tmp_path / "place"), None, "cellar of Acme AB")
    bucket = in_bucket(make_bucket(HONEST[-1]))
    return (folder, bucket) if request.param == "to a bucket" else (bucket, folder)


def fill(vault: lb.Vault, number: int = 1) -> lb.Snapshot:
    """Back up two people, and what is about nobody."""
    return vault.backup(
        [
            lb.Item("users/42", data=CANARY, subject=ACME, version="1"),
            lb.Item("users/4", data=b"four" * 100, subject=OTHER, version="1"),
            lb.Item("large", data=noise(2_000_000, f"large {number}"), version=str(number)),
        ],
        name="n",
    )


def make(place: Place, **more: Any) -> lb.Vault:
    """Make a vault, open."""
    given: dict[str, Any] = {"storage_options": place.options, "state_dir": None, **more}
    return lb.Vault.create(place.url, CREDENTIAL, location=place.location, **given)


def opened(place: Place, **more: Any) -> lb.Vault:
    """Open what lies at a place, as a process does that has never seen it."""
    given: dict[str, Any] = {"storage_options": place.options, "state_dir": None, **more}
    return lb.Vault.open(place.url, CREDENTIAL, **given)


def test_replica_is_filled_cut_off_resumed_and_read_elsewhere(
    places: tuple[Place, Place], tmp_path: Path
) -> None:
    """At every moment it opens as the vault was; a fresh host restores from it alone."""
    here, there = places
    with make(here) as vault:
        fill(vault)
        first = vault.replicate(there.url, storage_options=there.options, location=there.location)
        assert first.ok
        held, size = read_all(vault), first.size
        fill(vault, 2)
        snapshot = fill(vault, 3)
        dying = FaultStore(there.store(), script(Rule(Crash("after"), "put", "ledger/*")))
        with pytest.raises(Crashed):
            run_replicate(vault._session, vault._actor, there.url, lambda: dying, None)
        with opened(there, read_only=True) as copy:
            assert (read_all(copy), len(copy.ledger)) == (held, size)

        again = vault.replicate(there.url, storage_options=there.options)

        assert (again.ok, again.behind) == (True, 0)
        (known,) = vault.replicas
        assert (known.location, known.behind) == (there.location, 0)
        everything = read_all(vault)
    with opened(there, read_only=True, state_dir=tmp_path / "elsewhere") as copy:
        assert read_all(copy) == everything
        assert copy.check(data=True).ok
        assert copy.info().is_replica
        copy.restore(snapshot.id, tmp_path / "out")
    assert (tmp_path / "out" / "large").read_bytes() == noise(2_000_000, "large 3")


def test_somebody_is_erased_at_both(places: tuple[Place, Place]) -> None:
    """At once by keys, then by bytes; the second receipt names both stores."""
    here, there = places
    with make(here, grace_s=0) as vault:
        fill(vault)
        vault.replicate(there.url, storage_options=there.options, location=there.location)
    with opened(here, replicas={there.url: there.options}) as vault:
        first = vault.erase_subjects([ACME], reason="request 118")

        stages = [place["stage"] for place in first.facts["keys"]["destinations"]]
        assert (first.level, stages) == ("E1", ["keys_destroyed", "keys_destroyed"])
        with opened(there, read_only=True) as copy:
            (snapshot,) = copy.snapshots()
            assert read_snapshot(snapshot).keys() == {"users/4", "large"}
            assert find_canary(copy, CANARY) == []
        before = {entry.key for entry in vault._session.store.list(names.PACKS)}
        vault.prune()
        for _ in range(2):
            (done,) = vault.replicate()
        assert done.ok
        (waiting,) = vault.prune().waiting
        assert waiting.where == there.url
        with closing(StoreSeam(there.store())) as seam:
            assert before.isdisjoint(entry.key for entry in seam.list(names.PACKS))
            shards = {entry.key for entry in seam.list(names.SHARDS)}
        assert shards == {entry.key for entry in vault._session.store.list(names.SHARDS)}
        with opened(there, read_only=True) as copy:
            assert copy.check(data=True).ok
            assert read_all(copy) == read_all(vault)


@pytest.mark.parametrize("server", HONEST)
def test_replica_in_a_bucket_with_versions_leaves_none(
    make_bucket: MakeBucket, tmp_path: Path, server: str
) -> None:
    """Old keys and packs go with every version; under a tombstone an old root is no use."""
    bucket = make_bucket(server)
    bucket.call("put_bucket_versioning", VersioningConfiguration={"Status": "Enabled"})
    there = in_bucket(bucket)
    with make(Place(str(tmp_path / "vault"), None, "cellar"), grace_s=0) as vault:
        fill(vault)
        vault.replicate(there.url, storage_options=there.options, location=REGION)
        old = {entry.key for entry in vault._session.store.list("")}
    given = {there.url: there.options}
    with lb.Vault.open(tmp_path / "vault", CREDENTIAL, state_dir=None, replicas=given) as vault:
        assert vault.erase_subjects([ACME], reason="request 118").level == "E1"
        vault.prune()
        for _ in range(2):
            assert vault.replicate()[0].ok
        gone = old - {entry.key for entry in vault._session.store.list("")}
    assert any(key.startswith(names.PACKS) for key in gone)

    found = bucket.call("list_object_versions", Prefix="prod/")
    left = {version["Key"].removeprefix("prod/") for version in found.get("Versions", ())}
    assert {key for key in left & gone if not key.endswith("/root")} == set()


def test_endpoint_of_unknown_place_needs_a_declaration(
    make_bucket: MakeBucket, tmp_path: Path
) -> None:
    """As for a vault: nobody can be asked, so nothing is written before it was said."""
    bucket = make_bucket("moto")
    there = in_bucket(bucket)
    with make(Place(str(tmp_path / "vault"), None, "cellar")) as vault:
        fill(vault)
        with pytest.raises(lb.InputError, match="replicate refused: nobody can be asked") as caught:
            vault.replicate(there.url, storage_options=there.options)
        assert caught.value.kind == "location"
        assert list(bucket.store().list("")) == []
        assert len(vault.replicas) == 0

        vault.replicate(there.url, storage_options=there.options, location=REGION)

        assert vault.replicate(there.url, storage_options=there.options).ok


def behind_a_front(servers: Servers, then: Callable[[str, dict[str, Any], Any], None]) -> None:
    """Do something with a bucket behind a front that counts; without TLS, on this machine."""
    with in_front_of(servers("plain-moto").endpoint) as front:
        options = {
            "key": KEY,
            "secret": SECRET,
            "endpoint_url": front.endpoint,
            "client_kwargs": {"region_name": REGION},
        }
        url = f"s3://acme-{secrets.token_hex(6)}/copy"
        with closing(S3Store(url, allow_insecure_loopback=True, **options)) as store:
            where = {"LocationConstraint": REGION}
            store._client.call(
                "create_bucket", Bucket=store.bucket, CreateBucketConfiguration=where
            )
        then(url, options, front)


def test_replication_with_nothing_new_costs_six_requests(servers: Servers, tmp_path: Path) -> None:
    """Counted on the wire; what ``open`` allowed on this machine holds for replicas too."""

    def replicate(url: str, options: dict[str, Any], front: Any) -> None:
        place = Place(str(tmp_path / "vault"), None, "cellar")
        with make(place) as vault:
            fill(vault)
            with pytest.raises(lb.InsecureTransport):
                vault.replicate(url, storage_options=options, location=REGION)
        assert sum(front.reset().values()) == 1
        with opened(place, allow_insecure_loopback=True) as vault:
            vault.replicate(url, storage_options=options, location=REGION)
            filled = sum(front.reset().values())
            report = vault.replicate(url, storage_options=options)
            assert (report.objects, report.behind) == (0, 0)
            again = sum(front.reset().values())
            fill(vault, 2)
            vault.replicate(url, storage_options=options)
            more = sum(front.reset().values())
        assert filled <= 60
        assert again <= 6
        assert more <= 24

    behind_a_front(servers, replicate)
