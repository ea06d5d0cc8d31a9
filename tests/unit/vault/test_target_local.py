"""A restore writes what was backed up, below its folder, completely or not at all."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.vault.target_support import (
    everything_below,
    file,
    folder,
    link,
    restore,
    unprivileged,
)

from loopbackup.errors import DamagedData, InputError
from loopbackup.vault.format.entries import (
    BLOCK,
    CHAR,
    DIRECTORY,
    FIFO,
    FILE,
    ITEM,
    PROBLEM,
    SOCKET,
    SYMLINK,
    Extra,
    Node,
)
from loopbackup.vault.source import Found
from loopbackup.vault.source.tree import TreeSource
from loopbackup.vault.target import LocalTarget, NotRestored, Target, open_target
from loopbackup.vault.target import names as publishing

names = st.binary(min_size=1, max_size=6).filter(
    lambda name: name not in (b".", b"..") and not {0, 47} & set(name)
)
modes = st.sampled_from([0o600, 0o644, 0o755, 0o4711, 0o000, 0o1777])
times = st.integers(-(2**31) * 10**9, 2**32 * 10**9)
leaves = st.tuples(st.binary(max_size=64), modes, times) | st.tuples(
    st.just("link"), st.binary(min_size=1, max_size=20).filter(lambda t: 0 not in t), times
)
trees = st.recursive(
    leaves,
    lambda inner: st.tuples(st.dictionaries(names, inner, max_size=4), modes, times),
    max_leaves=12,
)


def plant(path: bytes, tree: Any) -> None:
    """Make what *tree* describes: (content or entries, mode, time)."""
    what, mode, mtime = tree
    if what == "link":
        os.symlink(mode, path)
        os.utime(path, ns=(0, mtime), follow_symlinks=False)
        return
    if isinstance(what, dict):
        os.mkdir(path)
        for name, inner in what.items():
            plant(path + b"/" + name, inner)
    else:
        Path(os.fsdecode(path)).write_bytes(what)
    os.chmod(path, mode)
    os.utime(path, ns=(0, mtime))


def picture(root: Path) -> dict[bytes, Any]:
    """Describe everything below *root*, apart from inodes and times of the system."""
    seen = {}
    source = TreeSource(root)
    for entry in source.scan():
        assert isinstance(entry, Found)
        node = entry.node
        content = b""
        if node.kind == FILE:
            with source.open(entry) as reader:
                buffer = bytearray(4096)
                while count := reader.readinto(memoryview(buffer)):
                    content += buffer[:count]
        owner = (node.uid, node.gid)
        seen[node.path] = (node.kind, node.mode, owner, node.mtime_ns, content, node.extra)
    source.close()
    return seen


def copy_tree(source_path: Path, target: Target) -> list[str]:
    """Back up and restore in one go."""
    nodes = []
    source = TreeSource(source_path)
    for entry in source.scan():
        assert isinstance(entry, Found)
        content = b""
        if entry.node.kind == FILE:
            with source.open(entry) as reader:
                buffer = bytearray(1 << 16)
                content = bytes(buffer[: reader.readinto(memoryview(buffer))])
        nodes.append((entry.node, content))
    source.close()
    return restore(target, nodes)


@settings(max_examples=80)
@given(st.dictionaries(names, trees, max_size=5))
def test_restored_tree_equals_the_one_that_was_backed_up(entries: dict[bytes, Any]) -> None:
    """Content, names of any bytes, links, modes, owners and times come back."""
    with tempfile.TemporaryDirectory() as place:
        plant(os.fsencode(place) + b"/a", (entries, 0o755, 0))

        problems = copy_tree(Path(place, "a"), LocalTarget(Path(place, "b")))

        assert problems == []
        assert picture(Path(place, "a")) == picture(Path(place, "b"))


def test_deep_tree_is_restored_with_few_descriptors(tmp_path: Path) -> None:
    """Depth costs neither recursion nor open files."""
    nodes = [folder(b"/".join([b"d"] * depth), mode=0o711) for depth in range(1, 301)]
    nodes.append(file(nodes[-1][0].path + b"/leaf"))
    target = LocalTarget(tmp_path / "out")
    before = len(os.listdir("/proc/self/fd"))

    for node, content in nodes:
        assert target.prepare(node) == "write"
        if node.kind == FILE:
            target.write(node, [content])
        else:
            target.make(node)
    most = len(os.listdir("/proc/self/fd")) - before
    problems = target.finish()
    target.close()

    assert problems == []
    assert most <= 65
    leaf = tmp_path / "out" / Path(*["d"] * 300) / "leaf"
    assert leaf.read_bytes() == b"new"
    assert stat.S_IMODE(leaf.parent.stat().st_mode) == 0o711
    assert leaf.parent.stat().st_mtime_ns == 10**18


def test_folders_that_no_node_names_are_private(tmp_path: Path) -> None:
    """A part of a snapshot brings the folders around it along, closed to others."""
    target = LocalTarget(tmp_path / "out")

    problems = restore(target, [file(b"users/42/cv.pdf")])

    assert problems == []
    for path in ("out", "out/users", "out/users/42"):
        assert stat.S_IMODE((tmp_path / path).stat().st_mode) == 0o700


def test_folder_that_comes_after_its_content_is_completed(tmp_path: Path) -> None:
    """Streams of several subjects may name a folder late."""
    target = LocalTarget(tmp_path / "out")

    problems = restore(target, [file(b"a/b"), folder(b"a", mode=0o750)])

    assert problems == []
    assert stat.S_IMODE((tmp_path / "out/a").stat().st_mode) == 0o750
    assert (tmp_path / "out/a").stat().st_mtime_ns == 10**18


def test_item_becomes_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    """An item has no permissions to restore and may be personal."""
    target = LocalTarget(tmp_path)

    restore(target, [(Node(b"mail/7", ITEM, size=2, mtime_ns=5 * 10**9), b"hi")])

    status = (tmp_path / "mail/7").stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_mtime_ns == 5 * 10**9


@pytest.mark.parametrize("kind", [FIFO, SOCKET])
def test_named_pipes_and_sockets_are_made(tmp_path: Path, kind: int) -> None:
    """A stale socket in a folder is no reason for a restore to be incomplete."""
    node = Node(b"a", kind, 0o640, os.geteuid(), os.getegid(), mtime_ns=10**9)

    problems = restore(LocalTarget(tmp_path), [(node, b"")])

    status = (tmp_path / "a").stat()
    assert problems == []
    assert stat.S_IFMT(status.st_mode) == {FIFO: stat.S_IFIFO, SOCKET: stat.S_IFSOCK}[kind]
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o640, 10**9)


@pytest.mark.parametrize("kind", [CHAR, BLOCK])
def test_device_without_root_is_told(kind: int) -> None:
    """It is neither made as something else nor passed over in silence."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o777)
        with unprivileged():
            target = LocalTarget(Path(place, "out"))
            node = Node(b"tty", kind, 0o600, extra=Extra(rdev=os.makedev(4, 64)))

            problems = restore(target, [(node, b"")])

        assert problems == ["device"]
        assert os.listdir(f"{place}/out") == []


