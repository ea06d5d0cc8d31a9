"""A tree is described down to its links, holes and attributes."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import tempfile
import time
import unicodedata
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loopbackup.vault.format import codec
from loopbackup.vault.format.entries import (
    BLOCK,
    CHAR,
    DIRECTORY,
    FIFO,
    FILE,
    SOCKET,
    SYMLINK,
    Extra,
    Node,
)
from loopbackup.vault.source import Found, sparse, xattrs
from loopbackup.vault.source.tree import TreeSource

KIB = 1024
KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFIFO: FIFO,
    stat.S_IFCHR: CHAR,
    stat.S_IFBLK: BLOCK,
    stat.S_IFSOCK: SOCKET,
}


def scan(root: Path | bytes) -> dict[bytes, tuple[Found, bytes]]:
    """Scan a tree in which nothing goes wrong: each entry with the data of its content."""
    found = {}
    with closing(TreeSource(root)) as source:
        for entry in source.scan():
            assert isinstance(entry, Found), entry
            assert entry.problem is None
            data = read(source, entry) if entry.node.kind == FILE else b""
            found[entry.node.path] = entry, data
    return found


def read(source: TreeSource, found: Found) -> bytes:
    """Read what the source gives of the content of a file that nobody changes."""
    buffer, content = bytearray(64 * KIB), b""
    with source.open(found) as reader:
        while count := reader.readinto(memoryview(buffer)):
            content += buffer[:count]
        assert not reader.changed()
    return content


def extra_of(found: tuple[Found, bytes]) -> Extra:
    """Give the extra of an entry; an empty one where it has none."""
    return found[0].node.extra or Extra()


def whole(node: Node, data: bytes) -> bytes:
    """Put data where its extents say, between zeros."""
    extents = node.extra.extents if node.extra else None
    if extents is None:
        return data
    content = bytearray(node.size)
    for offset, length in extents:
        content[offset : offset + length], data = data[:length], data[length:]
    assert not data
    return bytes(content)


def write_at(path: Path, pieces: dict[int, bytes], size: int) -> None:
    """Make a file of *size* bytes with data at some offsets and holes elsewhere."""
    with path.open("wb") as file:
        for offset, data in pieces.items():
            file.seek(offset)
            file.write(data)
        file.truncate(size)


# ---- hard links


def test_names_of_one_inode_have_one_number_and_others_have_none(tmp_path: Path) -> None:
    """Only what has several names is marked, of whatever kind."""
    (tmp_path / "a").write_bytes(b"x")
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "c").write_bytes(b"x")
    (tmp_path / "d").symlink_to("a")
    os.link(tmp_path / "d", tmp_path / "e", follow_symlinks=False)
    os.mkfifo(tmp_path / "f")
    os.link(tmp_path / "f", tmp_path / "g")
    (tmp_path / "h" / "i").mkdir(parents=True)

    found = scan(tmp_path)

    links = {name: extra_of(entry).link for name, entry in found.items()}
    assert links[b"a"] == links[b"b"] != 0
    assert links[b"d"] == links[b"e"] != 0
    assert links[b"f"] == links[b"g"] != 0
    assert len({links[b"a"], links[b"d"], links[b"f"]}) == 3
    assert (links[b"c"], links[b"h"], links[b"h/i"]) == (0, 0, 0)
    assert [found[name][0].links for name in (b"a", b"c")] == [2, 1]
    assert extra_of(found[b"e"]).target == b"a"


def test_number_of_a_link_is_what_the_format_says(tmp_path: Path) -> None:
    """It depends on the inode and on the order of devices, so it stays from run to run."""
    (tmp_path / "a").touch()
    os.link(tmp_path / "a", tmp_path / "b")
    packed = struct.pack("<IQ", 0, os.stat(tmp_path / "a").st_ino)

    first, second = scan(tmp_path), scan(tmp_path)

    expected = int.from_bytes(blake3(packed).digest()[:8], "little") & (2**63 - 1)
    assert extra_of(first[b"a"]).link == extra_of(second[b"b"]).link == expected


def test_one_name_of_several_inside_the_tree_is_marked_as_well(tmp_path: Path) -> None:
    """Whether the other names are backed up is not known when one is met."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "outside").write_bytes(b"x")
    os.link(tmp_path / "outside", tmp_path / "tree" / "inside")

    found = scan(tmp_path / "tree")

    assert extra_of(found[b"inside"]).link != 0
    assert found[b"inside"][1] == b"x"


