"""Threads and processes that share a store: one winner of each name, nobody disturbed."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from ...vault.store.probe import probe_exclusive_create
from ...vault.store.protocol import Store
from ...vault.store.seam import StoreSeam
from .base import StoreTests

__all__ = ["SharingTests"]

_NAMES = [f"race/{number}" for number in range(40)]
_PATIENCE_S = 60.0


_RACER = """
import pickle, sys
store, names, mark = pickle.load(sys.stdin.buffer)
print("ready", flush=True)
sys.stdin.buffer.readline()
for name in names:
    try:
        store.put(name, mark * 1000, if_absent=True)
    except FileExistsError:
        continue
    print(name)
"""


def _race(store: Store, marks: Sequence[bytes]) -> list[tuple[str, bytes]]:
    """Have a process for each mark create the same names; give whose each name became."""
    with ExitStack() as stack:
        racers = [
            stack.enter_context(
                subprocess.Popen(  # noqa: S603 - this interpreter, and a script of ours
                    [sys.executable, "-c", _RACER],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                )
            )
            for _ in marks
        ]
        for racer, mark in zip(racers, marks, strict=True):
            stack.callback(racer.kill)
            assert racer.stdin is not None
            racer.stdin.write(pickle.dumps((store, _NAMES, mark)))
            racer.stdin.flush()
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == b"ready\n", "no process could use a pickled handle"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write(b"go\n")
            racer.stdin.flush()
        told = [racer.communicate(timeout=_PATIENCE_S)[0].decode().split() for racer in racers]
        assert [racer.returncode for racer in racers] == [0] * len(racers)
    return [(name, mark) for names, mark in zip(told, marks, strict=True) for name in names]


class SharingTests(StoreTests):
    """Exclusive create, and calls side by side."""

    def test_a_taken_name_is_file_exists(self) -> None:
        """An exclusive create of a taken name changes nothing, also for equal bytes."""
        store = self.make_store()
        store.put("a", b"first", if_absent=True)

        for data in (b"second", b"first"):
            with pytest.raises(FileExistsError):
                store.put("a", data, if_absent=True)

        assert store.get("a") == b"first"

    def test_a_deleted_name_is_free_again(self) -> None:
        """An exclusive create succeeds where an object was deleted."""
        store = self.make_store()
        store.put("a", b"first", if_absent=True)
        store.delete("a")

        store.put("a", b"second", if_absent=True)

        assert store.get("a") == b"second"

    def test_exclusive_create_has_one_winner(self) -> None:
        """Of 32 concurrent creates of one name one wins, as describe() says it does."""
        store = self.make_store()

        exclusive = probe_exclusive_create(StoreSeam(store), rounds=3, contenders=32)

        assert exclusive or not store.describe().exclusive_create
        assert list(store.list("")) == []

    def test_exclusive_create_has_one_winner_among_processes(self) -> None:
        """
        Of three processes that create the same names each name has one winner, who told so.

        A store that says it does not create exclusively has at least one of them.
        """
        store = self.make_store()
        if not self.between_processes:
            with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
                pickle.dumps(store)
            return

        won = _race(store, [b"a", b"b", b"c"])

        assert {name for name, _ in won} == set(_NAMES), "a name has no winner"
        assert all(
            (name, store.get(name, length=1)) in won and len(store.get(name)) == 1000
            for name in _NAMES
        )
        if store.describe().exclusive_create:
            assert len(won) == len(_NAMES), "a name has several winners"

    def test_calls_may_run_side_by_side(self) -> None:
        """Threads that put, get, list and delete their own objects do not disturb each other."""
        store = self.make_store()

        def work(worker: int) -> set[str]:
            kept = set()
            for number in range(10):
                key = f"work/{worker}/{number}"
                store.put(key, key.encode(), if_absent=True)
                assert store.get(key) == key.encode()
                if number % 2:
                    store.delete(key)
                else:
                    kept.add(key)
                list(store.list(f"work/{worker}/"))
            return kept

        with ThreadPoolExecutor(8) as executor:
            kept = set().union(*executor.map(work, range(8)))

        assert {entry.key for entry in store.list("work/")} == kept
