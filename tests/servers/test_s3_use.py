"""What hosts do with a vault, done in buckets of every server: it works as on disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.e2e.support import items, noise
from tests.servers.conftest import Bucket
from tests.servers.test_s3_vault import KEY, bucket, opened, vault_in  # noqa: F401  # a fixture

import loopbackup as lb
from loopbackup.errors import ErasedSubject, HoldActive, RollbackDetected

REVIEW = datetime(2027, 1, 1, tzinfo=UTC)
WHO = ("acme", "user-42")
BACKUP = """
import json, sys
import loopbackup as lb
url, options, source = json.loads(sys.argv[1])
key = lb.Passphrase("correct horse battery staple")
with lb.Vault.open(url, key, storage_options=options, state_dir=None) as vault:
    vault.backup(source, name="n")
"""


def person(text: bytes = b"letter") -> list[lb.Item]:
    """Give what is about somebody."""
    return [lb.Item("letters/42", data=text * 1000, subject=WHO)]


def test_partial_restore_and_open_file(bucket: Bucket, tmp_path: Path) -> None:  # noqa: F811
    """A folder is restored alone; a long file is read in the middle."""
    long = noise(5_000_000, "long")
    with vault_in(bucket) as vault:
        vault.backup(items({"a/long": long, "b/other": b"other"}), name="n")
        vault.restore("latest", tmp_path / "out", include=["b/"])
        with vault.snapshot("latest").open("a/long") as file:
            file.seek(4_000_000)
            part = file.read(1000)

    assert part == long[4_000_000:4_001_000]
    assert [p.name for p in (tmp_path / "out").rglob("*") if p.is_file()] == ["other"]


def test_changed_restore_reads_what_differs(bucket: Bucket, tmp_path: Path) -> None:  # noqa: F811
    """A restore over an old copy sets right what is not as it was."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    for number in range(5):
        (source / str(number)).write_bytes(noise(200_000, str(number)))
    with vault_in(bucket) as vault:
        vault.backup(source, name="n")
        vault.restore("latest", target)
        (changed,) = target.rglob("3")
        changed.write_bytes(b"spoilt")
        report = vault.restore("latest", target, overwrite="changed")

    assert changed.read_bytes() == noise(200_000, "3")
    assert report.files == 1


def test_hold_keeps_somebody_from_being_erased(bucket: Bucket) -> None:  # noqa: F811
    """Until it is released; then the erasure goes through, and holds for later backups."""
    with vault_in(bucket) as vault:
        vault.backup(person(), name="n")
        hold = vault.hold(WHO, reason="case 17", review_at=REVIEW)
        with pytest.raises(HoldActive):
            vault.erase_subjects([WHO], reason="request 118")
        vault.release(hold, reason="settled")
        vault.erase_subjects([WHO], reason="request 118")
        with pytest.raises(ErasedSubject):
            vault.backup(person(), name="n")
        assert vault.holdings(WHO).snapshots == ()


def test_old_copy_of_a_bucket_is_noticed(bucket: Bucket, tmp_path: Path) -> None:  # noqa: F811
    """Whoever remembers the newer head refuses the older one."""
    state = tmp_path / "state"
    with vault_in(bucket, state_dir=state) as vault:
        vault.backup(items({"a": b"a"}), name="n")
        last = vault.info().records - 1
    bucket.store().delete(f"ledger/{last:020d}")

    with pytest.raises(RollbackDetected), opened(bucket, state_dir=state):
        pass


def test_damaged_object_is_found_and_named(bucket: Bucket) -> None:  # noqa: F811
    """The rest stays readable."""
    with vault_in(bucket) as vault:
        vault.backup(items({"a": noise(300_000, "a")}), name="n")
        vault.backup(items({"b": noise(300_000, "b")}), name="m")
        store = vault._session.store.store
        pack = max(store.list("packs/"), key=lambda found: found.size_bytes)
        data = bytearray(store.get(pack.key))
        data[len(data) // 2] ^= 1
        store.put(pack.key, bytes(data), if_absent=False)
        report = vault.check(data=True)

    assert {problem.object for problem in report.problems if problem.object} == {pack.key}


def test_backup_that_was_killed_is_taken_up(bucket: Bucket, tmp_path: Path) -> None:  # noqa: F811
    """The next run sends only what is missing, and the vault is whole."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(24):
        (source / str(number)).write_bytes(noise(8_000_000, str(number)))
    with vault_in(bucket):
        pass
    argument = json.dumps([bucket.url, bucket.server.options(), str(source)])
    process = subprocess.Popen([sys.executable, "-c", BACKUP, argument])
    store, deadline = bucket.store(), time.monotonic() + 60
    while sum(1 for _ in store.list("packs/")) < 2:
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    with opened(bucket) as vault:
        assert list(vault.snapshots()) == []
        done = vault.backup(source, name="n")
        assert vault.check(data=True).ok
    assert done.report.bytes_added < 24 * 8_000_000


def test_read_only_handle_writes_nothing(bucket: Bucket, tmp_path: Path) -> None:  # noqa: F811
    """Not even a record of its reads."""
    with vault_in(bucket) as vault:
        vault.backup(items({"a": b"a" * 100}), name="n")
    before = sorted((found.key, found.size_bytes) for found in bucket.store().list(""))
    with opened(bucket, read_only=True) as vault:
        vault.restore("latest", tmp_path / "out")
        assert vault.check(data=True).ok

    assert sorted((found.key, found.size_bytes) for found in bucket.store().list("")) == before