# ---- sparse files


def test_holes_are_not_read_and_the_size_stays_the_logical_one(tmp_path: Path) -> None:
    """The content is the data of the extents, one behind the other."""
    write_at(tmp_path / "s", {64 * KIB: b"a" * 4096, 256 * KIB: b"b" * 8192}, 1 << 20)

    ((found, data),) = scan(tmp_path).values()

    assert found.node.size == 1 << 20
    assert found.node.extra == Extra(extents=[(64 * KIB, 4096), (256 * KIB, 8192)])
    assert data == b"a" * 4096 + b"b" * 8192


def test_file_that_is_one_hole_has_no_data_and_the_format_keeps_it(tmp_path: Path) -> None:
    """No extents are not the same as no knowledge of any."""
    write_at(tmp_path / "hole", {}, 1 << 20)

    ((found, data),) = scan(tmp_path).values()
    again = codec.decode(codec.encode(found.node), Node)

    assert (found.node.size, data) == (1 << 20, b"")
    assert again.extra == Extra(extents=[])


def test_full_and_empty_files_have_no_extents(tmp_path: Path) -> None:
    """Zeros that were written are data."""
    (tmp_path / "empty").touch()
    (tmp_path / "zeros").write_bytes(bytes(64 * KIB))

    found = scan(tmp_path)

    assert [entry[0].node.extra for entry in found.values()] == [None, None]
    assert found[b"zeros"][1] == bytes(64 * KIB)


def test_fifty_gigabytes_of_hole_take_no_time(tmp_path: Path) -> None:
    """Cost goes with the data, not with the size."""
    size = 50 << 30
    write_at(tmp_path / "disk.img", {10 << 30: b"x" * 4096, size - 4096: b"y" * 4096}, size)

    started = time.process_time()
    ((found, data),) = scan(tmp_path).values()
    seconds = time.process_time() - started

    assert found.node.size == size
    assert extra_of((found, data)).extents == [(10 << 30, 4096), (size - 4096, 4096)]
    assert len(data) == 8192
    assert seconds < 5


def test_too_many_holes_lose_the_smallest_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry stays small; what is dropped is stored as zeros."""
    monkeypatch.setattr(sparse, "MAX_EXTENTS", 3)
    ends = [(0, 4), (8, 12), (32, 36), (40, 44), (80, 84)]
    pieces = {start * KIB: b"d" * ((end - start) * KIB) for start, end in ends}
    write_at(tmp_path / "s", pieces, 84 * KIB)

    ((found, data),) = scan(tmp_path).values()

    extents = extra_of((found, data)).extents
    assert extents == [(0, 12 * KIB), (32 * KIB, 12 * KIB), (80 * KIB, 4 * KIB)]
    assert whole(found.node, data) == (tmp_path / "s").read_bytes()


def test_file_system_that_does_not_tell_holes_gives_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then zeros are read, and found to be equal later."""
    write_at(tmp_path / "s", {64 * KIB: b"a" * 4096}, 128 * KIB)
    real_lseek = os.lseek

    def lseek(fd: int, at: int, whence: int) -> int:
        if whence in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(errno.EINVAL, "Invalid argument")
        return real_lseek(fd, at, whence)

    monkeypatch.setattr(os, "lseek", lseek)
    ((found, data),) = scan(tmp_path).values()

    assert found.node.extra is None
    assert data == (tmp_path / "s").read_bytes()


