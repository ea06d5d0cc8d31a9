"""Things are found again: folders, versions, what is held of somebody; and reading stays small."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.support import SEED, Clock, create, items, new_vault, noise, reopen

import loopbackup as lb
from loopbackup.errors import DamagedData, InputError, NotFoundError
from loopbackup.vault.content.streams import Chunks
from loopbackup.vault.format.names import pack_name
from loopbackup.vault.keys.domains import Domain
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.wrappers import CountingStore

MANY = 6000


class CountingReader:
    """Passes chunks on and counts them by kind."""

    def __init__(self, inner: Chunks) -> None:
        self._inner = inner
        self.counts: Counter[str] = Counter()

    def read(self, domain: Domain, chunk_id: bytes, kind: str = "data") -> bytes | memoryview:
        """Give a chunk."""
        self.counts[kind] += 1
        return self._inner.read(domain, chunk_id, kind)

    def may_read(self, domain: Domain) -> object:
        """Ask the reader."""
        return self._inner.may_read(domain)

    def expect(self, domain: Domain, chunk_ids: Iterable[bytes]) -> int:
        """Ask the reader."""
        return self._inner.expect(domain, chunk_ids)


def count_reads(vault: lb.Vault) -> Counter[str]:
    """Count the chunks that a vault reads from now on, by kind."""
    reader: Any = CountingReader(vault._session.reader)
    vault._session.reader = reader
    counts: Counter[str] = reader.counts
    return counts


def many_items(*, changed: int = -1) -> Iterator[lb.Item]:
    """Give items in sixty folders, with metadata that does not compress away."""
    for number in range(MANY):
        text = noise(150, f"{number}").hex()
        version = "2" if number == changed else "1"
        path = f"f{number % 60:02}/doc-{number:05}"
        yield lb.Item(path, data=version.encode(), version=version, meta={"note": text})


@pytest.fixture(scope="module")
def big() -> MemoryStore:
    """Hold a vault of two snapshots of many entries, between which one was changed."""
    store = MemoryStore()
    create(store)
    with reopen(store) as vault:
        vault.backup(many_items(), name="n")
        vault.backup(many_items(changed=77), name="n")
    return store


def paths(entries: Any) -> list[str]:
    """Give the paths of entries."""
    return [entry.path for entry in entries]


# ---- folders


def test_folders_of_items_are_there_although_nobody_stored_them() -> None:
    """What is only implied is listed as a folder, once, after what is stored."""
    content = {"top": b"1", "users/42/cv": b"2", "users/42/letters/a": b"3", "users/43/cv": b"4"}
    with new_vault() as vault:
        snapshot = vault.backup(items(content), name="n")

        assert paths(snapshot.ls()) == ["top", "users"]
        assert paths(snapshot.ls("users")) == ["users/42", "users/43"]
        assert paths(snapshot.ls("/users/42/")) == ["users/42/cv", "users/42/letters"]
        (folder,) = (entry for entry in snapshot.ls() if entry.name == "users")
        assert (folder.type, folder.modified_at, folder.size_bytes) == ("directory", None, 0)


def test_an_implied_folder_is_about_whoever_alone_has_something_in_it() -> None:
    """Of several people it is about none of them."""
    with new_vault() as vault:
        snapshot = vault.backup(
            [
                *items({"users/42/a": b"1"}, subject="user-42"),
                *items({"users/43/a": b"2"}, subject="user-43"),
            ],
            name="n",
        )

        found = {entry.path: entry.subject for entry in snapshot.ls("users")}
        assert found == {"users/42": "user-42", "users/43": "user-43"}
        assert [entry.subject for entry in snapshot.ls()] == [None]
        assert paths(snapshot.ls("users", subject="user-43")) == ["users/43"]


def test_ls_of_a_file_is_the_file() -> None:
    """As on a command line; a path that is nowhere is an error."""
    with new_vault() as vault:
        snapshot = vault.backup(items({"a/b": b"1", "a.b": b"2"}), name="n")

        assert paths(snapshot.ls("a/b")) == ["a/b"]
        assert paths(snapshot.ls("a", recursive=True)) == ["a/b"]
        for path in ("a/b/c", "A", "b"):
            with pytest.raises(NotFoundError):
                list(snapshot.ls(path))
            with pytest.raises(NotFoundError):
                list(snapshot.ls(path, recursive=True))
            with pytest.raises(NotFoundError):
                list(snapshot.walk(path))


def make_tree(root: Path) -> Path:
    """Make a tree in which names sort differently from paths."""
    for path in ("a/x/1", "a/x/2", "a/y", "a.txt", "a-b/z", "b/c/d/e", "empty/.keep"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    (root / "nothing").mkdir()
    (root / "link").symlink_to("a")
    return root


def test_walk_goes_where_os_walk_goes(tmp_path: Path) -> None:
    """The same folders with the same names in them, each folder before those below it."""
    root = make_tree(tmp_path / "src")
    expected = {}
    for folder, folders, files in os.walk(root):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        inside = sorted(set(folders) - set(links))
        expected[os.path.relpath(folder, root)] = (inside, sorted([*files, *links]))
    with new_vault() as vault:
        snapshot = vault.backup(root, name="n")

        walked = list(snapshot.walk())

    found = {
        path or ".": ([e.name for e in folders], [e.name for e in others])
        for path, folders, others in walked
    }
    assert found == expected
    order = [path for path, _, _ in walked]
    assert all(order.index(os.path.dirname(p)) < order.index(p) for p in order if p)


def test_walk_enters_what_is_left_in_the_list(tmp_path: Path) -> None:
    """Folders that the caller takes out are not entered; one may start below the root."""
    root = make_tree(tmp_path / "src")
    with new_vault() as vault:
        snapshot = vault.backup(root, name="n")

        seen = []
        for path, folders, _ in snapshot.walk():
            seen.append(path)
            folders[:] = [folder for folder in folders if folder.name != "a"]

        assert "a" not in seen
        assert "a/x" not in seen
        assert "b/c/d" in seen
        assert [path for path, _, _ in snapshot.walk("b")] == ["b", "b/c", "b/c/d"]


def test_walk_puts_people_together() -> None:
    """A folder that several have something in is walked once."""
    with new_vault() as vault:
        snapshot = vault.backup(
            [
                *items({"u/1/a": b"1", "u/shared/x": b"x"}, subject="user-1"),
                *items({"u/2/a": b"2", "u/shared/y": b"y"}, subject="user-2"),
                *items({"u/readme": b"3"}),
            ],
            name="n",
        )

        walked = {path: (paths(d), paths(f)) for path, d, f in snapshot.walk()}
        mine = [path for path, _, _ in snapshot.walk(subject="user-2")]

    assert walked == {
        "": (["u"], []),
        "u": (["u/1", "u/2", "u/shared"], ["u/readme"]),
        "u/1": ([], ["u/1/a"]),
        "u/2": ([], ["u/2/a"]),
        "u/shared": ([], ["u/shared/x", "u/shared/y"]),
    }
    assert mine == ["", "u", "u/2", "u/shared"]


def test_walk_of_an_empty_snapshot_is_its_root() -> None:
    """As of an empty folder."""
    with new_vault() as vault:
        assert list(vault.backup([], name="n").walk()) == [("", [], [])]


@pytest.mark.parametrize("path", ["a\ud800", "a\0b", b"\0", "\udfff", 42, None, ["a"]])
def test_what_no_entry_can_be_called_is_refused(path: Any) -> None:
    """An InputError, at the call, and never an error of an encoder."""
    with new_vault() as vault:
        snapshot = vault.backup(items({"a": b"1"}), name="n")

        for look in (snapshot.ls, snapshot.walk, snapshot.entry, snapshot.open, vault.versions):
            with pytest.raises(InputError):
                look(path)


def test_paths_are_given_in_any_form() -> None:
    """Text, bytes, with slashes at its ends, undecodable bytes as surrogates, path objects."""
    with new_vault() as vault:
        snapshot = vault.backup([lb.Item(b"d/caf\xe9", data=b"1")], name="n")

        given: list[Any] = ["d/caf\udce9", b"d/caf\xe9", "/d/caf\udce9/", Path("d/caf\udce9")]
        for path in given:
            assert snapshot.entry(path).raw_path == b"d/caf\xe9"
            assert snapshot.open(path).read() == b"1"


@pytest.mark.parametrize("pattern", ["", "#x", "[a", "[[:alpha:]]", "\\", 42])
def test_a_pattern_that_can_match_nothing_is_refused(pattern: Any) -> None:
    """At the call, not when the first entry is asked for."""
    with new_vault() as vault:
        snapshot = vault.backup(items({"a": b"1"}), name="n")

        with pytest.raises(InputError):
            snapshot.find(pattern)


def test_find_takes_a_subject() -> None:
    """Only what is about one person."""
    with new_vault() as vault:
        snapshot = vault.backup(
            [*items({"1/cv": b"1"}, subject="user-1"), *items({"2/cv": b"2"}, subject="user-2")],
            name="n",
        )

        assert sorted(paths(snapshot.find("cv"))) == ["1/cv", "2/cv"]
        assert paths(snapshot.find("cv", subject="user-2")) == ["2/cv"]


# ---- reading little


def test_one_folder_reads_what_covers_it(big: MemoryStore) -> None:
    """Of a long list of entries one part or two are read, not all."""
    with reopen(big) as vault:
        snapshot = vault.snapshot()
        counts = count_reads(vault)

        everything = len(list(snapshot.ls(recursive=True)))
        whole = counts["stream"]
        counts.clear()
        one_folder = len(list(snapshot.ls("f07")))
        part = counts["stream"]
        counts.clear()
        assert snapshot.entry("f07/doc-00007").size_bytes == 1

        assert (everything, one_folder) == (MANY, MANY // 60)
        assert whole > 8
        assert part <= 2
        assert counts["stream"] == 1


def test_the_root_is_listed_without_reading_all_that_is_below() -> None:
    """Chunks that lie within one subfolder are passed over."""
    names = [f"a/doc-{n:05}" for n in range(4000)] + ["b/x", "c"]
    with new_vault() as vault:
        snapshot = vault.backup(
            [lb.Item(p, data=b"", meta={"note": noise(60, p).hex()}) for p in names], name="n"
        )
        counts = count_reads(vault)

        assert paths(snapshot.ls()) == ["c", "a", "b"]

        # Where a stream is cut depends on a random key: the end of "a" may take two chunks.
        assert counts["stream"] <= 4


def test_walk_reads_each_part_once(big: MemoryStore) -> None:
    """Neighbouring folders share what was read."""
    with reopen(big) as vault:
        snapshot = vault.snapshot()
        counts = count_reads(vault)
        list(snapshot.ls(recursive=True))
        whole = counts["stream"]
        counts.clear()

        walked = sum(len(others) for _, _, others in snapshot.walk())

        assert walked == MANY
        # The root reads ahead of its folders, so a part may be read for both.
        assert counts["stream"] <= 2 * whole


def test_a_diff_reads_what_differs(big: MemoryStore) -> None:
    """Two long lists of entries that share all but one part are compared by that part."""
    with reopen(CountingStore(big)) as vault:
        store: Any = vault._session.store.store
        new, old = vault.snapshots()
        store.reset()
        counts = count_reads(vault)

        diff = new.diff(old)

        assert paths(diff.changed) == ["f17/doc-00077"]
        assert str(diff) == "0 added, 0 removed, 1 changed"
        assert counts["stream"] == 2
        assert store.snapshot().requests["get"] <= 10


def test_equal_snapshots_are_compared_without_their_entries(big: MemoryStore) -> None:
    """Roots that name the same tables say it all."""
    with reopen(big) as vault:
        snapshot = vault.snapshot()
        counts = count_reads(vault)

        assert not snapshot.diff(snapshot)

        assert counts.keys() == {"root"}


def test_versions_decode_shared_parts_once(big: MemoryStore) -> None:
    """An entry that never changed costs one part of the list, however many snapshots have it."""
    with reopen(big) as vault:
        counts = count_reads(vault)

        (same,) = vault.versions("f05/doc-00005")

        assert same.count == 2
        assert counts["stream"] == 1
        counts.clear()
        assert len(vault.versions("f17/doc-00077")) == 2
        assert counts["stream"] == 2


# ---- versions


def test_versions_are_one_a_state_newest_first() -> None:
    """Each with the newest snapshot that has it, the oldest, and how many do."""
    clock = Clock()
    made = []
    with new_vault(clock=clock) as vault:
        for text in (b"one", b"one", b"two", b"three", b"two"):
            clock.pass_by(days=1)
            made.append(vault.backup(items({"cv": text}), name="n"))
        clock.pass_by(days=1)
        vault.backup(items({"other": b""}), name="n")

        versions = vault.versions("cv")

        assert [v.snapshot for v in versions] == [made[4], made[3], made[1]]
        assert [v.first for v in versions] == [made[2], made[3], made[0]]
        assert [v.count for v in versions] == [2, 1, 2]
        texts = [v.snapshot.open(v.entry.path).read() for v in versions]
        assert texts == [b"two", b"three", b"one"]
        assert vault.versions("nowhere") == []


def test_versions_tell_states_of_metadata_apart(tmp_path: Path) -> None:
    """A file whose rights changed is another version of it, a new inode is none."""
    file = tmp_path / "src" / "cv"
    file.parent.mkdir()
    file.write_text("me")
    os.utime(file, (1, 1))
    with new_vault() as vault:
        vault.backup(file.parent, name="n")
        file.chmod(0o600)
        vault.backup(file.parent, name="n")
        file.rename(tmp_path / "old")
        file.write_text("me")
        os.utime(file, (1, 1))
        file.chmod(0o600)
        vault.backup(file.parent, name="n")

        assert [v.count for v in vault.versions("cv")] == [2, 1]


def test_versions_of_one_series_and_of_one_person() -> None:
    """name= and subject= say whose; without, two people of one path are an error."""
    with new_vault() as vault:
        vault.backup(items({"cv": b"a"}, subject="user-1"), name="a")
        vault.backup(items({"cv": b"b"}, subject="user-2"), name="b")

        assert len(vault.versions("cv")) == 2
        assert [v.entry.subject for v in vault.versions("cv", name="a")] == ["user-1"]
        assert [v.entry.subject for v in vault.versions("cv", subject="user-2")] == ["user-2"]
        assert vault.versions("cv", subject="user-3") == []

        both = [
            *items({"cv": b"a"}, subject="user-1"),
            *items({"cv": b"b"}, subject="user-2"),
        ]
        vault.backup(both, name="both")
        with pytest.raises(InputError):
            vault.versions("cv", name="both")


def test_a_tenant_finds_its_peoples_versions() -> None:
    """A tenant's own subject covers its children, here as everywhere."""
    with new_vault() as vault:
        vault.backup(items({"cv": b"a"}, subject=("acme", "user-42")), name="n")

        (version,) = vault.versions("cv", subject="acme")

        assert version.entry.subject == ("acme", "user-42")


