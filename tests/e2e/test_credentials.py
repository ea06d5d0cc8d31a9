"""Opening with the wrong key, the wrong folder, the wrong library: one clear error each."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.e2e.support import SEED, create, dump, items, load, new_vault, read_all, reopen

import loopbackup as lb
from loopbackup.errors import (
    AlreadyExistsError,
    CredentialError,
    FormatError,
    InputError,
    NewerFormat,
    PolicyError,
)
from loopbackup.terms import Decision, Facts, Fate, Hold, RetentionPlan, SnapshotInfo
from loopbackup.vault.format import codec, names
from loopbackup.vault.format import record as rec
from loopbackup.vault.keys.credentials import Seed
from loopbackup.vault.ledger.log import Draft
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.vault import Vault
from loopbackup.vault.verbs.creation import create_vault
from loopbackup.vault.verbs.hosting import system_clock


def test_wrong_passphrase_is_one_clear_error(tmp_path: Path) -> None:
    """It says what there is, that nothing was read, and shows no secret."""
    url = tmp_path / "vault"
    with lb.Vault.create(url, lb.Passphrase("open sesame"), state_dir=None) as vault:
        short = vault.id[:8]

    with pytest.raises(CredentialError) as caught:
        lb.Vault.open(url, lb.Passphrase("open says me"), state_dir=None)

    text = str(caught.value)
    assert text == (
        f"the passphrase opens no slot of vault {short} (1 passphrase slot). No data was read."
    )
    assert not caught.value.transient


def test_credential_of_another_kind_is_told_what_would_open(tmp_path: Path) -> None:
    """A key file does not even try passphrase slots."""
    url = tmp_path / "vault"
    lb.Vault.create(url, lb.Passphrase("open sesame"), state_dir=None).close()
    key = lb.KeyFile.generate(tmp_path / "acme.key")

    with pytest.raises(CredentialError, match=r"the key file opens no slot .*1 passphrase slot"):
        lb.Vault.open(url, key, state_dir=None)


def test_vault_of_a_key_file_opens_with_it_and_no_other(tmp_path: Path) -> None:
    """The whole way: create, write, open, read."""
    url, key = tmp_path / "vault", lb.KeyFile.generate(tmp_path / "acme.key")
    other = lb.KeyFile.generate(tmp_path / "other.key")
    with lb.Vault.create(url, key, state_dir=None) as vault:
        vault.backup(items({"a": b"content"}), name="n")

    with lb.Vault.open(url, key, state_dir=None) as vault:
        assert list(read_all(vault).values()) == [{"a": b"content"}]
    with pytest.raises(CredentialError):
        lb.Vault.open(url, other, state_dir=None)


@pytest.mark.parametrize("what", ["nothing", "empty folder", "other files", "an object of ours"])
def test_folder_that_is_no_vault_is_a_format_error(tmp_path: Path, what: str) -> None:
    """The error says that there is no vault; nothing is written there."""
    place = tmp_path / "place"
    if what != "nothing":
        place.mkdir()
    if what == "other files":
        (place / "letter.txt").write_text("Dear user-42")
    if what == "an object of ours":
        (place / "vault").write_bytes(b"something else")
    before = sorted(path.name for path in place.rglob("*"))

    with pytest.raises(FormatError):
        lb.Vault.open(place, lb.Passphrase("x"), state_dir=None)

    assert sorted(path.name for path in place.rglob("*")) == before


def test_vault_is_never_created_over_anything(tmp_path: Path) -> None:
    """Not over a vault, and not over other files."""
    (tmp_path / "vault").mkdir()
    (tmp_path / "vault" / "letter").write_text("Dear user-42")
    store = MemoryStore()
    create(store)
    before = dump(store)

    with pytest.raises(AlreadyExistsError):
        create(store)
    with pytest.raises(AlreadyExistsError):
        lb.Vault.create(tmp_path / "vault", lb.Passphrase("x"), state_dir=None)

    assert dump(store) == before


# ---- newer formats


def test_newer_header_is_told_before_any_key_is_tried() -> None:
    """An old library must not touch a newer vault."""
    store = MemoryStore()
    create(store)
    objects = dump(store)
    data = objects["vault"]
    size = int.from_bytes(data[7:11], "little")
    fields = msgspec.msgpack.decode(data[11 : 11 + size])
    raw = msgspec.msgpack.encode({**fields, "format": 2, "more": True})
    objects["vault"] = data[:7] + len(raw).to_bytes(4, "little") + raw + data[11 + size :]

    with pytest.raises(NewerFormat, match="format 2"):
        reopen(load(objects), credential=Seed(b"x" * 32))


def test_newer_record_stops_old_libraries() -> None:
    """A kind that this library does not know may change what everything means."""
    vault = new_vault()
    log = vault._session.log
    rec.FACTS["erase-everything"], rec.ROLES["erase-everything"] = rec.Looked, "admin"
    try:
        log.commit_draft(Draft("erase-everything", rec.Looked()))
    finally:
        del rec.FACTS["erase-everything"], rec.ROLES["erase-everything"]
    store = vault._session.store.store

    with pytest.raises(NewerFormat, match="newer kind"):
        reopen(store)


def test_newer_seal_is_told() -> None:
    """A key object of a newer suite is no damage."""
    store = MemoryStore()
    create(store)
    with reopen(store) as vault:
        root = vault._session.keyring.root
        state = vault._session.log.state
    objects = dump(store)
    name = names.root_name(state.epoch)
    sealed = bytearray(objects[name])
    sealed[5] = 2
    objects[name] = bytes(sealed)
    # Its hash must be the one of the ledger, as it would be in a newer vault.
    header, first = objects["vault"], objects[names.record_name(0)]
    record = rec.parse_record(first, 0)
    frame = msgspec.structs.replace(record.frame, root=names.content_hash(objects[name]))
    key = Ed25519PrivateKey.from_private_bytes(root.house_key)
    forged = rec.encode_record(frame, (), vault_id=root.vault_id, key=key)
    objects["vault"] = header[: -len(first)] + forged
    objects[names.record_name(0)] = forged

    with pytest.raises(NewerFormat):
        reopen(load(objects))


def test_header_out_of_bounds_is_a_format_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut parameters that no cutter takes are refused, though each is within its own bounds."""
    # A writer of another make may put what this library refuses to.
    monkeypatch.setattr("loopbackup.vault.verbs.creation._check_readable", lambda header: None)
    store = MemoryStore()
    create_vault(
        "memory://x",
        SEED,
        storage_options=None,
        location=None,
        grace_s=0,
        single_writer=True,
        clock=system_clock,
        store=store,
        sizes={"chunk_min": 4096, "chunk_max": 64},
    )

    with pytest.raises(FormatError, match="out of bounds"):
        reopen(store)


