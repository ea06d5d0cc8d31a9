"""What a run takes over instead of reading, and what it never stores."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.support import new_vault, noise, read_snapshot

import loopbackup as lb
from loopbackup.errors import IncompleteBackup, InputError
from loopbackup.vault.format.entries import Extra, Node
from loopbackup.vault.source import Found
from loopbackup.vault.source import tree as tree_module
from loopbackup.vault.vault import Vault
from loopbackup.vault.verbs import same_inode
from loopbackup.vault.verbs.parent import RACY_NS
from loopbackup.vault.verbs.streams import streams_of


@pytest.fixture
def hours_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let scans begin long after files were written."""
    monkeypatch.setattr(tree_module, "clock_ns", lambda: time.time_ns() + 3600 * 10**9)


def nodes_of(vault: Vault, snapshot: lb.Snapshot) -> dict[bytes, Node]:
    """Read the entries of a snapshot as they are stored."""
    return {
        node.path: node
        for _, stream in streams_of(vault._session, snapshot._described)
        for node in stream
    }


def extra_of(node: Node) -> Extra:
    """Give the extra of an entry; an empty one where it has none."""
    return node.extra or Extra()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Note which files are opened for their content."""
    seen: list[bytes] = []
    real, real_read = tree_module.TreeSource.open, tree_module.TreeSource.read

    def note(self: tree_module.TreeSource, found: Found) -> object:
        seen.append(found.node.path)
        return real(self, found)

    def note_quick(self: tree_module.TreeSource, found: Found) -> bytes | None:
        data = real_read(self, found)
        if data is not None:
            seen.append(found.node.path)
        return data

    monkeypatch.setattr(tree_module.TreeSource, "open", note)
    monkeypatch.setattr(tree_module.TreeSource, "read", note_quick)
    return seen


# ---- racily clean


@pytest.mark.usefixtures("hours_later")
def test_old_file_is_not_read_again(tmp_path: Path) -> None:
    """Nor are its attributes, its holes and its number lost by that."""
    (tmp_path / "a").write_bytes(noise(200_000, "a"))
    os.setxattr(tmp_path / "a", b"user.a", b"1")
    os.link(tmp_path / "a", tmp_path / "b")
    with (tmp_path / "s").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"data")
    with new_vault() as vault:
        first = vault.backup(tmp_path, name="n")
        again = vault.backup(tmp_path, name="n")

        assert (first.report.unchanged, again.report.unchanged) == (0, 3)
        assert again.report.bytes_read == 0
        assert nodes_of(vault, first) == nodes_of(vault, again)
        assert extra_of(nodes_of(vault, again)[b"b"]).xattrs == {b"user.a": b"1"}
        assert extra_of(nodes_of(vault, again)[b"s"]).extents is not None


def test_file_as_young_as_the_parent_is_read_again(tmp_path: Path) -> None:
    """It could have been changed within a tick of the clock after it was read."""
    (tmp_path / "a").write_bytes(b"one")
    with new_vault() as vault:
        vault.backup(tmp_path, name="n")
        before = os.stat(tmp_path / "a")
        again = vault.backup(tmp_path, name="n")

        assert os.stat(tmp_path / "a").st_ctime_ns == before.st_ctime_ns
        assert (again.report.unchanged, again.report.bytes_read) == (0, 3)


def test_change_within_one_tick_of_the_clock_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two contents of one size under one stat: what stands there at the end is what is stored."""
    path = tmp_path / "a"
    path.write_bytes(b"one")
    frozen = os.lstat(path)
    real_lstat, real_fstat = os.lstat, os.fstat

    def same(status: os.stat_result) -> os.stat_result:
        return frozen if status.st_ino == frozen.st_ino else status

    with new_vault() as vault, monkeypatch.context() as patch:
        # A file system whose clock has not ticked since the file was made.
        patch.setattr(os, "lstat", lambda name, **more: same(real_lstat(name, **more)))
        patch.setattr(os, "fstat", lambda fd: same(real_fstat(fd)))
        vault.backup(tmp_path, name="n")
        path.write_bytes(b"two")
        again = vault.backup(tmp_path, name="n")

        assert read_snapshot(again) == {"a": b"two"}


