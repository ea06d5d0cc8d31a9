"""Mistakes of a caller are refused at once; what is lost is said, and never hides the rest."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.support import SEED, create, items, new_vault, noise, reopen

import loopbackup as lb
from loopbackup.errors import DamagedData, InputError, NotFoundError, PolicyError
from loopbackup.terms import Actor, AllowAll, Decision, Facts, subject_key
from loopbackup.vault.content.file import ChunkFile
from loopbackup.vault.format.entries import Extra
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.verbs.creation import create_vault
from loopbackup.vault.verbs.hosting import system_clock

TWO = [
    lb.Item("note", data=b"of 42", subject="user-42"),
    lb.Item("note", data=b"of 43", subject="user-43"),
    lb.Item("other", data=b"of 43 alone", subject="user-43"),
]


@pytest.mark.parametrize(
    "labels",
    [
        {"name": 7},
        {"name": "n" * 4097},
        {"name": "\udcff"},
        {"tags": {"run": 7}},
        {"tags": {7: "run"}},
        {"tags": {"run": "\udcff"}},
        {"tags": {str(n): "" for n in range(65)}},
        {"tags": {"run": "x" * 4096}},
        {"tags": ["run"]},
        {"category": 5},
        {"category": "c" * 4097},
    ],
)
def test_labels_that_nobody_could_find_again_are_refused(labels: dict[str, Any]) -> None:
    """A wrong name, tag or category is an InputError, and nothing is committed."""
    with new_vault() as vault:
        with pytest.raises(InputError):
            vault.backup(items({"a": b"a"}), **{"name": "mail", **labels})

        assert vault.snapshots() == []


def test_labels_at_their_bounds_are_found_again() -> None:
    """The longest name and the most tags come back as they were given."""
    tags = {f"{n:02}": "x" * 62 for n in range(64)}
    with new_vault() as vault:
        made = vault.backup(items({"a": b"a"}), name="n" * 4096, tags=tags, category="mail")

        found = vault.snapshot(name="n" * 4096)

        assert (found, found.tags, found.category) == (made, tags, "mail")


@pytest.mark.parametrize(
    "fields",
    [
        {"id": 42},
        {"id": ""},
        {"id": "\udcff"},
        {"id": "user-42", "roles": 5},
        {"id": "user-42", "roles": [5]},
        {"id": "user-42", "purpose": 5},
        {"id": "user-42", "ip": b"::1"},
        {"id": "user-42", "device": 5},
    ],
)
def test_an_actor_is_made_of_text(fields: dict[str, Any]) -> None:
    """What could not be written into the audit trail is refused when it is named."""
    with pytest.raises(InputError):
        Actor(**fields)


@pytest.mark.parametrize("subject", [42, None, b"user-42", (), ("user-42", 42)])
def test_a_subject_is_text_or_a_tuple_of_texts(subject: Any) -> None:
    """Everything else is an InputError."""
    with pytest.raises(InputError):
        subject_key(subject)


@pytest.mark.parametrize("left", [0, 1])
def test_content_shorter_than_its_entry_is_damage(left: int) -> None:
    """A file whose chunks sum to less than its size does not just end early."""
    with new_vault() as vault:
        snapshot = vault.backup(items({"a": noise(300_000, "a")}), name="mail")
        domain, node = snapshot._locate("a", None)
        node.chunks = node.chunks[: 32 * left]

        reader = vault._session.reader
        with ChunkFile(node, domain, reader, lambda _: None) as file, pytest.raises(DamagedData):
            file.readall()


def test_lost_content_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry that is marked as lost raises instead of being empty."""
    with new_vault() as vault:
        snapshot = vault.backup(items({"a": b"a"}), name="mail")
        domain, node = snapshot._locate("a", None)
        node.extra, node.chunks = Extra(problem="lost"), b""
        monkeypatch.setattr(snapshot, "_locate", lambda path, subject: (domain, node))

        with pytest.raises(DamagedData):
            snapshot.open("a")


def lose_keys(vault: lb.Vault, subject: str, how: type[Exception]) -> None:
    """Make one subject's keys unreadable in an open vault."""
    keyring = vault._session.keyring
    gone = keyring.find((subject,))
    assert gone is not None
    by_id, find = keyring.by_id, keyring.find

    def by_id_or_lost(domain_id: bytes) -> Any:
        if domain_id == gone.id:
            raise how("no keys")
        return by_id(domain_id)

    def find_or_lost(wanted: Any) -> Any:
        if wanted == (subject,):
            if how is DamagedData:
                raise how("no keys")
            return None
        return find(wanted)

    keyring.by_id = by_id_or_lost  # type: ignore[method-assign]
    keyring.find = find_or_lost  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize("how", [NotFoundError, DamagedData])
@pytest.mark.parametrize("subject", [None, "user-43"])
def test_keys_that_cannot_be_read_cost_one_subject_only(
    how: type[Exception], subject: str | None, tmp_path: Path
) -> None:
    """A restore tells of the subject that is lost and writes all others."""
    with new_vault() as vault:
        snapshot = vault.backup(TWO, name="mail")
        lose_keys(vault, "user-42", how)

        with pytest.raises(DamagedData) as caught:
            vault.restore(snapshot, tmp_path, subject=subject)

        assert [p.kind for p in caught.value.problems] == ["damaged"]
        assert (tmp_path / "note").read_bytes() == b"of 43"
        assert (tmp_path / "other").read_bytes() == b"of 43 alone"