# ---- gates and actors


class Deny:
    """A gate that refuses one action."""

    digest = "deny"

    def __init__(self, action: str) -> None:
        self.action = action

    def decide(self, action: str, facts: Facts, *, at: datetime) -> Decision:
        """Refuse the one."""
        if action == self.action:
            return Decision(allowed=False, reasons=("not on Sundays",), nearest="tomorrow")
        return Decision(allowed=True)

    def plan_retention(
        self, snapshots: Sequence[SnapshotInfo], holds: Sequence[Hold], *, at: datetime
    ) -> RetentionPlan:
        """Keep everything."""
        return RetentionPlan(keep=tuple(Fate(snapshot) for snapshot in snapshots))


VERBS = {
    "backup": lambda vault, tmp: vault.backup(items({"b": b"b"}), name="n"),
    "restore": lambda vault, tmp: vault.restore(vault.snapshot("latest"), tmp / "out"),
    "forget": lambda vault, tmp: vault.forget(vault.snapshot("latest"), reason="test"),
    "prune": lambda vault, tmp: vault.prune(),
    "check": lambda vault, tmp: vault.check(),
    "read": lambda vault, tmp: vault.snapshots(),
    "audit": lambda vault, tmp: vault.ledger.verify(),
}


@pytest.mark.parametrize("action", VERBS)
def test_refused_action_has_no_effect_and_is_recorded(action: str, tmp_path: Path) -> None:
    """PolicyError with the decision; at close the refusal stands in the ledger."""
    store = MemoryStore()
    create(store)
    with reopen(store) as vault:
        vault.backup(items({"a": b"a"}), name="n")
    before = {key for key in dump(store) if not key.startswith("ledger/")}
    person = lb.Actor("user-42", roles={"support"}, purpose="a question", ip="192.0.2.7")

    with (
        reopen(store, gate=Deny(action), actor=person) as vault,
        pytest.raises(PolicyError) as caught,
    ):
        VERBS[action](vault, tmp_path)

    assert "not on Sundays" in str(caught.value)
    assert caught.value.decision.nearest == "tomorrow"
    assert not isinstance(caught.value, OSError)
    assert not (tmp_path / "out").exists()
    assert {key for key in dump(store) if not key.startswith("ledger/")} == before
    with reopen(store) as vault:
        refused = [entry for entry in vault.ledger.entries() if entry.kind == "refused"]
        assert [(e.actor, e.action, e.reason) for e in refused] == [
            ("user-42", action, "not on Sundays")
        ]
        assert refused[0].purpose == "a question"
        assert len(vault.snapshots()) == 1


