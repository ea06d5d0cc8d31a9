"""What a host may hand over, and what it gets back: odd, empty, huge, hostile, unreadable."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import fsspec
import pytest
from tests.e2e.planted import commit_nodes
from tests.e2e.support import (
    Clock,
    dump,
    items,
    new_vault,
    noise,
    read_snapshot,
    reopen,
)
from tests.rights import folder_for_all

import loopbackup as lb
from loopbackup.errors import IncompleteBackup, IncompleteRestore, InputError, NotFoundError
from loopbackup.progress import Progress
from loopbackup.vault.format.entries import FILE, SYMLINK, Extra, Node


def files_in(folder: Path) -> dict[str, bytes]:
    """Read a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def tree(folder: Path, contents: dict[str, bytes]) -> Path:
    """Write files."""
    for name, data in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


# ---- empty and odd


def test_empty_things_are_snapshots_too(tmp_path: Path) -> None:
    """An empty folder, no items at all, an empty item, an empty file."""
    (tmp_path / "empty").mkdir()
    tree(tmp_path / "one", {"nothing": b""})
    with new_vault() as vault:
        assert vault.snapshots() == []
        with pytest.raises(NotFoundError):
            vault.snapshot("latest")

        folder = vault.backup(tmp_path / "empty")
        none = vault.backup([], name="items")
        item = vault.backup(items({"x": b""}), name="items")
        file = vault.backup(tmp_path / "one")

        assert [read_snapshot(s) for s in (folder, none, item, file)] == [
            {},
            {},
            {"x": b""},
            {"nothing": b""},
        ]
        vault.restore(file, tmp_path / "out")
        assert files_in(tmp_path / "out") == {"nothing": b""}
        assert vault.check(data=True).ok


def test_items_need_a_name() -> None:
    """The error shows how."""
    with new_vault() as vault, pytest.raises(InputError, match="name="):
        vault.backup(items({"a": b"a"}))


def test_same_path_twice_keeps_the_first_and_says_so() -> None:
    """A snapshot has one entry a path."""
    twice = [lb.Item("a", data=b"first"), lb.Item("a", data=b"second")]
    with new_vault() as vault:
        with pytest.raises(IncompleteBackup) as caught:
            vault.backup(twice, name="n")

        assert [p.kind for p in caught.value.problems] == ["duplicate"]
        assert read_snapshot(caught.value.snapshot) == {"a": b"first"}


def test_item_that_cannot_be_read_costs_itself_only() -> None:
    """Whatever its function raises; with errors="report" the snapshot is returned."""

    def broken() -> bytes:
        raise RuntimeError("secret text of the host")

    both = [lb.Item("bad", data=broken), lb.Item("good", data=b"good")]
    with new_vault() as vault:
        with pytest.raises(IncompleteBackup) as caught:
            vault.backup(both, name="n")
        snapshot = vault.backup(both, name="n", errors="report")

        assert "secret" not in str(caught.value)
        assert [p.path for p in caught.value.problems] == [b"bad"]
        assert not snapshot.report.ok
        assert [p.kind for p in snapshot.report.problems] == ["unreadable"]
        assert read_snapshot(snapshot) == {"good": b"good"}
        assert vault.snapshot(snapshot.id).report.missing == 1


def test_hundred_thousand_items_take_bounded_time() -> None:
    """One folder of 100,000: stored, listed, found; again nothing is uploaded."""
    many = [lb.Item(f"d/{n:06d}", data=b"%d" % n, version="1") for n in range(100_000)]
    with new_vault() as vault:
        start = time.process_time()
        first = vault.backup(many, name="n")
        again = vault.backup(many, name="n")

        assert first.report.files == again.report.unchanged == 100_000
        assert again.report.bytes_read == 0
        assert again.report.bytes_added <= 1 << 20
        assert sum(1 for _ in again.ls("d")) == 100_000
        with again.open("d/099999") as file:
            assert file.read() == b"99999"
        assert time.process_time() - start < 60