@pytest.mark.parametrize(
    ("age_ns", "unchanged"), [(RACY_NS + 1, 1), (RACY_NS, 0), (0, 0), (-(10**9), 0)]
)
def test_margin_is_the_coarsest_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age_ns: int, unchanged: int
) -> None:
    """Two seconds before the run began is young, a nanosecond more is old."""
    (tmp_path / "a").write_bytes(b"one")
    os.utime(tmp_path / "a", ns=(0, 0))
    changed_ns = os.stat(tmp_path / "a").st_ctime_ns
    monkeypatch.setattr(tree_module, "clock_ns", lambda: changed_ns + age_ns)
    with new_vault() as vault:
        vault.backup(tmp_path, name="n")
        again = vault.backup(tmp_path, name="n")

        assert again.report.unchanged == unchanged


@pytest.mark.usefixtures("hours_later")
def test_file_that_claims_to_be_from_the_future_is_read_again(tmp_path: Path) -> None:
    """A time of change that anybody can set proves nothing."""
    (tmp_path / "a").write_bytes(b"one")
    os.utime(tmp_path / "a", ns=(0, time.time_ns() + 10**18))
    with new_vault() as vault:
        vault.backup(tmp_path, name="n")
        again = vault.backup(tmp_path, name="n")

        assert again.report.unchanged == 0


@pytest.mark.parametrize("began", [None, "", "soon", "-5", "9" * 30, "1.5"])
@pytest.mark.usefixtures("hours_later")
def test_parent_that_does_not_say_when_it_began_vouches_for_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, began: str | None
) -> None:
    """Everything is read once more; what is known is not stored again."""
    (tmp_path / "a").write_bytes(noise(200_000, "a"))
    real_scan = tree_module.TreeSource.scan

    def scan(self: tree_module.TreeSource) -> Iterator[object]:
        for found in real_scan(self):
            del self.description["began_ns"]
            if began is not None:
                self.description["began_ns"] = began
            yield found

    with new_vault() as vault:
        with monkeypatch.context() as patch:
            patch.setattr(tree_module.TreeSource, "scan", scan)
            vault.backup(tmp_path, name="n")
        again = vault.backup(tmp_path, name="n")

        assert (again.report.unchanged, again.report.bytes_read) == (0, 200_000)
        assert again.report.bytes_added < 100_000


@pytest.mark.usefixtures("hours_later")
def test_change_of_attributes_alone_is_seen(tmp_path: Path) -> None:
    """It moves the time of the last change of state."""
    (tmp_path / "a").write_bytes(b"one")
    with new_vault() as vault:
        vault.backup(tmp_path, name="n")
        os.setxattr(tmp_path / "a", b"user.a", b"1")
        again = vault.backup(tmp_path, name="n")

        assert extra_of(nodes_of(vault, again)[b"a"]).xattrs == {b"user.a": b"1"}


# ---- hard links


def test_second_name_is_neither_read_nor_stored_again(tmp_path: Path, opened: list[bytes]) -> None:
    """Every name has the content; one pass over it is enough."""
    (tmp_path / "a").write_bytes(noise(1_000_000, "a"))
    os.setxattr(tmp_path / "a", b"user.a", b"1")
    os.link(tmp_path / "a", tmp_path / "b")
    os.link(tmp_path / "a", tmp_path / "c")
    with new_vault() as vault:
        snapshot = vault.backup(tmp_path, name="n")
        nodes = nodes_of(vault, snapshot)

        assert opened == [b"a"]
        assert snapshot.report.bytes_read == 1_000_000
        assert snapshot.report.bytes_added < 1_300_000
        assert nodes[b"a"].chunks == nodes[b"b"].chunks == nodes[b"c"].chunks != b""
        assert extra_of(nodes[b"c"]) == extra_of(nodes[b"a"])
        assert set(read_snapshot(snapshot).values()) == {noise(1_000_000, "a")}


def test_name_of_another_subject_is_read_for_him(tmp_path: Path, opened: list[bytes]) -> None:
    """Nothing is shared between people, not even an inode; the number is the same."""
    for user in ("41", "42"):
        (tmp_path / user).mkdir()
    (tmp_path / "41" / "a").write_bytes(b"shared")
    os.link(tmp_path / "41" / "a", tmp_path / "42" / "a")
    with new_vault() as vault:
        snapshot = vault.backup(tmp_path, name="n", subject=lb.subject_from_path("{subject}/**"))
        nodes = nodes_of(vault, snapshot)

        assert opened == [b"41/a", b"42/a"]
        assert nodes[b"41/a"].chunks != nodes[b"42/a"].chunks
        assert extra_of(nodes[b"41/a"]).link == extra_of(nodes[b"42/a"]).link != 0


