"""Keys that others hold: recipients by their public keys, and key services."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.e2e.support import create, dump, items, load, new_vault, read_all, reopen

import loopbackup as lb
from loopbackup.errors import CredentialError, InputError, LoopbackupError
from loopbackup.vault.keys.credentials import SlotParams
from loopbackup.vault.keys.kms import Kms, KmsKey
from loopbackup.vault.store.memory import MemoryStore

CONTEXT = {"vault": "00" * 16, "slot": "11" * 8}

# ---- recipients


def test_colleague_opens_with_the_key_file_of_his_public_key(tmp_path: Path) -> None:
    """He gives nothing secret away; the first time he says whose vault he means."""
    theirs = lb.KeyFile.generate(tmp_path / "key")
    with lb.Vault.create(tmp_path / "v", lb.Passphrase("words"), state_dir=None) as vault:
        vault.backup(items({"a": b"a"}), name="n")
        slot = vault.keys.add(lb.Recipient(theirs.public_key))
        assert [info.kind for info in vault.keys.list() if info.id == slot] == ["recipient"]
        public_key = vault.public_key

    with pytest.raises(CredentialError, match="public_key=") as caught:
        lb.Vault.open(tmp_path / "v", theirs, state_dir=tmp_path / "state")
    assert caught.value.kind == "unvouched"
    for known in (public_key, None):
        with lb.Vault.open(
            tmp_path / "v", theirs, public_key=known, state_dir=tmp_path / "state"
        ) as vault:
            assert vault.keys.current == slot
            assert len(vault.snapshots()) == 1
    with pytest.raises(CredentialError):
        lb.Vault.open(tmp_path / "v", theirs, state_dir=tmp_path / "another host")


def test_recipient_becomes_a_key_file_that_vouches(tmp_path: Path) -> None:
    """Whoever is in adds his own key file; from then on he needs no public key."""
    theirs = lb.KeyFile.generate(tmp_path / "key")
    vault = new_vault()
    slot = vault.keys.add(lb.Recipient(theirs.public_key))
    vault.keys.add(theirs)
    vault.keys.remove(slot)

    with reopen(vault._session.store.store, credential=theirs) as again:
        assert again.check().ok
    vault.close()


def test_recipient_follows_another_epoch_without_being_asked_again(tmp_path: Path) -> None:
    """Whoever has the vault open knows which one it is."""
    theirs = lb.KeyFile.generate(tmp_path / "key")
    path = tmp_path / "v"
    with lb.Vault.create(path, lb.Passphrase("words"), state_dir=None) as vault:
        vault.keys.add(lb.Recipient(theirs.public_key))
        with lb.Vault.open(path, theirs, public_key=vault.public_key, state_dir=None) as other:
            vault.keys.rotate()
            other.backup(items({"a": b"a"}), name="n")
            assert other.check(data=True).ok


def test_public_key_is_the_same_however_it_travelled(tmp_path: Path) -> None:
    """White space around it is passed over, and it is stable."""
    text = lb.KeyFile.generate(tmp_path / "key").public_key

    assert lb.KeyFile(tmp_path / "key").public_key == text
    assert lb.Recipient(f"  {text}\n").public_key == text
    assert text.startswith("lbkpub1")
    assert len(text) == 1634
    assert text[7:] not in repr(lb.Recipient(text))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text[:-1],
        lambda text: text + "A",
        lambda text: "lbkpub2" + text[7:],
        lambda text: text[:100] + ("A" if text[100] != "A" else "B") + text[101:],
        lambda text: text[:-1] + chr(ord(text[-1]) + 1),
        lambda text: text.encode(),
        lambda text: None,
    ],
    ids=["empty", "cut", "longer", "newer", "changed", "left-over bits", "bytes", "none"],
)
def test_public_key_that_was_changed_is_refused(
    tmp_path: Path, spoil: Callable[[str], object]
) -> None:
    """A mistake in it would shut its owner out, or let nobody in."""
    text = lb.KeyFile.generate(tmp_path / "key").public_key

    with pytest.raises(InputError):
        lb.Recipient(spoil(text))  # type: ignore[arg-type]


def test_recipient_opens_nothing(tmp_path: Path) -> None:
    """A public key is no credential; the error says what is."""
    recipient = lb.Recipient(lb.KeyFile.generate(tmp_path / "key").public_key)
    for call in (lb.Vault.create, lb.Vault.open):
        with pytest.raises(InputError, match="key file"):
            call(tmp_path / "v", recipient, state_dir=None)  # type: ignore[arg-type]
    assert not (tmp_path / "v").exists()


# ---- key services


def test_local_key_service_opens_a_vault(tmp_path: Path) -> None:
    """Given as it is in the place of a key; the vault and the folder of keys open together only."""
    kms = lb.LocalKms(tmp_path / "kms")
    with lb.Vault.create(tmp_path / "v", kms, state_dir=None) as vault:
        vault.backup(items({"a": b"a"}), name="n")
        vault.keys.rotate()
        assert [info.kind for info in vault.keys.list()] == ["kms"]

    with lb.Vault.open(tmp_path / "v", lb.KmsKey(kms), state_dir=None) as vault:
        assert vault.check(data=True).ok
    with pytest.raises(CredentialError):
        lb.Vault.open(tmp_path / "v", lb.LocalKms(tmp_path / "other"), state_dir=None)


def test_local_key_service_binds_to_its_context(tmp_path: Path) -> None:
    """What it wrapped for one slot it does not unwrap for another."""
    kms = lb.LocalKms(tmp_path / "kms")
    wrapped = kms.wrap(b"s" * 32, CONTEXT)
    other = CONTEXT | {"slot": "22" * 8}
    kms.wrap(b"t" * 32, other)

    assert kms.unwrap(wrapped, CONTEXT) == b"s" * 32
    for blob, context in ((wrapped, other), (wrapped[:-1], CONTEXT), (b"", CONTEXT)):
        with pytest.raises(ValueError, match="another context"):
            kms.unwrap(blob, context)


def test_destroyed_key_opens_nothing_and_the_others_do(tmp_path: Path) -> None:
    """One slot is lost, and what shows it is said; twice does no harm."""
    kms = lb.LocalKms(tmp_path / "kms")
    store = MemoryStore()
    create(store, credential=KmsKey(kms))
    vault = reopen(store, credential=KmsKey(kms))
    second = vault.keys.add(kms)
    context = {"vault": vault.id, "slot": vault.keys.current}
    vault.close()

    assert "was deleted" in kms.destroy(context)
    assert "not there" in kms.destroy(context)

    with reopen(store, credential=KmsKey(kms)) as again:
        assert again.keys.current == second


def test_backup_leaves_the_keys_of_a_local_key_service_out(tmp_path: Path) -> None:
    """They are key files, and known as such by their content."""
    kms = lb.LocalKms(tmp_path / "source" / "kms")
    with lb.Vault.create(tmp_path / "v", kms, state_dir=None) as vault:
        with pytest.raises(lb.IncompleteBackup) as caught:
            vault.backup(tmp_path / "source", name="n")
        stored = [entry for entry in vault.snapshot().find("**/*.key") if entry.size_bytes]

    assert stored == []
    assert [problem.kind for problem in caught.value.problems] == ["credential"]


class Failing:
    """A key service that is down, or says something else than keys."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def wrap(self, key: bytes, context: Mapping[str, str]) -> bytes:
        """Keep nothing."""
        return b"wrapped"

    def unwrap(self, blob: bytes, context: Mapping[str, str]) -> bytes:
        """Give the answer, or raise it."""
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[return-value]

    def destroy(self, context: Mapping[str, str]) -> str:
        """Do nothing."""
        return ""