def test_entry_that_the_backup_could_not_read_keeps_its_reason(tmp_path: Path) -> None:
    """The report of the restore says what was missing from the start."""
    nodes = [
        (Node(b"a", PROBLEM, extra=Extra(problem="vanished")), b""),
        (Node(b"b", PROBLEM), b""),
    ]

    assert restore(LocalTarget(tmp_path), nodes) == ["vanished", "unreadable"]


# ---- what stands there already


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling link"])
def test_never_leaves_everything_that_is_there(tmp_path: Path, kind: str) -> None:
    """Whatever bears the name stays as it is."""
    there = tmp_path / "a"
    if kind == "file":
        there.write_bytes(b"old")
    elif kind == "folder":
        there.mkdir(mode=0o700)
    else:
        there.symlink_to("/" if kind == "link" else "/no/such")
    before = os.lstat(there)
    target = LocalTarget(tmp_path, overwrite="never")

    answers = [target.prepare(node) for node, _ in (file(b"a"), folder(b"a"), link(b"a", b"x"))]
    target.finish()
    target.close()

    assert answers == ["skip"] * 3
    assert os.lstat(there) == before


def test_never_loses_the_race_and_not_the_other_file(tmp_path: Path) -> None:
    """A file that appears while its namesake is written is not replaced."""
    target = LocalTarget(tmp_path, overwrite="never")
    node, content = file(b"a")
    assert target.prepare(node) == "write"
    (tmp_path / "a").write_bytes(b"theirs")

    with pytest.raises(NotRestored) as caught:
        target.write(node, [content])
    target.close()

    assert caught.value.problem.kind == "exists"
    assert (tmp_path / "a").read_bytes() == b"theirs"
    assert everything_below(tmp_path) == {"a"}