def test_a_subject_whose_keys_are_damaged_is_not_said_to_have_nothing(tmp_path: Path) -> None:
    """Asked for by name, unreadable keys are damage and not an empty result."""
    with new_vault() as vault:
        snapshot = vault.backup(TWO, name="mail")
        lose_keys(vault, "user-42", DamagedData)

        with pytest.raises(DamagedData):
            vault.restore(snapshot, tmp_path, subject="user-42")


def test_a_check_names_snapshots_whose_keys_are_gone() -> None:
    """Data that a live snapshot names and nobody can open is not well."""
    with new_vault() as vault:
        both = vault.backup(TWO, name="mail")
        one = vault.backup(TWO[:1], name="single")
        lose_keys(vault, "user-42", NotFoundError)

        report = vault.check()

        missing = [p.snapshots for p in report.problems if p.kind == "missing_keys"]
        assert missing == [(both.id,), (one.id,)]


def test_a_snapshot_held_across_forget_is_gone(tmp_path: Path) -> None:
    """What was forgotten can neither be listed, opened nor restored."""
    with new_vault() as vault:
        held = vault.backup(items({"a": b"a"}), name="mail")
        vault.forget(held, reason="test")

        for act in (
            lambda: list(held.ls()),
            lambda: held.open("a"),
            lambda: vault.restore(held, tmp_path / "out"),
            lambda: vault.forget(held, reason="again"),
        ):
            with pytest.raises(NotFoundError):
                act()

        assert not (tmp_path / "out").exists()


def test_a_snapshot_of_another_vault_is_refused(tmp_path: Path) -> None:
    """It is an InputError and not damage; a view of the same vault is welcome."""
    with new_vault() as vault, new_vault() as other:
        mine = vault.backup(items({"a": b"a"}), name="mail")
        theirs = other.backup(items({"a": b"a"}), name="mail")

        with pytest.raises(InputError):
            vault.restore(theirs, tmp_path)
        with pytest.raises(InputError):
            vault.forget(theirs, reason="test")
        with pytest.raises(InputError):
            mine.diff(theirs)

        assert vault.acting_as(Actor("user-42")).restore(mine, tmp_path).files == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"grace_s": -1},
        {"grace_s": 0.5},
        {"grace_s": 10**12},
        {"sizes": {"pack_size": 1}},
        {"sizes": {"chunk_min": 8192, "chunk_max": 4096}},
    ],
)
def test_a_vault_that_could_not_be_opened_is_not_made(wrong: dict[str, Any]) -> None:
    """Numbers out of bounds are refused before the first object is put."""
    store = MemoryStore()
    options: dict[str, Any] = {"grace_s": 60, "sizes": None, **wrong}

    with pytest.raises(InputError):
        create_vault(
            "memory://test",
            SEED,
            storage_options=None,
            location=None,
            single_writer=False,
            clock=system_clock,
            store=store,
            **options,
        )

    assert list(store.list("")) == []


def test_a_path_of_several_subjects_needs_the_subject() -> None:
    """Nobody is given another person's data by chance."""
    with new_vault() as vault:
        snapshot = vault.backup(TWO, name="mail")

        with pytest.raises(InputError, match="subject="):
            snapshot.open("note")
        with pytest.raises(InputError, match="subject="):
            snapshot.entry("note")
        with snapshot.open("note", subject="user-43") as file:
            content = file.read()

        assert content == b"of 43"
        assert snapshot.entry("note", subject="user-42").subject == "user-42"
        assert snapshot.entry("other").subject == "user-43"
        assert [e.path for e in snapshot.ls(subject="user-42")] == ["note"]


def test_a_diff_tells_subjects_with_one_path_apart() -> None:
    """A change of one person's entry is not hidden by another's of the same path."""
    with new_vault() as vault:
        before = vault.backup(TWO, name="mail")
        changed = [lb.Item("note", data=b"42, changed", subject="user-42"), *TWO[1:]]
        after = vault.backup(changed, name="mail")

        diff = after.diff(before)

        assert [(e.path, e.subject) for e in diff.changed] == [("note", "user-42")]
        assert not diff.added
        assert not diff.removed


class OnlyLooks(AllowAll):
    """Refuses to forget."""

    def decide(self, action: str, facts: Facts, *, at: datetime) -> Decision:
        """Refuse to forget."""
        return Decision(allowed=action != "forget", reasons=("no",))


def test_looks_and_refusals_name_each_actor() -> None:
    """The ledger says of everybody how often they looked and what was refused to them."""
    store = MemoryStore()
    create(store)
    with reopen(store, gate=OnlyLooks()) as vault:
        made = vault.backup(items({"a": b"a"}), name="mail")
        for name, times in (("user-42", 2), ("user-43", 1)):
            view = vault.acting_as(Actor(name))
            for _ in range(times):
                list(view.snapshot().ls())
                with pytest.raises(PolicyError):
                    view.forget(made, reason="test")

    with reopen(store, read_only=True) as vault:
        entries = list(vault.ledger.entries())

    counts: Counter[tuple[str, str | None]] = Counter()
    for entry in entries:
        if entry.kind in ("read", "refused"):
            counts[entry.kind, entry.actor] += entry.facts["count"]
    assert counts == {
        ("read", "user-42"): 2,
        ("read", "user-43"): 1,
        ("refused", "user-42"): 2,
        ("refused", "user-43"): 1,
    }
