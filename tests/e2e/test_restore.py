"""Restores: exact, no more than needed, foreseeable, and honest about what is missing."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest
from tests.e2e.planted import commit_nodes
from tests.e2e.support import items, new_vault, noise, reopen
from tests.rights import folder_for_all, unprivileged

import loopbackup as lb
from loopbackup.errors import IncompleteRestore, InputError
from loopbackup.vault.format.entries import (
    CHAR,
    DIRECTORY,
    FIFO,
    FILE,
    ITEM,
    SOCKET,
    SYMLINK,
    Extra,
    Node,
)
from loopbackup.vault.store.protocol import Store
from loopbackup.vault.store.wrappers import WrapperStore

TIME_NS = 10**18
ME: dict[str, Any] = {"uid": os.geteuid(), "gid": os.getegid()}


class CountingStore(WrapperStore):
    """Counts what is read of packs."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.pack_bytes = 0

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Count, and read."""
        data = super().get(key, start=start, length=length)
        if key.startswith("packs/"):
            self.pack_bytes += len(data)
        return data


def restore_counted(vault: lb.Vault, snapshot: str, to: Path, **more: Any) -> tuple[Any, int]:
    """Restore with nothing in memory; give the result and the bytes read of packs."""
    store = CountingStore(vault._session.store.store)
    with reopen(store) as again:
        store.pack_bytes = 0
        result = again.restore(snapshot, to, **more)
    return result, store.pack_bytes


def file(path: bytes, **more: Any) -> Node:
    """Describe a file of the user who runs the tests."""
    return Node(path, FILE, **{"mode": 0o644, "mtime_ns": TIME_NS, **ME, **more})


def folder(path: bytes, **more: Any) -> Node:
    """Describe a folder of the user who runs the tests."""
    return Node(path, DIRECTORY, **{"mode": 0o750, "mtime_ns": TIME_NS, **ME, **more})


def mode_of(path: Path) -> int:
    """Give the permissions."""
    return stat.S_IMODE(path.lstat().st_mode)


# ---- exactly


def test_hard_links_and_holes_come_back_across_subjects(tmp_path: Path) -> None:
    """The names of one file may be about different people."""
    extents = [(4096, 4096)]
    nodes = [
        file(b"a/1", extra=Extra(link=1)),
        file(b"b/2", extra=Extra(link=1)),
        file(b"b/3", extra=Extra(link=1)),
        file(b"vm", size=1 << 20, extra=Extra(extents=extents)),
    ]
    contents = {node.path: b"shared" for node in nodes} | {b"vm": noise(4096, "vm")}
    subjects = {b"a/1": ("user-42",), b"b/2": ("user-43",)}
    with new_vault() as vault:
        snapshot = commit_nodes(vault, nodes, contents, subjects)

        result = vault.restore(snapshot, tmp_path)
        alone = vault.restore(snapshot, tmp_path / "alone", subject="user-43")

    inodes = {(tmp_path / path).stat().st_ino for path in ("a/1", "b/2", "b/3")}
    assert (result.files, result.bytes_written, result.problems) == (4, 6 + 4096, [])
    assert len(inodes) == 1
    assert (tmp_path / "vm").stat().st_size == 1 << 20
    assert (tmp_path / "vm").stat().st_blocks * 512 < 1 << 16
    assert (alone.files, (tmp_path / "alone/b/2").read_bytes()) == (1, b"shared")


def test_damaged_first_name_does_not_cost_the_others(tmp_path: Path) -> None:
    """Each name carries the content, under keys of its own."""
    nodes = [file(name, size=6, extra=Extra(link=1)) for name in (b"a", b"b", b"c")]
    with new_vault() as vault:
        snapshot = commit_nodes(vault, nodes, {b"b": b"shared", b"c": b"shared"})

        with pytest.raises(IncompleteRestore) as caught:
            vault.restore(snapshot, tmp_path)

    assert [problem.path for problem in caught.value.problems] == [b"a"]
    assert (tmp_path / "b").stat().st_ino == (tmp_path / "c").stat().st_ino


def test_stale_socket_is_no_incomplete_restore(tmp_path: Path) -> None:
    """Nor is one that cannot be made."""
    with new_vault() as vault:
        snapshot = commit_nodes(vault, [Node(b"run.sock", SOCKET, 0o600, **ME)], {})

        made = vault.restore(snapshot, tmp_path / "a")
        with pytest.MonkeyPatch.context() as patch:

            def refuse(*args: object, **more: object) -> None:
                raise OSError(errno.EPERM, "Operation not permitted")

            patch.setattr(os, "mknod", refuse)
            refused = vault.restore(snapshot, tmp_path / "b")

    assert (made.files, made.problems) == (1, [])
    assert [problem.kind for problem in refused.problems] == ["special"]
    assert refused.files == 0


def test_lost_content_is_told_as_what_it_is(tmp_path: Path) -> None:
    """A prune took it before the snapshot was committed."""
    nodes = [file(b"a", size=5, extra=Extra(problem="lost")), file(b"b")]
    with new_vault() as vault:
        snapshot = commit_nodes(vault, nodes, {b"b": b"there"})

        with pytest.raises(IncompleteRestore) as caught:
            vault.restore(snapshot, tmp_path)

    assert [(p.kind, p.path) for p in caught.value.problems] == [("lost", b"a")]
    assert caught.value.report.files == 1


# ---- parts


@pytest.mark.parametrize("subject", [None, "user-42"])
def test_folders_above_a_selected_file_come_back_as_stored(
    tmp_path: Path, subject: str | None
) -> None:
    """Whether they are about the same person or about nobody; others are private."""
    nodes = [
        folder(b"users", mode=0o711),
        folder(b"users/42", mode=0o705),
        file(b"users/42/cv.txt"),
        file(b"users/42/other.txt"),
        folder(b"users/43"),
        file(b"unnamed/42.txt"),
    ]
    contents = {node.path: b"x" for node in nodes if node.kind == FILE}
    about = {node.path: ("user-42",) for node in nodes if b"42" in node.path}
    with new_vault() as vault:
        snapshot = commit_nodes(vault, nodes, contents, about)
        more: dict[str, Any] = {"include": ["cv.txt", "/unnamed/"], "subject": subject}

        foreseen = vault.restore(snapshot, tmp_path / "out", dry_run=True, **more)
        result = vault.restore(snapshot, tmp_path / "out", **more)

    out = tmp_path / "out"
    assert (result.files, result.problems) == (2, [])
    assert foreseen == result
    assert (mode_of(out / "users"), mode_of(out / "users/42")) == (0o711, 0o705)
    assert (out / "users").stat().st_mtime_ns == (out / "users/42").stat().st_mtime_ns == TIME_NS
    assert mode_of(out / "unnamed") == 0o700
    assert not (out / "users/43").exists()


def test_folders_that_stood_there_keep_their_metadata(tmp_path: Path) -> None:
    """A part of a snapshot says nothing about the folder that it is put into."""
    (tmp_path / "users").mkdir(mode=0o700)
    with new_vault() as vault:
        nodes = [folder(b"users", mode=0o711), file(b"users/cv.txt")]
        snapshot = commit_nodes(vault, nodes, {b"users/cv.txt": b"x"})

        vault.restore(snapshot, tmp_path, include=["cv.txt"], overwrite="always")

    assert mode_of(tmp_path / "users") == 0o700


# ---- over what stands there


def test_unchanged_tree_is_restored_without_reading_content(tmp_path: Path) -> None:
    """Metadata are set right, links and holes are seen, and only entries are read."""
    nodes = [folder(b"d"), *(file(b"d/%d" % n, size=100_000) for n in range(20))]
    contents = {node.path: noise(100_000, str(node.path)) for node in nodes[1:]}
    with new_vault() as vault:
        snapshot = commit_nodes(vault, nodes, contents)
        first, full = restore_counted(vault, snapshot, tmp_path)
        os.chmod(tmp_path / "d/7", 0o777)
        _, least = restore_counted(vault, snapshot, tmp_path, dry_run=True)

        again, read = restore_counted(vault, snapshot, tmp_path, overwrite="changed")

    assert first.bytes_written == 2_000_000
    assert full > 2_000_000
    assert read == least < 500_000
    assert (again.files, again.skipped, again.repaired, again.bytes_written) == (1, 19, 1, 0)
    assert mode_of(tmp_path / "d/7") == 0o644


@pytest.mark.parametrize("edit", ["touched", "edited"])
def test_of_a_large_changed_file_only_what_differs_is_read(tmp_path: Path, edit: str) -> None:
    """What the old file has in its place is taken from there, if it is verified."""
    content = noise(8_000_000, "large")
    source = tmp_path / "src"
    source.mkdir()
    (source / "large").write_bytes(content)
    out = tmp_path / "out"
    with new_vault() as vault:
        snapshot = vault.backup(source, name="n")
        _, full = restore_counted(vault, snapshot.id, out)
        _, least = restore_counted(vault, snapshot.id, out, dry_run=True)
        with (out / "large").open("r+b") as changed:
            os.pwrite(changed.fileno(), b"?" if edit == "edited" else b"", 4_000_000)
        os.utime(out / "large", ns=(0, 0))
        before = (out / "large").stat().st_ino

        result, read = restore_counted(vault, snapshot.id, out, overwrite="changed")

    assert (out / "large").read_bytes() == content
    assert (out / "large").stat().st_ino != before
    assert (result.files, result.problems) == (1, [])
    assert read == least if edit == "touched" else least < read < full / 2


def test_old_file_is_never_trusted_for_what_it_is_not(tmp_path: Path) -> None:
    """Shorter, longer, shifted, a link to a file with the content: the content is right after."""
    contents = {name: noise(300_000, "same") for name in ("a", "b", "c", "d")}
    with new_vault() as vault:
        snapshot = vault.backup(items(contents), name="n")
        data = contents["a"]
        (tmp_path / "a").write_bytes(data[:150_000])
        (tmp_path / "b").write_bytes(data + data)
        (tmp_path / "c").write_bytes(b"!" + data)
        (tmp_path / "elsewhere").write_bytes(data)
        (tmp_path / "d").symlink_to("elsewhere")

        result = vault.restore(snapshot, tmp_path, overwrite="changed")

    assert result.files == 4
    assert all((tmp_path / name).read_bytes() == data for name in contents)
    assert not (tmp_path / "d").is_symlink()


# ---- foreseen


def odd_nodes() -> list[Node]:
    """Give entries of many kinds, good, hostile and in the way of each other."""
    return [
        Node(b"../evil", FILE, size=4),
        file(b"a", extra=Extra(link=1)),
        file(b"b", extra=Extra(link=1)),
        folder(b"d"),
        file(b"d/new"),
        file(b"d/old"),
        Node(b"fifo", FIFO, 0o600, **ME),
        Node(b"item", ITEM, mtime_ns=TIME_NS),
        Node(b"link", SYMLINK, extra=Extra(target=b"/"), **ME),
        file(b"link/below"),
        file(b"lost", size=3, extra=Extra(problem="lost")),
        Node(b"sock", SOCKET, 0o600, **ME),
        file(b"vm", size=1 << 16, extra=Extra(extents=[(0, 4096)])),
        file(b"wrong", size=1, extra=Extra(extents=[(0, 4096)])),
        Node(b"z", CHAR, extra=Extra(rdev=-1)),
    ]


@pytest.mark.parametrize("overwrite", ["never", "changed", "always"])
@pytest.mark.parametrize("there", ["nothing", "empty", "some", "all"])
@pytest.mark.parametrize("include", [[], ["/d/", "item", "b"]], ids=["whole", "part"])
def test_dry_run_says_what_the_restore_does(
    tmp_path: Path, overwrite: Any, there: str, include: list[str]
) -> None:
    """The same counts and the same problems, and nothing is touched before."""
    nodes = odd_nodes()
    contents = {n.path: b"text" for n in nodes if n.kind in (FILE, ITEM) and n.path != b"lost"}
    contents[b"vm"] = noise(4096, "vm")
    out = tmp_path / "out"
    more: dict[str, Any] = {"overwrite": overwrite, "include": include}
    with new_vault() as vault:
        snapshot = commit_nodes(vault, nodes, contents)
        if there != "nothing":
            out.mkdir()
        if there == "some":
            (out / "d").mkdir()
            (out / "d/old").write_bytes(b"old")
            (out / "d/new").mkdir()
            (out / "b").write_bytes(b"text")
            os.utime(out / "b", ns=(TIME_NS, TIME_NS))
        if there == "all":
            restore_leniently(vault, snapshot, out)
        before = picture(tmp_path)

        foreseen = vault.restore(snapshot, out, dry_run=True, **more)
        after = picture(tmp_path)
        done = restore_leniently(vault, snapshot, out, **more)

    assert before == after
    told = [{(p.kind, p.path) for p in result.problems} for result in (foreseen, done)]
    assert told[0] == told[1]
    counts = [(r.files, r.skipped, r.repaired, r.bytes_written) for r in (foreseen, done)]
    assert counts[0] == counts[1]


def picture(root: Path) -> set[tuple[str, int, int]]:
    """Give everything below *root* with inode and time of change."""
    return {(str(p), p.lstat().st_ino, p.lstat().st_mtime_ns) for p in root.rglob("*")}


def restore_leniently(vault: lb.Vault, snapshot: str, to: Path | str, **more: Any) -> Any:
    """Restore, and give the report in any case."""
    try:
        return vault.restore(snapshot, to, **more)
    except IncompleteRestore as exc:
        return exc.report


def test_dry_run_does_not_begin_an_archive_anew(tmp_path: Path) -> None:
    """To open one for writing empties it."""
    url = f"zip://::file://{tmp_path}/out.zip"
    (tmp_path / "out.zip").write_bytes(b"precious")
    with new_vault() as vault:
        snapshot = vault.backup(items({"a": b"12345"}), name="n")

        counted = vault.restore(snapshot, url, dry_run=True, target_options={"zip": {"mode": "w"}})

    assert (counted.files, counted.bytes_written) == (1, 5)
    assert (tmp_path / "out.zip").read_bytes() == b"precious"


@pytest.mark.parametrize("wrong", [{"overwrite": "maybe"}, {"target_options": {"a": 1}}], ids=str)
def test_dry_run_refuses_what_a_restore_refuses(tmp_path: Path, wrong: dict[str, Any]) -> None:
    """Mistakes show before the night on which they count."""
    with new_vault() as vault:
        snapshot = vault.backup(items({"a": b"12345"}), name="n")

        with pytest.raises(InputError):
            vault.restore(snapshot, tmp_path / "out", dry_run=True, **wrong)


# ---- to URLs


def test_restore_to_a_url_describes_what_it_cannot_keep(tmp_path: Path) -> None:
    """Links, devices and empty folders cost nothing and are all in one file."""
    nodes = [
        folder(b"empty"),
        file(b"f", mode=0o4755),
        Node(b"l", SYMLINK, extra=Extra(target=b"f")),
        Node(b"tty", CHAR, 0o600, extra=Extra(rdev=1)),
    ]
    fs = fsspec.filesystem("memory")
    try:
        with new_vault() as vault:
            snapshot = commit_nodes(vault, nodes, {b"f": b"content"})

            foreseen = vault.restore(snapshot, "memory://acme-side", dry_run=True)
            untouched = not fs.exists("/acme-side")
            result = vault.restore(snapshot, "memory://acme-side")

        side = fs.cat_file("/acme-side/.loopbackup-metadata.jsonl").splitlines()
        lines = {line["path"]: line for line in map(json.loads, side)}
        assert untouched
        assert (result.files, result.bytes_written) == (4, 7)
        assert (foreseen.files, foreseen.bytes_written) == (4, 7)
        assert [problem.kind for problem in result.problems] == ["metadata"]
        assert fs.cat_file("/acme-side/f") == b"content"
        assert lines.keys() == {"empty", "f", "l", "tty"}
        assert (lines["f"]["mode"], lines["l"]["target"]) == (0o4755, "f")
    finally:
        if fs.exists("/acme-side"):
            fs.rm("/acme-side", recursive=True)


# ---- a full disk


@contextmanager
def small_disk(place: Path, size_bytes: int) -> Iterator[None]:
    """Mount a disk of that size, or where that is not allowed, let writes fail as on one."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if mounted:
        try:
            yield
        finally:
            subprocess.run(["umount", str(place)], check=True)
        return
    left = size_bytes
    real = os.write

    def write(fd: int, data: Any) -> int:
        nonlocal left
        if os.path.realpath(f"/proc/self/fd/{fd}").startswith(str(place)):
            left -= len(data)
            if left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", write)
        yield


