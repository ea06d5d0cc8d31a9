"""Every kind of object, damaged in every way: a clear error, or damage that is named."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import frozen
from tests.e2e.support import (
    Clock,
    Contents,
    Objects,
    create,
    dump,
    items,
    load,
    noise,
    read_all,
    read_snapshot,
    read_what_is_left,
    reopen,
)

from loopbackup.errors import DamagedData, FormatError, IntegrityError, RollbackDetected
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.verbs.check import CheckReport


@frozen
class Sample:
    """A vault with objects of every kind, and what it must give back."""

    objects: Objects
    contents: Contents
    head: str
    swept: Objects
    """Objects that an earlier state had and a sweep deleted."""


def build(secret: str) -> Sample:
    """Make a vault with two series, three subjects, a prune and a summary behind it."""
    store, clock = MemoryStore(), Clock()
    create(store, grace_s=0, clock=clock)
    with reopen(store, clock=clock) as vault:
        big = {f"big/{n}": noise(300_000, f"{secret}{n}") for n in range(6)}
        old = vault.backup(items({**big, "big/old": noise(900_000, secret)}), name="big")
        earlier = dump(store)
        vault.backup(items({**big, "note": b"kept"}), name="big")
        for subject in ("user-42", "user-43"):
            mail = {f"{subject}/{n}": f"{secret} {subject} {n}".encode() * 9 for n in range(5)}
            vault.backup(items(mail, subject=subject), name="mail")
        vault.forget(old, reason="test")
        vault.prune()
        vault.backup(items({"last": b"last " * 99}), name="last")
    with reopen(store, read_only=True) as vault:
        contents, head = read_all(vault), vault.head
    objects = dump(store)
    swept = {key: data for key, data in earlier.items() if key not in objects}
    return Sample(objects, contents, head, swept)


@pytest.fixture(scope="module")
def patched() -> Iterator[None]:
    """Lower the bounds, so that small vaults have lists and summaries."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("loopbackup.vault.verbs.backup.INLINE_BYTES", 0)
        patch.setattr("loopbackup.vault.verbs.prune.INLINE_BYTES", 0)
        patch.setattr("loopbackup.vault.ledger.summary.SUMMARY_EVERY", 6)
        yield


@pytest.fixture(scope="module")
def sample(patched: None) -> Sample:
    """Build the vault that is damaged."""
    return build("ours")


@pytest.fixture(scope="module")
def foreign(patched: None) -> Sample:
    """Build another vault of the same shape."""
    return build("theirs")


PREFIXES = {
    "vault": "vault",
    "ledger": "ledger/",
    "root": "keys/",
    "slot": "keys/",
    "shard": "keys/shard/",
    "pack": "packs/",
    "index": "index/",
    "list": "lists/",
    "summary": "summary/",
}


def of_kind(objects: Objects, kind: str) -> list[str]:
    """Give the names of all objects of a kind, in order."""
    marks = {"root": "/root", "slot": "/slot-"}
    return sorted(
        key
        for key in objects
        if key.startswith(PREFIXES[kind])
        and marks.get(kind, "") in key
        and (kind not in marks or not key.startswith("keys/shard/"))
    )


Damage = Callable[[Objects, str, str, Sample], None]


def flip(objects: Objects, key: str, at: float) -> None:
    """Flip a bit at a share of an object's length."""
    data = bytearray(objects[key])
    data[int(len(data) * at)] ^= 4
    objects[key] = bytes(data)


def move(objects: Objects, key: str) -> None:
    """Give an object another name of its kind."""
    digits = "".join("f" if c == "0" else "0" if c == "f" else c for c in key[-12:])
    objects[key[:-12] + digits[:-1] + ("1" if digits[-1] != "1" else "2")] = objects.pop(key)


def swap(objects: Objects, key: str, kind: str) -> None:
    """Put the bytes of another object of its kind in its place."""
    others = [other for other in of_kind(objects, kind) if objects[other] != objects[key]]
    objects[key] = objects[(others or of_kind(objects, "pack"))[0]]


def transplant(objects: Objects, key: str, kind: str, foreign: Sample) -> None:
    """Put an object of another vault in its place."""
    objects[key] = foreign.objects[of_kind(foreign.objects, kind)[-1]]


