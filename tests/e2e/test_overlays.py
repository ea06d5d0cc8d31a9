"""Overlays (Art. 16 GDPR): other bytes are shown, what was backed up stays stored."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.support import Clock, create, noise, read_snapshot, reopen

import loopbackup as lb
from loopbackup.errors import InputError, NotFoundError
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.verbs.mark import live_chunks, mark

WHO = ("acme", "42")
WRONG, RIGHT = noise(30_000, "wrong"), noise(50_000, "right")


@pytest.fixture(params=["memory", "local"])
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[lb.Vault]:
    """Open a vault without a grace, once in memory and once on disk."""
    if request.param == "memory":
        with lb.testing.memory_vault(grace_s=0, clock=Clock()) as found:
            yield found
        return
    key = lb.KeyFile.generate(tmp_path / "key")
    options: dict[str, Any] = {"grace_s": 0, "clock": Clock(), "state_dir": tmp_path / "state"}
    with lb.Vault.create(tmp_path / "vault", key, **options) as made:
        yield made


def people() -> list[lb.Item]:
    """Make items of two people that have the same content."""
    return [
        lb.Item("users/42/a", data=WRONG, subject=WHO, version="1"),
        lb.Item("users/42/b", data=b"fine", subject=WHO),
        lb.Item("users/43/a", data=WRONG, subject=("acme", "43")),
    ]


def rectify(
    vault: lb.Vault, replacement: bytes = RIGHT, path: str | bytes = "users/42/a", **more: Any
) -> str:
    """Append an overlay."""
    payload = {"path": path, "replacement": replacement, **more}
    return vault.ledger.append("overlay", payload, subject=WHO)


def shown(snapshot: lb.Snapshot, path: str = "users/42/a") -> bytes:
    """Read an entry."""
    with snapshot.open(path) as file:
        return file.read()


@pytest.mark.parametrize("replacement", [b"", b"x", RIGHT, noise(400_000, "long")], ids=len)
def test_overlay_is_shown_wherever_the_entry_is_read(
    vault: lb.Vault, tmp_path: Path, replacement: bytes
) -> None:
    """Opened, listed and restored, in all snapshots that there are; nothing else changes."""
    snapshots = [vault.backup(people(), name="s") for _ in range(2)]

    overlay = rectify(vault, replacement)

    for number, snapshot in enumerate(snapshots):
        assert read_snapshot(snapshot) == {
            "users/42/a": replacement,
            "users/42/b": b"fine",
            "users/43/a": WRONG,
        }
        entry = snapshot.entry("users/42/a", subject=WHO)
        assert (entry.size_bytes, entry.overlay, entry.version) == (len(replacement), overlay, "1")
        assert "rectified" in repr(entry)
        assert snapshot.entry("users/43/a").overlay is None
        vault.restore(snapshot, tmp_path / str(number))
        assert (tmp_path / str(number) / "users/42/a").read_bytes() == replacement
    assert vault.check(data=True).ok


def test_last_overlay_wins(vault: lb.Vault) -> None:
    """A correction may be corrected."""
    snapshot = vault.backup(people(), name="s")
    rectify(vault, b"first")
    last = rectify(vault, b"second")

    assert shown(snapshot) == b"second"
    assert snapshot.entry("users/42/a", subject=WHO).overlay == last
    assert len(vault.holdings(WHO).overlays) == 2


def test_overlay_changes_named_snapshots_only(vault: lb.Vault) -> None:
    """And shows in what they differ, also where they store the same."""
    first, second = (vault.backup(people(), name="s") for _ in range(2))
    assert not second.diff(first)

    rectify(vault, snapshots=[first.id])

    assert (shown(first), shown(second)) == (RIGHT, WRONG)
    (change,) = second.diff(first).changes
    assert (change.entry.path, change.what) == ("users/42/a", ("content", "times"))
    assert (change.before.overlay is not None, change.entry.overlay) == (True, None)
    newest, oldest = vault.versions("users/42/a", subject=WHO)
    assert (newest.entry.overlay, oldest.entry.overlay is not None) == (None, True)
    assert (newest.snapshot, oldest.snapshot) == (second, first)


def test_later_backup_is_shown_as_it_is(vault: lb.Vault) -> None:
    """An overlay looks back: what the source says later is not hidden."""
    old = vault.backup(people(), name="s")
    rectify(vault)
    later = vault.backup([lb.Item("users/42/a", data=b"newest", subject=WHO)], name="s")

    assert (shown(old), shown(later)) == (RIGHT, b"newest")
    (change,) = (c for c in later.diff(old).changes if c.entry.path == "users/42/a")
    assert (change.before.size_bytes, change.entry.size_bytes) == (len(RIGHT), 6)


def test_backup_compares_with_what_is_stored(vault: lb.Vault) -> None:
    """An unchanged item is taken over as it was, not as it is shown."""
    vault.backup(people(), name="s")
    rectify(vault)

    later = vault.backup(people(), name="s")

    assert later.report.unchanged == 1
    assert shown(later) == WRONG


def test_prune_and_rewriting_keep_what_overlays_show(vault: lb.Vault) -> None:
    """Its chunks are alive though no snapshot names them, wherever prune moves them."""
    snapshot = vault.backup(people(), name="s")
    rectify(vault)
    for number in range(12):
        vault.backup([lb.Item("x", data=noise(40_000, f"{number}"), subject=WHO)], name="t")
    for old in vault.snapshots(name="t")[1:]:
        vault.forget(old, reason="old")
        vault.prune()

    assert shown(snapshot) == RIGHT
    assert vault.check(data=True).ok


def test_backup_may_rely_on_what_an_overlay_stored(vault: lb.Vault) -> None:
    """It is a chunk as any; and it stays when the overlay is gone."""
    long = noise(400_000, "long")
    old = vault.backup(people(), name="s")
    rectify(vault, long)
    later = vault.backup([lb.Item("users/42/a", data=long, subject=WHO)], name="s")
    assert later.report.bytes_added < len(long)

    vault.forget(old, reason="old")
    vault.prune()

    assert vault.holdings(WHO).overlays == ()
    assert shown(later) == long
    assert vault.check(data=True).ok


def test_overlay_goes_with_the_last_snapshot_that_it_changes(vault: lb.Vault) -> None:
    """Its bytes are then freed by the next prune."""
    first, second = (vault.backup(people(), name="s") for _ in range(2))
    rectify(vault, snapshots=[first.id, second.id])
    vault.forget(first, reason="old")
    assert shown(second) == RIGHT
    before = vault.info().stored_bytes

    vault.forget(second, reason="old")
    vault.prune()

    assert vault._session.log.state.marks == {}
    assert vault.info().stored_bytes < before


def test_holdings_count_both(vault: lb.Vault) -> None:
    """What was backed up and what is shown are stored, and the report names the overlay."""
    vault.backup(people(), name="s")
    before = vault.holdings(WHO)
    overlay = rectify(vault, reason="request 9")

    held = vault.holdings(WHO)

    assert held.distinct_bytes == before.distinct_bytes + len(RIGHT)
    (found,) = held.overlays
    assert (found.id, found.raw_path, found.size_bytes) == (overlay, b"users/42/a", len(RIGHT))
    assert (found.reason, found.snapshots, found.subject) == ("request 9", None, WHO)
    assert overlay[:8] in str(held)


def test_check_finds_a_lost_overlay(tmp_path: Path) -> None:
    """With the entry and the snapshots that it costs."""
    store = MemoryStore()
    create(store, grace_s=0)
    with reopen(store) as vault:
        snapshot = vault.backup(people(), name="s")
        known = {entry.key for entry in store.list("packs/")}
        rectify(vault)
    (pack,) = {entry.key for entry in store.list("packs/")} - known
    store.delete(pack)

    with reopen(store) as vault:
        problems = [p for p in vault.check().problems if p.path is not None]

    assert [(p.path, p.snapshots) for p in problems] == [(b"users/42/a", (snapshot.id,))]


def test_prune_brings_a_condemned_overlay_back(vault: lb.Vault) -> None:
    """Chunks that live in a distrusted copy only are moved as those of snapshots are."""
    snapshot = vault.backup(people(), name="s")
    rectify(vault)
    session = vault._session
    marks = mark(session, session.log.state.snapshots.values())
    domain = session.keyring.find(WHO)
    assert domain is not None
    live = live_chunks(session, marks, domain)
    places = [session.index.find(domain, chunk_id, session.log.state) for chunk_id in live]
    for pack in {place.blob.pack for place in places if place is not None}:
        session.index.distrust(pack)

    vault.prune()

    assert shown(snapshot) == RIGHT
    assert vault.check(data=True).ok


def test_restore_replaces_the_wrong_file(vault: lb.Vault, tmp_path: Path) -> None:
    """Also where it has the same size, and where "changed" compares times."""
    source = tmp_path / "source"
    (source / "42").mkdir(parents=True)
    (source / "42/a").write_bytes(b"wrong")
    os.link(source / "42/a", source / "42/b")
    who = lb.subject_from_path("{subject}/**", unmatched="none")
    snapshot = vault.backup(source, name="s", subject=who)
    vault.restore(snapshot, tmp_path / "out")
    payload = {"path": "42/a", "replacement": b"right"}
    vault.ledger.append("overlay", payload, subject="42")

    vault.restore(snapshot, tmp_path / "out", overwrite="changed")
    vault.restore(snapshot, tmp_path / "new")

    for out in ("out", "new"):
        assert (tmp_path / out / "42/a").read_bytes() == b"right"
        assert (tmp_path / out / "42/b").read_bytes() == b"wrong"


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ({"path": "users/42/c"}, NotFoundError),
        ({"path": "users/43/a"}, NotFoundError),
        ({"path": "users/42/a/"}, None),
        ({"path": b"users/42/a"}, None),
        ({"path": ""}, InputError),
        ({"path": "a\0b"}, InputError),
        ({"path": 5}, InputError),
        ({"replacement": "text"}, InputError),
        ({"replacement": None}, InputError),
        ({"snapshots": []}, InputError),
        ({"snapshots": "some"}, InputError),
        ({"snapshots": ["00" * 16]}, NotFoundError),
        ({"snapshots": ["no id"]}, NotFoundError),
        ({"reason": ""}, InputError),
        ({"more": 1}, InputError),
    ],
    ids=str,
)
def test_overlay_that_would_change_nothing_or_is_malformed_is_refused(
    vault: lb.Vault, payload: dict[str, Any], error: type[Exception] | None
) -> None:
    """Nothing is written; slashes at the ends and bytes are a path as everywhere."""
    vault.backup(people(), name="s")
    head = vault.head
    whole = {"path": "users/42/a", "replacement": b"x", **payload}

    if error is None:
        vault.ledger.append("overlay", whole, subject=WHO)
        return
    with pytest.raises(error):
        vault.ledger.append("overlay", whole, subject=WHO)
    assert vault.head == head


def test_overlay_is_of_a_known_subject(vault: lb.Vault) -> None:
    """Of nobody, and of one who was never backed up, there is nothing to correct."""
    payload = {"path": "a", "replacement": b"x"}

    with pytest.raises(InputError):
        vault.ledger.append("overlay", payload)
    with pytest.raises(NotFoundError):
        vault.ledger.append("overlay", payload, subject="user-99")


def test_restricted_data_may_be_corrected(vault: lb.Vault) -> None:
    """Art. 18(1)(a): what is disputed is restricted until it is verified."""
    snapshot = vault.backup(people(), name="s")
    restriction = vault.ledger.append("restriction", {"reason": "disputed"}, subject=WHO)

    rectify(vault)
    vault.ledger.append("restriction", {"reason": "done", "lifts": restriction}, subject=WHO)

    assert shown(snapshot) == RIGHT


def test_overlay_shows_its_own_time(vault: lb.Vault) -> None:
    """The content is of the day of the correction."""
    snapshot = vault.backup(people(), name="s")
    rectify(vault)
    (found,) = vault.holdings(WHO).overlays

    entry = snapshot.entry("users/42/a", subject=WHO)

    assert entry.modified_at == found.placed_at
    assert found.placed_at > datetime(2026, 3, 1, tzinfo=UTC)