def test_error_while_holes_are_looked_for_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails is not taken for a file system that cannot tell, and nothing stays open."""
    write_at(tmp_path / "s", {64 * KIB: b"a" * 4096}, 128 * KIB)
    source = TreeSource(tmp_path)
    entries = source.scan()
    found = next(entries)
    assert isinstance(found, Found)
    before = len(os.listdir("/proc/self/fd"))

    def lseek(fd: int, at: int, whence: int) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "lseek", lseek)
    with pytest.raises(OSError, match="Input/output"):
        source.open(found)
    after = len(os.listdir("/proc/self/fd"))
    source.close()

    assert after == before


@pytest.mark.parametrize("how", ["shrinks", "grows", "gets data in a hole"])
def test_sparse_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path, how: str) -> None:
    """A second look gives the new state."""
    path = tmp_path / "s"
    write_at(path, {64 * KIB: b"a" * 4096, 512 * KIB: b"b" * 4096}, 1 << 20)
    source = TreeSource(tmp_path)
    entries = source.scan()
    found = next(entries)
    assert isinstance(found, Found)
    buffer = bytearray(64 * KIB)

    with source.open(found) as reader:
        first = reader.readinto(memoryview(buffer))
        if how == "shrinks":
            os.truncate(path, 100 * KIB)
        elif how == "grows":
            os.truncate(path, 2 << 20)
        else:
            with path.open("r+b") as file:
                file.write(b"new")
        rest = reader.readinto(memoryview(buffer))
        end = reader.readinto(memoryview(buffer))
        changed = reader.changed()
    again = source.refresh(found)
    data = read(source, again)
    source.close()

    assert (first, rest, end) == (4096, 0 if how == "shrinks" else 4096, 0)
    assert changed
    assert whole(again.node, data) == path.read_bytes()


# ---- extended attributes


def test_attributes_of_files_and_folders_are_taken_as_bytes(tmp_path: Path) -> None:
    """Names and values of any bytes; nothing where there are none."""
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain").touch()
    os.setxattr(tmp_path / "file", b"user.caf\xe9", b"\0\xff")
    os.setxattr(tmp_path / "file", b"user.a", b"")
    os.setxattr(tmp_path / "folder", b"user.f", b"folder")

    found = scan(tmp_path)

    assert extra_of(found[b"file"]).xattrs == {b"user.a": b"", b"user.caf\xe9": b"\0\xff"}
    assert list(extra_of(found[b"file"]).xattrs or {}) == [b"user.a", b"user.caf\xe9"]
    assert extra_of(found[b"folder"]).xattrs == {b"user.f": b"folder"}
    assert found[b"plain"][0].node.extra is None


def test_attributes_of_links_and_pipes_are_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link is never followed, not for its attributes either; users cannot set any there."""
    (tmp_path / "a").symlink_to("b")
    os.mkfifo(tmp_path / "b")

    def getxattr(place: bytes, name: bytes, *, follow_symlinks: bool) -> bytes:
        return b"%d" % os.stat(place, follow_symlinks=follow_symlinks).st_ino

    monkeypatch.setattr(os, "listxattr", lambda place, **more: ["security.label"])
    monkeypatch.setattr(os, "getxattr", getxattr)
    found = scan(tmp_path)

    assert {name: extra_of(entry).xattrs for name, entry in found.items()} == {
        name: {b"security.label": b"%d" % os.lstat(tmp_path / name.decode()).st_ino}
        for name in (b"a", b"b")
    }


def test_access_control_lists_are_attributes(tmp_path: Path) -> None:
    """As the system gives them: nothing is interpreted."""
    (tmp_path / "folder").mkdir()
    # Version 2: owner rwx, user 42 r-x, group r-x, mask r-x, others nothing.
    entries = [(1, 7, 2**32 - 1), (2, 5, 42), (4, 5, 2**32 - 1), (16, 5, 2**32 - 1)]
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", *entry) for entry in [*entries, (32, 0, 2**32 - 1)]
    )
    for name in ("system.posix_acl_access", "system.posix_acl_default"):
        os.setxattr(tmp_path / "folder", name, acl)

    found = scan(tmp_path)

    assert extra_of(found[b"folder"]).xattrs == {
        b"system.posix_acl_access": acl,
        b"system.posix_acl_default": acl,
    }


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_attribute_that_cannot_be_read_is_told_and_the_rest_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The entry is in the snapshot, and marked."""
    path = tmp_path / kind
    path.mkdir() if kind == "folder" else path.write_bytes(b"x")
    os.setxattr(path, b"user.bad", b"1")
    os.setxattr(path, b"user.good", b"2")
    real_getxattr = os.getxattr

    def getxattr(place: Any, name: bytes, **more: Any) -> bytes:
        if name == b"user.bad":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real_getxattr(place, name, **more)

    monkeypatch.setattr(os, "getxattr", getxattr)
    source = TreeSource(tmp_path)
    (found,) = source.scan()
    assert isinstance(found, Found)
    if kind == "file":
        scanner = source.scan()
        found = next(scanner)
        assert isinstance(found, Found)
        assert read(source, found) == b"x"
        source.close()

    assert found.node.extra == Extra(xattrs={b"user.good": b"2"}, problem="xattr")
    assert found.problem is not None
    assert (found.problem.kind, found.problem.in_tree) == ("xattr", True)
    assert "bad" not in found.problem.message


def test_attributes_beyond_the_bound_are_told_and_smaller_ones_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can fill the lists of entries through attributes."""
    monkeypatch.setattr(xattrs, "MAX_XATTRS_BYTES", 100)
    (tmp_path / "a").touch()
    os.setxattr(tmp_path / "a", b"user.1", b"x" * 50)
    os.setxattr(tmp_path / "a", b"user.2", b"x" * 50)
    os.setxattr(tmp_path / "a", b"user.3", b"x" * 30)

    found, failed = xattrs.read_xattrs(os.fsencode(tmp_path / "a"))

    assert (found, failed) == ({b"user.1": b"x" * 50, b"user.3": b"x" * 30}, 1)


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOENT])
def test_system_without_attributes_has_none(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """That is no problem of any entry."""

    def listxattr(place: Any, **more: Any) -> list[str]:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "listxattr", listxattr)

    assert xattrs.read_xattrs(b"any") == (None, 0)