def test_full_disk_ends_the_restore_and_is_counted_right(tmp_path: Path) -> None:
    """Every file that stands there is whole, each is counted, and folders are completed."""
    contents = {f"d/{n:04}": noise(20_000, str(n)) for n in range(1000)}
    source = tmp_path / "src"
    (source / "d").mkdir(parents=True)
    for name, data in contents.items():
        (source / name).write_bytes(data)
    os.chmod(source / "d", 0o711)
    out = tmp_path / "small"
    with new_vault() as vault, small_disk(out, 2 << 20):
        snapshot = vault.backup(source, name="n")

        with pytest.raises(IncompleteRestore) as caught:
            vault.restore(snapshot, out)
        there = {path.name: path.read_bytes() for path in (out / "d").iterdir()}
        mode = mode_of(out / "d")

    report = caught.value.report
    assert "full" in str(caught.value)
    assert all(data == contents[f"d/{name}"] for name, data in there.items())
    assert 50 < len(there) < 110
    assert report.files == len(there) + 1
    assert report.bytes_written == 20_000 * len(there)
    assert {problem.kind for problem in report.problems} == {"full"}
    assert mode == 0o711


def test_stopped_restore_leaves_folders_as_they_are_to_be(tmp_path: Path) -> None:
    """As far as it has come: a second run with "never" leaves them alone."""
    source, target = tmp_path / "source", tmp_path / "target"
    for number in range(40):
        folder = source / f"{number:02}"
        folder.mkdir(parents=True)
        for name in range(40):
            (folder / f"{name}").write_bytes(b"%d" % name * 200)
        folder.chmod(0o755)
        os.utime(folder, ns=(10**18, 10**18))

    class Soon:
        asked = 0

        def is_set(self) -> bool:
            self.asked += 1
            return self.asked > 200

    with new_vault() as vault:
        snapshot = vault.backup(source, name="n")
        with pytest.raises(lb.Cancelled):
            vault.restore(snapshot, target, cancel=Soon())
        stopped = sorted(target.iterdir())
        vault.restore(snapshot, target)

    assert 0 < len(stopped) < 40
    for folder in stopped:
        status = folder.stat()
        assert stat.S_IMODE(status.st_mode) == 0o755
    assert len(list(target.rglob("*"))) == 40 + 40 * 40


