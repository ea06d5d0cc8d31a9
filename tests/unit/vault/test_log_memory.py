"""A fold that was kept must not hide that the store has lost what it ends with."""

from __future__ import annotations

from pathlib import Path

import pytest

import loopbackup as lb
from loopbackup.vault.keys.credentials import KeyFile


def _busy_vault(folder: Path, records: int) -> tuple[Path, KeyFile, Path]:
    """Make a vault with enough records for the fold to be kept."""
    key, state = lb.KeyFile.generate(folder / "key"), folder / "state"
    with lb.Vault.create(folder / "vault", key, state_dir=state) as vault:
        for number in range(records):
            vault.backup([lb.Item("a", data=str(number).encode())], name="s")
    return folder / "vault", key, state


@pytest.mark.parametrize("cut", [1, 3])
def test_a_cut_tail_is_noticed_under_a_kept_fold(tmp_path: Path, cut: int) -> None:
    """The fold on this host is newer than the store: an error, not a gap."""
    folder, key, state = _busy_vault(tmp_path, 40)
    records = sorted((folder / "ledger").iterdir())

    for record in records[-cut:]:
        record.unlink()

    with pytest.raises(lb.RollbackDetected):
        lb.Vault.open(folder, key, state_dir=state)


def test_a_kept_fold_saves_reading_the_ledger(tmp_path: Path) -> None:
    """What was folded once on this host is not folded again."""
    folder, key, state = _busy_vault(tmp_path, 40)
    (folder / "ledger" / f"{3:020d}").unlink()

    with lb.Vault.open(folder, key, state_dir=state) as vault:
        assert vault.freshness == "fresh"
        assert len(vault.snapshots()) == 40
