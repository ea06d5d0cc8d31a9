"""What a host remembers: heads that only grow, folds that are whole or not believed."""

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.rights import folder_for_all, unprivileged

from loopbackup.errors import InputError
from loopbackup.testing.memory import memory_vault
from loopbackup.vault.ledger.core import state_digest
from loopbackup.vault.ledger.memory import Head, LocalMemory
from loopbackup.vault.ledger.state import State
from loopbackup.vault.ledger.statefolder import StateFolder

VAULT = b"v" * 16
LAST = b"l" * 32


def grown(size: int) -> State:
    """Make a state of so many void records."""
    state = State(VAULT, b"a" * 32)
    for number in range(size):
        state.tree.append(b"%d" % number)
    return state


def test_head_survives_its_text_form() -> None:
    """A head is size, colon, 64 hex digits."""
    head = Head(7, bytes(range(32)))

    assert Head.parse(str(head)) == head


NO_ROOT = "0" * 64


@pytest.mark.parametrize(
    "text", ["", "7", "7:", f"x:{NO_ROOT}", f"0:{NO_ROOT}", f"-1:{NO_ROOT}", "7:00", "7:zz"]
)
def test_text_that_is_no_head_is_refused(text: str) -> None:
    """The error says how one looks."""
    with pytest.raises(InputError, match="64 hex"):
        Head.parse(text)


@pytest.mark.parametrize("value", [None, 7, b"7", f"1_0:{NO_ROOT}", f"\u0667:{NO_ROOT}"], ids=ascii)
def test_what_is_not_even_text_is_refused(value: object) -> None:
    """Nor are the spellings that only Python takes for a number."""
    with pytest.raises(InputError, match="64 hex"):
        Head.parse(value)


def test_head_is_remembered_by_the_next_process_and_never_goes_back(tmp_path: Path) -> None:
    """A smaller head does not replace a larger one, whoever writes it."""
    LocalMemory(tmp_path, VAULT).remember(grown(5))

    LocalMemory(tmp_path, VAULT).remember(grown(3))

    head = LocalMemory(tmp_path, VAULT).head()
    assert head is not None
    assert head.size == 5
    assert head.root == grown(5).tree.head()


def test_without_a_folder_the_process_remembers(tmp_path: Path) -> None:
    """Nothing is written, and no other process knows."""
    memory = LocalMemory(None, VAULT)

    memory.remember(grown(5))
    memory.save(grown(100), LAST, always=False)

    head = memory.head()
    assert head is not None
    assert head.size == 5
    assert memory.state(b"a" * 32) is None
    assert LocalMemory(None, VAULT).head() is None


def test_vaults_do_not_share_what_is_remembered(tmp_path: Path) -> None:
    """Each vault has a folder of its own, closed to others."""
    LocalMemory(tmp_path, VAULT).remember(grown(5))

    assert LocalMemory(tmp_path, b"w" * 16).head() is None
    assert (tmp_path / VAULT.hex()).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff\xfe", b"7:00", b"7:" + b"0" * 63])