def test_changed_replaces_what_differs_and_nothing_else(tmp_path: Path) -> None:
    """Same size and time, or the same target of a link, count as the same."""
    nodes = [file(b"same"), file(b"other"), link(b"link", b"x"), link(b"old", b"y"), folder(b"d")]
    restore(LocalTarget(tmp_path), nodes)
    (tmp_path / "other").write_bytes(b"edited")
    (tmp_path / "old").unlink()
    (tmp_path / "old").symlink_to("z")
    before = [os.lstat(tmp_path / name).st_ino for name in ("same", "link")]
    target = LocalTarget(tmp_path, overwrite="changed")

    answers = {node.path: target.prepare(node) for node, _ in nodes}
    problems = restore(target, nodes)

    assert answers == {
        b"same": "skip",
        b"other": "write",
        b"link": "skip",
        b"old": "write",
        b"d": "write",
    }
    assert problems == []
    assert (tmp_path / "other").read_bytes() == b"new"
    assert os.readlink(tmp_path / "old") == "y"
    assert [os.lstat(tmp_path / name).st_ino for name in ("same", "link")] == before


def test_changed_does_not_trust_an_item_without_a_time(tmp_path: Path) -> None:
    """An unknown time is not the same time."""
    node = Node(b"a", ITEM, size=1)
    restore(LocalTarget(tmp_path), [(node, b"x")])
    target = LocalTarget(tmp_path, overwrite="changed")

    answer = target.prepare(node)
    target.close()

    assert answer == "write"


def test_always_replaces_files_and_links_whole(tmp_path: Path) -> None:
    """The old file under another hard link stays as it was."""
    (tmp_path / "a").write_bytes(b"old")
    os.link(tmp_path / "a", tmp_path / "kept")
    (tmp_path / "b").symlink_to("kept")

    problems = restore(LocalTarget(tmp_path, overwrite="always"), [file(b"a"), file(b"b")])

    assert problems == []
    assert (tmp_path / "a").read_bytes() == b"new"
    assert (tmp_path / "kept").read_bytes() == b"old"
    assert not (tmp_path / "b").is_symlink()