def test_list_of_attributes_that_cannot_be_read_is_a_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing of them is known then."""

    def listxattr(place: Any, **more: Any) -> list[str]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "listxattr", listxattr)

    assert xattrs.read_xattrs(b"any") == (None, 1)


def test_attribute_that_is_removed_meanwhile_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever removed it moved the time of the last change: the file is looked at once more."""
    (tmp_path / "a").touch()
    monkeypatch.setattr(os, "listxattr", lambda place, **more: ["user.gone"])

    assert xattrs.read_xattrs(os.fsencode(tmp_path / "a")) == (None, 0)


def test_attributes_below_a_path_longer_than_the_system_allows_are_found(tmp_path: Path) -> None:
    """They are asked for relative to the open folder."""
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(200):
        os.mkdir(b"d" * 40, dir_fd=fd)
        below = os.open(b"d" * 40, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("leaf", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.setxattr(f"/proc/self/fd/{fd}/leaf", b"user.deep", b"yes")
    os.close(fd)

    found = scan(tmp_path)

    assert len(found) == 201
    (leaf,) = [entry for path, entry in found.items() if path.endswith(b"leaf")]
    assert extra_of(leaf).xattrs == {b"user.deep": b"yes"}


# ---- names


def test_strange_names_come_as_the_bytes_they_are(tmp_path: Path) -> None:
    """No encoding, no length, no newline and no twin in another normal form disturbs."""
    twins = [unicodedata.normalize(form, "r\u00e9sum\u00e9").encode() for form in ("NFC", "NFD")]
    names = [b"caf\xe9", b"\xff" * 255, b"line\nbreak", b" ", b"-rf", b"*", b"\x01", *twins]
    top = os.fsencode(tmp_path)
    for number, name in enumerate(names):
        with open(os.path.join(top, name), "wb") as file:
            file.write(b"%d" % number)

    found = scan(tmp_path)

    assert {name: data for name, (_, data) in found.items()} == {
        name: b"%d" % number for number, name in enumerate(names)
    }
    assert len(set(twins)) == 2


# ---- everything at once

names = st.binary(min_size=1, max_size=4).filter(
    lambda name: name not in (b".", b"..") and not {0, 47} & set(name)
)
modes = st.integers(0, 0o7777)
times = st.integers(-(2**31) * 10**9, 2**33 * 10**9)
attributes = st.dictionaries(
    st.binary(min_size=1, max_size=3)
    .filter(lambda name: 0 not in name)
    .map(lambda name: b"user." + name),
    st.binary(max_size=20),
    max_size=2,
)
contents = st.one_of(
    st.binary(max_size=40),
    st.tuples(st.lists(st.integers(0, 60), max_size=5, unique=True), st.integers(0, 250_000)),
)
plans = st.lists(
    st.tuples(
        st.sampled_from(["file", "folder", "symlink", "fifo", "socket", "link"]),
        names,
        st.integers(0, 100),
        contents,
        modes,
        times,
        attributes,
    ),
    max_size=15,
)


def plant(root: bytes, plan: list[Any]) -> None:
    """Make a tree; what cannot be made, such as a second entry of one name, is left out."""
    folders, files = [root], list[bytes]()
    made = []
    for kind, name, where, content, mode, time_ns, attrs in plan:
        path = folders[where % len(folders)] + b"/" + name
        if os.path.lexists(path) or (kind == "link" and not files):
            continue
        if kind == "folder":
            os.mkdir(path)
            folders.append(path)
        elif kind == "symlink":
            os.symlink(name, path)
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "socket":
            os.mknod(path, stat.S_IFSOCK | 0o600)
        elif kind == "link":
            os.link(files[where % len(files)], path, follow_symlinks=False)
            continue
        else:
            fill(path, content)
            files.append(path)
        made.append((kind, path, mode, time_ns, attrs))
    # Folders last: what is made in them moves their times.
    for kind, path, mode, time_ns, attrs in reversed(made):
        if kind in ("file", "folder"):
            for name, value in attrs.items():
                os.setxattr(path, name, value)
        if kind != "symlink":
            # Whoever is not root has to get in and read.
            os.chmod(path, mode | (0o700 if kind == "folder" else 0o600))
        os.utime(path, ns=(0, time_ns), follow_symlinks=False)


def fill(path: bytes, content: Any) -> None:
    """Write bytes, or blocks of data with holes between them."""
    with open(path, "wb") as file:
        if isinstance(content, bytes):
            file.write(content)
            return
        blocks, size = content
        for block in blocks:
            file.seek(block * 4096)
            file.write(b"%4096d" % block)
        file.truncate(size)


def below(root: bytes) -> Iterator[bytes]:
    """Yield every path in a tree."""
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            yield os.path.relpath(os.path.join(folder, name), root)


def assert_describes(found: tuple[Found, bytes], path: bytes) -> None:
    """Hold one entry against what the system says, asked in another way."""
    entry, data = found
    node, extra, status = entry.node, entry.node.extra or Extra(), os.lstat(path)
    assert node.kind == KINDS[stat.S_IFMT(status.st_mode)]
    assert (node.mode, node.uid, node.gid) == (
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
    )
    assert (node.mtime_ns, node.ctime_ns, node.inode) == (
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
    )
    has_names = node.kind != DIRECTORY and status.st_nlink > 1
    assert (extra.link != 0, entry.links) == (has_names, status.st_nlink if has_names else 1)
    assert extra.target == (os.readlink(path) if node.kind == SYMLINK else None)
    there = os.listxattr(path, follow_symlinks=False)
    assert extra.xattrs == (
        {os.fsencode(n): os.getxattr(path, n, follow_symlinks=False) for n in there} or None
    )
    assert node.size == (status.st_size if node.kind == FILE else 0)
    if node.kind == FILE:
        with open(path, "rb") as file:
            assert whole(node, data) == file.read()
        # What is stored is no more than what is on the disk; short tails are data.
        assert len(data) <= max(status.st_blocks * 512, status.st_size % 4096)


@settings(max_examples=80, deadline=None)
@given(plans)
@example([("file", b"a", 0, ([3, 40], 200_000), 0o4755, 1, {b"user.x": b"\xff"})])
def test_scan_describes_exactly_what_is_there(plan: list[Any]) -> None:
    """Kinds, names, owners, modes, times, links, holes and attributes, whatever is mixed."""
    with tempfile.TemporaryDirectory() as place:
        root = os.fsencode(place) + b"/root"
        os.mkdir(root)
        plant(root, plan)

        found = scan(root)

        assert found.keys() == set(below(root))
        for path, entry in found.items():
            assert_describes(entry, root + b"/" + path)
        # Same number, same inode; and the other way round.
        numbers = {
            (e.node.extra.link, e.node.inode)
            for e, _ in found.values()
            if e.links > 1 and e.node.extra
        }
        assert len(numbers) == len({n for n, _ in numbers}) == len({i for _, i in numbers})


def test_devices_and_sockets_are_recorded_and_never_opened(tmp_path: Path) -> None:
    """The number of a device is metadata."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))

    ((null, _),) = scan(Path("/dev/null")).values()
    ((listening, _),) = scan(tmp_path).values()

    assert (null.node.kind, null.node.extra) == (CHAR, Extra(rdev=os.makedev(1, 3)))
    assert (listening.node.kind, listening.node.extra) == (SOCKET, None)