def test_what_could_not_be_read_is_no_version() -> None:
    """An entry that only says that something is missing is left out."""

    def broken() -> bytes:
        raise OSError("gone")

    with new_vault() as vault:
        vault.backup(items({"cv": b"a"}), name="n")
        vault.backup([lb.Item("cv", data=broken)], name="n", errors="report")

        assert [v.count for v in vault.versions("cv")] == [1]


def test_a_damaged_snapshot_hides_no_other_version() -> None:
    """What can be found is; where nothing can, the damage is the answer."""
    with new_vault() as vault:
        old = vault.backup(items({"cv": b"old"}), name="n")
        root = old._described.record.root
        place = vault._session.index.find(
            vault._session.keyring.meta, root, vault._session.log.state
        )
        assert place is not None
        vault._session.store.delete(pack_name(place.blob.pack[1:]))
        with pytest.raises(DamagedData):
            vault.versions("cv")
        vault.backup(items({"cv": b"new"}), name="m")

        assert [v.snapshot.name for v in vault.versions("cv")] == ["m"]


def test_damage_to_one_person_hides_no_version_of_another() -> None:
    """A list of entries that is lost costs what it named, and no more."""
    store = MemoryStore()
    create(store)
    mine = items({"mine": b"1"}, subject="user-1")
    with reopen(store) as vault:
        vault.backup(mine, name="n")
        packs = [entry.key for entry in store.list("packs/")]
        vault.backup([*mine, *items({"yours": b"2"}, subject="user-2")], name="n")
        for pack in packs:
            store.delete(pack)

    with reopen(store) as vault:
        assert [version.count for version in vault.versions("yours")] == [1]
        with pytest.raises(DamagedData):
            vault.versions("mine")


