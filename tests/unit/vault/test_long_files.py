"""Files of so many chunks that their ids have chunks of their own."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import loopbackup as lb
from loopbackup.testing import memory_vault
from loopbackup.vault.verbs import collect

DATA = hashlib.shake_128(b"a long file").digest(700_000)


@pytest.fixture(autouse=True)
def _short_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make 700 kB a long file."""
    monkeypatch.setattr(collect, "LISTED_IDS", 5)


def _must_not_be_read() -> bytes:
    raise AssertionError("the content was asked for")


def test_a_long_file_comes_back_whole_and_seekable(tmp_path: Path) -> None:
    """Restore and random access follow the lists of chunk ids."""
    with memory_vault() as vault:
        snap = vault.backup([lb.Item("disk.img", data=DATA)], name="vm")

        vault.restore(snap, tmp_path)
        with snap.open("disk.img") as file:
            file.seek(654_321)
            part = file.read(1000)

        assert (tmp_path / "disk.img").read_bytes() == DATA
        assert part == DATA[654_321:655_321]
        assert vault.check(data=True).ok


def test_prune_keeps_the_lists_of_a_long_file_alive() -> None:
    """Chunks that hold only ids are as alive as the content."""
    with memory_vault(grace_s=0) as vault:
        old = vault.backup(
            [lb.Item("disk.img", data=DATA), lb.Item("waste", data=DATA[::-1])], name="vm"
        )
        new = vault.backup([lb.Item("disk.img", data=DATA, version="2")], name="vm")

        vault.forget(old, reason="test")
        report = vault.prune()

        assert report.condemned > 0
        assert new.open("disk.img").read() == DATA
        assert vault.check(data=True).ok


def test_an_unchanged_long_file_is_not_read_again() -> None:
    """The entry of the last snapshot carries its lists over."""
    with memory_vault() as vault:
        vault.backup([lb.Item("disk.img", data=DATA, version="1")], name="vm")

        again = vault.backup([lb.Item("disk.img", data=_must_not_be_read, version="1")], name="vm")

        assert again.report.unchanged == 1
        assert again.open("disk.img").read() == DATA
