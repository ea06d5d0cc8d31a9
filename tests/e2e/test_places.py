"""Another vault where one's own should be: told by a host that has been there, or by its key."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.rights import folder_for_all, unprivileged

import loopbackup as lb
from loopbackup.errors import CredentialError, InputError, RollbackDetected
from loopbackup.vault.ledger.places import Pin, Places
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.verbs.creation import create_vault
from loopbackup.vault.verbs.hosting import system_clock
from loopbackup.vault.verbs.opening import open_vault


@pytest.fixture
def key(tmp_path: Path) -> lb.KeyFile:
    """Give a key that somebody has stolen: he makes vaults with it, too."""
    return lb.KeyFile.generate(tmp_path / "key")


def make(folder: Path, key: lb.KeyFile, state_dir: Path | None = None) -> str:
    """Make a vault and give its public key."""
    with lb.Vault.create(folder, key, state_dir=state_dir) as vault:
        return vault.public_key


def swap(here: Path, there: Path) -> None:
    """Put another vault in the place of one."""
    shutil.rmtree(here)
    there.rename(here)


def pins(state: Path) -> dict[str, bytes]:
    """Read what is kept of places."""
    return {path.name: path.read_bytes() for path in (state / "places").iterdir()}


def test_a_swapped_vault_is_refused_by_a_host_that_has_been_there(
    tmp_path: Path, key: lb.KeyFile
) -> None:
    """The credential opens it, and so it is refused before the credential is used."""
    state = tmp_path / "state"
    make(tmp_path / "vault", key, state)
    make(tmp_path / "other", key)
    swap(tmp_path / "vault", tmp_path / "other")
    key.path.unlink()

    with pytest.raises(RollbackDetected, match="public_key=") as caught:
        lb.Vault.open(tmp_path / "vault", key, state_dir=state)

    assert caught.value.kind == "another_vault"
    assert caught.value.seen != caught.value.found


def test_each_way_to_write_a_place_is_the_same_place(
    tmp_path: Path, key: lb.KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path, a path object and a file URL."""
    state = tmp_path / "state"
    monkeypatch.chdir(tmp_path)
    make(Path("vault"), key, state)
    make(tmp_path / "other", key)
    swap(tmp_path / "vault", tmp_path / "other")

    for place in ("vault", Path("vault"), f"file://{tmp_path}/vault", str(tmp_path / "vault")):
        with pytest.raises(RollbackDetected):
            lb.Vault.open(place, key, state_dir=state)

    assert len(pins(state)) == 1


