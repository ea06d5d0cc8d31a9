"""The C part of the disk does what the step-by-step way does, or leaves it alone."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopbackup.errors import InputError
from loopbackup.vault import disk
from loopbackup.vault.format.entries import FILE, Extra, Node
from loopbackup.vault.source import Found
from loopbackup.vault.source.tree import TreeSource
from loopbackup.vault.target import local

pytestmark = pytest.mark.skipif(disk.read is None, reason="the C part was not built")

READ = disk.read or (lambda *_: None)
WRITE = disk.write or (lambda *_: [])
FIELDS = ("mode", "ino", "dev", "nlink", "uid", "gid", "size", "mtime_ns", "ctime_ns", "rdev")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    """Give the descriptor of an empty folder."""
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def read(folder: int, path: Path, **other: int) -> bytes | None:
    """Read a file as it is, but for what *other* says of it."""
    status = os.lstat(path)
    expected = {
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "ctime_ns": status.st_ctime_ns,
        "inode": status.st_ino,
    } | other
    return READ(folder, os.fsencode(path.name), *expected.values())


def new_file(folder: int, name: bytes, data: bytes, **other: int) -> disk.NewFile:
    """Describe a file of this user's."""
    facts = {"mode": 0o640, "uid": os.getuid(), "gid": os.getgid(), "mtime_ns": 1} | other
    return (folder, name, data, facts["mode"], facts["uid"], facts["gid"], facts["mtime_ns"])


# ---- looking


def test_entries_of_every_kind_are_seen_as_lstat_sees_them(tmp_path: Path, folder: int) -> None:
    """Every field that a backup stores is the same."""
    (tmp_path / "file").write_bytes(b"x" * 5000)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    os.utime(tmp_path / "file", ns=(-5, -1_500_000_000))
    os.utime(tmp_path / "folder", ns=(0, 2**33 * 10**9 + 7))
    names = sorted(os.listdir(os.fsencode(tmp_path)))

    found = disk.look(folder, names)

    for name, status in zip(names, found, strict=True):
        there = os.lstat(name, dir_fd=folder)
        for field in FIELDS:
            assert getattr(status, f"st_{field}") == getattr(there, f"st_{field}"), (name, field)


def test_name_that_is_gone_has_its_error_and_the_others_their_status(
    tmp_path: Path, folder: int
) -> None:
    """One entry that vanishes costs no other."""
    (tmp_path / "a").touch()

    there, gone = disk.look(folder, [b"a", b"b"])

    assert stat.S_ISREG(there.st_mode)
    assert isinstance(gone, FileNotFoundError)


