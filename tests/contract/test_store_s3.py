"""The S3 driver keeps the contract of stores, on servers over TLS."""

from __future__ import annotations

import secrets

import pytest
from tests.servers.conftest import Bucket, MakeBucket, make_bucket, servers
from tests.servers.processes import HONEST

from loopbackup.testing.suite import StoreSuite
from loopbackup.testing.suite.listing import ListingTests
from loopbackup.testing.suite.objects import ObjectTests
from loopbackup.vault.store.probe import probe_exclusive_create
from loopbackup.vault.store.protocol import Store
from loopbackup.vault.store.seam import StoreSeam

__all__ = ["make_bucket", "servers"]


_BUCKETS: dict[str, str] = {}
"""By server: one for all tests of this process."""


class InBucket:
    """Gives stores that have a prefix of their own in a bucket."""

    bucket: Bucket

    def use(self, make_bucket: MakeBucket, server: str) -> None:
        """Take the bucket of *server*; it is made at the first call."""
        self.bucket = make_bucket(server, name=_BUCKETS.get(server, ""))
        _BUCKETS[server] = self.bucket.name

    def make_store(self) -> Store:
        return self.bucket.store(f"prod/{secrets.token_hex(8)}")


class TestS3Store(InBucket, StoreSuite):
    @pytest.fixture(autouse=True, params=HONEST)
    def _bucket(self, request: pytest.FixtureRequest, make_bucket: MakeBucket) -> None:
        self.use(make_bucket, request.param)


class TestS3StoreOnDeafServer(InBucket, ObjectTests, ListingTests):
    """Conditions aside, which such a server ignores."""

    @pytest.fixture(autouse=True)
    def _bucket(self, make_bucket: MakeBucket) -> None:
        self.use(make_bucket, "rclone")

    def test_a_delete_takes_one_object_only(self) -> None:
        """It keeps objects as files, and refuses to delete a folder; nothing else is deleted."""
        store = self.make_store()
        keys = {"a/b", "a/bc", "a/b-c", "d/e/f"}
        for key in keys:
            store.put(key, b"x", if_absent=True)

        store.delete("a/b")
        with pytest.raises(ConnectionError):
            store.delete("d")

        assert {entry.key for entry in store.list("")} == keys - {"a/b"}

    def test_the_probe_finds_it_out(self) -> None:
        """Every one of the creates of one name succeeds, so the server is not to be trusted."""
        assert not probe_exclusive_create(StoreSeam(self.make_store()))
