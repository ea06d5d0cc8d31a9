"""Changes of keys in threads and processes: killed at any time, beside all other verbs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.support import create, items, new_vault, noise, read_all, reopen

from loopbackup.vault.format import names
from loopbackup.vault.store.local import LocalStore
from loopbackup.vault.vault import Vault

ROTATE = """
    import sys
    from loopbackup.vault.keys.credentials import Seed
    from loopbackup.vault.store.local import LocalStore
    from loopbackup.vault.store.wrappers import WrapperStore
    from tests.e2e.support import reopen

    class Telling(WrapperStore):
        def put(self, key, data, *, if_absent):
            print(key, flush=True)
            super().put(key, data, if_absent=if_absent)

        def delete(self, key):
            print(key, flush=True)
            return super().delete(key)

    vault = reopen(Telling(LocalStore(sys.argv[1])))
    while True:
        vault.keys.rotate()
        vault.keys.remove(vault.keys.add(Seed(b"2" * 32)))
"""


def test_vault_opens_after_a_kill_at_any_time_of_a_change(tmp_path: Path) -> None:
    """After any number of writes and deletes: one epoch, all data, and keys that can be changed."""
    folder = str(tmp_path / "vault")
    create(LocalStore(folder), grace_s=0)
    with reopen(LocalStore(folder)) as vault:
        vault.backup(items({"a": noise(5000, "a")}, subject="user-42"), name="n")
        expected = read_all(vault)
    path = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])

    for written in range(1, 40, 3):
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(ROTATE), folder],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        ) as process:
            assert process.stdout is not None
            for _ in range(written):
                assert process.stdout.readline()
            process.send_signal(signal.SIGKILL)

        with reopen(LocalStore(folder)) as vault:
            assert read_all(vault) == expected
            assert vault.check(data=True).ok
            vault.keys.rotate()
            vault.prune()

    with reopen(LocalStore(folder)) as vault:
        state = vault._session.log.state
        wanted = {names.root_name(state.epoch)}
        wanted |= {names.slot_name(state.epoch, slot) for slot, _, _ in state.slots}
        wanted |= {names.shard_name(digest) for digest in state.shards.values()}
        assert {entry.key for entry in vault._session.store.list("keys/")} == wanted


def backups(vault: Vault, tmp_path: Path) -> None:
    """Back up a few times, each with somebody new."""
    for night in range(6):
        told = items({f"{night}/{n}": noise(20_000, f"{night}/{n}") for n in range(5)})
        vault.backup([*told, *items({"x": b"x" * night}, subject=f"user-{night}")], name="n")


def restores(vault: Vault, tmp_path: Path) -> None:
    """Restore the first snapshot again and again."""
    first = vault.snapshots()[-1]
    for number in range(6):
        vault.restore(first, tmp_path / str(number))
        assert (tmp_path / str(number) / "first").read_bytes() == noise(90_000, "first")


def prunes(vault: Vault, tmp_path: Path) -> None:
    """Forget and prune."""
    for _ in range(4):
        vault.backup(items({"waste": noise(30_000, "waste")}), name="waste")
        vault.forget(vault.snapshots(name="waste")[0], reason="no longer wanted")
        vault.prune()


def checks(vault: Vault, tmp_path: Path) -> None:
    """Read everything."""
    for _ in range(3):
        assert vault.check(data=True).ok


@pytest.mark.parametrize("same", [True, False], ids=["the same handle", "another process"])
@pytest.mark.parametrize("verb", [backups, restores, prunes, checks])
def test_verbs_go_on_while_the_keys_are_changed(
    verb: Callable[[Vault, Path], None], same: bool, tmp_path: Path
) -> None:
    """Nothing fails, nothing is void, and all that was there is there."""
    vault = new_vault(grace_s=0)
    vault.backup(items({"first": noise(90_000, "first")}, subject="user-42"), name="first")
    other: Any = vault if same else reopen(vault._session.store.store)

    with ThreadPoolExecutor(2) as threads:
        running = threads.submit(verb, other, tmp_path)
        for _ in range(8):
            vault.keys.rotate()
        running.result()

    assert vault.check(data=True).ok
    assert vault._session.log.state.alarms == ()
    assert vault._session.keyring.root.generation == 9
    for one in {vault, other}:
        one.close()