def test_wrong_arguments_are_refused(folder: int) -> None:
    """Nothing is read beyond what was given."""
    with pytest.raises(ValueError, match="zero byte"):
        disk.look(folder, [b"a\0b"])
    with pytest.raises(TypeError):
        disk.look(folder, ["text"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="null"):
        WRITE(b"t", 0, [new_file(folder, b"a\0b", b"")])
    with pytest.raises(ValueError, match="negative"):
        READ(folder, b"a", -1, 0, 0, 0)
    with pytest.raises(ValueError, match="too long"):
        WRITE(b"t" * 65, 0, [])
    assert WRITE(b"t", 0, []) == []


# ---- reading


@given(data=st.binary(max_size=300_000))
def test_file_that_is_as_seen_is_read(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    """Its content comes as it stands there."""
    path = tmp_path_factory.mktemp("read") / "a"
    path.write_bytes(data)
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert read(fd, path) == data
    finally:
        os.close(fd)


@pytest.mark.parametrize("field", ["size", "mtime_ns", "ctime_ns", "inode"])
def test_file_that_is_not_as_seen_is_left(tmp_path: Path, folder: int, field: str) -> None:
    """Whatever differs, the way that can tell about it takes over."""
    (tmp_path / "a").write_bytes(b"content")
    now = getattr(os.lstat(tmp_path / "a"), {"inode": "st_ino"}.get(field, f"st_{field}"))

    assert read(folder, tmp_path / "a", **{field: now - 1}) is None


def test_what_is_more_than_a_plain_file_is_left(tmp_path: Path, folder: int) -> None:
    """Links are not followed, pipes not waited for, holes and attributes not lost."""
    (tmp_path / "target").write_bytes(b"x")
    (tmp_path / "link").symlink_to("target")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "attributes").write_bytes(b"x")
    os.setxattr(tmp_path / "attributes", b"user.a", b"1")
    with (tmp_path / "holes").open("wb") as file:
        file.truncate(1 << 20)

    for name in ("link", "pipe", "attributes", "holes", "target/x"):
        with_status = tmp_path / name if name != "target/x" else tmp_path / "target"
        status = os.lstat(with_status)
        facts = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        assert READ(folder, name.encode(), *facts) is None, name


def test_file_without_permission_is_left(tmp_path: Path, folder: int) -> None:
    """A descriptor that is none leads to no error here either."""
    (tmp_path / "a").write_bytes(b"x")

    assert READ(-1, b"a", 1, 0, 0, 0) is None


# ---- writing


def test_files_appear_complete_with_all_that_was_said(tmp_path: Path, folder: int) -> None:
    """Content, permissions, owner and time; no temporary name stays."""
    files = [
        new_file(folder, b"a", b"one", mode=0o4711, mtime_ns=1_600_000_000_123_456_789),
        new_file(folder, b"b", b"", mtime_ns=-1),
        new_file(folder, b"\xff", bytes(range(256)) * 4000),
    ]

    codes = WRITE(b".tmp-", 7, files)

    assert codes == [0, 0, 0]
    assert sorted(os.listdir(os.fsencode(tmp_path))) == [b"a", b"b", b"\xff"]
    for _, name, data, mode, uid, gid, mtime_ns in files:
        with open(os.path.join(os.fsencode(tmp_path), name), "rb") as file:
            assert file.read() == data
        there = os.lstat(name, dir_fd=folder)
        facts = (stat.S_IMODE(there.st_mode), there.st_uid, there.st_gid, there.st_mtime_ns)
        assert facts == (mode, uid, gid, mtime_ns)


def test_what_stands_there_is_never_replaced(tmp_path: Path, folder: int) -> None:
    """Not a file, not a link, not a folder; the rest of the batch is written."""
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "folder").mkdir()
    names = [b"file", b"link", b"folder", b"new"]

    codes = WRITE(b".tmp-", 0, [new_file(folder, name, b"new") for name in names])

    assert codes == [errno.EEXIST] * 3 + [0]
    assert (tmp_path / "file").read_bytes() == b"old"
    assert (tmp_path / "link").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "link", "new"]


