"""Two snapshots are compared exactly: what came, went, changed and how, and what was renamed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.e2e.support import items, new_vault, noise

import loopbackup as lb
from loopbackup.vault.diff import Diff, renames
from loopbackup.vault.entry import differences, state_of
from loopbackup.vault.format.entries import (
    BLOCK,
    DIRECTORY,
    FILE,
    ITEM,
    SYMLINK,
    Extra,
    Node,
    tree_order,
)

NAMES = ("a", "b", "c/a", "c/d", "c-d")
contents = st.dictionaries(st.sampled_from(NAMES), st.sampled_from([b"", b"1", b"2", b"3"]))


def compared(before: list[lb.Item], after: list[lb.Item]) -> Diff:
    """Back up two lists of items and compare them."""
    with new_vault() as vault:
        old = vault.backup(before, name="n")
        return vault.backup(after, name="n").diff(old)


def paths(entries: object) -> list[str]:
    """Give the paths of entries."""
    assert isinstance(entries, tuple)
    return [entry.path for entry in entries]


@settings(max_examples=40)
@given(contents, contents)
def test_a_diff_applied_to_the_older_gives_the_newer(
    before: dict[str, bytes], after: dict[str, bytes]
) -> None:
    """Every path is accounted for once, and renames keep their content."""
    diff = compared(items(before), items(after))

    both = before.keys() & after.keys()
    assert {e.path for e in diff.changed} == {p for p in both if before[p] != after[p]}
    moved_from = [old.path for old, _ in diff.renamed]
    moved_to = [new.path for _, new in diff.renamed]
    assert sorted([*paths(diff.removed), *moved_from]) == sorted(before.keys() - after.keys())
    assert sorted([*paths(diff.added), *moved_to]) == sorted(after.keys() - before.keys())
    assert all(before[old.path] == after[new.path] != b"" for old, new in diff.renamed)
    left_over = {before[path] for path in paths(diff.removed)} - {b""}
    assert not left_over & {after[path] for path in paths(diff.added)}
    for part in (diff.added, diff.removed, tuple(diff.changed)):
        assert paths(part) == sorted(paths(part), key=lambda path: tree_order(path.encode()))
    assert bool(diff) is (before != after)


def test_a_renamed_item_is_renamed() -> None:
    """The older entry and the newer; it is not added and removed as well."""
    diff = compared(
        items({"docs/cv": b"me", "x": b"x"}), items({"archive/2025/cv": b"me", "x": b"x"})
    )

    ((old, new),) = diff.renamed
    assert (old.path, new.path) == ("docs/cv", "archive/2025/cv")
    assert (diff.added, diff.removed, diff.changes) == ((), (), ())
    assert str(diff) == "0 added, 0 removed, 0 changed, 1 renamed"


def test_what_moved_to_somebody_else_is_no_rename() -> None:
    """Content of one person and of another are never held against each other."""
    diff = compared(
        items({"a": b"same"}, subject="user-1"), items({"b": b"same"}, subject="user-2")
    )

    assert (paths(diff.removed), paths(diff.added), diff.renamed) == (["a"], ["b"], ())


def test_people_are_compared_apart() -> None:
    """One path of two people is two entries; who came and who went is told as well."""
    before = [
        *items({"a": b"1", "b": b"1"}, subject="user-1"),
        *items({"a": b"2"}, subject="user-2"),
        *items({"a": b"3"}, subject="user-3"),
    ]
    after = [
        *items({"a": b"1", "b": b"9"}, subject="user-1"),
        *items({"a": b"2"}, subject="user-2"),
        *items({"a": b"4"}, subject="user-4"),
    ]

    diff = compared(before, after)

    assert [(e.path, e.subject) for e in diff.changed] == [("b", "user-1")]
    assert [(e.path, e.subject) for e in diff.removed] == [("a", "user-3")]
    assert [(e.path, e.subject) for e in diff.added] == [("a", "user-4")]


def file(path: str, chunks: bytes, **extra: object) -> Node:
    """Make a file's node."""
    return Node(path.encode(), FILE, size=len(chunks), chunks=chunks, **extra)  # type: ignore[arg-type]


def test_renames_are_one_to_one_and_prefer_the_name() -> None:
    """Of several files with the same content the one of the same name moved."""
    same = noise(32, "same")
    gone = [file("old/a", same), file("old/b", same), file("old/c", noise(32, "c"))]
    come = [file("new/b", same), file("new/x", same), file("new/y", same)]

    pairs = {(old.path, new.path) for old, new in renames(gone, come)}

    assert pairs == {(b"old/b", b"new/b"), (b"old/a", b"new/x")}


def test_empty_files_folders_and_other_kinds_are_never_renamed() -> None:
    """That two have no content says nothing."""
    chunks = noise(32, "x")
    gone = [file("a", b""), Node(b"d", DIRECTORY), file("f", chunks), Node(b"l", SYMLINK)]
    come = [file("b", b""), Node(b"e", DIRECTORY), Node(b"g", ITEM, size=32, chunks=chunks)]

    assert renames(gone, come) == []