# ---- holdings


def test_holdings_say_where_somebody_is() -> None:
    """Snapshots with entries and sizes, first and last, bytes; and nothing of anybody else."""
    clock = Clock()
    with new_vault(clock=clock) as vault:
        mine = items({"a": noise(5000, "a"), "b": b"1234"}, subject="user-42")
        first = vault.backup([*mine, *items({"c": b"c"}, subject="user-43")], name="n")
        clock.pass_by(days=1)
        vault.backup(items({"c": b"c"}, subject="user-43"), name="n")
        clock.pass_by(days=1)
        again = items({"a": noise(5000, "a")}, subject="user-42")
        last = vault.backup(again, name="m", tags={"env": "prod"})

        held = vault.holdings("user-42")

        assert held
        assert held.ok
        assert [h.snapshot for h in held.snapshots] == [last.id, first.id]
        assert [(h.name, h.entries, h.size_bytes) for h in held.snapshots] == [
            ("m", 1, 5000),
            ("n", 2, 5004),
        ]
        assert (held.first_seen, held.last_seen) == (first.created_at, last.created_at)
        assert (held.subject, held.subjects) == ("user-42", 1)
        assert held.distinct_bytes == 5004
        assert held.stored_bytes > 5004
        assert "2 snapshots" in str(held)
        assert "user-43" not in str(held)


