"""Runs that end early: killed, interrupted, out of space, beside others. The vault stays whole."""

from __future__ import annotations

import errno
import os
import pickle
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.e2e.support import create, dump, items, new_vault, noise, read_all, read_snapshot, reopen

import loopbackup as lb
from loopbackup.errors import InputError, StoreError
from loopbackup.testing.faults import FaultStore, LostRequest, Refused, Rule, script
from loopbackup.vault.store.local import LocalStore
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.vault import Vault

T = TypeVar("T")
PARTS = {f"big/{number:02d}": noise(500_000, str(number)) for number in range(20)}
TOTAL = sum(map(len, PARTS.values()))

BACKUP = """
    import signal, sys, time
    import loopbackup as lb
    from loopbackup.vault.store.local import LocalStore
    from tests.e2e.support import noise, reopen

    def part(number):
        if number == 14:
            while <wait> and not vault._session.log.state.claims:
                time.sleep(0.01)
            print("half-way", flush=True)
            time.sleep(<wait>)
        return noise(500_000, str(number))

    # Where the tests run in the background of a shell, it would be ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    items = [lb.Item(f"big/{n:02d}", data=lambda n=n: part(n)) for n in range(20)]
    vault = reopen(LocalStore(sys.argv[1]))
    snapshot = vault.backup(items, name="big")
    print(snapshot.id, flush=True)
    vault.close()
"""


@contextmanager
def spawn(code: str, *arguments: str, **replaced: object) -> Iterator[subprocess.Popen[str]]:
    """Run Python code in a process of its own, which does not outlive the block."""
    code = textwrap.dedent(code)
    for name, value in replaced.items():
        code = code.replace(f"<{name}>", repr(value))
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), *sys.path])
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Make a vault with small packs on disk."""
    path = str(tmp_path / "vault")
    create(LocalStore(path))
    return path


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_backup_leaves_a_whole_vault_and_is_resumed(folder: str, number: int) -> None:
    """Nothing of it shows; the next run takes over what it has claimed."""
    with reopen(LocalStore(folder)) as vault:
        vault.backup(items({"before": b"before"}), name="other")
    with spawn(BACKUP, folder, wait=30) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half-way\n", process.communicate()
        process.send_signal(number)
        process.communicate(timeout=30)
    assert process.returncode != 0

    with reopen(LocalStore(folder)) as vault:
        assert vault.check(data=True).ok
        assert list(read_all(vault).values()) == [{"before": b"before"}]
        snapshot = vault.backup(items(PARTS), name="big")

        assert read_snapshot(snapshot) == PARTS
        assert snapshot.report.bytes_added < TOTAL
        assert snapshot.report.bytes_read == TOTAL
        assert vault.check(data=True).ok


def interrupt(vault: Vault) -> None:
    """Press Ctrl-C in the middle of a backup, once it has claimed a pack."""

    def interrupted() -> bytes:
        while not vault._session.log.state.claims:
            time.sleep(0.01)
        raise KeyboardInterrupt

    half = items(dict(list(PARTS.items())[:10]))
    with pytest.raises(KeyboardInterrupt):
        vault.backup([*half, lb.Item("last", data=interrupted)], name="big")


def test_interrupt_in_the_middle_keeps_what_was_uploaded() -> None:
    """Ctrl-C in a host's function goes through; the next run uploads the rest only."""
    with new_vault() as vault:
        interrupt(vault)

        assert vault.snapshots() == []
        assert vault.check(data=True).ok
        snapshot = vault.backup(items(PARTS), name="big")

        assert read_snapshot(snapshot) == PARTS
        assert snapshot.report.bytes_added < TOTAL


def test_generator_that_fails_commits_nothing() -> None:
    """Half of a generator must not pass for the whole; its error comes out unchanged."""

    class HostError(Exception):
        pass

    closed = []

    def source() -> Iterator[lb.Item]:
        try:
            yield from items(dict(list(PARTS.items())[:10]))
            raise HostError("the host's own")
        finally:
            closed.append(True)

    with new_vault() as vault:
        with pytest.raises(HostError, match="the host's own"):
            vault.backup(source(), name="big")

        assert closed == [True]
        assert vault.snapshots() == []
        assert vault.check(data=True).ok
        assert read_snapshot(vault.backup(items(PARTS), name="big")) == PARTS


def test_prune_leaves_what_an_interrupted_run_has_claimed() -> None:
    """Until the grace is over it can still be taken over."""
    with new_vault() as vault:
        interrupt(vault)

        pruned = vault.prune()
        snapshot = vault.backup(items(PARTS), name="big")

        assert pruned.condemned == 0
        assert snapshot.report.bytes_added < TOTAL


# ---- space


def test_full_disk_is_told_and_the_vault_stays_whole(folder: str) -> None:
    """A limit on file sizes stands for a disk without space."""
    code = """
        import resource, signal, sys
        import loopbackup as lb
        from loopbackup.vault.store.local import LocalStore
        from tests.e2e.support import noise, reopen

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        vault = reopen(LocalStore(sys.argv[1]))
        resource.setrlimit(resource.RLIMIT_FSIZE, (<limit>, <limit>))
        try:
            vault.backup([lb.Item("big", data=noise(3_000_000, "x"))], name="big")
        except lb.StoreError as exc:
            print(type(exc).__name__, exc.errno if hasattr(exc, "errno") else "", str(exc))
        vault.close()
    """
    before = dump(LocalStore(folder))
    with spawn(code, folder, limit=200_000) as process:
        out, err = process.communicate(timeout=60)

    assert out.startswith("StoreError"), err
    assert "File too large" in out
    with reopen(LocalStore(folder)) as vault:
        assert vault.snapshots() == []
        assert vault.check(data=True).ok
    assert before.items() <= dump(LocalStore(folder)).items()
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 200_000