@pytest.mark.parametrize("overwrite", ["changed", "always"])
def test_folder_and_file_never_replace_each_other(tmp_path: Path, overwrite: Any) -> None:
    """Where the kind differs so much, somebody has to look."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "precious").touch()
    (tmp_path / "file").touch()
    target = LocalTarget(tmp_path, overwrite=overwrite)

    problems = restore(target, [file(b"folder"), link(b"folder", b"x"), folder(b"file")])

    assert problems == ["in_the_way"] * 3
    assert everything_below(tmp_path) == {"folder", "folder/precious", "file"}


@pytest.mark.parametrize("overwrite", ["sometimes", "", None])
def test_choice_that_is_none_is_refused(tmp_path: Path, overwrite: Any) -> None:
    """A misspelt choice does not fall back to another."""
    with pytest.raises(InputError):
        LocalTarget(tmp_path, overwrite=overwrite)


@pytest.mark.parametrize("what", ["file", "below a file", "nul"])
def test_place_that_can_be_no_folder_is_an_input_error(tmp_path: Path, what: str) -> None:
    """The mistake is told before anything is fetched."""
    (tmp_path / "f").touch()
    place = {"file": tmp_path / "f", "below a file": tmp_path / "f/x", "nul": tmp_path / "a\0b"}

    with pytest.raises(InputError):
        open_target(place[what])
    with pytest.raises(InputError):
        open_target(tmp_path, options={"anon": True})


# ---- nothing partial


@pytest.mark.parametrize("overwrite", ["never", "always"])
@pytest.mark.parametrize(
    ("content", "size"), [(b"abc", 4), (b"abc", 2), (b"", 1)], ids=["short", "long", "empty"]
)
def test_content_of_the_wrong_size_never_appears(
    tmp_path: Path, overwrite: Any, content: bytes, size: int
) -> None:
    """A file is complete or it is not there; what was there before still is."""
    target = LocalTarget(tmp_path / "out", overwrite=overwrite)
    (tmp_path / "out/old").write_bytes(b"old")
    name = b"old" if overwrite == "always" else b"fresh"
    node, _ = file(name)
    node.size = size

    problems = restore(target, [(node, content)])

    assert problems == ["size"]
    assert everything_below(tmp_path / "out") == {"old"}
    assert (tmp_path / "out/old").read_bytes() == b"old"


@pytest.mark.parametrize("error", [DamagedData("a chunk is damaged"), KeyboardInterrupt()])
def test_error_of_the_content_goes_through_and_leaves_nothing(
    tmp_path: Path, error: BaseException
) -> None:
    """Damage is not a problem of the target."""
    target = LocalTarget(tmp_path)
    node, _ = file(b"a")

    def pieces() -> Iterator[bytes]:
        yield b"n"
        raise error

    with pytest.raises(type(error)):
        target.write(node, pieces())
    target.close()

    assert everything_below(tmp_path) == set()


def test_full_disk_leaves_nothing_and_says_so(tmp_path: Path) -> None:
    """A file that does not fit is not there at all."""
    target = LocalTarget(tmp_path)
    node, content = file(b"a")

    def no_space(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", no_space)
        with pytest.raises(NotRestored) as caught:
            target.write(node, [content])
    target.close()

    assert caught.value.problem.kind == "full"
    assert everything_below(tmp_path) == set()


def test_file_system_without_hard_links_will_do(tmp_path: Path) -> None:
    """There a rename takes the place of the link."""

    def no_links(*args: object, **more: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "link", no_links)
        problems = restore(LocalTarget(tmp_path), [file(b"a"), link(b"b", b"a")])

    assert problems == []
    assert everything_below(tmp_path) == {"a", "b"}


def test_killed_restore_leaves_no_half_file_under_its_name(tmp_path: Path) -> None:
    """Whoever starts again with overwrite="never" must not keep half a file."""
    script = """
import sys, time
from loopbackup.vault.format.entries import FILE, Node
from loopbackup.vault.target import LocalTarget

def pieces():
    yield b"half"
    print("half is written", flush=True)
    time.sleep(60)