DAMAGES: dict[str, Damage] = {
    "deleted": lambda o, key, _k, _f: o.__delitem__(key),
    "emptied": lambda o, key, _k, _f: o.update({key: b""}),
    "cut in half": lambda o, key, _k, _f: o.update({key: o[key][: len(o[key]) // 2]}),
    "cut by one": lambda o, key, _k, _f: o.update({key: o[key][:-1]}),
    "extended": lambda o, key, _k, _f: o.update({key: o[key] + b"more"}),
    "flipped early": lambda o, key, _k, _f: flip(o, key, 0.01),
    "flipped": lambda o, key, _k, _f: flip(o, key, 0.5),
    "flipped late": lambda o, key, _k, _f: flip(o, key, 0.999),
    "renamed": lambda o, key, _k, _f: move(o, key),
    "swapped": lambda o, key, kind, _f: swap(o, key, kind),
    "of another vault": transplant,
}


def pick(sample: Sample, kind: str, which: str) -> str:
    """Choose an object of a kind."""
    keys = of_kind(sample.objects, kind)
    return keys[{"first": 0, "middle": len(keys) // 2, "last": -1}[which]]


def spoil(sample: Sample, foreign: Sample, kind: str, damage: str, which: str) -> MemoryStore:
    """Give a store in which one object is damaged."""
    objects = dict(sample.objects)
    DAMAGES[damage](objects, pick(sample, kind, which), kind, foreign)
    return load(objects)


def named(report: CheckReport) -> tuple[set[tuple[str, str]], set[str]]:
    """Give the (snapshot, path) pairs that a report names, and the snapshots as a whole."""
    pairs = {(s, (p.path or b"").decode()) for p in report.problems for s in p.snapshots}
    return pairs, {snapshot for snapshot, path in pairs if not path}


@pytest.mark.parametrize("which", ["first", "middle", "last"])
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", PREFIXES)
def test_damage_is_told_and_the_rest_restores(
    sample: Sample, foreign: Sample, kind: str, damage: str, which: str
) -> None:
    """Never wrong data, never another exception, and nothing is missing unsaid."""
    store = spoil(sample, foreign, kind, damage, which)

    try:
        vault = reopen(store)
    except (IntegrityError, FormatError):
        assert kind in ("vault", "ledger", "root", "slot", "list")
        return
    with vault:
        report = vault.check(data=True)
        _found, missing = read_what_is_left(vault, sample.contents)

    pairs, whole = named(report)
    if (kind, which) == ("ledger", "last"):
        # Without a head nobody can tell that a snapshot was there; what is left is whole.
        assert all(path == "" for _, path in missing)
    else:
        assert [m for m in missing if m not in pairs and m[0] not in whole] == []
    if kind == "summary" or (kind, damage, which) == ("ledger", "deleted", "last"):
        # A summary saves time and nothing else. A cut tail shows to whoever kept a head.
        assert report.ok
        assert vault.freshness == "unknown"
    else:
        assert not report.ok


@pytest.mark.parametrize("which", ["first", "last"])
@pytest.mark.parametrize("damage", ["deleted", "flipped", "flipped early", "of another vault"])
@pytest.mark.parametrize("kind", ["pack", "index", "shard", "list"])
def test_restore_gives_everything_that_is_not_damaged(
    sample: Sample, foreign: Sample, kind: str, damage: str, which: str, tmp_path: Path
) -> None:
    """It raises once, at the end, and what it wrote is right."""
    store = spoil(sample, foreign, kind, damage, which)
    try:
        vault = reopen(store)
    except IntegrityError:
        assert kind == "list"
        return

    with vault:
        _found, missing = read_what_is_left(vault, sample.contents)
        for snapshot in vault.snapshots():
            target = tmp_path / snapshot.id
            lost = {path for s, path in missing if s == snapshot.id}
            expected = {p: c for p, c in sample.contents[snapshot.id].items() if p not in lost}

            if lost:
                with pytest.raises(DamagedData):
                    vault.restore(snapshot, target)
            else:
                vault.restore(snapshot, target)

            written = {
                path.relative_to(target).as_posix(): path.read_bytes()
                for path in target.rglob("*")
                if path.is_file()
            }
            assert written == expected


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "extended"])
def test_damaged_end_of_the_ledger_is_a_rollback_to_whoever_kept_a_head(
    sample: Sample, foreign: Sample, damage: str
) -> None:
    """A record that lost its effect cannot pass for one that never was."""
    store = spoil(sample, foreign, "ledger", damage, "last")

    with pytest.raises((RollbackDetected, DamagedData)):
        reopen(store, head=sample.head)


def test_swept_objects_that_come_back_change_nothing(sample: Sample) -> None:
    """Objects of an earlier state, put back under their names, are ignored and swept again."""
    assert sample.swept
    store = load({**sample.objects, **sample.swept})

    with reopen(store) as vault:
        contents, report = read_all(vault), vault.check(data=True)

    assert contents == sample.contents
    assert report.ok


def test_lost_index_is_rebuilt_and_written_anew_by_the_next_prune(
    sample: Sample, foreign: Sample
) -> None:
    """Check says so; after a prune it has nothing to say."""
    store = spoil(sample, foreign, "index", "deleted", "first")

    with reopen(store) as vault:
        before = vault.check(data=True)
        vault.prune()
    with reopen(store) as vault:
        after, contents = vault.check(data=True), read_all(vault)

    assert [problem.kind for problem in before.problems] == ["index_rebuilt"]
    assert after.ok
    assert contents == sample.contents


def test_prune_condemns_and_sweeps_nothing_while_a_pack_is_lost(
    sample: Sample, foreign: Sample
) -> None:
    """What a lost directory does not name any more is not unknown."""
    store = spoil(sample, foreign, "pack", "flipped early", "middle")
    packs = of_kind(dump(store), "pack")

    with reopen(store) as vault, contextlib.suppress(DamagedData):
        vault.prune()

    assert set(packs) <= set(of_kind(dump(store), "pack"))


@pytest.mark.parametrize("damage", ["deleted", "emptied", "flipped early"])
def test_backup_heals_what_it_still_has(sample: Sample, foreign: Sample, damage: str) -> None:
    """Chunks of a pack whose directory is lost are uploaded again by whoever still has them."""
    store = MemoryStore()
    create(store)
    contents = {"a": b"a" * 5000, "b": b"b" * 9000}
    with reopen(store) as vault:
        vault.backup(items(contents), name="first")
    objects = dump(store)
    DAMAGES[damage](objects, of_kind(objects, "pack")[0], "pack", foreign)

    with reopen(load(objects)) as vault:
        healed = vault.backup(items(contents), name="second")

        assert read_snapshot(healed) == contents
        assert {s for p in vault.check(data=True).problems for s in p.snapshots}.isdisjoint(
            {healed.id}
        )