def test_opening_may_be_refused() -> None:
    """The gate is asked before a handle is given."""
    store = MemoryStore()
    create(store)

    with pytest.raises(PolicyError):
        reopen(store, gate=Deny("open"))


def test_every_entry_names_its_actor() -> None:
    """The handle's own, the view's, and the block's, which comes first."""
    person, job, ops = (lb.Actor(name) for name in ("user-42", "job", "ops"))
    with new_vault(actor=person) as vault:
        vault.backup(items({"a": b"a"}), name="n")
        vault.acting_as(job).backup(items({"b": b"b"}), name="n")
        with lb.acting_as(ops):
            vault.backup(items({"c": b"c"}), name="n")

        entries = [entry for entry in vault.ledger.entries() if entry.kind == "snapshot"]

    assert [entry.actor for entry in entries] == ["user-42", "job", "ops"]
    assert all(entry.action == "backup" for entry in entries)


def test_view_of_a_vault_closes_nothing() -> None:
    """Only the owner ends it."""
    with new_vault() as vault:
        vault.acting_as(lb.Actor("job")).close()
        vault.backup(items({"a": b"a"}), name="n")

        view: Vault = vault.acting_as(lb.Actor("job"))
    with pytest.raises(InputError, match="closed"):
        view.snapshots()


# ---- void records


def test_record_beyond_its_writers_role_has_no_effect_and_raises_an_alarm() -> None:
    """A writer who may only read cannot forget; everybody sees that he tried."""
    vault = new_vault()
    vault.backup(items({"a": b"a"}), name="n")
    snapshot = vault.snapshot("latest")
    session = vault._session
    low = Ed25519PrivateKey.generate()
    certificate = rec.sign_certificate(
        rec.Certificate(b"l" * 16, low.public_key().public_bytes_raw(), ["reader"]),
        vault_id=session.header.vault_id,
        authority=Ed25519PrivateKey.from_private_bytes(session.keyring.root.authority_key),
    )
    session.log.commit_draft(Draft("writer", rec.WriterEnrolled(certificate)))
    state = session.log.state
    frame = rec.Frame(
        rec.VERSION,
        state.size,
        b"c" * 16,
        state.tree.head(),
        state.epoch,
        state.root,
        b"l" * 16,
        state.at_us,
        "forget",
        [],
        msgspec.Raw(codec.encode(rec.Forgotten([bytes.fromhex(snapshot.id)]))),
    )
    forged = rec.encode_record(frame, (), vault_id=session.header.vault_id, key=low)
    session.store.put(names.record_name(state.size), forged)

    report = vault.check()
    vault.backup(items({"b": b"b"}), name="n")

    assert [p.kind for p in report.problems] == ["void_record"]
    assert "maintainer" in str(report.problems[0])
    assert [p.object for p in report.problems] == [names.record_name(frame.index)]
    with reopen(session.store.store) as again:
        assert len(again.snapshots()) == 2
        kinds = [entry.kind for entry in again.ledger.entries()]
        assert kinds[frame.index] == "void"
        again.ledger.verify()
    vault.close()