@pytest.mark.usefixtures("step_by_step")
def test_file_that_changes_between_two_of_its_names_is_read_twice(tmp_path: Path) -> None:
    """Each name has the content that stood there when it was met."""
    (tmp_path / "a").write_bytes(b"one")
    os.link(tmp_path / "a", tmp_path / "b")

    def change(progress: object) -> None:
        (tmp_path / "a").write_bytes(b"three")

    with new_vault() as vault:
        source = tree_module.TreeSource(tmp_path)
        snapshot = _backup_with(vault, source, after=b"a", do=change)

        assert read_snapshot(snapshot) == {"a": b"one", "b": b"three"}


def _backup_with(
    vault: Vault,
    source: tree_module.TreeSource,
    *,
    after: bytes,
    do: Callable[[object], None],
) -> lb.Snapshot:
    """Back up a tree, and do something once an entry is taken."""
    real_scan = tree_module.TreeSource.scan

    def scan(self: tree_module.TreeSource) -> Iterator[object]:
        for found in real_scan(self):
            yield found
            if isinstance(found, Found) and found.node.path == after:
                do(found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree_module.TreeSource, "scan", scan)
        return vault.backup(os.fsdecode(source._path), name="n")


@pytest.mark.parametrize(("bound", "most", "read"), [(1 << 20, 4, 4), (2500, 2, 8)])
def test_memory_for_names_is_freed_and_bounded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    opened: list[bytes],
    bound: int,
    most: int,
    read: int,
) -> None:
    """An inode is forgotten with its last name; beyond the bound the oldest are read again."""
    held: list[int] = []
    real_note = same_inode.SameInodes.note

    def note(self: same_inode.SameInodes, *args: Any) -> None:
        real_note(self, *args)
        held.append(len(self._groups))

    monkeypatch.setattr(same_inode.SameInodes, "note", note)
    monkeypatch.setattr(same_inode, "MAX_HELD_BYTES", bound)
    for number in range(4):
        (tmp_path / f"a{number}").write_bytes(noise(5000, str(number)))
        os.link(tmp_path / f"a{number}", tmp_path / f"b{number}")
    with new_vault() as vault:
        snapshot = vault.backup(tmp_path, name="n")

        assert (max(held), len(opened)) == (most, read)
        assert held[-1] == (0 if read == 4 else most)
        assert read_snapshot(snapshot)["b3"] == noise(5000, "3")


# ---- sparse files


def test_fifty_gigabytes_of_hole_are_stored_in_no_time(tmp_path: Path) -> None:
    """Only data are read and stored; the entry keeps the size."""
    with (tmp_path / "disk.img").open("wb") as file:
        for at in (0, 10 << 30, 49 << 30):
            file.seek(at)
            file.write(noise(4096, str(at)))
        file.truncate(50 << 30)
    with new_vault() as vault:
        started = time.process_time()
        snapshot = vault.backup(tmp_path, name="n")
        seconds = time.process_time() - started
        (node,) = nodes_of(vault, snapshot).values()

        assert seconds < 10
        assert snapshot.report.bytes_read == 3 * 4096
        assert node.size == 50 << 30
        assert extra_of(node).extents == [(0, 4096), (10 << 30, 4096), (49 << 30, 4096)]
        assert vault.check(data=True).ok


def test_sparse_file_of_much_data_is_cut_like_any_other(tmp_path: Path) -> None:
    """Its data are one content, with the same pieces as in a full file."""
    data = noise(3_000_000, "data")
    (tmp_path / "full").write_bytes(data)
    with (tmp_path / "sparse").open("wb") as file:
        file.seek(1 << 30)
        file.write(data)
    with new_vault() as vault:
        nodes = nodes_of(vault, vault.backup(tmp_path, name="n"))

        assert extra_of(nodes[b"sparse"]).extents == [(1 << 30, len(data))]
        assert nodes[b"sparse"].chunks == nodes[b"full"].chunks
        assert len(nodes[b"full"].chunk_ids()) > 1