def test_temporary_name_that_is_taken_is_left_alone(tmp_path: Path, folder: int) -> None:
    """What stands there is not this restore's."""
    (tmp_path / ".tmp-0").symlink_to("elsewhere")

    codes = WRITE(b".tmp-", 0, [new_file(folder, b"a", b"1"), new_file(folder, b"b", b"2")])

    assert codes == [errno.EEXIST, 0]
    assert sorted(os.listdir(tmp_path)) == [".tmp-0", "b"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_file_that_cannot_be_made_leaves_nothing(tmp_path: Path, folder: int) -> None:
    """A name that is too long shows only at the end; a folder that is gone at once."""
    gone = tmp_path / "gone"
    gone.mkdir()
    fd = os.open(gone, os.O_RDONLY)
    gone.rmdir()
    try:
        files = [new_file(folder, b"x" * 256, b"1"), new_file(fd, b"a", b"1")]
        codes = WRITE(b".tmp-", 0, files)
    finally:
        os.close(fd)

    assert codes == [errno.ENAMETOOLONG, errno.ENOENT]
    assert os.listdir(tmp_path) == []


def test_buffers_are_given_back(folder: int) -> None:
    """Also when a later entry of the batch is refused."""
    data = bytearray(b"x" * 100)
    with pytest.raises(TypeError):
        WRITE(b"t", 0, [(folder, b"a", data, 0o600, 0, 0, 0), ("none",)])  # type: ignore[list-item]

    data.extend(b"more")
    WRITE(b"t", 0, [(folder, b"a", data, 0o600, os.getuid(), os.getgid(), 0)])
    data.extend(b"more")


def test_many_threads_share_a_folder(tmp_path: Path, folder: int) -> None:
    """Every file is whole, whoever wrote it."""

    def work(number: int) -> None:
        for at in range(20):
            name = b"%d-%d" % (number, at)
            assert WRITE(b".t%d-" % number, at * 2, [new_file(folder, name, name * 100)]) == [0]
            assert read(folder, tmp_path / name.decode()) == name * 100

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(os.listdir(tmp_path)) == 80


# ---- where they are used


def test_both_ways_find_the_same_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes and contents are the same, batch by batch and one by one."""
    for number in range(300):
        path = tmp_path / f"{number % 7}" / f"{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * number)
    for folder in range(7):
        (tmp_path / f"{folder}" / "link").symlink_to("1")

    def walk() -> list[tuple[Node, bytes | None]]:
        source = TreeSource(tmp_path)
        return [(f.node, _content(source, f)) for f in source.scan() if isinstance(f, Found)]

    quick = walk()
    monkeypatch.setattr(disk, "_c", None)
    monkeypatch.setattr(disk, "read", None)

    assert quick == walk()
    assert len(quick) == 300 + 7 + 7


def _content(source: TreeSource, found: Found) -> bytes | None:
    if found.node.kind != FILE:
        return None
    data = source.read(found)
    if data is not None:
        return data
    buffer = bytearray(1000)
    with source.open(found) as reader:
        return bytes(buffer[: reader.readinto(memoryview(buffer))])


def test_target_leaves_to_the_other_way_what_is_not_plain(tmp_path: Path) -> None:
    """Links, attributes, holes, wrong sizes and unsafe paths are not written quickly."""
    (tmp_path / "there").write_bytes(b"old")
    plain = Node(b"a", FILE, 0o600, os.getuid(), os.getgid(), size=1)
    nodes = [
        plain,
        Node(b"linked", FILE, 0o600, os.getuid(), os.getgid(), size=1, extra=Extra(link=1)),
        Node(b"short", FILE, 0o600, os.getuid(), os.getgid(), size=2),
        Node(b"../out", FILE, 0o600, os.getuid(), os.getgid(), size=1),
        Node(b"there", FILE, 0o600, os.getuid(), os.getgid(), size=1),
        Node(b"there/below", FILE, 0o600, os.getuid(), os.getgid(), size=1),
        Node(b"new/deep/b", FILE, 0o600, os.getuid(), os.getgid(), size=1),
    ]
    target = local.LocalTarget(tmp_path)
    try:
        done = target.write_plain([(node, b"x") for node in nodes])
    finally:
        target.close()

    assert done == [True, False, False, False, False, False, True]
    assert (tmp_path / "there").read_bytes() == b"old"
    assert (tmp_path / "new/deep/b").read_bytes() == b"x"
    assert not (tmp_path.parent / "out").exists()


def test_target_gives_up_the_quick_way_where_it_fails_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Doing everything twice for a whole tree would be slower than the slow way."""
    monkeypatch.setattr(local, "MAX_REFUSED", 3)
    asked: list[int] = []

    def refuse(_prefix: bytes, _number: int, files: list[disk.NewFile]) -> list[int]:
        asked.append(len(files))
        return [errno.EPERM] * len(files)

    monkeypatch.setattr(disk, "write", refuse)
    target = local.LocalTarget(tmp_path)
    try:
        for number in range(5):
            node = Node(b"%d" % number, FILE, 0o600, os.getuid(), os.getgid(), size=2)
            assert target.write_plain([(node, b"xx"), (node, b"xx")]) == [False, False]
    finally:
        target.close()

    assert asked == [2, 2]


def test_target_that_may_replace_never_takes_the_quick_way(tmp_path: Path) -> None:
    """It renames over nothing, so it has no use there."""
    with pytest.raises(InputError):
        local.LocalTarget(tmp_path, overwrite="maybe")  # type: ignore[arg-type]
    target = local.LocalTarget(tmp_path, overwrite="always")
    try:
        node = Node(b"a", FILE, 0o600, os.getuid(), os.getgid(), size=1)
        assert target.write_plain([(node, b"x")]) == [False]
    finally:
        target.close()
