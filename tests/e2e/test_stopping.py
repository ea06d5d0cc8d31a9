"""A run that is stopped, by its callback or by a cancel, leaves a vault as sound as before."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.support import items, new_vault, noise

import loopbackup as lb
from loopbackup import progress as progress_module
from loopbackup.progress import Progress

MB = 1 << 20


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show every step, however fast they come."""
    monkeypatch.setattr(progress_module, "INTERVAL_S", 0.0)


class Broken(Exception):
    """Nothing that the library knows."""


def failing(error: BaseException, *, after: int) -> Callable[[Progress], None]:
    """Make a callback that raises at its next call after so many."""
    calls = 0

    def show(_: Progress) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise error

    return show


@pytest.mark.parametrize("error", [Broken("mine"), BrokenPipeError("mine"), KeyboardInterrupt()])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_callback_that_raises_ends_a_backup_and_nothing_else(
    error: BaseException, after: int
) -> None:
    """Its exception comes out as it is, nothing is committed, and the next run is whole."""
    content = {"big": noise(9 * MB, "big"), "small": b"1", "z": b"2"}
    with new_vault() as vault:
        with pytest.raises(type(error)) as caught:
            vault.backup(items(content), name="n", progress=failing(error, after=after))

        assert caught.value is error
        assert vault.snapshots() == []
        assert vault.check(data=True).ok
        again = vault.backup(items(content), name="n")
        assert again.report.ok
        assert again.open("big").read() == content["big"]


def test_a_callback_that_raises_at_the_end_finds_the_snapshot_committed() -> None:
    """The last call comes after the commit."""

    def show(progress: Progress) -> None:
        if progress.done:
            raise Broken

    with new_vault() as vault:
        with pytest.raises(Broken):
            vault.backup(items({"a": b"1"}), name="n", progress=show)

        assert len(vault.snapshots()) == 1
        assert vault.check(data=True).ok


def test_a_callback_that_raises_ends_a_restore(tmp_path: Path) -> None:
    """What is restored by then is whole, and the rest can be restored after it."""
    content = {f"{n:04}": noise(2000, f"{n}") for n in range(3000)}
    with new_vault() as vault:
        snapshot = vault.backup(items(content), name="n")

        with pytest.raises(OSError, match="mine"):
            vault.restore(snapshot, tmp_path, progress=failing(OSError("mine"), after=1))

        there = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert len(there) < len(content)
        assert all(path.read_bytes() == content[path.name] for path in there)
        vault.restore(snapshot, tmp_path)
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == content


class AtOnce(Executor):
    """Does at once what it is given, so that nothing is left waiting when a run stops."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call it."""
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


def test_a_cancelled_backup_commits_nothing_and_the_next_reuses_it() -> None:
    """What was uploaded is taken over by the next run."""
    cancel = lb.Cancel()

    def stop() -> bytes:
        cancel.set()
        return b"last"

    big = noise(5 * MB, "big")
    with new_vault() as vault:
        source = [lb.Item("a", data=big), lb.Item("b", data=stop), lb.Item("c", data=b"c")]
        with pytest.raises(lb.Cancelled) as caught:
            vault.backup(source, name="n", cancel=cancel, executor=AtOnce())

        assert caught.value.kind == "cancelled"
        assert vault.snapshots() == []
        again = vault.backup([lb.Item("a", data=big), lb.Item("b", data=b"last")], name="n")
        assert again.report.bytes_added < MB
        assert vault.check(data=True).ok


class Endless(io.RawIOBase):
    """A file that is cancelled while it is read, and says how much was."""

    def __init__(self, cancel: lb.Cancel) -> None:
        self.cancel = cancel
        self.given = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Give zeros; cancel at 20 MB."""
        self.given += len(buffer)
        if self.given > 20 * MB:
            self.cancel.set()
        assert self.given < 200 * MB
        buffer[:] = bytes(len(buffer))
        return len(buffer)


def test_a_cancel_stops_within_a_long_file() -> None:
    """Nobody waits for the end of a file that may have none."""
    cancel = lb.Cancel()
    endless: Any = Endless(cancel)
    with new_vault() as vault:
        with pytest.raises(lb.Cancelled):
            vault.backup([lb.Item("a", data=endless)], name="n", cancel=cancel)

        assert vault.snapshots() == []


def test_a_long_file_is_counted_while_it_is_read() -> None:
    """Bytes go up before its end, and at it they are all there, once."""
    seen: list[Progress] = []
    with new_vault() as vault:
        big = noise(25 * MB, "big")
        vault.backup(items({"big": big}), name="n", progress=seen.append)

    counted = [progress.bytes_done for progress in seen]
    assert counted == sorted(counted)
    assert counted[-1] == len(big)
    assert any(0 < count < len(big) for count in counted)


def test_a_cancelled_restore_stops_within_a_long_file(tmp_path: Path) -> None:
    """No half of a file stands there under its name."""
    cancel = lb.Cancel()
    with new_vault() as vault:
        big = noise(25 * MB, "big")
        snapshot = vault.backup(items({"big": big, "small": b"1"}), name="n")

        with pytest.raises(lb.Cancelled, match="restore"):
            vault.restore(snapshot, tmp_path, cancel=cancel, progress=lambda _: cancel.set())

        assert {path.name for path in tmp_path.rglob("*")} <= {"small"}
        vault.restore(snapshot, tmp_path)
        assert (tmp_path / "big").read_bytes() == big


def test_a_cancel_that_is_set_before_does_nothing_at_all() -> None:
    """Not even a look at the source."""
    event = threading.Event()
    event.set()
    with new_vault() as vault:
        with pytest.raises(lb.Cancelled):
            vault.backup([lb.Item("a", data=pytest.fail)], name="n", cancel=event)

        assert vault.snapshots() == []


@pytest.mark.parametrize("wrong", [True, "stop", 5])
def test_a_cancel_is_something_that_can_be_set(wrong: Any, tmp_path: Path) -> None:
    """InputError, before anything is done."""
    with new_vault() as vault:
        snapshot = vault.backup(items({"a": b"1"}), name="n")

        with pytest.raises(lb.InputError):
            vault.backup(items({"a": b"1"}), name="n", cancel=wrong)
        with pytest.raises(lb.InputError):
            vault.restore(snapshot, tmp_path, cancel=wrong)
        with pytest.raises(lb.InputError):
            vault.backup(items({"a": b"1"}), name="n", progress="yes")  # type: ignore[arg-type]


def test_totals_are_those_of_the_snapshot_or_a_guess_from_the_last(tmp_path: Path) -> None:
    """A first backup knows none, the next guesses, a whole restore knows, a part does not."""
    seen: list[Progress] = []
    content = {"a": b"12345", "b": b"1"}
    with new_vault() as vault:
        vault.backup(items(content), name="n", progress=seen.append)
        first = seen[-1]
        snapshot = vault.backup(items(content), name="n", progress=seen.append)
        second = seen[-1]
        vault.restore(snapshot, tmp_path / "all", progress=seen.append)
        restored = seen[-1]
        vault.restore(snapshot, tmp_path / "part", include=["a"], progress=seen.append)
        part = seen[-1]

    assert (first.files_total, first.bytes_total, first.estimated) == (None, None, False)
    assert (second.files_total, second.bytes_total, second.estimated) == (2, None, True)
    assert (restored.files_total, restored.bytes_total, restored.estimated) == (2, 6, False)
    assert (part.files_total, part.bytes_total) == (None, None)
    assert {progress.stage for progress in seen} <= {"reading", "restoring", "done"}