def test_many_files_of_one_content_are_paired_quickly() -> None:
    """Ten thousand copies of one file that moved are no ten thousand times as many looks."""
    same = noise(32, "same")
    gone = [file(f"old/{n:05}", same) for n in range(10_000)]
    come = [file(f"new/{n:05}", same) for n in reversed(range(10_000))]

    pairs = renames(gone, come)

    assert len(pairs) == 10_000
    assert all(old.path[4:] == new.path[4:] for old, new in pairs)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (Node(b"a", ITEM), ("type",)),
        (Node(b"a", FILE, size=1), ("content",)),
        (Node(b"a", FILE, chunks=bytes(32)), ("content",)),
        (Node(b"a", FILE, mode=0o600), ("mode",)),
        (Node(b"a", FILE, uid=1), ("owner",)),
        (Node(b"a", FILE, group="staff"), ("owner",)),
        (Node(b"a", FILE, mtime_ns=1), ("times",)),
        (Node(b"a", FILE, extra=Extra(target=b"x")), ("target",)),
        (Node(b"a", FILE, extra=Extra(xattrs={b"user.a": b"1"})), ("xattrs",)),
        (Node(b"a", FILE, extra=Extra(rdev=5)), ("device",)),
        (Node(b"a", FILE, extra=Extra(link=5)), ("links",)),
        (Node(b"a", FILE, extra=Extra(version="2")), ("version",)),
        (Node(b"a", FILE, extra=Extra(meta={"k": "v"})), ("meta",)),
        (Node(b"a", FILE, extra=Extra(problem="changed")), ("problem",)),
        (Node(b"a", FILE, extra=Extra(extents=[])), ("content",)),
        (Node(b"a", BLOCK, mode=1, extra=Extra(rdev=1)), ("type", "mode", "device")),
        (Node(b"a", FILE, inode=7, ctime_ns=7), ()),
        (Node(b"a", FILE, extra=Extra()), ()),
    ],
)  # fmt: skip
def test_a_change_says_what_changed(change: Node, what: tuple[str, ...]) -> None:
    """Each aspect by its name; what every restore changes is none."""
    base = Node(b"a", FILE)

    assert differences(base, change) == what
    assert (state_of(base) == state_of(change)) is (what == ())
    hash(state_of(change))


def test_hard_links_are_told_by_whether_not_by_number() -> None:
    """The number of a group goes with its inode, which moves with every copy."""
    one, two = (Node(b"a", FILE, extra=Extra(link=number)) for number in (5, 6))

    assert differences(one, two) == ()


def test_changes_of_a_tree_are_told(tmp_path: Path) -> None:
    """Before and after, with what differs; folders too."""
    root = tmp_path / "src"
    (root / "d").mkdir(parents=True)
    (root / "d/f").write_text("1")
    (root / "d/g").write_text("1")
    (root / "link").symlink_to("d/f")
    os.utime(root / "d", (5, 5))
    with new_vault() as vault:
        old = vault.backup(root, name="n")
        (root / "d/f").write_text("22")
        (root / "d/g").chmod(0o600)
        (root / "link").unlink()
        (root / "link").symlink_to("d/g")
        os.utime(root / "d", (6, 6))

        diff = vault.backup(root, name="n").diff(old)

        changes = {change.entry.path: change for change in diff.changes}
        assert changes.keys() == {"d", "d/f", "d/g", "link"}
        assert changes["d"].what == ("times",)
        assert "content" in changes["d/f"].what
        assert changes["d/g"].what == ("mode",)
        assert "target" in changes["link"].what
        assert (changes["link"].before.target, changes["link"].entry.target) == ("d/f", "d/g")
        assert (changes["d/f"].before.size_bytes, changes["d/f"].entry.size_bytes) == (1, 2)
        assert list(diff.changed) == [change.entry for change in diff.changes]
        assert "mode" in str(changes["d/g"])


def test_entries_can_be_kept_in_sets() -> None:
    """Values that are equal are one."""
    with new_vault() as vault:
        snapshot = vault.backup([lb.Item("a", data=b"1", meta={"k": "v"})], name="n")

        assert len({snapshot.entry("a"), next(snapshot.ls())}) == 1


@pytest.mark.parametrize("other", ["latest", None, 5])
def test_a_snapshot_is_compared_with_a_snapshot(other: object) -> None:
    """An id is not one: which vault would it be of?"""
    with new_vault() as vault:
        snapshot = vault.backup(items({"a": b"1"}), name="n")

        with pytest.raises(lb.InputError):
            snapshot.diff(other)  # type: ignore[arg-type]


def test_a_forgotten_snapshot_is_not_compared() -> None:
    """Whichever of the two it is."""
    with new_vault() as vault:
        old = vault.backup(items({"a": b"1"}), name="n")
        new = vault.backup(items({"a": b"2"}), name="n")
        vault.forget(old, reason="test")

        for left, right in ((new, old), (old, new)):
            with pytest.raises(lb.NotFoundError):
                left.diff(right)
