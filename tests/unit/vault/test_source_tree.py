"""A tree is walked whole, in order, within bounds, whatever happens to it meanwhile."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopbackup.errors import InputError
from loopbackup.vault.format.entries import (
    DIRECTORY,
    FIFO,
    FILE,
    SOCKET,
    SYMLINK,
    Extra,
    tree_order,
)
from loopbackup.vault.source import Found, ScanProblem, open_source, subject_from_path
from loopbackup.vault.source.tree import TreeSource

NOBODY = 65534

names = st.binary(min_size=1, max_size=6).filter(
    lambda name: name not in (b".", b"..") and not {0, 47} & set(name)
)
trees = st.recursive(
    st.binary(max_size=8), lambda inner: st.dictionaries(names, inner, max_size=5), max_leaves=20
)


@contextmanager
def open_to_all() -> Iterator[Path]:
    """Give a folder that an unprivileged user can reach."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Act as a user whom permissions bind."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def plant(root: bytes, tree: object) -> None:
    """Make folders of dictionaries and files of bytes."""
    if isinstance(tree, bytes):
        Path(os.fsdecode(root)).write_bytes(tree)
        return
    assert isinstance(tree, dict)
    os.mkdir(root)
    for name, inner in tree.items():
        plant(root + b"/" + name, inner)


def paths_of(source: TreeSource) -> list[bytes]:
    """Scan a source in which nothing goes wrong, and close it."""
    found = list(source.scan())
    source.close()
    assert [entry for entry in found if isinstance(entry, ScanProblem)] == []
    return [entry.node.path for entry in found if isinstance(entry, Found)]


def read(source: TreeSource, found: Found) -> tuple[bytes, bool]:
    """Read the content of *found*, and tell whether it changed."""
    buffer, content = bytearray(4096), b""
    with source.open(found) as reader:
        while count := reader.readinto(memoryview(buffer)):
            content += buffer[:count]
        return content, reader.changed()


def chain(root: Path, depth: int, name: bytes = b"d") -> None:
    """Make a chain of folders of one name, deeper than any path can say."""
    fd = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    with os.fdopen(os.open("leaf", os.O_CREAT | os.O_WRONLY, dir_fd=fd), "wb") as leaf:
        leaf.write(b"deep")
    os.close(fd)


def unchain(root: Path, name: bytes = b"d") -> None:
    """Remove a chain by lifting one folder after the other to the top."""
    top = os.fsencode(root) + b"/" + name
    while os.path.exists(top + b"/" + name):
        os.rename(top + b"/" + name, top + b".next")
        shutil.rmtree(top)
        os.rename(top + b".next", top)
    shutil.rmtree(top)


@settings(max_examples=60)
@given(trees.filter(lambda tree: isinstance(tree, dict)))
def test_scan_yields_every_entry_once_in_tree_order(tree: object) -> None:
    """Names are any bytes; the order is by components."""
    with tempfile.TemporaryDirectory() as place:
        root = os.fsencode(place) + b"/root"
        plant(root, tree)
        there = [
            os.path.relpath(os.path.join(folder, name), root)
            for folder, folders, files in os.walk(root)
            for name in folders + files
        ]

        walked = paths_of(TreeSource(root))

    assert walked == sorted(there, key=tree_order)


def test_metadata_is_what_lstat_says(tmp_path: Path) -> None:
    """All kinds of entries are recorded, links as themselves."""
    (tmp_path / "file").write_bytes(b"hello")
    os.chmod(tmp_path / "file", 0o4750)
    os.utime(tmp_path / "file", ns=(1, 1_234_567_890_123_456_789))
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/no/such/place")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    source = TreeSource(tmp_path)

    nodes = {entry.node.path: entry.node for entry in source.scan() if isinstance(entry, Found)}

    status = os.lstat(tmp_path / "file")
    file = nodes[b"file"]
    assert (file.kind, file.mode, file.size) == (FILE, 0o4750, 5)
    assert (file.uid, file.gid, file.inode) == (status.st_uid, status.st_gid, status.st_ino)
    assert (file.mtime_ns, file.ctime_ns) == (1_234_567_890_123_456_789, status.st_ctime_ns)
    assert file.user == (tmp_path / "file").owner()
    assert nodes[b"link"].extra == Extra(target=b"/no/such/place")
    kinds = [nodes[name].kind for name in (b"folder", b"link", b"pipe", b"socket")]
    assert kinds == [DIRECTORY, SYMLINK, FIFO, SOCKET]
    assert nodes[b"folder"].size == 0


