"""Whatever a list of entries describes stands on the disk afterwards."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.vault.target_support import everything_below, restore

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
    tree_order,
)
from loopbackup.vault.target import LocalTarget, data_size

BLOCK_BYTES = 4096
IS_ROOT = os.geteuid() == 0
TYPES = {
    FILE: stat.S_IFREG,
    DIRECTORY: stat.S_IFDIR,
    SYMLINK: stat.S_IFLNK,
    FIFO: stat.S_IFIFO,
    CHAR: stat.S_IFCHR,
    BLOCK: stat.S_IFBLK,
    SOCKET: stat.S_IFSOCK,
}

# Few names, so that the same ones come as files, folders and parents of others.
names = st.sampled_from([b"a", b"b", b"\xff", b"c\n", b".d", b"x" * 255])
paths = st.lists(names, min_size=1, max_size=4).map(b"/".join)
owners = st.integers(0, 70_000) if IS_ROOT else st.just(os.geteuid())
groups = st.integers(0, 70_000) if IS_ROOT else st.just(os.getegid())
modes = st.integers(0, 0o7777) if IS_ROOT else st.sampled_from([0o700, 0o755])
# The whole range of ext4, whose first second has no fractions.
times = st.integers(-(2**31 - 1) * 10**9, 2**33 * 10**9)
kinds = st.sampled_from([FILE, DIRECTORY, SYMLINK, FIFO, SOCKET, *([CHAR, BLOCK] * IS_ROOT)])
xattrs = st.none() | st.dictionaries(
    st.sampled_from([b"user.a", b"user.\xe4"]), st.binary(max_size=40), max_size=2
)


@st.composite
def holes(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    """Give a size and where data lie, block by block as file systems keep them."""
    blocks = draw(st.lists(st.booleans(), max_size=8))
    extents: list[tuple[int, int]] = []
    for number, is_data in enumerate(blocks):
        at = number * BLOCK_BYTES
        if not is_data:
            continue
        if extents and sum(extents[-1]) == at:
            extents[-1] = (extents[-1][0], extents[-1][1] + BLOCK_BYTES)
        else:
            extents.append((at, BLOCK_BYTES))
    return len(blocks) * BLOCK_BYTES, extents


@st.composite
def node(draw: st.DrawFn, path: bytes, kind: int) -> tuple[Node, bytes]:
    """Describe one entry, with content that fits it."""
    extra = Extra()
    size = 0
    if kind == FILE:
        size = draw(st.integers(0, 300))
        if draw(st.booleans()):
            size, extra.extents = draw(holes())
    if kind in (FILE, DIRECTORY):
        extra.xattrs = draw(xattrs)
    if kind == SYMLINK:
        extra.target = draw(st.binary(min_size=1, max_size=30).filter(lambda to: 0 not in to))
    if kind in (CHAR, BLOCK):
        extra.rdev = os.makedev(draw(st.integers(0, 4095)), draw(st.integers(0, 2**20 - 1)))
    made = Node(path, kind, draw(modes), draw(owners), draw(groups), size=size, extra=extra)
    made.mtime_ns = draw(times)
    return made, draw(st.binary(min_size=1, max_size=8)) * data_size(made)


@st.composite
def trees(draw: st.DrawFn) -> list[tuple[Node, bytes]]:
    """Give entries in tree order, each below folders only, some under several names."""
    chosen: dict[bytes, tuple[Node, bytes]] = {}
    for path in sorted(draw(st.sets(paths, max_size=10)), key=tree_order):
        parents = [path[:at] for at in range(len(path)) if path[at : at + 1] == b"/"]
        if any(parent in chosen and chosen[parent][0].kind != DIRECTORY for parent in parents):
            continue
        for parent in parents:
            if parent not in chosen:
                chosen[parent] = draw(node(parent, DIRECTORY))
        chosen[path] = draw(node(path, draw(kinds)))
    files = [path for path, (made, _) in chosen.items() if made.kind == FILE]
    for number, path in enumerate(files[: draw(st.integers(0, 2))], 1):
        made, content = chosen[path]
        assert made.extra is not None
        made.extra.link = number
        other = path + b"2" if len(path.rpartition(b"/")[2]) < 200 else path[:-1]
        if other not in chosen:
            fields = {name: getattr(made, name) for name in made.__struct_fields__}
            chosen[other] = Node(**{**fields, "path": other}), content
    return [
        (made, content[: data_size(made)])
        for made, content in sorted(chosen.values(), key=lambda pair: tree_order(pair[0].path))
    ]


def described(made: Node, content: bytes) -> dict[str, Any]:
    """Say what must stand on the disk."""
    extra = made.extra or Extra()
    facts: dict[str, Any] = {
        "type": TYPES[made.kind],
        "owner": (made.uid, made.gid),
        "mtime_ns": made.mtime_ns,
        "rdev": extra.rdev,
        "target": extra.target,
        "xattrs": extra.xattrs or {},
        "mode": made.mode if made.kind != SYMLINK else None,
    }
    if made.kind == FILE:
        facts |= {"size": made.size, "content": content, "data": extra.extents or None}
    return facts


def standing(path: bytes, made: Node) -> dict[str, Any]:
    """Say what does."""
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    is_link = kind == stat.S_IFLNK
    facts: dict[str, Any] = {
        "type": kind,
        "owner": (status.st_uid, status.st_gid),
        "mtime_ns": status.st_mtime_ns,
        "rdev": status.st_rdev,
        "target": os.readlink(path) if is_link else None,
        "xattrs": {
            os.fsencode(name): os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)
        },
        "mode": None if is_link else stat.S_IMODE(status.st_mode),
    }
    if kind == stat.S_IFREG:
        extents = made.extra.extents if made.extra else None
        where = [(0, status.st_size)] if extents is None else extents
        with open(path, "rb") as opened:
            content = b"".join(os.pread(opened.fileno(), n, at) for at, n in where)
            data = data_of(opened.fileno()) if extents else None
        facts |= {"size": status.st_size, "content": content, "data": data}
    return facts


def data_of(fd: int) -> list[tuple[int, int]]:
    """Ask the file system where a file has data: (offset, length)."""
    found: list[tuple[int, int]] = []
    end = 0
    while True:
        try:
            at = os.lseek(fd, end, os.SEEK_DATA)
        except OSError:
            return found
        end = os.lseek(fd, at, os.SEEK_HOLE)
        found.append((at, end - at))


@settings(max_examples=150)
@given(trees(), st.sampled_from(["never", "changed", "always"]))
def test_what_is_described_stands_there(entries: list[tuple[Node, bytes]], overwrite: Any) -> None:
    """Types, names, permissions, owners, times, links, holes and attributes, all at once."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place, "out")

        problems = restore(LocalTarget(root, overwrite=overwrite), entries)
        again = restore(LocalTarget(root, overwrite="changed"), entries)

        os.chmod(root, 0o700)
        paths_there = {os.fsencode(path) for path in everything_below(root)}
        found = {n.path: standing(os.fsencode(root) + b"/" + n.path, n) for n, _ in entries}
        groups_there: dict[int, set[int]] = {}
        for made, _ in entries:
            number = made.extra.link if made.extra else 0
            if number:
                inode = os.lstat(os.fsencode(root) + b"/" + made.path).st_ino
                groups_there.setdefault(number, set()).add(inode)

    assert (problems, again) == ([], [])
    assert paths_there == {made.path for made, _ in entries}
    assert found == {made.path: described(made, content) for made, content in entries}
    assert all(len(inodes) == 1 for inodes in groups_there.values())