def test_open_files_are_not_read_ahead_without_bound(tmp_path: Path) -> None:
    """A generator of thousands of open files never has more than some dozens open."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    most = 0

    def source() -> Iterator[lb.Item]:
        nonlocal most
        for number in range(600):
            most = max(most, len(os.listdir("/proc/self/fd")))
            yield lb.Item(f"{number}", data=path.open("rb"))

    before = len(os.listdir("/proc/self/fd"))
    with new_vault() as vault:
        snapshot = vault.backup(source(), name="n")

        assert snapshot.report.files == 600
        assert most - before < 120


# ---- unreadable, and its own vault


def test_vault_in_its_own_source_is_left_out(tmp_path: Path) -> None:
    """Else every run would store the run before."""
    tree(tmp_path / "src", {"a": b"a"})
    with lb.Vault.create(
        tmp_path / "src" / "vault", lb.KeyFile.generate(tmp_path / "key"), state_dir=None
    ) as vault:
        snapshot = vault.backup(tmp_path / "src")

        assert read_snapshot(snapshot) == {"a": b"a"}
        assert [entry.path for entry in snapshot.ls(recursive=True)] == ["a"]


def test_unreadable_files_are_named_and_the_rest_is_stored() -> None:
    """As a user who may not read everything."""
    code = """
        import os, sys
        import loopbackup as lb
        import loopbackup.vault.source
        from tests.e2e.support import new_vault, read_snapshot

        if os.geteuid() == 0:
            os.setegid(65534)
            os.seteuid(65534)
        with new_vault() as vault:
            try:
                vault.backup(sys.argv[1], name="n")
            except lb.IncompleteBackup as exc:
                print(sorted((p.kind, p.path.decode()) for p in exc.problems))
                print(read_snapshot(exc.snapshot))
                print(exc)
    """
    root = Path(__file__).parents[2]
    with folder_for_all() as place:
        source = tree(place / "src", {"good": b"good", "bad": b"bad", "locked/in": b"in"})
        (source / "bad").chmod(0)
        (source / "locked").chmod(0)
        source.chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), str(source)],
            capture_output=True,
            check=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
        )

    lines = done.stdout.splitlines()
    assert lines[:2] == [
        "[('unreadable', 'bad'), ('unreadable', 'locked')]",
        "{'good': b'good'}",
    ], done.stderr
    assert "bad" not in lines[2]


# ---- subjects


def users(count: int = 3) -> dict[str, bytes]:
    """Give some files of some users, and one of nobody."""
    mine = {f"users/{n}/cv": b"cv of %d" % n for n in range(count)}
    return {**mine, "shared/readme": b"readme"}


def test_subjects_by_path(tmp_path: Path) -> None:
    """Each user's files are his; what matches nothing is stored and told."""
    source = tree(tmp_path / "src", users())
    rule = lb.subject_from_path("users/{subject}/**")
    with new_vault() as vault:
        with pytest.raises(IncompleteBackup) as caught:
            vault.backup(source, name="n", subject=rule)
        snapshot = vault.backup(
            source, name="n", subject=lb.subject_from_path(rule.pattern, unmatched="none")
        )

        assert "1 files that have no subject" in str(caught.value)
        assert caught.value.snapshot.report.without_subject == 1
        assert {e.path: e.subject for e in snapshot.ls(recursive=True) if e.type == "file"} == {
            "users/0/cv": "0",
            "users/1/cv": "1",
            "users/2/cv": "2",
            "shared/readme": None,
        }
        vault.restore(snapshot, tmp_path / "out", subject="1")
        assert files_in(tmp_path / "out") == {"users/1/cv": b"cv of 1"}
        with pytest.raises(NotFoundError):
            vault.restore(snapshot, tmp_path / "no", subject="7")


def test_tenant_covers_its_people(tmp_path: Path) -> None:
    """Restoring a tenant restores its own and its children's; a person only his."""
    with new_vault() as vault:
        snapshot = vault.backup(
            [
                lb.Item("t", data=b"of the tenant", subject=("acme",)),
                lb.Item("a", data=b"a", subject=("acme", "user-42")),
                lb.Item("b", data=b"b", subject=("acme", "user-43")),
                lb.Item("o", data=b"o", subject=("other", "user-42")),
                lb.Item("n", data=b"n"),
            ],
            name="n",
        )

        vault.restore(snapshot, tmp_path / "tenant", subject="acme")
        vault.restore(snapshot, tmp_path / "person", subject=("acme", "user-42"))

        assert files_in(tmp_path / "tenant") == {"t": b"of the tenant", "a": b"a", "b": b"b"}
        assert files_in(tmp_path / "person") == {"a": b"a"}
        assert snapshot.report.subjects == 4


# ---- finding snapshots


