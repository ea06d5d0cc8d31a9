"""Small mistakes of callers, and nothing at all: a clear error or a sound vault."""

from __future__ import annotations

from pathlib import Path

import pytest

import loopbackup as lb
from loopbackup.testing import memory_vault


def test_prune_goes_on_beside_an_empty_snapshot() -> None:
    """A snapshot without a single entry has a table without a single chunk."""
    with memory_vault(grace_s=0) as vault:
        empty = vault.backup([], name="empty")
        old = vault.backup([lb.Item("a", data=b"a" * 9000)], name="s")
        vault.forget(old, reason="test")

        report = vault.prune()

        assert report.condemned > 0
        assert list(empty.ls()) == []
        assert vault.check(data=True).ok


def test_a_vault_is_never_restored_into_itself(tmp_path: Path) -> None:
    """What is restored must not overwrite what it is read from."""
    key = lb.KeyFile.generate(tmp_path / "key")
    with lb.Vault.create(tmp_path / "vault", key, state_dir=None) as vault:
        snap = vault.backup([lb.Item("vault", data=b"x")], name="n")

        with pytest.raises(lb.InputError):
            vault.restore(snap, tmp_path / "vault", overwrite="always")
        with pytest.raises(lb.InputError):
            vault.restore(snap, tmp_path / "vault" / "packs" / "new", overwrite="always")

        assert vault.check(data=True).ok


def test_only_the_vault_itself_is_left_out_after_a_change_of_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path names the folder that it named at opening."""
    key = lb.KeyFile.generate(tmp_path / "key")
    (tmp_path / "app" / "rel").mkdir(parents=True)
    (tmp_path / "app" / "rel" / "precious").write_text("x")
    monkeypatch.chdir(tmp_path)
    with lb.Vault.create("rel", key, state_dir=None) as vault:
        monkeypatch.chdir(tmp_path / "app")

        snap = vault.backup(".", name="app")

        assert [entry.path for entry in snap.ls(recursive=True)] == ["rel", "rel/precious"]


def test_an_empty_reference_and_an_unknown_word_are_refused() -> None:
    """A slip must not forget the only snapshot, nor switch an error off."""
    with memory_vault() as vault:
        vault.backup([lb.Item("a", data=b"a")], name="n")

        with pytest.raises(lb.InputError):
            vault.forget("", reason="a slip")
        with pytest.raises(lb.InputError):
            vault.backup([], name="n", errors="zzz")  # type: ignore[arg-type]
