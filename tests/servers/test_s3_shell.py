"""The command with a bucket and a passphrase alone."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.shell import BIG, PASSPHRASE, Shell, back_up, make_source, shell_of
from tests.servers.conftest import Bucket, MakeBucket

import loopbackup as lb


def _left_behind(bucket: Bucket, folder: Path) -> Shell:
    """Make a vault in a bucket; what reaches the bucket goes into a file of options."""
    options = bucket.server.options()
    with lb.Vault.create(
        bucket.url,
        lb.Passphrase(PASSPHRASE),
        storage_options=options,
        location="eu-north-1",
        state_dir=None,
    ) as vault:
        back_up(vault, make_source(folder / "source"))
    (folder / "store.json").write_text(json.dumps(options))
    shell = shell_of(folder, folder)
    return Shell(folder, folder, {**shell.env, "LOOPBACKUP_VAULT": bucket.url})


def test_a_bucket_and_a_passphrase_are_enough(make_bucket: MakeBucket, tmp_path: Path) -> None:
    """The same commands as on disk, and nothing in the bucket is changed by them."""
    bucket = make_bucket("moto")
    shell = _left_behind(bucket, tmp_path)
    before = bucket.call("list_objects_v2")["Contents"]
    store = ("--options-file", "store.json")

    listed = shell.json("snapshots", *store)
    shell.told("restore", "latest", "out", *store)
    checked = shell.json("check", "--data", *store)

    assert listed["vault"]["url"] == bucket.url
    assert checked["ok"]
    assert (tmp_path / "out/users/42/cv.pdf").read_bytes() == BIG
    after = bucket.call("list_objects_v2")["Contents"]
    assert [(o["Key"], o["ETag"]) for o in after] == [(o["Key"], o["ETag"]) for o in before]


def test_a_bucket_that_cannot_be_reached_is_told(make_bucket: MakeBucket, tmp_path: Path) -> None:
    """By exit code and in lines: no such bucket, no TLS, no vault."""
    bucket = make_bucket("moto")
    shell = _left_behind(bucket, tmp_path)
    store = ("--options-file", "store.json")
    insecure = "endpoint_url=http://127.0.0.1:1"

    shell.fails(4, "snapshots", *store, "--vault", "s3://acme-nowhere/prod")
    refused = shell.fails(4, "snapshots", *store, "--option", insecure)
    nothing = shell.fails(4, "snapshots", *store, "--vault", f"{bucket.url}/other")

    assert "http" in refused
    assert "there is no vault at" in nothing