@pytest.mark.parametrize("key", ["packs/*", "index/*", "ledger/*", "keys/shard/*"])
def test_store_without_space_is_told_at_any_object(key: str) -> None:
    """ENOSPC at a pack, an index object, a record, a shard: StoreError, and a whole vault."""
    full = Refused(lambda: OSError(errno.ENOSPC, "no space"))
    store = MemoryStore()
    create(store)
    with reopen(store) as vault:
        vault.backup(items({"before": b"before"}), name="other")
    faulty = FaultStore(store, script(Rule(full, method="put", key=key, times=10_000)))

    vault = reopen(faulty)
    with pytest.raises(StoreError) as caught:
        vault.backup(items(PARTS, subject="user-42"), name="big")
    vault.close()

    assert "space" in str(caught.value) or caught.value.kind == "outcome_unknown"
    with reopen(store) as vault:
        assert vault.check(data=True).ok
        assert list(read_all(vault).values()) == [{"before": b"before"}]
        assert read_snapshot(vault.backup(items(PARTS, subject="user-42"), name="big")) == PARTS


def test_short_outage_is_not_noticed() -> None:
    """Two lost requests of a kind are tried again."""
    store = MemoryStore()
    create(store)
    rules = [Rule(LostRequest(), method=m, nth=5) for m in ("put", "get", "list")]

    with reopen(FaultStore(store, script(*rules))) as vault:
        assert read_snapshot(vault.backup(items(PARTS), name="big")) == PARTS
        assert vault.check(data=True).ok


# ---- side by side


def test_two_processes_back_up_at_once(folder: str) -> None:
    """Both commit, and both are whole."""
    with spawn(BACKUP, folder, wait=0) as one, spawn(BACKUP, folder, wait=0) as two:
        outs = [process.communicate(timeout=60) for process in (one, two)]

    ids = {out.split()[-1] for out, _err in outs if out}
    assert len(ids) == 2, outs
    with reopen(LocalStore(folder)) as vault:
        assert {snapshot.id for snapshot in vault.snapshots()} == ids
        assert all(content == PARTS for content in read_all(vault).values())
        assert vault.check(data=True).ok


def test_many_threads_use_one_vault() -> None:
    """Backups, restores, forgets and prunes of one handle at once."""
    with new_vault(grace_s=0) as vault, ThreadPoolExecutor(8) as pool:
        first = vault.backup(items(PARTS), name="keep")

        def work(number: int) -> bool:
            mine = {f"mine/{number}": b"%d" % number * 1000, **dict(list(PARTS.items())[:3])}
            snapshot = vault.backup(items(mine, subject=f"user-{number % 3}"), name=f"s{number}")
            fine = read_snapshot(snapshot) == mine
            if number % 2:
                vault.forget(snapshot, reason="test")
            if number % 4 == 0:
                vault.prune()
            return fine

        assert all(pool.map(work, range(12)))
        assert read_snapshot(first) == PARTS
        assert len(vault.snapshots()) == 7
        assert vault.check(data=True).ok


def test_forked_child_gets_a_clear_error() -> None:
    """Threads and connections do not survive a fork; the parent goes on."""
    with new_vault() as vault:
        vault.backup(items({"a": b"a"}), name="n")
        read, write = os.pipe()
        child = os.fork()
        if not child:
            text = "another error"
            try:
                vault.backup(items({"b": b"b"}), name="n")
                text = "no error"
            except InputError as exc:
                text = str(exc)
            finally:
                os.write(write, text.encode())
                os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            said = pipe.read()
        os.waitpid(child, 0)

        assert said == "this vault was opened before a fork; open it again in the child"
        assert len(vault.snapshots()) == 1


def test_vault_is_not_picklable() -> None:
    """The error says what to send instead."""
    with new_vault() as vault, pytest.raises(InputError, match="send its URL"):
        pickle.dumps(vault)


def test_closed_vault_says_so() -> None:
    """Every verb, and closing twice is fine."""
    vault = new_vault()
    snapshot = vault.backup(items({"a": b"a"}), name="n")
    vault.close()
    vault.close()

    for verb in (
        lambda: vault.backup(items({"a": b"a"}), name="n"),
        lambda: vault.restore(snapshot, "memory://out"),
        lambda: vault.forget(snapshot, reason="test"),
        vault.prune,
        vault.check,
        vault.snapshots,
        lambda: list(snapshot.ls()),
        lambda: snapshot.open("a"),
        vault.ledger.verify,
    ):
        with pytest.raises(InputError, match="closed"):
            verb()


def test_host_executor_is_used_and_not_shut_down() -> None:
    """Any executor of concurrent.futures will do."""
    used = set()

    class Watched(ThreadPoolExecutor):
        def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
            used.add(threading.current_thread().name)
            return super().submit(fn, *args, **kwargs)

    with new_vault() as vault, Watched(2) as executor:
        snapshot = vault.backup(items(PARTS), name="big", executor=executor)

        assert used
        assert executor.submit(len, "abc").result() == 3
        assert read_snapshot(snapshot) == PARTS