def test_sparse_file_that_shrinks_at_every_reading_is_marked_and_consistent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Extents never say more than what the chunks hold."""
    path = tmp_path / "s"
    with path.open("wb") as file:
        file.seek(1 << 20)
        file.write(bytes(range(256)) * 64)
    real_preadv = os.preadv

    def preadv(fd: int, buffers: object, offset: int) -> int:
        os.truncate(path, os.stat(path).st_size - 64)
        return real_preadv(fd, buffers, offset)  # type: ignore[arg-type]

    with new_vault() as vault:
        with monkeypatch.context() as patch:
            patch.setattr(os, "preadv", preadv)
            with pytest.raises(IncompleteBackup) as caught:
                vault.backup(tmp_path, name="n")
        (node,) = nodes_of(vault, caught.value.snapshot).values()

        assert [p.kind for p in caught.value.problems] == ["changed"]
        assert extra_of(node).problem == "changed"
        session = vault._session
        pieces = [session.reader.read(session.keyring.none, i) for i in node.chunk_ids()]
        lengths = [length for _, length in extra_of(node).extents or []]
        assert sum(lengths) == sum(map(len, pieces)) > 0


# ---- files that change


@pytest.mark.usefixtures("step_by_step")
@pytest.mark.parametrize("times", [1, 2])
def test_file_that_grows_while_it_is_read_is_read_once_more_and_then_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """One change costs a reading, two cost the certainty."""
    path = tmp_path / "log"
    path.write_bytes(b"x" * 1000)
    real_readv, left = os.readv, [times]

    def readv(fd: int, buffers: object) -> int:
        count = real_readv(fd, buffers)  # type: ignore[arg-type]
        if left[0]:
            left[0] -= 1
            with path.open("ab") as file:
                file.write(b"more")
        return count

    monkeypatch.setattr(os, "readv", readv)
    with new_vault() as vault:
        snapshot = vault.backup(tmp_path, name="n", errors="report")
        (node,) = nodes_of(vault, snapshot).values()

        assert [p.kind for p in snapshot.report.problems] == ["changed"][: times - 1]
        assert extra_of(node).problem == (None if times == 1 else "changed")
        assert read_snapshot(snapshot)["log"].startswith(b"x" * 1000)


@pytest.mark.usefixtures("step_by_step")
@pytest.mark.parametrize("what", ["link", "pipe"])
def test_file_that_is_exchanged_between_look_and_open_is_told(tmp_path: Path, what: str) -> None:
    """It is neither followed nor waited for."""
    (tmp_path / "secret").write_bytes(b"secret")
    root = tmp_path / "tree"
    root.mkdir()
    (root / "a").write_bytes(b"mine")
    real_lstat = os.lstat

    def lstat(name: bytes, *, dir_fd: int | None = None) -> os.stat_result:
        status = real_lstat(name, dir_fd=dir_fd)
        if name == b"a" and (root / "a").is_file() and not (root / "a").is_symlink():
            (root / "a").unlink()
            if what == "link":
                (root / "a").symlink_to(tmp_path / "secret")
            else:
                os.mkfifo(root / "a")
        return status

    with new_vault() as vault, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "lstat", lstat)
        snapshot = vault.backup(root, name="n", errors="report")

        assert [p.kind for p in snapshot.report.problems] == ["unreadable"]
        assert read_snapshot(snapshot) == {}


def test_attribute_that_cannot_be_read_makes_the_backup_incomplete_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The content is stored; the next run tries the attribute again."""
    (tmp_path / "a").write_bytes(b"one")
    os.setxattr(tmp_path / "a", b"user.a", b"1")
    monkeypatch.setattr(tree_module, "clock_ns", lambda: time.time_ns() + 3600 * 10**9)

    def getxattr(place: object, name: bytes, **more: object) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    with new_vault() as vault:
        with monkeypatch.context() as patch:
            patch.setattr(os, "getxattr", getxattr)
            with pytest.raises(IncompleteBackup) as caught:
                vault.backup(tmp_path, name="n")
        again = vault.backup(tmp_path, name="n")

        assert [(p.kind, p.path) for p in caught.value.problems] == [("xattr", b"a")]
        assert read_snapshot(caught.value.snapshot) == {"a": b"one"}
        assert again.report.ok
        assert extra_of(nodes_of(vault, again)[b"a"]).xattrs == {b"user.a": b"1"}


# ---- what opens the vault


def test_key_file_in_its_own_source_is_refused(tmp_path: Path) -> None:
    """By its inode, under whatever name; the rest is stored."""
    key = lb.KeyFile.generate(tmp_path / "key")
    os.link(tmp_path / "key", tmp_path / "other name")
    (tmp_path / "a").write_bytes(b"a")
    with lb.Vault.create("memory://own-key", key, state_dir=None) as vault:
        with pytest.raises(IncompleteBackup) as caught:
            vault.backup(tmp_path, name="n")
        excluded = vault.backup(tmp_path, name="n", exclude=["/key", "/other name"])

        assert [(p.kind, p.path) for p in caught.value.problems] == [
            ("credential", b"key"),
            ("credential", b"other name"),
        ]
        assert read_snapshot(caught.value.snapshot) == {"a": b"a"}
        assert "key" not in str(caught.value).replace("key file", "")
        assert excluded.report.ok