def test_nothing_is_held_of_a_stranger() -> None:
    """False, with no error: that is an answer."""
    with new_vault() as vault:
        vault.backup(items({"a": b"a"}, subject="user-42"), name="n")

        held = vault.holdings("user-99")

        assert not held
        assert held.ok
        assert (held.snapshots, held.stored_bytes, held.first_seen) == ((), 0, None)


def test_a_tenant_holds_what_its_people_do() -> None:
    """And one of them holds only his own."""
    with new_vault() as vault:
        vault.backup(
            [
                *items({"a": b"12"}, subject=("acme", "user-1")),
                *items({"b": b"345"}, subject=("acme", "user-2")),
                *items({"c": b"6789"}, subject="acme"),
                *items({"d": b"x" * 9}, subject=("other", "user-1")),
                *items({"e": b"x" * 9}),
            ],
            name="n",
        )

        tenant = vault.holdings("acme")
        person = vault.holdings(("acme", "user-2"))

        assert (tenant.subjects, tenant.distinct_bytes) == (3, 9)
        assert [(h.entries, h.size_bytes) for h in tenant.snapshots] == [(3, 9)]
        assert (person.subjects, person.distinct_bytes) == (1, 3)
        assert [(h.entries, h.size_bytes) for h in person.snapshots] == [(1, 3)]