def test_snapshots_are_found_by_name_tag_time_and_id() -> None:
    """Newest first; "latest" of several series asks which."""
    clock = Clock()
    with new_vault(clock=clock) as vault:
        start = clock.now
        made = []
        for day in range(4):
            name = "mail" if day % 2 else "files"
            made.append(vault.backup(items({"a": b"%d" % day}), name=name, tags={"day": str(day)}))
            clock.pass_by(days=1)

        def found(**wanted: object) -> list[int]:
            return [made.index(s) for s in vault.snapshots(**wanted)]  # type: ignore[arg-type]

        assert found() == [3, 2, 1, 0]
        assert found(name="mail") == [3, 1]
        assert found(tags={"day": "2"}) == [2]
        assert found(since=start + timedelta(days=2)) == [3, 2]
        assert found(until=start + timedelta(days=1, hours=1)) == [1, 0]
        assert vault.snapshot(name="mail") == made[3]
        assert vault.snapshot(name="files", at=start + timedelta(hours=3)) == made[0]
        assert vault.snapshot(made[1].id[:8]) == vault.snapshot(made[1].id) == made[1]
        with pytest.raises(InputError, match="2 series") as several:
            vault.snapshot("latest")
        assert several.value.context["names"] == ["files", "mail"]
        with pytest.raises(InputError, match="begins with"):
            vault.snapshot("")
        for missing in ({"name": "none"}, {"ref": "zz"}, {"at": start - timedelta(days=1)}):
            with pytest.raises(NotFoundError):
                vault.snapshot(**{"name": "mail", **missing})  # type: ignore[arg-type]
        with pytest.raises(InputError, match="zone"):
            vault.snapshots(since=datetime(2026, 1, 1))  # noqa: DTZ001


def test_idempotency_key_finds_the_first_commit() -> None:
    """A host's retry after a lost reply makes no second snapshot."""
    with new_vault() as vault:
        first = vault.backup(items({"a": b"a"}), name="n", idempotency_key="job-7")
        retry = vault.backup(items({"a": b"other"}), name="n", idempotency_key="job-7")
        other = vault.backup(items({"a": b"a"}), name="n", idempotency_key="job-8")

        assert first == retry != other
        assert len(vault.snapshots()) == 2


def test_dry_run_stores_nothing(tmp_path: Path) -> None:
    """It reads and counts, of subjects that are known and that are not."""
    with new_vault() as vault:
        vault.backup(items({"a": b"a"}, subject="user-42"), name="n")
        before = dump(vault._session.store.store)

        dry = vault.backup(
            [
                *items({"a": b"a", "b": noise(500_000, "b")}, subject="user-42"),
                *items({"c": b"c"}, subject="user-43"),
            ],
            name="n",
            dry_run=True,
        )

        assert dry.report.files == 3
        assert dry.report.bytes_added == 0
        assert dump(vault._session.store.store) == before
        assert len(vault.snapshots()) == 1


def test_progress_is_shown_and_ends(tmp_path: Path) -> None:
    """A function is told how far it is, and once that it is done."""
    seen: list[Progress] = []
    with new_vault() as vault:
        snapshot = vault.backup(items({"a": b"12345"}), name="n", progress=seen.append)
        vault.restore(snapshot, tmp_path / "out", progress=seen.append)

    done = [(p.verb, p.files, p.bytes_done) for p in seen if p.done]
    assert done == [("backup", 1, 5), ("restore", 1, 5)]


# ---- restoring


def test_restore_selects_and_never_overwrites_unasked(tmp_path: Path) -> None:
    """Include, exclude, and the three answers to what stands there already."""
    source = tree(tmp_path / "src", {"a.txt": b"aa", "b.txt": b"bb", "c.log": b"cc"})
    out = tmp_path / "out"
    with new_vault() as vault:
        snapshot = vault.backup(source, name="n")

        vault.restore(snapshot, out, include=["*.txt"], exclude=["b.*"])
        assert files_in(out) == {"a.txt": b"aa"}
        (out / "a.txt").write_bytes(b"mine now")

        never = vault.restore(snapshot, out)
        assert files_in(out) == {"a.txt": b"mine now", "b.txt": b"bb", "c.log": b"cc"}
        assert never.skipped >= 1
        vault.restore(snapshot, out, overwrite="changed")
        assert files_in(out) == files_in(source)
        vault.restore(snapshot, out, overwrite="always")
        assert files_in(out) == files_in(source)


def test_restore_dry_run_writes_nothing(tmp_path: Path) -> None:
    """It counts."""
    with new_vault() as vault:
        snapshot = vault.backup(items({"a": b"12345", "b": b"1"}), name="n")

        counted = vault.restore(snapshot, tmp_path / "out", dry_run=True)

        assert (counted.files, counted.bytes_written) == (2, 6)
        assert not (tmp_path / "out").exists()


def test_urls_are_sources_and_targets() -> None:
    """Through fsspec, both ways."""
    fs = fsspec.filesystem("memory")
    for path, data in users().items():
        fs.pipe_file(f"/acme-src/{path}", data)
    try:
        with new_vault() as vault:
            snapshot = vault.backup("memory://acme-src", name="n")
            vault.restore(snapshot, "memory://acme-out")

            assert read_snapshot(snapshot) == users()
            out = {path: fs.cat_file(path) for path in fs.find("/acme-out")}
            assert b'"path":"users"' in out.pop("/acme-out/.loopbackup-metadata.jsonl")
            assert out == {f"/acme-out/{path}": data for path, data in users().items()}
    finally:
        for folder in ("/acme-src", "/acme-out"):
            if fs.exists(folder):
                fs.rm(folder, recursive=True)