def test_single_file_is_a_source(tmp_path: Path) -> None:
    """A file goes by its own name, without its neighbours."""
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"22")

    source = TreeSource(tmp_path / "b")
    (found,) = source.scan()

    assert isinstance(found, Found)
    assert found.node.path == b"b"


def test_root_that_is_a_link_is_followed(tmp_path: Path) -> None:
    """Whoever names a link as the source means what it leads to."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a").touch()
    (tmp_path / "link").symlink_to("real")

    assert paths_of(TreeSource(tmp_path / "link")) == [b"a"]


@pytest.mark.parametrize("path", ["missing", "a\0b", ""], ids=repr)
def test_source_that_is_not_there_is_an_input_error(path: str) -> None:
    """A misspelt source is told before anything is stored."""
    with pytest.raises(InputError):
        TreeSource(path)


def test_file_url_is_a_path_taken_literally(tmp_path: Path) -> None:
    """Nothing in a file URL is unquoted."""
    (tmp_path / "a%20b").mkdir()
    (tmp_path / "a%20b" / "x").touch()

    source = open_source(f"file://{tmp_path}/a%20b")

    assert isinstance(source, TreeSource)
    assert paths_of(source) == [b"x"]


def test_folder_of_the_vault_is_passed_over(tmp_path: Path) -> None:
    """A vault inside its own source is left out, and the source says where."""
    (tmp_path / "data").mkdir()
    (tmp_path / "vault" / "packs").mkdir(parents=True)
    status = os.stat(tmp_path / "vault")
    identity = (status.st_dev, status.st_ino)

    source = TreeSource(tmp_path, forbidden=[identity])

    assert paths_of(source) == [b"data"]
    assert source.skipped == [b"vault"]
    with pytest.raises(InputError):
        TreeSource(tmp_path / "vault", forbidden=[identity])


def test_include_brings_along_only_the_folders_on_the_way(tmp_path: Path) -> None:
    """Folders without anything selected leave no trace."""
    for name in ("a/x/1.pdf", "a/y/2.txt", "b/3.txt", "c/d/e/4.pdf"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    source = TreeSource(tmp_path, include=["*.pdf"], exclude=["e/"])

    assert paths_of(source) == [b"a", b"a/x", b"a/x/1.pdf"]


def test_subjects_follow_the_tree(tmp_path: Path) -> None:
    """A person's folder and all below is about him; the folder above is not."""
    (tmp_path / "users" / "42" / "a").mkdir(parents=True)
    (tmp_path / "users" / "42" / "a" / "cv").touch()
    (tmp_path / "readme").touch()
    source = TreeSource(tmp_path, subject=subject_from_path("users/{subject}/**"))

    found = [entry for entry in source.scan() if isinstance(entry, Found)]

    assert [(entry.node.path, entry.subject, entry.no_subject) for entry in found] == [
        (b"readme", None, "unmatched"),
        (b"users", None, None),
        (b"users/42", ("42",), None),
        (b"users/42/a", ("42",), None),
        (b"users/42/a/cv", ("42",), None),
    ]


@pytest.mark.parametrize(("depth", "name"), [(300, b"d" * 40), (1200, b"d")])
def test_depth_needs_neither_recursion_nor_descriptors(
    tmp_path: Path, depth: int, name: bytes
) -> None:
    """Paths longer than the system allows are walked with a bounded number of files open."""
    chain(tmp_path, depth, name)
    (tmp_path / "z").touch()
    most, content = 0, b""
    source = TreeSource(tmp_path)

    walked = []
    for entry in source.scan():
        assert isinstance(entry, Found)
        walked.append(entry.node.path)
        most = max(most, len(os.listdir("/proc/self/fd")))
        if entry.node.path.endswith(b"leaf"):
            content, _ = read(source, entry)
    unchain(tmp_path, name)

    assert len(walked) == depth + 2
    assert content == b"deep"
    assert walked[-1] == b"z"
    assert most < 64 + 40


def test_files_beside_deep_folders_are_found_on_the_way_back(tmp_path: Path) -> None:
    """Folders that were closed on the way down are opened again."""
    chain(tmp_path, 150)
    folder = tmp_path
    for _ in range(150):
        folder /= "d"
        (folder / "z").write_bytes(b"z")
    source = TreeSource(tmp_path)

    contents = [
        read(source, entry)
        for entry in source.scan()
        if isinstance(entry, Found) and entry.node.path.endswith(b"z")
    ]

    assert contents == [(b"z", False)] * 150