LocalTarget(sys.argv[1]).write(Node(b"a", FILE, 0o644, size=8), pieces())
"""
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    left = everything_below(tmp_path)

    problems = restore(LocalTarget(tmp_path), [file(b"a", b"complete")])

    assert said == b"half is written\n"
    assert all(name.startswith(".loopbackup-") for name in left)
    assert problems == []
    assert (tmp_path / "a").read_bytes() == b"complete"


def test_threads_may_write_different_files(tmp_path: Path) -> None:
    """More folders in use at once than are kept open."""
    target = LocalTarget(tmp_path)
    nodes = [file(b"%d/%d/f" % (n % 100, n)) for n in range(400)]

    def put(pair: tuple[Node, bytes]) -> str:
        answer = target.prepare(pair[0])
        target.write(pair[0], [pair[1]])
        return answer

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(put, nodes))
    problems = target.finish()
    target.close()

    assert set(answers) == {"write"}
    assert problems == []
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 400


# ---- hostile nodes


@pytest.mark.parametrize(
    "path",
    [b"../x", b"/etc/x", b"a/../../x", b"", b".", b"a/.", b"a//b", b"a\0b", b"a/", b"x/" * 40_000],
    ids=lambda path: repr(path[:12]),
)
@pytest.mark.parametrize("kind", [FILE, DIRECTORY, SYMLINK, FIFO])
def test_path_that_leaves_the_target_is_refused(tmp_path: Path, path: bytes, kind: int) -> None:
    """No step of the restore takes such a path, whatever came before."""
    target = LocalTarget(tmp_path / "out" / "in")
    node = Node(path, kind, 0o644, extra=Extra(target=b"t") if kind == SYMLINK else None)

    with pytest.raises(NotRestored) as prepared:
        target.prepare(node)
    with pytest.raises(NotRestored) as made:
        target.make(node)
    with pytest.raises(NotRestored) as written:
        target.write(node, [])
    target.close()

    kinds = {caught.value.problem.kind for caught in (prepared, made, written)}
    assert kinds == {"unsafe_path"}
    assert everything_below(tmp_path) == {"out", "out/in"}


@pytest.mark.parametrize("overwrite", ["never", "changed", "always"])
@pytest.mark.parametrize("to", [b"..", b"/tmp", b"elsewhere", b"."])
def test_nothing_is_written_through_a_link_of_the_same_restore(
    tmp_path: Path, overwrite: Any, to: bytes
) -> None:
    """A link and a path through it are the oldest trick."""
    (tmp_path / "elsewhere").mkdir()
    out = tmp_path / "elsewhere" / "out"
    target = LocalTarget(out, overwrite=overwrite)
    nodes = [link(b"a", to), file(b"a/evil"), folder(b"a/evil-folder"), link(b"a/evil-link", b"x")]

    problems = restore(target, nodes)

    assert problems == ["in_the_way"] * 3
    assert everything_below(tmp_path) == {"elsewhere", "elsewhere/out", "elsewhere/out/a"}


def test_folder_is_not_turned_into_a_link_behind_our_back(tmp_path: Path) -> None:
    """A folder in use keeps its place when a second node wants it to be a link."""
    target = LocalTarget(tmp_path / "out", overwrite="always")
    nodes = [folder(b"a"), file(b"a/x"), link(b"a", b".."), file(b"a/y"), folder(b"a", mode=0o700)]

    problems = restore(target, nodes)

    assert problems == ["in_the_way"]
    assert everything_below(tmp_path) == {"out", "out/a", "out/a/x", "out/a/y"}


def test_link_that_stands_in_the_target_is_not_followed(tmp_path: Path) -> None:
    """Neither as a folder on the way nor as the file itself."""
    (tmp_path / "safe").mkdir()
    (tmp_path / "safe" / "f").write_bytes(b"old")
    out = tmp_path / "out"
    out.mkdir()
    (out / "folder").symlink_to(tmp_path / "safe")
    (out / "file").symlink_to(tmp_path / "safe" / "f")
    nodes = [file(b"folder/x"), folder(b"folder", mode=0o777), file(b"file")]

    problems = restore(LocalTarget(out, overwrite="always"), nodes)

    assert problems == ["in_the_way", "in_the_way"]
    assert everything_below(tmp_path / "safe") == {"f"}
    assert (tmp_path / "safe" / "f").read_bytes() == b"old"
    assert stat.S_IMODE((tmp_path / "safe").stat().st_mode) != 0o777
    assert not (out / "file").is_symlink()


def test_odd_names_are_names(tmp_path: Path) -> None:
    """255 bytes, newlines, bytes that are no text: all of it is only a name."""
    odd = [b"x" * 255, b"a\nb", b"\xff\xfe", b"-rf", b" ", b"\x1b[2J", b"~", b"..."]

    problems = restore(LocalTarget(tmp_path), [file(name) for name in odd])

    assert problems == []
    assert set(os.listdir(os.fsencode(tmp_path))) == set(odd)


def test_name_that_is_too_long_is_told(tmp_path: Path) -> None:
    """The other entries are restored."""
    problems = restore(LocalTarget(tmp_path), [file(b"x" * 256), file(b"b")])

    assert problems == ["name"]
    assert everything_below(tmp_path) == {"b"}


@pytest.mark.parametrize("overwrite", ["never", "always"])
def test_path_that_comes_twice_gives_one_whole_file(tmp_path: Path, overwrite: Any) -> None:
    """The first or the last wins, as the choice says."""
    target = LocalTarget(tmp_path, overwrite=overwrite)

    problems = restore(target, [file(b"a", b"first"), file(b"a", b"second")])

    assert problems == []
    assert (tmp_path / "a").read_bytes() == (b"first" if overwrite == "never" else b"second")


@pytest.mark.parametrize("to", [None, b"", b"a\0b"], ids=repr)
def test_link_without_a_valid_target_is_told(tmp_path: Path, to: bytes | None) -> None:
    """A damaged node makes no link to somewhere else."""
    assert restore(LocalTarget(tmp_path), [link(b"a", to)]) == ["malformed"]
    assert everything_below(tmp_path) == set()


def test_numbers_out_of_range_cost_metadata_only(tmp_path: Path) -> None:
    """Content is restored whatever a node says beside it."""
    node, content = file(b"a", uid=2**70, mtime_ns=2**120, mode=-1)

    problems = restore(LocalTarget(tmp_path), [(node, content)])

    assert sorted(problems) == ["owner", "times"]
    assert (tmp_path / "a").read_bytes() == b"new"


# ---- as somebody who may not do everything


def test_owner_that_may_not_be_given_is_one_problem_and_no_setuid_program() -> None:
    """A program that runs as its owner does not come to run as whoever restores."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o777)
        nodes = [
            file(b"a", mode=0o6755, uid=12345, gid=12345),
            file(b"b", uid=12345, gid=12345),
        ]

        with unprivileged():
            target = LocalTarget(Path(place, "out"))
            for node, content in nodes:
                target.write(node, [content])
            problems = target.finish()
            target.close()

        status = Path(place, "out", "a").stat()
        assert [problem.kind for problem in problems] == ["owner"]
        assert "2 entries" in problems[0].message
        assert stat.S_IMODE(status.st_mode) == 0o755


