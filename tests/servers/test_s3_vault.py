"""A whole vault in a bucket, over TLS: what works on disk works there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.support import items, noise
from tests.servers.conftest import Bucket, MakeBucket
from tests.servers.processes import HONEST, REGION, SERVERS

import loopbackup as lb
from loopbackup.errors import AlreadyExistsError, FormatError, InputError, NotFoundError, StoreError
from loopbackup.testing import find_canary

KEY = lb.Passphrase("correct horse battery staple")


@contextmanager
def vault_in(bucket: Bucket, **more: Any) -> Iterator[lb.Vault]:
    """Make a vault, open for the block."""
    is_deaf = bucket.server.name not in HONEST
    options = {"location": REGION, "state_dir": None, "single_writer": is_deaf, **more}
    with lb.Vault.create(bucket.url, KEY, storage_options=bucket.server.options(), **options) as v:
        yield v


@contextmanager
def opened(bucket: Bucket, **more: Any) -> Iterator[lb.Vault]:
    """Open the vault as another process would."""
    options = {"state_dir": None, **more}
    with lb.Vault.open(bucket.url, KEY, storage_options=bucket.server.options(), **options) as v:
        yield v


@pytest.fixture(params=SERVERS)
def bucket(request: pytest.FixtureRequest, make_bucket: MakeBucket) -> Bucket:
    """Give an empty bucket."""
    return make_bucket(request.param)


@pytest.mark.parametrize("server", SERVERS)
def test_tree_comes_back_from_a_bucket(
    make_bucket: MakeBucket, tmp_path: Path, server: str
) -> None:
    """Backed up, opened elsewhere, checked, restored: every byte, time and link is as it was."""
    bucket = make_bucket(server)
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "folder").mkdir(parents=True)
    (source / "large").write_bytes(noise(3_000_000, "large"))
    (source / "folder" / os.fsdecode(b"n\xff")).write_bytes(b"name of bytes")
    (source / "link").symlink_to("large")

    with vault_in(bucket) as vault:
        vault.backup(source, name="app")
    with opened(bucket, read_only=True) as vault:
        assert vault.check(data=True).ok
        vault.restore(vault.snapshot("latest"), target)

    restored = target if (target / "large").exists() else target / str(source).lstrip("/")
    assert (restored / "large").read_bytes() == (source / "large").read_bytes()
    assert (restored / "folder" / os.fsdecode(b"n\xff")).read_bytes() == b"name of bytes"
    assert (restored / "link").readlink() == Path("large")
    assert (restored / "large").stat().st_mtime_ns == (source / "large").stat().st_mtime_ns


def test_unchanged_and_edited_runs_add_little(bucket: Bucket) -> None:
    """What did not change is not sent again."""
    data = {f"f{n}": noise(300_000, str(n)) for n in range(8)}
    with vault_in(bucket) as vault:
        first = vault.backup(items(data), name="n")
        again = vault.backup(items(data), name="n")
        edited = vault.backup(items({**data, "f3": noise(300_000, "new")}), name="n")

    assert first.report.bytes_added > 2_000_000
    # One pack with the entries and the index of the run.
    assert again.report.bytes_added == 65_536
    assert 300_000 <= edited.report.bytes_added < 600_000


def test_forgotten_snapshot_is_pruned_away(bucket: Bucket) -> None:
    """Its packs are deleted, and what else there is stays whole."""
    with vault_in(bucket, grace_s=0) as vault:
        gone = vault.backup(items({"a": noise(2_000_000, "a")}), name="n")
        vault.backup(items({"b": noise(50_000, "b")}), name="n")
        before = vault.info().stored_bytes
        vault.forget(gone, reason="too old")
        vault.prune()

        assert vault.info().stored_bytes < before - 1_500_000
        assert vault.check(data=True).ok


def test_subject_is_erased_from_a_bucket(bucket: Bucket) -> None:
    """The receipt verifies, the store keeps no trace that a key opens, and no other suffers."""
    mark = noise(4096, "user-42")
    with vault_in(bucket, grace_s=0) as vault:
        vault.backup(
            [
                lb.Item("users/42/cv", data=mark, subject=("acme", "user-42")),
                lb.Item("users/43/cv", data=b"other" * 500, subject=("acme", "user-43")),
            ],
            name="users",
        )
        receipt = vault.erase_subjects([("acme", "user-42")], reason="request 118")
        receipt.verify(vault.public_key)
        assert find_canary(vault, mark) == []
        vault.prune()
    with opened(bucket) as vault:
        snapshot = vault.snapshot("latest")
        assert snapshot.open("users/43/cv").read() == b"other" * 500
        with pytest.raises(NotFoundError) as caught:
            snapshot.open("users/42/cv")
        assert vault.check(data=True).ok

    assert caught.value.kind == "path"


@pytest.mark.parametrize("bucket", HONEST, indirect=True)
def test_two_writers_share_a_bucket(bucket: Bucket) -> None:
    """Commits of both stand, in one order."""
    with vault_in(bucket) as one, opened(bucket) as two:
        for number in range(3):
            one.backup(items({"a": noise(1000, f"a{number}")}), name="one")
            two.backup(items({"b": noise(1000, f"b{number}")}), name="two")

        assert len(one.snapshots()) == 6
        assert one.check(data=True).ok


def test_keys_are_added_rotated_and_removed(bucket: Bucket) -> None:
    """A vault in a bucket changes its keys as one on disk does."""
    other = lb.Passphrase("another one for acme")
    with vault_in(bucket) as vault:
        vault.backup(items({"a": b"a" * 5000}), name="n")
        vault.keys.add(other)
        vault.keys.remove(vault.keys.current)
    options = bucket.server.options()
    with lb.Vault.open(bucket.url, other, storage_options=options, state_dir=None) as vault:
        assert vault.snapshot("latest").open("a").read() == b"a" * 5000
    with pytest.raises(lb.CredentialError), opened(bucket):
        pass


def test_server_that_ignores_conditions_is_refused(make_bucket: MakeBucket) -> None:
    """Two writers could undo each other; whoever knows that there is one says so."""
    bucket = make_bucket("rclone")

    with pytest.raises(InputError, match="exclusive create"), vault_in(bucket, single_writer=False):
        pass

    with vault_in(bucket, single_writer=True) as vault:
        vault.backup(items({"a": b"a"}), name="n")


def test_what_stands_in_the_way_is_told(bucket: Bucket) -> None:
    """A taken place, a place without a vault and a bucket that is not there are three things."""
    options = bucket.server.options()
    with vault_in(bucket), pytest.raises(AlreadyExistsError), vault_in(bucket):
        pass
    with pytest.raises(FormatError) as caught:
        lb.Vault.open(f"s3://{bucket.name}/other", KEY, storage_options=options, state_dir=None)
    assert caught.value.kind == "no_vault"
    for act in (lb.Vault.create, lb.Vault.open):
        place: dict[str, Any] = {"location": REGION} if act == lb.Vault.create else {}
        with pytest.raises(StoreError) as failed:
            act("s3://acme-no-such-bucket/p", KEY, storage_options=options, state_dir=None, **place)
        assert (failed.value.kind, failed.value.transient) == ("no_container", False)


@pytest.mark.parametrize("server", [name for name in SERVERS if name != "moto"])
def test_wrong_credentials_are_told_and_shown_nowhere(make_bucket: MakeBucket, server: str) -> None:
    """The error says what to look at; no secret is in it, in its causes, or in a repr."""
    bucket = make_bucket(server)
    secret = "a-secret-that-nobody-may-see"
    options = bucket.server.options() | {"secret": secret}

    with pytest.raises(StoreError) as caught:
        lb.Vault.open(bucket.url, KEY, storage_options=options, state_dir=None)

    shown = [repr(caught.value), str(caught.value), repr(caught.value.__cause__)]
    assert caught.value.kind == "wrong_credentials"
    assert not any(secret in text or options["key"] in text for text in shown)