def test_what_is_forgotten_is_stored_until_it_is_pruned() -> None:
    """Bytes stay under the subject's keys for a while, and holdings say so."""
    with new_vault(grace_s=0) as vault:
        snapshot = vault.backup(items({"a": noise(5000, "a")}, subject="user-42"), name="n")

        vault.forget(snapshot, reason="test")
        forgotten = vault.holdings("user-42")
        vault.prune()
        pruned = vault.holdings("user-42")

        assert forgotten
        assert forgotten.snapshots == ()
        assert forgotten.stored_bytes > 5000
        assert not pruned


def test_a_tenants_forgotten_people_are_stored_until_they_are_pruned() -> None:
    """Also of people who are in no snapshot any more."""
    with new_vault(grace_s=0) as vault:
        mail = items({"a": noise(5000, "a")}, subject=("acme", "user-1"))
        snapshot = vault.backup(mail, name="n")
        vault.forget(snapshot, reason="test")

        held = vault.holdings("acme")
        vault.prune()

        assert (held.snapshots, held.subjects) == ((), 1)
        assert held.stored_bytes > 5000
        assert not vault.holdings("acme")


def test_holdings_that_cannot_be_looked_into_are_no_nothing() -> None:
    """A damaged snapshot is named: there may be more."""
    with new_vault() as vault:
        snapshot = vault.backup(items({"a": b"a"}, subject="user-42"), name="n")
        place = vault._session.index.find(
            vault._session.keyring.meta,
            snapshot._described.record.root,
            vault._session.log.state,
        )
        assert place is not None
        vault._session.store.delete(pack_name(place.blob.pack[1:]))

        held = vault.holdings("user-42")

        assert not held.ok
        assert held.problems[0].snapshots == (snapshot.id,)
        assert "problem" in str(held)


@pytest.mark.parametrize("subject", [42, "", ("a", "b", "c"), None])
def test_holdings_are_of_a_subject(subject: Any) -> None:
    """Everything else is an InputError."""
    with new_vault() as vault, pytest.raises(InputError):
        vault.holdings(subject)


