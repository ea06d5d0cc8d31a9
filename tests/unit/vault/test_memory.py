"""What a host remembers: heads that only grow, folds that are whole or not believed."""

import os
from pathlib import Path

import pytest

from loopbackup.errors import InputError
from loopbackup.testing.memory import memory_vault
from loopbackup.vault.ledger.memory import Head, LocalMemory
from loopbackup.vault.ledger.state import State

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


@pytest.mark.parametrize(
    "text", ["", "7", "7:", "x:" + "0" * 64, "0:" + "0" * 64, "-1:" + "0" * 64, "7:00", "7:zz"]
)
def test_text_that_is_no_head_is_refused(text: str) -> None:
    """The error says how one looks."""
    with pytest.raises(InputError, match="64 hex"):
        Head.parse(text)


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
    memory.save(grown(100), LAST)

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


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff\xfe", b"7:00"])
def test_spoilt_head_counts_as_none(tmp_path: Path, content: bytes) -> None:
    """A damaged cache costs the detection once, not the vault."""
    memory = LocalMemory(tmp_path, VAULT)
    (tmp_path / VAULT.hex() / "head").write_bytes(content)

    assert memory.head() is None


@pytest.fixture
def real_state() -> State:
    """Fold a real vault."""
    with memory_vault() as vault:
        return vault._session.log.state


def test_fold_is_kept_and_loaded_whole(tmp_path: Path, real_state: State) -> None:
    """The next process goes on from where this one was."""
    memory = LocalMemory(tmp_path, real_state.vault_id)
    memory._saved = -100  # As after many records; the write is worth it then.

    memory.save(real_state, LAST)
    again = LocalMemory(tmp_path, real_state.vault_id).state(real_state.authority)

    assert again is not None
    assert again[0].digest() == real_state.digest()
    assert again[1] == LAST
    assert list(os.listdir(tmp_path / real_state.vault_id.hex())) == ["state"]


@pytest.mark.parametrize("at", [0, 10, 40, 60, -1])
def test_spoilt_fold_is_not_believed(tmp_path: Path, real_state: State, at: int) -> None:
    """A flipped byte anywhere, or a cut: as if there were none."""
    memory = LocalMemory(tmp_path, real_state.vault_id)
    memory._saved = -100
    memory.save(real_state, LAST)
    path = tmp_path / real_state.vault_id.hex() / "state"
    whole = path.read_bytes()

    flipped = bytearray(whole)
    flipped[at] ^= 1
    for spoilt in (bytes(flipped), whole[:at]):
        path.write_bytes(spoilt)
        assert memory.state(real_state.authority) is None