def test_one_relative_path_in_two_folders_is_two_places(
    tmp_path: Path, key: lb.KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a path means depends on where the process stands."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        make(Path("vault"), key, tmp_path / "state")

    for name in ("one", "two"):
        monkeypatch.chdir(tmp_path / name)
        with lb.Vault.open("vault", key, state_dir=tmp_path / "state") as vault:
            assert vault.freshness == "fresh"


def test_a_vault_made_anew_on_this_host_takes_the_place(tmp_path: Path, key: lb.KeyFile) -> None:
    """Whoever creates it here means it."""
    state = tmp_path / "state"
    make(tmp_path / "vault", key, state)
    shutil.rmtree(tmp_path / "vault")

    again = make(tmp_path / "vault", key, state)

    with lb.Vault.open(tmp_path / "vault", key, state_dir=state) as vault:
        assert vault.public_key == again


def test_the_public_key_says_that_another_vault_is_meant(tmp_path: Path, key: lb.KeyFile) -> None:
    """Given once, it settles the place for later openings without it."""
    state = tmp_path / "state"
    make(tmp_path / "vault", key, state)
    other = make(tmp_path / "other", key)
    swap(tmp_path / "vault", tmp_path / "other")

    for known in (other.upper(), None):
        with lb.Vault.open(tmp_path / "vault", key, state_dir=state, public_key=known) as vault:
            assert vault.public_key == other


def test_a_vault_of_another_authority_is_refused_before_the_credential_is_used(
    tmp_path: Path, key: lb.KeyFile
) -> None:
    """On a host that knows nothing too; nothing is remembered of it."""
    mine = make(tmp_path / "vault", key)
    make(tmp_path / "other", key)
    key.path.unlink()

    with pytest.raises(CredentialError) as caught:
        lb.Vault.open(tmp_path / "other", key, state_dir=tmp_path / "state", public_key=mine)

    assert caught.value.kind == "forged_vault"
    assert pins(tmp_path / "state") == {}


@pytest.mark.parametrize("text", ["", "00", "g" * 64, "0" * 66, b"0" * 64, 7], ids=ascii)
def test_what_is_no_public_key_is_refused(tmp_path: Path, key: lb.KeyFile, text: object) -> None:
    """An empty one is no absent one."""
    make(tmp_path / "vault", key)

    with pytest.raises(InputError, match="64 hex digits"):
        lb.Vault.open(tmp_path / "vault", key, state_dir=None, public_key=text)  # type: ignore[arg-type]


def test_a_vault_that_the_key_does_not_open_is_not_remembered(
    tmp_path: Path, key: lb.KeyFile
) -> None:
    """Else whoever can write to the store could turn the owner away for ever."""
    state = tmp_path / "state"
    make(tmp_path / "vault", lb.KeyFile.generate(tmp_path / "theirs"))

    with pytest.raises(CredentialError):
        lb.Vault.open(tmp_path / "vault", key, state_dir=state)

    assert pins(state) == {}


def test_a_moved_vault_is_known_at_its_new_place(tmp_path: Path, key: lb.KeyFile) -> None:
    """Its head is remembered by its id, wherever it lies."""
    state = tmp_path / "state"
    make(tmp_path / "vault", key, state)
    (tmp_path / "vault").rename(tmp_path / "moved")

    with lb.Vault.open(tmp_path / "moved", key, state_dir=state) as vault:
        assert vault.freshness == "fresh"

    assert len(pins(state)) == 2


def test_a_place_in_memory_is_not_remembered(tmp_path: Path) -> None:
    """The next process has another store under the same name."""
    options: dict[str, Any] = {
        "storage_options": None,
        "clock": system_clock,
        "state_dir": tmp_path,
    }
    key = lb.Passphrase("acme")
    for _ in range(2):
        store = MemoryStore()
        create_vault(
            "memory://acme",
            key,
            location=None,
            grace_s=0,
            single_writer=True,
            store=store,
            **options,
        )
        open_vault(
            "MEMORY://acme", key, actor=None, read_only=True, head=None, store=store, **options
        ).close()

    assert pins(tmp_path) == {}


def test_nothing_of_an_address_can_be_read_from_what_is_kept(
    tmp_path: Path, key: lb.KeyFile
) -> None:
    """The name is a hash, and the content names the vault only."""
    public_key = make(tmp_path / "vault", key, tmp_path / "state")

    ((name, content),) = pins(tmp_path / "state").items()

    assert len(name) == 64
    assert content.split()[1].decode() == public_key
    assert str(tmp_path).encode() not in content
    assert (tmp_path / "state" / "places" / name).stat().st_mode & 0o077 == 0


def test_a_place_is_written_once(tmp_path: Path) -> None:
    """An opening that finds what it knows costs no sync."""
    places, pin = Places(tmp_path), Pin(b"v" * 16, b"a" * 32)
    places.keep("somewhere", pin)
    (path,) = (tmp_path / "places").iterdir()
    before = path.stat().st_ino

    places.keep("somewhere", pin)
    places.keep("somewhere else", pin)

    assert path.stat().st_ino == before
    assert len(os.listdir(tmp_path / "places")) == 2


@pytest.mark.parametrize("content", [b"", b"0" * 32, b"0" * 97, b"\xff" * 98], ids=len)
def test_a_damaged_pin_counts_as_none_and_is_told(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The vault opens, the log says that something could not be told, and the pin is mended."""
    places, pin = Places(tmp_path), Pin(b"v" * 16, b"a" * 32)
    places.keep("somewhere", Pin(b"w" * 16, b"a" * 32))
    (path,) = (tmp_path / "places").iterdir()
    path.write_bytes(content)

    with caplog.at_level("ERROR", "loopbackup"):
        places.hold_against("somewhere", pin)
    places.keep("somewhere", pin)

    assert "damaged" in caplog.text
    places.hold_against("somewhere", pin)


def test_a_pin_that_may_not_be_read_is_never_passed_over() -> None:
    """The state directory of another user is no state directory."""
    with folder_for_all() as folder:
        pin = Pin(b"v" * 16, b"a" * 32)
        Places(folder).keep("somewhere", pin)
        (folder / "places").chmod(0o755)
        with unprivileged(), pytest.raises(InputError, match="state_dir"):
            Places(folder).hold_against("somewhere", pin)


def test_a_vault_is_not_made_where_this_host_could_not_remember_it(
    tmp_path: Path, key: lb.KeyFile
) -> None:
    """The state directory is looked at first: no vault is left behind by the error."""
    (tmp_path / "state").write_text("a file")

    with pytest.raises(InputError, match="state directory"):
        make(tmp_path / "vault", key, tmp_path / "state")

    assert not (tmp_path / "vault").exists()