@pytest.mark.parametrize(
    ("answer", "transient"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (PermissionError(), False),
        (ValueError("no"), False),
        (b"short", False),
        (None, False),
    ],
    ids=["no connection", "no answer", "refused", "other bytes", "too short", "nothing"],
)
def test_key_service_that_fails_says_whether_to_try_again(answer: object, transient: bool) -> None:
    """Errors of whoever wrote it become ours."""
    store = MemoryStore()
    create(store, credential=KmsKey(Failing(b"s" * 32)))

    with pytest.raises(CredentialError) as caught:
        reopen(store, credential=KmsKey(Failing(answer)))
    assert caught.value.transient is transient


def test_outage_while_others_change_the_keys_loses_nothing() -> None:
    """The verb fails as one that may be tried again, and so it works."""
    kms = Failing(b"s" * 32)
    vault = new_vault()
    vault.keys.add(kms)
    other = reopen(vault._session.store.store, credential=KmsKey(kms))

    vault.keys.rotate()
    kms.answer = ConnectionError()
    with pytest.raises(CredentialError) as caught:
        other.backup(items({"a": b"a"}), name="n")
    assert caught.value.transient
    kms.answer = b"s" * 32
    other.backup(items({"a": b"a"}), name="n")

    assert other.check(data=True).ok
    other.close()
    vault.close()


def test_key_service_that_wraps_into_too_much_is_refused() -> None:
    """A slot has a bounded size."""

    class Long(Failing):
        def wrap(self, key: bytes, context: Mapping[str, str]) -> bytes:
            """Give too much."""
            return bytes(5000)

    vault = new_vault()
    with pytest.raises(InputError, match="4,096"):
        vault.keys.add(Long(b""))
    vault.close()


def test_what_is_no_key_service_is_refused() -> None:
    """A class in the place of an object, or anything else."""
    for wrong in (Failing, object(), "arn:aws:kms"):
        with pytest.raises(InputError):
            lb.KmsKey(wrong)  # type: ignore[arg-type]
    assert isinstance(Failing(b""), Kms)
    assert lb.KmsKey(Failing(b"s" * 32)).seed(SlotParams(wrapped=b"w")) == b"s" * 32


def test_vault_put_where_another_stood_does_not_open_for_a_recipient(tmp_path: Path) -> None:
    """Who knows his public key cannot make him write into a vault of theirs."""
    theirs = lb.KeyFile.generate(tmp_path / "key")
    true, forged = new_vault(), new_vault()
    for vault in (true, forged):
        vault.keys.add(lb.Recipient(theirs.public_key))
        vault.backup(items({"a": b"a"}), name="n")
    store = load(dump(forged._session.store.store))

    with pytest.raises(LoopbackupError) as caught:
        reopen(store, credential=theirs)
    assert caught.value.kind == "unvouched"
    assert read_all(true)
    true.close()
    forged.close()