def test_folders_that_forbid_writing_are_restored_without_privileges() -> None:
    """Permissions of folders come last, the deepest first."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o777)
        with unprivileged():
            nodes = [folder(b"a", mode=0o500), folder(b"a/b", mode=0), file(b"a/b/c", mode=0o400)]
            problems = restore(LocalTarget(Path(place, "out")), nodes)
            modes_after = [
                stat.S_IMODE(os.stat(f"{place}/out/{path}").st_mode) for path in ("a", "a/b")
            ]
            os.chmod(f"{place}/out/a/b", 0o700)
            content = Path(place, "out/a/b/c").read_bytes()
            os.chmod(f"{place}/out/a", 0o700)

        assert problems == []
        assert modes_after == [0o500, 0]
        assert content == b"new"


def test_place_that_may_not_be_written_is_told() -> None:
    """Each entry says so, and nothing else happens."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o555)
        with unprivileged():
            problems = restore(LocalTarget(place), [file(b"a"), folder(b"b"), link(b"c", b"x")])

        assert problems == ["unwritable"] * 3
        assert os.listdir(place) == []


@pytest.mark.parametrize("system", ["renameat2", "link"])
def test_name_that_is_taken_is_never_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    """Also where somebody else was faster, in a folder that the restore has made."""
    if system == "link":
        monkeypatch.setattr(publishing, "_rename_flagged", lambda: lambda *_: errno.ENOSYS)
    target = LocalTarget(tmp_path)
    folder = Node(b"d", DIRECTORY, 0o755)
    node = Node(b"d/a", FILE, 0o644, size=4)
    assert target.prepare(folder) == "write"
    target.make(folder)
    assert target.prepare(node) == "write"
    (tmp_path / "d/a").write_bytes(b"mine")

    with pytest.raises(NotRestored):
        target.write(node, [b"ours"])
    target.close()

    assert (tmp_path / "d/a").read_bytes() == b"mine"
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["a"]