def test_content_of_a_hard_link_is_fetched_once(tmp_path: Path) -> None:
    """Whatever the number of its names."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "first").write_bytes(noise(20_000, "first"))
    for number in range(40):
        os.link(source / "first", source / f"name-{number}")

    with new_vault() as vault:
        snapshot = vault.backup(source, name="n")
        reader = vault._session.reader
        read, ids = reader.read, list[bytes]()

        def count(domain: Any, chunk_id: bytes, kind: str = "data") -> Any:
            ids.append(chunk_id) if kind == "data" else None
            return read(domain, chunk_id, kind)

        reader.read = count  # type: ignore[method-assign]
        vault.restore(snapshot, target)

    assert ids
    assert len(ids) == len(set(ids))
    assert {path.stat().st_nlink for path in target.iterdir()} == {41}


@pytest.mark.parametrize("overwrite", ["never", "always"])
def test_folder_of_ones_own_that_forbids_writing_is_completed(overwrite: Any) -> None:
    """As a user without rights, who restored a part of it before; its permissions stay."""
    with folder_for_all() as place, unprivileged():
        folder = place / "source/d"
        folder.mkdir(parents=True)
        for name in ("a", "b"):
            (folder / name).write_text(name)
        os.mkdir(folder / "sub")
        folder.chmod(0o555)
        with new_vault() as vault:
            snapshot = vault.backup(place / "source", name="n")
            vault.restore(snapshot, place / "target", include=["d/a"])
            vault.restore(snapshot, place / "target", overwrite=overwrite)

        restored = place / "target/d"
        assert sorted(path.name for path in restored.iterdir()) == ["a", "b", "sub"]
        assert stat.S_IMODE(restored.stat().st_mode) == 0o555


def test_target_that_was_made_is_as_the_root_of_the_tree(tmp_path: Path) -> None:
    """One that stood there stays as it is, and one person's share has no root."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(b"1")
    os.setxattr(source, "user.note", b"kept")
    source.chmod(0o751)
    os.utime(source, ns=(10**18, 10**18))
    (tmp_path / "old").mkdir(mode=0o710)
    with new_vault() as vault:
        snapshot = vault.backup(source, name="n", subject="user-42")
        vault.restore(snapshot, tmp_path / "made")
        vault.restore(snapshot, tmp_path / "old", overwrite="always")
        vault.restore(snapshot, tmp_path / "share", subject="user-42")

    made = (tmp_path / "made").stat()
    assert (stat.S_IMODE(made.st_mode), made.st_mtime_ns) == (0o751, 10**18)
    assert os.getxattr(tmp_path / "made", "user.note") == b"kept"
    assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == 0o710
    assert stat.S_IMODE((tmp_path / "share").stat().st_mode) == 0o700