def test_folder_that_is_moved_away_meanwhile_is_reported(tmp_path: Path) -> None:
    """What could not be reached any more is told, and the rest is backed up."""
    chain(tmp_path, 150)
    folder = tmp_path
    for _ in range(150):
        folder /= "d"
        (folder / "z").touch()
    (tmp_path / "z").touch()
    source = TreeSource(tmp_path)

    seen: list[Found | ScanProblem] = []
    for entry in source.scan():
        seen.append(entry)
        if isinstance(entry, Found) and entry.node.path.endswith(b"leaf"):
            os.rename(tmp_path / "d" / "d", tmp_path / "moved")

    problems = [entry for entry in seen if isinstance(entry, ScanProblem)]
    assert problems
    assert {problem.kind for problem in problems} == {"vanished"}
    assert all(problem.in_tree for problem in problems)
    assert isinstance(seen[-1], Found)
    assert seen[-1].node.path == b"z"


def test_path_longer_than_the_format_allows_is_reported(tmp_path: Path) -> None:
    """An entry that cannot be recorded is told at the folder that holds it."""
    chain(tmp_path, 270, b"d" * 250)
    source = TreeSource(tmp_path)

    problems = [entry for entry in source.scan() if isinstance(entry, ScanProblem)]
    unchain(tmp_path, b"d" * 250)

    assert [problem.kind for problem in problems] == ["too_long"]
    assert len(problems[0].path) <= 65536


def test_folder_of_100_000_files_is_walked_quickly(tmp_path: Path) -> None:
    """Cost grows with the number of names, not faster."""
    fd = os.open(tmp_path, os.O_RDONLY)
    for number in range(100_000):
        os.mknod(f"f{number}", dir_fd=fd)
    os.close(fd)
    source = TreeSource(tmp_path)

    started = time.process_time()
    count = sum(1 for _ in source.scan())
    seconds = time.process_time() - started
    shutil.rmtree(tmp_path)

    assert count == 100_000
    assert seconds < 20


def test_file_that_vanishes_before_it_is_opened_is_an_oserror(tmp_path: Path) -> None:
    """The backup goes on without it."""
    (tmp_path / "a").touch()
    source = TreeSource(tmp_path)
    scan = source.scan()
    found = next(scan)
    assert isinstance(found, Found)
    os.unlink(tmp_path / "a")

    with pytest.raises(FileNotFoundError):
        source.open(found)
    with pytest.raises(FileNotFoundError):
        source.refresh(found)
    source.close()


@pytest.mark.usefixtures("step_by_step")
def test_file_that_vanishes_after_listing_is_reported(tmp_path: Path) -> None:
    """A name that was there and is not any more may have moved: it is told."""
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    scan = TreeSource(tmp_path).scan()
    next(scan)
    os.unlink(tmp_path / "b")

    (problem,) = scan

    assert isinstance(problem, ScanProblem)
    assert (problem.path, problem.kind, problem.in_tree) == (b"b", "vanished", False)


@pytest.mark.parametrize("what", ["link", "pipe", "folder"])
def test_file_that_is_replaced_is_not_followed_and_does_not_block(
    tmp_path: Path, what: str
) -> None:
    """Nobody can make the backup read something else by a quick exchange."""
    (tmp_path / "secret").write_bytes(b"s")
    (tmp_path / "tree").mkdir()
    file = tmp_path / "tree" / "a"
    file.write_bytes(b"mine")
    source = TreeSource(tmp_path / "tree")
    scan = source.scan()
    found = next(scan)
    assert isinstance(found, Found)
    file.unlink()
    if what == "link":
        file.symlink_to(tmp_path / "secret")
    elif what == "pipe":
        os.mkfifo(file)
    else:
        file.mkdir()

    with pytest.raises(OSError, match=r".") as opened:
        source.open(found)
    with pytest.raises(OSError, match=r".") as refreshed:
        source.refresh(found)
    source.close()

    assert opened.value.errno in (errno.ELOOP, errno.ESTALE)
    assert refreshed.value.errno == errno.ESTALE


