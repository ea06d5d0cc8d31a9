"""Versions, markers, locks and lifecycle rules: found, shown, deleted as far as may be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from tests.e2e.support import items, noise
from tests.servers.conftest import Bucket, MakeBucket
from tests.servers.processes import HONEST, REGION

import loopbackup as lb
from loopbackup.vault.store.protocol import Remains
from loopbackup.vault.store.s3.bucket import ask_version_days

PASSPHRASE = lb.Passphrase("correct horse battery staple")


@pytest.fixture(params=HONEST)
def versioned(request: pytest.FixtureRequest, make_bucket: MakeBucket) -> Bucket:
    """Give a bucket that keeps versions."""
    bucket = make_bucket(request.param)
    bucket.call("put_bucket_versioning", VersioningConfiguration={"Status": "Enabled"})
    return bucket


@pytest.fixture(params=HONEST)
def locking(request: pytest.FixtureRequest, make_bucket: MakeBucket) -> Bucket:
    """Give a bucket whose objects can be locked."""
    return make_bucket(request.param, ObjectLockEnabledForBucket=True)


def everything(bucket: Bucket) -> list[str]:
    """Give the names of all versions and markers in a bucket."""
    found = bucket.call("list_object_versions")
    rows = [*found.get("Versions", ()), *found.get("DeleteMarkers", ())]
    return sorted(row["Key"] for row in rows)


def create(bucket: Bucket, **more: Any) -> lb.Vault:
    """Make a vault."""
    options = bucket.server.options()
    return lb.Vault.create(
        bucket.url, PASSPHRASE, storage_options=options, location=REGION, state_dir=None, **more
    )


def test_delete_removes_every_version_and_marker(versioned: Bucket) -> None:
    """Overwritten twice, hidden once: nothing is left, and no other object is touched."""
    store = versioned.store()
    for data in (b"first", b"second", b"third"):
        store.put("a", data, if_absent=False)
        store.put("a-longer-name", data, if_absent=False)
    versioned.call("delete_object", Key="prod/a")

    remains = store.delete("a")

    assert remains == Remains()
    assert everything(versioned) == ["prod/a-longer-name"] * 3


def test_deleted_name_may_be_created_again(versioned: Bucket) -> None:
    """No marker of it is left that an exclusive create would meet."""
    store = versioned.store()
    store.put("a", b"first", if_absent=True)
    store.delete("a")
    store.put("a", b"second", if_absent=True)

    assert store.get("a") == b"second"


def test_vault_says_that_versions_are_kept(versioned: Bucket) -> None:
    """And prunes them away."""
    with create(versioned, grace_s=0) as vault:
        info = vault.info()
        gone = vault.backup(items({"a": noise(500_000, "a")}), name="n")
        vault.backup(items({"b": b"b"}), name="n")
        vault.forget(gone, reason="old")
        packs = [name for name in everything(versioned) if "/packs/" in name]
        vault.prune()
        left = [name for name in everything(versioned) if "/packs/" in name]

    assert info.store.versioning == "enabled"
    assert "keeps versions" in str(info)
    assert len(set(packs) - set(left)) > 0
    assert len(left) == len(set(left))


def test_locked_version_is_counted_with_the_end_of_its_lock(locking: Bucket) -> None:
    """Hidden from readers, and said to remain until then."""
    store = locking.store()
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    locking.call(
        "put_object",
        Key="prod/a",
        Body=b"locked",
        ObjectLockMode="COMPLIANCE",
        ObjectLockRetainUntilDate=until,
        ContentMD5=_md5(b"locked"),
    )

    remains = store.delete("a")

    assert remains == Remains(1, until)
    with pytest.raises(FileNotFoundError):
        store.get("a")


def test_legal_hold_has_no_end(locking: Bucket) -> None:
    """It remains, and nobody can say until when."""
    store = locking.store()
    store.put("a", b"held", if_absent=True)
    locking.call(
        "put_object_legal_hold",
        Key="prod/a",
        LegalHold={"Status": "ON"},
        ContentMD5=_md5(
            b'<LegalHold xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            b"<Status>ON</Status></LegalHold>"
        ),
    )

    assert store.delete("a") == Remains(1, None)


def test_vault_in_a_bucket_with_default_lock_says_what_follows(locking: Bucket) -> None:
    """It works; keys are kept out of the lock as far as may be; what is pruned stays a while."""
    locking.call(
        "put_object_lock_configuration",
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 30}},
        },
    )
    with create(locking, grace_s=0) as vault:
        info = vault.info()
        gone = vault.backup(items({"a": noise(500_000, "a")}), name="n")
        vault.backup(items({"b": b"b"}), name="n")
        vault.forget(gone, reason="old")
        pruned = vault.prune()
        assert vault.check(data=True).ok
    store = locking.store()
    key = next(found.key for found in store.list("keys/"))
    pack = next(found.key for found in store.list("packs/"))
    locks = {
        name: locking.call("head_object", Key=f"prod/{name}")["ObjectLockRetainUntilDate"]
        for name in (key, pack)
    }

    assert info.store.locks == "GOVERNANCE 30 days"
    assert "new objects are locked (GOVERNANCE, 30 days)" in str(info)
    assert pruned.kept > 0
    assert locks[pack] > datetime.now(UTC) + timedelta(days=29)
    assert locks[key] < datetime.now(UTC) + timedelta(minutes=1)


def test_lifecycle_rules_that_would_cost_backups_are_shown(make_bucket: MakeBucket) -> None:
    """One that deletes by age, one that moves to an archive; not one for another prefix."""
    bucket = make_bucket("moto")
    archive = [{"Days": 30, "StorageClass": "GLACIER"}]
    bucket.call(
        "put_bucket_lifecycle_configuration",
        LifecycleConfiguration={
            "Rules": [
                rule("clean", "", Expiration={"Days": 90}),
                rule("cold", "prod/", Transitions=archive),
                rule("logs", "logs/", Expiration={"Days": 7}),
                rule("parts", "", AbortIncompleteMultipartUpload={"DaysAfterInitiation": 3}),
            ]
        },
    )
    with create(bucket) as vault:
        notes = vault.info().store.findings

    assert len(notes) == 2
    assert "'clean' deletes objects of the vault by their age" in notes[0]
    assert "'cold' moves objects of the vault to an archive" in notes[1]


def rule(name: str, prefix: str, **more: Any) -> dict[str, Any]:
    """Make a lifecycle rule."""
    return {"ID": name, "Status": "Enabled", "Filter": {"Prefix": prefix}, **more}


def _md5(data: bytes) -> str:
    import base64
    import hashlib

    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def test_killed_delete_leaves_a_name_that_listings_show(versioned: Bucket) -> None:
    """Older versions go first, and no marker is made: whoever comes later finds the object."""
    store = versioned.store()
    for data in (b"one", b"two", b"three"):
        store.put("a", data, if_absent=False)
    asked: list[tuple[str, str]] = []
    call = store._client.call

    def note(method: str, **given: Any) -> dict[str, Any]:
        if method == "delete_object":
            asked.append((method, given.get("VersionId", "")))
            if len(asked) == 3:
                raise KeyboardInterrupt
        return call(method, **given)

    store._client.call = note  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        store.delete("a")
    del store._client.call

    assert all(version for _, version in asked)
    assert [found.key for found in store.list("")] == ["a"]
    assert store.get("a") == b"three"
    assert store.delete("a") == Remains()
    assert versioned.call("list_object_versions").get("Versions", []) == []


def test_rule_that_may_not_apply_dates_nothing() -> None:
    """By size, by number of versions, of another prefix: none of them says when something goes."""
    expires = {"NoncurrentDays": 30}
    for rules, days in [
        ([rule("all", "", NoncurrentVersionExpiration=expires)], 32),
        ([rule("prod", "prod/", NoncurrentVersionExpiration=expires)], 32),
        ([rule("packs", "prod/packs/", NoncurrentVersionExpiration=expires)], None),
        (
            [
                rule(
                    "few", "", NoncurrentVersionExpiration={**expires, "NewerNoncurrentVersions": 5}
                )
            ],
            None,
        ),
        (
            [
                {
                    "Status": "Enabled",
                    "Filter": {"And": {"Prefix": "", "ObjectSizeGreaterThan": 131_072}},
                    "NoncurrentVersionExpiration": expires,
                }
            ],
            None,
        ),
    ]:
        client: Any = SimpleNamespace(call=lambda _m, rules=rules, **_: {"Rules": rules})
        assert ask_version_days(client, "acme", "prod/keys/root") == days