def test_spoilt_head_counts_as_none_and_is_told(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A damaged file costs the detection once, not the vault, and never in silence."""
    memory = LocalMemory(tmp_path, VAULT)
    (tmp_path / VAULT.hex() / "head").write_bytes(content)

    with caplog.at_level("ERROR", "loopbackup"):
        head = memory.head()

    assert head is None
    assert "damaged" in caplog.text
    memory.remember(grown(5))
    assert str(LocalMemory(tmp_path, VAULT).head()).startswith("5:")


def test_head_reaches_the_disk_before_it_is_relied_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is synced, named, and its folder synced: a power cut leaves the old or the new."""
    steps: list[str] = []
    memory = LocalMemory(tmp_path, VAULT)
    fsync, replace = os.fsync, os.replace

    def watched_fsync(fd: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        fsync(fd)

    def watched_replace(src: str, dst: Path) -> None:
        steps.append("name")
        replace(src, dst)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)

    memory.remember(grown(5))

    assert steps == ["file", "name", "folder"]


def test_others_are_kept_out_from_the_look_to_the_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that looks while another writes could put back what that one had passed."""
    memory = LocalMemory(tmp_path, VAULT)
    seen: list[str] = []

    def watched(step: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watch(folder: StateFolder, *args: Any) -> Any:
            with open(folder.path / "lock", "w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    seen.append(f"{step} in the open")
                except BlockingIOError:
                    seen.append(f"{step} under lock")
            return call(folder, *args)

        return watch

    monkeypatch.setattr(StateFolder, "read", watched("look", StateFolder.read))
    monkeypatch.setattr(StateFolder, "write", watched("write", StateFolder.write))

    memory.remember(grown(5))

    assert seen == ["look under lock", "write under lock"]


def test_without_locks_the_head_is_kept_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home on a network may have none; a commit does not fail for it."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)

    LocalMemory(tmp_path, VAULT).remember(grown(5))

    assert str(LocalMemory(tmp_path, VAULT).head()).startswith("5:")


@pytest.mark.parametrize("name", ["head", "state"])
def test_memory_that_may_not_be_read_is_never_passed_over(name: str) -> None:
    """To open without it would switch off what it is for; the error says what to do."""
    with folder_for_all() as folder:
        LocalMemory(folder, VAULT).remember(grown(5))
        (folder / VAULT.hex() / name).write_bytes(b"x")
        (folder / VAULT.hex() / name).chmod(0)
        (folder / VAULT.hex()).chmod(0o755)

        with unprivileged():
            memory = LocalMemory(folder, VAULT)
            look = memory.head if name == "head" else lambda: memory.state(b"a" * 32)
            with pytest.raises(InputError, match="state_dir") as caught:
                look()
            # The commit that it is about is made: no error from here.
            memory.remember(grown(7))

    assert str(folder) not in str(caught.value)


def test_memory_that_cannot_be_written_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """A commit that is made is not undone for it; this process remembers."""
    with folder_for_all() as folder:
        LocalMemory(folder, VAULT).remember(grown(3))
        (folder / VAULT.hex() / "head").chmod(0o644)
        (folder / VAULT.hex()).chmod(0o755)

        with unprivileged(), caplog.at_level("WARNING", "loopbackup"):
            memory = LocalMemory(folder, VAULT)
            memory.remember(grown(5))
            kept = memory.head()

    assert "cannot be written" in caplog.text
    assert kept is not None
    assert kept.size == 3


@pytest.fixture
def real_state() -> State:
    """Fold a real vault."""
    with memory_vault() as vault:
        return vault._session.log.state


def test_fold_is_kept_and_loaded_whole(tmp_path: Path, real_state: State) -> None:
    """The next process goes on from where this one was."""
    memory = LocalMemory(tmp_path, real_state.vault_id)
    memory._saved = -100  # As after many records; the write is worth it then.

    memory.save(real_state, LAST, always=False)
    again = LocalMemory(tmp_path, real_state.vault_id).state(real_state.authority)

    assert again is not None
    assert state_digest(again[0]) == state_digest(real_state)
    assert again[1] == LAST
    assert list(os.listdir(tmp_path / real_state.vault_id.hex())) == ["state"]


@pytest.mark.parametrize("at", [0, 10, 40, 60, -1])
def test_spoilt_fold_is_not_believed(tmp_path: Path, real_state: State, at: int) -> None:
    """A flipped byte anywhere, or a cut: as if there were none."""
    memory = LocalMemory(tmp_path, real_state.vault_id)
    memory._saved = -100
    memory.save(real_state, LAST, always=False)
    path = tmp_path / real_state.vault_id.hex() / "state"
    whole = path.read_bytes()

    flipped = bytearray(whole)
    flipped[at] ^= 1
    for spoilt in (bytes(flipped), whole[:at]):
        path.write_bytes(spoilt)
        assert memory.state(real_state.authority) is None
