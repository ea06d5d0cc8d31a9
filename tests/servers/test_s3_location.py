"""Where a bucket lies: asked of AWS, declared of everybody else, recorded, asked again."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.support import Clock, items
from tests.servers.aws import Aws
from tests.servers.conftest import MakeBucket

import loopbackup as lb
from loopbackup.errors import InputError
from loopbackup.vault.store.s3.driver import S3Store

PASSPHRASE = lb.Passphrase("correct horse battery staple")


def test_aws_is_asked_and_what_it_says_is_recorded(aws: Aws) -> None:
    """Without a declaration its word counts; another process reads it from the ledger."""
    url, clock = aws.bucket("eu-north-1"), Clock()
    given: dict[str, Any] = {"storage_options": aws.options(), "state_dir": None, "clock": clock}
    with lb.Vault.create(url, PASSPHRASE, **given) as vault:
        vault.backup(items({"a": b"a"}), name="n")
    with lb.Vault.open(url, PASSPHRASE, **given) as vault:
        found = vault.info().location
        text = str(vault.info())

    assert found.observed == lb.Location(None, region="eu-north-1", provider="aws")
    assert found.declared is None
    assert found.agree
    assert found.asked_at is not None
    assert "eu-north-1 (asked from the provider 2026-03-01 12:00 UTC)" in text


def test_bucket_elsewhere_than_declared_is_refused(aws: Aws) -> None:
    """Nothing is written, and the message says where it lies."""
    url = aws.bucket("us-west-2")
    given: dict[str, Any] = {"storage_options": aws.options(), "state_dir": None}
    with pytest.raises(InputError, match=r"lies in us-west-2 \(asked .*declared eu-north-1") as e:
        lb.Vault.create(url, PASSPHRASE, location="eu-north-1", **given)

    assert e.value.kind == "location"
    store = S3Store(url, **aws.options())
    assert list(store.list("")) == []
    store.close()


def test_replica_elsewhere_than_declared_is_refused(aws: Aws, tmp_path: Path) -> None:
    """When it begins, and when another place is declared later; its bucket stays as it was."""
    url, options = aws.bucket("us-west-2"), aws.options()
    with lb.Vault.create(tmp_path / "vault", PASSPHRASE, state_dir=None) as vault:
        vault.backup(items({"a": b"a"}), name="n")
        with pytest.raises(InputError, match=r"replicate refused: .* lies in us-west-2") as caught:
            vault.replicate(url, storage_options=options, location="eu-north-1")
        assert caught.value.kind == "location"
        assert list(vault.replicas) == []
        with closing(S3Store(url, **options)) as store:
            assert list(store.list("")) == []

        assert vault.replicate(url, storage_options=options).ok
        assert vault.replicate(url, storage_options=options, location="us-west-2").ok
        with pytest.raises(InputError, match="declared eu-north-1"):
            vault.replicate(url, storage_options=options, location="eu-north-1")
        assert [one.location for one in vault.replicas] == ["us-west-2"]


def test_provider_is_asked_again_on_demand(aws: Aws) -> None:
    """The newest answer is recorded with its time; a read-only look records nothing."""
    url, clock = aws.bucket("eu-north-1"), Clock()
    given: dict[str, Any] = {"storage_options": aws.options(), "state_dir": None, "clock": clock}
    with lb.Vault.create(url, PASSPHRASE, location="eu-north-1", **given) as vault:
        first = vault.info().location
        clock.pass_by(days=30)
        again = vault.locate()
        assert vault.info().location == again
        size = vault.info().records
    with lb.Vault.open(url, PASSPHRASE, read_only=True, **given) as vault:
        assert vault.locate().observed == again.observed
        assert vault.info().records == size

    assert again.asked_at is not None
    assert first.asked_at is not None
    assert (again.asked_at - first.asked_at).days == 30
    assert again.agree


def test_server_that_could_say_anything_needs_a_declaration(make_bucket: MakeBucket) -> None:
    """Its own word about its region is nobody's; without a declaration there is no vault."""
    bucket = make_bucket("moto")
    given: dict[str, Any] = {"storage_options": bucket.server.options(), "state_dir": None}
    with pytest.raises(InputError, match="whatever region it likes") as caught:
        lb.Vault.create(bucket.url, PASSPHRASE, **given)
    with lb.Vault.create(bucket.url, PASSPHRASE, location="cellar of Acme AB", **given) as vault:
        found = vault.locate()

    assert caught.value.kind == "location"
    assert found == lb.Whereabouts("cellar of Acme AB", None, None)
    assert str(found) == "cellar of Acme AB, as declared"