def test_passphrase_file_in_its_own_source_is_refused(tmp_path: Path) -> None:
    """Nothing in its content tells it from others: the path it was read from does."""
    (tmp_path / "passphrase").write_text("correct horse\n")
    (tmp_path / "copy").write_text("correct horse\n")
    key = lb.Passphrase.from_file(tmp_path / "passphrase")
    with lb.Vault.create("memory://own-passphrase", key, state_dir=None) as vault:
        snapshot = vault.backup(tmp_path, name="n", errors="report")

        assert [(p.kind, p.path) for p in snapshot.report.problems] == [
            ("credential", b"passphrase")
        ]
        assert read_snapshot(snapshot) == {"copy": b"correct horse\n"}


def test_passphrase_file_that_was_replaced_since_is_still_refused(tmp_path: Path) -> None:
    """What counts is where it lies when the backup begins."""
    (tmp_path / "passphrase").write_text("correct horse\n")
    key = lb.Passphrase.from_file(tmp_path / "passphrase")
    with lb.Vault.create("memory://own-replaced", key, state_dir=None) as vault:
        (tmp_path / "new").write_text("correct horse\n")
        os.rename(tmp_path / "new", tmp_path / "passphrase")
        snapshot = vault.backup(tmp_path, name="n", errors="report")

        assert [p.kind for p in snapshot.report.problems] == ["credential"]


def test_any_key_file_is_refused_by_its_content(tmp_path: Path) -> None:
    """A copy, another vault's, one with white space behind, and one that comes as an item."""
    lb.KeyFile.generate(tmp_path / "key")
    text = (tmp_path / "key").read_bytes()
    (tmp_path / "padded").write_bytes(text + b" " * 5000)
    (tmp_path / "damaged").write_bytes(
        text.replace(text[17:18], b"0" if text[17:18] != b"0" else b"1", 1)
    )
    (tmp_path / "notes").write_bytes(text + b"is the key of Acme AB")
    with new_vault() as vault:
        files = vault.backup(tmp_path, name="files", errors="report")
        items = vault.backup(
            [lb.Item("k", data=text), lb.Item("x", data=b"x")], name="items", errors="report"
        )

        assert [(p.kind, p.path) for p in files.report.problems] == [
            ("credential", b"key"),
            ("credential", b"padded"),
        ]
        assert read_snapshot(files).keys() == {"damaged", "notes"}
        assert [(p.kind, p.path) for p in items.report.problems] == [("credential", b"k")]
        assert read_snapshot(items) == {"x": b"x"}


# ---- options and subjects


def test_options_of_a_local_path_hold_in_a_backup(tmp_path: Path) -> None:
    """Unknown ones are refused before anything is read."""
    for name in ("a/.nobackup", "a/x", "b/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with new_vault() as vault:
        snapshot = vault.backup(
            tmp_path, name="n", source_options={"exclude_if_present": [".nobackup"]}
        )

        assert read_snapshot(snapshot).keys() == {"a/.nobackup", "b/x"}
        assert snapshot._described.body.source["exclude_if_present"] == ".nobackup"
        with pytest.raises(InputError, match="one_file_system"):
            vault.backup(tmp_path, name="n", source_options={"nope": True})


def test_folder_that_is_a_person_belongs_to_him_with_all_below(tmp_path: Path) -> None:
    """Nobody's stream names the folders of people, and nothing in them."""
    for name in ("users/42/a/b", "users/43/c", "shared/d"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "users/44").mkdir()
    (tmp_path / "users/42/link").symlink_to("a")
    rule = lb.subject_from_path("users/{subject}/**")
    with new_vault() as vault:
        snapshot = vault.backup(tmp_path, name="n", subject=rule, errors="report")
        quiet = vault.backup(
            tmp_path, name="n", subject=lb.subject_from_path(rule.pattern, unmatched="none")
        )
        streams = {
            domain.subject: [node.path for node in stream]
            for domain, stream in streams_of(vault._session, snapshot._described)
        }

        assert streams == {
            None: [b"shared", b"shared/d", b"users"],
            ("42",): [b"users/42", b"users/42/a", b"users/42/a/b", b"users/42/link"],
            ("43",): [b"users/43", b"users/43/c"],
            ("44",): [b"users/44"],
        }
        assert (snapshot.report.without_subject, snapshot.report.subjects) == (1, 3)
        assert (quiet.report.without_subject, quiet.report.ok) == (0, True)