def test_hostile_entries_never_lead_out_of_the_target(tmp_path: Path) -> None:
    """Paths with "..", absolute ones, links to elsewhere: refused one by one, the rest restored."""
    outside = tmp_path / "outside"
    outside.mkdir()
    hostile = [b"../evil", b"/etc/evil", b"a/../../evil", b"", b"x\0y", b"a//b", b"./evil"]
    nodes = [Node(path, FILE, 0o644) for path in hostile]
    nodes += [
        Node(b"link", SYMLINK, 0o777, extra=Extra(target=os.fsencode(outside))),
        Node(b"link/evil", FILE, 0o644),
        Node(b"size", FILE, 0o644, size=7),
        Node(b"z-good", FILE, 0o644),
    ]
    contents = {node.path: b"content" for node in nodes if node.kind == FILE}
    contents[b"size"] = b"longer than seven"
    with new_vault() as vault:
        snapshot = commit_nodes(vault, nodes, contents)

        with pytest.raises(IncompleteRestore) as caught:
            vault.restore(snapshot, tmp_path / "out")

    assert {p.path for p in caught.value.problems} == {*hostile, b"link/evil", b"size"}
    assert (tmp_path / "out" / "z-good").read_bytes() == b"content"
    assert list(outside.iterdir()) == []
    assert not (tmp_path / "evil").exists()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["link", "z-good"]


# ---- the ledger tells


def test_restores_and_looks_are_recorded() -> None:
    """A restore before its first byte, looks at the close."""
    person = lb.Actor("user-42", purpose="support case")
    vault = new_vault(actor=person)
    snapshot = vault.backup(items({"a": b"a"}), name="n")
    vault.restore(snapshot, "memory://acme-recorded")
    list(snapshot.ls())
    store = vault._session.store.store
    vault.close()
    fsspec.filesystem("memory").rm("/acme-recorded", recursive=True)

    with reopen(store) as again:
        entries = {entry.kind: entry for entry in again.ledger.entries()}

    assert (entries["restore"].actor, entries["read"].actor) == ("user-42", "user-42")
    assert entries["restore"].purpose == "support case"


def test_ledger_is_read_by_time_and_subject() -> None:
    """Only records that name the subject's domain, only since an instant."""
    clock = Clock()
    with new_vault(clock=clock) as vault:
        vault.backup(items({"a": b"a"}, subject="user-42"), name="n")
        clock.pass_by(days=1)
        later = clock.now
        vault.backup(items({"b": b"b"}, subject="user-43"), name="n")

        assert [e.kind for e in vault.ledger.entries(subject="user-42")] == ["domains", "snapshot"]
        assert [e.kind for e in vault.ledger.entries(since=later)] == ["domains", "snapshot"]
        assert len(list(vault.ledger.entries())) == len(vault.ledger)
        with pytest.raises(NotFoundError):
            list(vault.ledger.entries(subject="user-99"))


def test_diff_tells_what_changed() -> None:
    """Added, removed and changed, by content and by person."""
    with new_vault() as vault:
        old = vault.backup(items({"a": b"1", "b": b"2", "c": b"3"}), name="n")
        new = vault.backup(
            [*items({"a": b"1", "b": b"22"}), *items({"d": b"4"}, subject="user-42")], name="n"
        )

        diff = new.diff(old)

        assert [e.path for e in diff.added] == ["d"]
        assert [e.path for e in diff.removed] == ["c"]
        assert [e.path for e in diff.changed] == ["b"]
        assert not new.diff(new)


def test_second_item_of_a_path_is_told_where_items_come_in_order() -> None:
    """The first counts, as where they are sorted; a path stands once in a snapshot."""
    twice = [lb.Item("a", data=b"1"), lb.Item("a", data=b"2"), lb.Item("b", data=b"3")]
    with new_vault() as vault:
        snapshot = vault.backup(twice, name="n", source_options={"in_order": True}, errors="report")

        assert [p.kind for p in snapshot.report.problems] == ["duplicate"]
        assert read_snapshot(snapshot) == {"a": b"1", "b": b"3"}


def test_generator_is_closed_where_the_call_is_refused() -> None:
    """Its ``finally`` blocks run, whatever ends the call."""
    closed = []

    def source() -> Iterator[lb.Item]:
        try:
            yield lb.Item("a", data=b"1")
            yield lb.Item("b", data=b"2")
        finally:
            closed.append(True)

    begun = source()
    next(begun)
    with new_vault() as vault, pytest.raises(InputError):
        vault.backup(begun, name="n", tags={"a": 1})  # type: ignore[dict-item]

    assert closed == [True]