# ---- the vault itself


def test_info_says_what_a_vault_is(tmp_path: Path) -> None:
    """Place, series, ledger, credentials and sizes; and one listing is all it asks for."""
    clock = Clock()
    store = CountingStore(MemoryStore())
    create(store, clock=clock)
    with reopen(store, clock=clock) as vault:
        vault.backup(items({"a": b"1"}, subject="user-42"), name="b", tags={"x": "y"})
        vault.backup(items({"a": b"123"}), name="a")
        newest = vault.backup(items({"a": b"12"}), name="a")
        store.reset()

        info = vault.info()

        assert store.snapshot().requests.get("list") == 1
        assert (info.id, info.url, info.head) == (vault.id, vault.url, vault.head)
        assert f"{info.created_at:%Y-%m-%d %H:%M %Z}" == "2026-03-01 12:00 UTC"
        assert (info.snapshots, info.subjects, info.alarms) == (3, 1, 0)
        assert [(s.name, s.snapshots, s.size_bytes) for s in info.series] == [
            ("a", 2, 2),
            ("b", 1, 1),
        ]
        assert info.series[0].newest_at == newest.created_at
        assert info.records == len(vault.ledger)
        assert [slot.kind for slot in info.slots] == [SEED.kind]
        stored = list(vault._session.store.list(""))
        assert info.stored_bytes == sum(entry.size_bytes for entry in stored)
        assert info.packs == sum(entry.key.startswith("packs/") for entry in stored)
        assert info.location == lb.Whereabouts(None, None, None)
        assert "not declared" in str(info)
        assert "'a': 2 snapshots" in str(info)


def test_times_without_a_zone_and_references_that_are_none_are_refused() -> None:
    """Also values of another type."""
    moments: list[Any] = [datetime(2026, 1, 1), "2026-01-01", 5]  # noqa: DTZ001
    with new_vault() as vault:
        vault.backup(items({"a": b"1"}), name="n")

        for moment in moments:
            with pytest.raises(InputError):
                vault.snapshots(since=moment)
            with pytest.raises(InputError):
                vault.snapshots(until=moment)
        wrong: Any
        for wrong in ("", None, 42):
            with pytest.raises(InputError):
                vault.snapshot(wrong)


# ---- shown to people

HOSTILE = "<script>alert(1)</script>\x1b[2J\u202e\n"


def test_nothing_that_people_see_is_driven_by_names() -> None:
    """Names reach notebooks as text and terminals as printable characters."""
    with new_vault() as vault:
        content = {HOSTILE: b"1", "b": b"2"}
        old = vault.backup(items(content, subject=HOSTILE), name=HOSTILE, tags={"x": HOSTILE})
        content[HOSTILE], content["c"] = b"3", content.pop("b")
        new = vault.backup(items(content, subject=HOSTILE), name=HOSTILE)
        shown: list[Any] = [
            vault,
            vault.info(),
            new,
            old,
            new.report,
            new.diff(old),
            next(new.ls()),
            lb.Entries(new.ls(recursive=True)),
            vault.versions(HOSTILE)[0],
            vault.holdings(HOSTILE),
        ]

        for thing in shown:
            html = thing._repr_html_()
            assert "<script" not in html
            assert "\x1b" not in html
            assert "\x1b" not in str(thing)
            assert "\u202e" not in str(thing)
            assert "\x1b" not in repr(thing)


def test_to_show_something_asks_nobody() -> None:
    """No request is made for a repr, so that a notebook cell costs nothing and cannot fail."""
    store = CountingStore(MemoryStore())
    create(store)
    with reopen(store) as vault:
        old = vault.backup(items({"a": b"1"}, subject="user-42"), name="n")
        new = vault.backup(items({"a": b"2"}, subject="user-42"), name="n")
        shown: list[Any] = [
            vault,
            vault.info(),
            new,
            new.report,
            new.diff(old),
            vault.versions("a")[0],
            vault.holdings("user-42"),
            new.entry("a"),
            lb.Entries(new.ls()),
            lb.Entries(),
        ]
        store.reset()

        for thing in shown:
            assert repr(thing).startswith(("<", "BackupReport"))
            assert str(thing) or thing == ()
            assert thing._repr_html_().startswith("<div")

        assert store.snapshot().total == 0