@pytest.mark.usefixtures("step_by_step")
def test_folder_that_is_replaced_by_a_link_is_not_entered(tmp_path: Path) -> None:
    """A link put in the place of a folder leads nowhere."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "secret").touch()
    (tmp_path / "tree" / "b").mkdir(parents=True)
    (tmp_path / "tree" / "a").touch()
    real_lstat = os.lstat

    def lstat_then_swap(name: bytes, *, dir_fd: int | None = None) -> os.stat_result:
        status = real_lstat(name, dir_fd=dir_fd)
        if name == b"b":
            (tmp_path / "tree" / "b").rmdir()
            (tmp_path / "tree" / "b").symlink_to(tmp_path / "other")
        return status

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "lstat", lstat_then_swap)
        found = list(TreeSource(tmp_path / "tree").scan())

    assert [type(entry) for entry in found] == [Found, Found, ScanProblem]
    assert isinstance(found[1], Found)
    assert found[1].node.extra == Extra(problem="vanished")


@pytest.mark.parametrize("how", ["grows", "shrinks", "is rewritten", "is renamed over"])
def test_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path, how: str) -> None:
    """A second look gives the new state, which then reads as unchanged."""
    file = tmp_path / "a"
    file.write_bytes(b"x" * 100)
    source = TreeSource(tmp_path)
    scan = source.scan()
    found = next(scan)
    assert isinstance(found, Found)
    if how == "grows":
        file.write_bytes(b"x" * 200)
    elif how == "shrinks":
        os.truncate(file, 10)
    elif how == "is rewritten":
        before = os.stat(file)
        while os.stat(file).st_ctime_ns == before.st_ctime_ns:
            file.write_bytes(b"y" * 100)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        (tmp_path / "new").write_bytes(b"z" * 100)
        os.rename(tmp_path / "new", file)

    _, first = read(source, found)
    again = source.refresh(found)
    content, second = read(source, again)
    source.close()

    assert (first, second) == (True, False)
    assert content == file.read_bytes()


def test_reading_leaves_the_time_of_access_alone(tmp_path: Path) -> None:
    """A backup does not look like a use of the file."""
    (tmp_path / "a").write_bytes(b"x")
    os.utime(tmp_path / "a", ns=(1_000, 2_000))
    source = TreeSource(tmp_path)

    for found in source.scan():
        assert isinstance(found, Found)
        read(source, found)

    assert os.stat(tmp_path / "a").st_atime_ns == 1_000


def test_what_may_not_be_read_is_told_and_the_rest_is_walked() -> None:
    """Permissions cost what they protect and nothing else."""
    with open_to_all() as root:
        (root / "closed").mkdir(mode=0o700)
        (root / "closed" / "x").touch()
        (root / "file").write_bytes(b"mine")
        os.chmod(root / "file", 0o600)
        (root / "listed").mkdir()
        (root / "listed" / "y").touch()
        (root / "z").touch()
        if os.geteuid() != 0:
            os.chmod(root / "closed", 0)
            os.chmod(root / "file", 0)
        os.chmod(root / "listed", 0o744)
        source = TreeSource(root)

        with unprivileged():
            found, errors = [], []
            for entry in source.scan():
                found.append(entry)
                if isinstance(entry, Found) and entry.node.kind == FILE:
                    try:
                        read(source, entry)
                    except PermissionError:
                        errors.append(entry.node.path)
        os.chmod(root / "closed", 0o700)

    problems = [entry for entry in found if isinstance(entry, ScanProblem)]
    paths = [entry.node.path for entry in found if isinstance(entry, Found)]
    assert [(p.path, p.kind) for p in problems if p.in_tree] == [(b"closed", "unreadable")]
    assert errors == [b"file"]
    assert paths[0] == b"closed"
    assert paths[-1] == b"z"
    if os.getuid() == 0:
        # Its names can be read and what stands behind them cannot.
        assert [p.path for p in problems if not p.in_tree] == [b"listed/y"]


def test_messages_hold_no_names(tmp_path: Path) -> None:
    """What is logged about a problem names nobody."""
    (tmp_path / "person-svensson").mkdir()
    scan = TreeSource(tmp_path)
    real_listdir = os.listdir
    calls: list[int] = []

    def fail_second(fd: int) -> list[str]:
        calls.append(fd)
        if len(calls) > 1:
            raise OSError(5, "Input/output error", "person-svensson")
        return real_listdir(fd)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "listdir", fail_second)
        (_, problem) = scan.scan()
    with pytest.raises(InputError) as caught:
        TreeSource(tmp_path / "user-42")

    assert isinstance(problem, ScanProblem)
    assert problem.message == "input/output error"
    assert "user-42" not in str(caught.value)


def test_abandoned_scan_leaves_nothing_open(tmp_path: Path) -> None:
    """Closing the source frees all descriptors at once."""
    chain(tmp_path, 10)
    before = len(os.listdir("/proc/self/fd"))
    source = TreeSource(tmp_path)
    scan = source.scan()
    for _ in range(5):
        next(scan)

    source.close()

    assert len(os.listdir("/proc/self/fd")) == before
    assert stat.S_ISDIR(os.stat(tmp_path).st_mode)
