"""Trees come back as they were: backed up, restored, and held against each other in all."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.e2e.support import new_vault

IS_ROOT = os.geteuid() == 0
NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
TIMES = st.integers(0, 2**31 * 10**9)
MODES = st.integers(0, 0o7777)
OWNERS = st.sampled_from([(0, 0), (1000, 1000), (65534, 65534), (123_456, 7)])
CONTENT = st.one_of(
    st.binary(max_size=300),
    st.integers(1, 400).map(lambda n: b"a longer text, " * n * 40),
    st.integers(1, 3).map(lambda n: os.urandom(n * 100_000)),
)
BLOCK = 65_536


@st.composite
def entries(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Draw what an entry is, and all that it has."""
    kinds = ["file", "file", "folder", "folder", "link", "hard link", "holes", "fifo", "socket"]
    kind = draw(st.sampled_from([*kinds, "device"] if IS_ROOT else kinds))
    return kind, {
        "content": draw(CONTENT),
        "holes": draw(st.lists(st.booleans(), min_size=1, max_size=6)),
        "target": draw(NAMES),
        "mode": draw(MODES) | (0o700 if not IS_ROOT else 0),
        "time_ns": draw(TIMES),
        "owner": draw(OWNERS),
        "xattrs": draw(
            st.dictionaries(st.sampled_from([b"a", b"\xc3\xa9", b"z" * 40]), st.binary(max_size=60))
        ),
        "device": draw(st.sampled_from([(1, 3), (5, 0), (240, 255)])),
    }


def make(path: bytes, kind: str, has: dict[str, Any], files: list[bytes]) -> bool:
    """Make an entry; False where it cannot be made."""
    if kind == "folder":
        os.mkdir(path)
    elif kind == "link":
        os.symlink(has["target"], path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o600)
    elif kind == "device":
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(*has["device"]))
    elif kind == "hard link":
        if not files:
            return False
        os.link(files[-1], path)
    else:
        with open(path, "xb") as file:
            if kind == "file":
                file.write(has["content"])
            else:
                for number, hole in enumerate(has["holes"]):
                    if not hole:
                        file.seek(number * BLOCK)
                        file.write(b"\1" * BLOCK)
                file.truncate(len(has["holes"]) * BLOCK)
        files.append(path)
    return True


def dress(path: bytes, kind: str, has: dict[str, Any]) -> None:
    """Give an entry its owner, attributes, mode and times."""
    if IS_ROOT:
        os.chown(path, *has["owner"], follow_symlinks=False)
    if kind in ("file", "folder", "holes"):
        for name, value in has["xattrs"].items():
            os.setxattr(path, b"user." + name, value)
    if kind != "link":
        os.chmod(path, has["mode"])
    os.utime(path, ns=(has["time_ns"], has["time_ns"]), follow_symlinks=False)


def build(root: bytes, drawn: list[tuple[bytes, int, tuple[str, dict[str, Any]]]]) -> None:
    """Make a tree: each entry below the folder that its number chooses."""
    folders, files, made = [root], list[bytes](), []
    for name, where, (kind, has) in drawn:
        path = os.path.join(folders[where % len(folders)], name)
        if os.path.lexists(path) or not make(path, kind, has, files):
            continue
        made.append((path, kind, has))
        if kind == "folder":
            folders.append(path)
    for path, kind, has in reversed(made):
        dress(path, kind, has)


def extents(path: bytes) -> list[tuple[int, int]]:
    """Find the data of a file."""
    found, at = [], 0
    fd = os.open(path, os.O_RDONLY)
    try:
        end = os.fstat(fd).st_size
        while at < end:
            try:
                start = os.lseek(fd, at, os.SEEK_DATA)
            except OSError:
                break
            at = os.lseek(fd, start, os.SEEK_HOLE)
            found.append((start, at - start))
    finally:
        os.close(fd)
    return found


def describe(root: bytes) -> dict[bytes, tuple[Any, ...]]:
    """Say of each entry below a folder all that should come back."""
    found: dict[bytes, tuple[Any, ...]] = {}
    inodes: dict[int, bytes] = {}
    for folder, folders, names in os.walk(root):
        for name in sorted(folders + names):
            path = os.path.join(folder, name)
            short, status = os.path.relpath(path, root), os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            found[short] = (
                status.st_mode,
                (status.st_uid, status.st_gid),
                status.st_mtime_ns,
                status.st_rdev,
                0 if kind == stat.S_IFDIR else status.st_size,
                os.readlink(path) if kind == stat.S_IFLNK else None,
                Path(os.fsdecode(path)).read_bytes() if kind == stat.S_IFREG else None,
                extents(path) if kind == stat.S_IFREG else None,
                {
                    n: os.getxattr(path, n, follow_symlinks=False)
                    for n in os.listxattr(path, follow_symlinks=False)
                },
                0 if kind == stat.S_IFDIR else status.st_nlink,
                short if kind == stat.S_IFDIR else inodes.setdefault(status.st_ino, short),
            )
    return found


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.tuples(NAMES, st.integers(0, 9), entries()), max_size=25))
def test_every_tree_comes_back_equal(
    tmp_path_factory: pytest.TempPathFactory,
    drawn: list[tuple[bytes, int, tuple[str, dict[str, Any]]]],
) -> None:
    """Names, types, content, holes, links, owners, modes, times and attributes."""
    base = tmp_path_factory.mktemp("tree")
    source, target = base / "source", base / "target"
    source.mkdir()
    build(os.fsencode(source), drawn)
    before = describe(os.fsencode(source))

    with new_vault() as vault:
        first = vault.backup(source, name="tree")
        second = vault.backup(source, name="tree")
        vault.restore(second, target)
        restored = describe(os.fsencode(target)) if before else {}
        again = vault.restore(first, target, overwrite="changed")

        assert restored == before
        assert again.bytes_written == 0
        assert restored == (describe(os.fsencode(target)) if before else {})
        assert not second.diff(first)
        assert vault.check(data=True).ok
