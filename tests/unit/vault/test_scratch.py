"""Scratch files: sealed, without a name, and gone when they should be."""

from __future__ import annotations

import errno
import gc
import os
import tempfile
from pathlib import Path

import pytest

from loopbackup.errors import DamagedData, StoreError
from loopbackup.vault.content.scratch import TAG_BYTES, ScratchFile


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def descriptors() -> int:
    """Count what this process has open."""
    return len(os.listdir("/dev/fd"))


def test_pieces_come_back_and_are_not_in_the_file(tmp_path: Path) -> None:
    """The file has no name, and none of its bytes are what was put."""
    file = ScratchFile()
    pieces = [b"a" * 100, b"", b"b" * 5000]

    start = file.put(pieces)
    again = file.put([b"c" * 40])

    assert file.get(start, 100) == pieces[0]
    assert file.get(start + 100 + TAG_BYTES, 0) == b""
    assert file.get(start + 100 + 2 * TAG_BYTES, 5000) == pieces[2]
    assert file.get(again, 40) == b"c" * 40
    assert list(tmp_path.iterdir()) == []
    raw = os.pread(file._fd, len(file), 0)
    assert len(raw) == len(file) == 5140 + 4 * TAG_BYTES
    assert not any(4 * letter in raw for letter in (b"a", b"b", b"c"))
    file.close()


@pytest.mark.parametrize(("at", "length"), [(0, 39), (0, 41), (1, 40), (56, 40), (10**12, 40)])
def test_what_was_not_put_there_is_damage(at: int, length: int) -> None:
    """Pieces are bound to their places."""
    file = ScratchFile()
    file.put([b"a" * 40])

    with pytest.raises(DamagedData):
        file.get(at, length)
    file.close()


def test_altered_file_is_damage() -> None:
    """And so is one that was cut; nothing is ever read of it."""
    file = ScratchFile()
    start = file.put([b"a" * 40, b"b" * 40])
    first = os.pread(file._fd, 56, 0)

    os.pwrite(file._fd, first, 56)
    with pytest.raises(DamagedData):
        file.get(56, 40)
    os.ftruncate(file._fd, 50)
    with pytest.raises(DamagedData):
        file.get(start, 40)
    file.close()


def test_no_place_is_written_twice_though_a_write_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A place is a nonce: two pieces under one would tell on each other."""
    file = ScratchFile()
    real, places = os.pwrite, []

    def full(fd: int, data: memoryview, at: int) -> int:
        places.append((at, len(data)))
        if len(places) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data[:30], at)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StoreError, match=r"No space left on device.*TMPDIR"):
        file.put([b"a" * 100])
    start = file.put([b"b" * 100])
    monkeypatch.undo()

    assert file.get(start, 100) == b"b" * 100
    assert (places[0], start) == ((0, 116), 116)
    file.close()


def test_file_is_released_when_it_is_closed_or_forgotten() -> None:
    """Nothing can be read from a closed one, whatever its number stands for now."""
    before = descriptors()
    closed, forgotten = ScratchFile(), ScratchFile()
    start = closed.put([b"a" * 40])
    assert descriptors() == before + 2

    closed.close()
    closed.close()
    del forgotten
    gc.collect()

    assert descriptors() == before
    with pytest.raises(DamagedData, match="closed"):
        closed.get(start, 40)


def test_forked_child_releases_the_file_and_its_parent_keeps_it() -> None:
    """No room stays taken because a worker process lives on."""
    file = ScratchFile()
    start = file.put([b"a" * 40])

    child = os.fork()
    if child == 0:
        try:
            os.fstat(file._fd)
        except OSError as exc:
            os._exit(0 if exc.errno == errno.EBADF else 1)
        os._exit(2)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert file.get(start, 40) == b"a" * 40
    file.close()


def test_folder_that_is_not_there_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the setting and no path."""
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")

    with pytest.raises(StoreError, match="TMPDIR") as caught:
        ScratchFile()

    assert "/nowhere" not in str(caught.value)
