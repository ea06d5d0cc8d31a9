"""Files can be restored to whatever fsspec writes to."""

from __future__ import annotations

import base64
import json
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from loopbackup.errors import DamagedData, InputError
from loopbackup.vault.format.entries import (
    CHAR,
    DIRECTORY,
    FILE,
    ITEM,
    PROBLEM,
    SOCKET,
    SYMLINK,
    Extra,
    Node,
)
from loopbackup.vault.target import LocalTarget, NotRestored, Target, open_target

SIDE_FILE = ".loopbackup-metadata.jsonl"
LARGE = b"0123456789abcdef" * (9 << 16)


@pytest.fixture
def place() -> Iterator[str]:
    """Give a folder in memory that is gone after the test."""
    name = f"/{uuid.uuid4().hex}"
    yield name
    fs = MemoryFileSystem()
    if fs.exists(name):
        fs.rm(name, recursive=True)


def contents(place: str) -> dict[str, bytes]:
    """Read all files in *place*."""
    fs = MemoryFileSystem()
    return {path[len(place) + 1 :]: fs.cat_file(path) for path in fs.find(place)}


def put(target: Target, path: bytes, content: bytes, kind: int = FILE) -> str:
    """Restore one file as the verb does."""
    node = Node(path, kind, 0o644, size=len(content))
    answer = target.prepare(node)
    if answer == "write":
        target.write(node, [content[:5], content[5:]])
    return answer


@pytest.mark.parametrize("content", [b"", b"hello", LARGE], ids=["empty", "small", "large"])
def test_content_arrives(place: str, content: bytes) -> None:
    """Files of any size arrive whole, and what had no place is told once."""
    target = open_target(f"memory:/{place}")

    put(target, b"users/42/a b.txt", content)
    put(target, b"mail/7", b"item", ITEM)
    problems = target.finish()
    again = target.finish()
    target.close()

    there = contents(place)
    assert there.pop(SIDE_FILE)
    assert there == {"users/42/a b.txt": content, "mail/7": b"item"}
    assert [problem.kind for problem in problems] == ["metadata"]
    assert "1 entries" in problems[0].message
    assert again == []


def test_folders_are_made(place: str) -> None:
    """An empty folder is restored where the back end knows of folders."""
    target = open_target(f"memory:/{place}")
    node = Node(b"empty", DIRECTORY)

    first = target.prepare(node)
    target.make(node)
    target.close()

    assert first == "write"
    assert target.prepare(node) == "skip"
    assert MemoryFileSystem().isdir(f"{place}/empty")


@pytest.mark.parametrize(
    ("overwrite", "expected"), [("never", b"old"), ("changed", b"new"), ("always", b"new")]
)
def test_what_stands_there_is_treated_as_asked(place: str, overwrite: Any, expected: bytes) -> None:
    """Nothing tells that a remote file is unchanged, so it counts as changed."""
    MemoryFileSystem().pipe_file(f"{place}/a", b"old")
    target = open_target(f"memory:/{place}", overwrite=overwrite)

    put(target, b"a", b"new")
    target.close()

    assert contents(place) == {"a": expected}


def test_file_and_folder_do_not_replace_each_other(place: str) -> None:
    """Where the kind differs somebody has to look."""
    MemoryFileSystem().pipe_file(f"{place}/folder/x", b"")
    target = open_target(f"memory:/{place}", overwrite="always")

    with pytest.raises(NotRestored) as caught:
        put(target, b"folder", b"")

    assert caught.value.problem.kind == "in_the_way"


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("how", ["wrong size", "damage"])
def test_failed_file_leaves_what_was_there(place: str, content: bytes, how: str) -> None:
    """A file is complete or it is as before, whatever its size."""
    MemoryFileSystem().pipe_file(f"{place}/a", b"old")
    target = open_target(f"memory:/{place}", overwrite="always")
    node = Node(b"a", FILE, size=len(content) + 1)

    def pieces() -> Iterator[bytes]:
        yield content
        if how == "damage":
            raise DamagedData("a chunk is damaged")

    with pytest.raises(DamagedData if how == "damage" else NotRestored):
        target.write(node, pieces())

    assert contents(place) == {"a": b"old"}


@pytest.mark.parametrize(
    ("node", "kind"),
    [
        (Node(b"../x", FILE), "unsafe_path"),
        (Node(b"/x", FILE), "unsafe_path"),
        (Node(b"a//b", DIRECTORY), "unsafe_path"),
        (Node(b"\xff", FILE), "name"),
        (Node(b"a", FILE, size=3, extra=Extra(extents=[(1, 3)])), "malformed"),
        (Node(b"p", PROBLEM, extra=Extra(problem="changed")), "changed"),
    ],
    ids=lambda value: repr(getattr(value, "path", value)),
)
def test_node_that_has_no_place_there_is_told(place: str, node: Node, kind: str) -> None:
    """Hostile paths, names that are no text, links: told, and nothing is written."""
    target = open_target(f"memory:/{place}")

    with pytest.raises(NotRestored) as prepared:
        target.prepare(node)
    with pytest.raises(NotRestored) as written:
        target.write(node, [])

    assert prepared.value.problem.kind == written.value.problem.kind == kind
    assert contents(place) == {}


def test_error_of_a_back_end_is_told_without_its_text(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts of back ends may hold credentials."""
    target = open_target(f"memory:/{place}")

    def fail(self: object, path: str, value: bytes, **more: object) -> None:
        raise RuntimeError("secret=hunter2")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", fail)
    with pytest.raises(NotRestored) as caught:
        put(target, b"a", b"x")

    assert caught.value.problem.kind == "unwritable"
    assert "hunter2" not in str(caught.value)


def test_zip_file_is_a_target(tmp_path: Path) -> None:
    """An archive is complete when the target is closed."""
    url = f"zip://::file://{tmp_path}/out.zip"
    target = open_target(url, options={"zip": {"mode": "w"}})

    put(target, b"users/42/cv.txt", b"hello")
    target.finish()
    target.close()

    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.read("users/42/cv.txt") == b"hello"


def test_local_paths_and_file_urls_are_local_targets(tmp_path: Path) -> None:
    """Whatever lies on this machine is restored with all its metadata."""
    by_path, by_url = open_target(tmp_path / "a"), open_target(f"file://{tmp_path}/b%20c")
    by_path.close()
    by_url.close()

    assert isinstance(by_path, LocalTarget)
    assert isinstance(by_url, LocalTarget)
    assert (tmp_path / "b%20c").is_dir()


def test_url_or_choice_that_is_wrong_is_an_input_error() -> None:
    """Mistakes are told before anything is fetched."""
    with pytest.raises(InputError):
        open_target("nosuch://x")
    with pytest.raises(InputError):
        open_target("memory://x", overwrite="sometimes")  # type: ignore[arg-type]


# ---- what has no place there


def lines_in(place: str, name: str = SIDE_FILE) -> dict[str, dict[str, Any]]:
    """Read a side file, by path."""
    lines = MemoryFileSystem().cat_file(f"{place}/{name}").splitlines()
    return {line["path"]: line for line in map(json.loads, lines)}


def test_side_file_keeps_what_has_no_place(place: str) -> None:
    """Links, empty folders, owners, devices, attributes: one line each, nothing lost."""
    target = open_target(f"memory:/{place}")
    attributes = {b"user.a": b"\0\xff", b"user.\xff": b""}
    owner: dict[str, Any] = {
        "mode": 0o4755,
        "uid": 1000,
        "gid": 50,
        "user": "acme",
        "group": "staff",
    }
    nodes = [
        Node(b"bin", DIRECTORY, mtime_ns=-1, extra=Extra(xattrs=attributes), **owner),
        Node(b"bin/\xff", SYMLINK, extra=Extra(target=b"\xfe"), **owner),
        Node(b"bin/tty", CHAR, extra=Extra(rdev=1088), **owner),
        Node(b"run", SOCKET, **owner),
    ]

    for node in nodes:
        assert target.prepare(node) == "write"
        target.make(node)
    sparse = Node(b"vm", FILE, size=9, extra=Extra(link=7, extents=[(2, 3), (6, 1)]), **owner)
    target.write(sparse, [b"ab", b"cd"])
    problems = target.finish()
    target.close()

    lines = lines_in(place)
    assert contents(place)["vm"] == b"\0\0abc\0d\0\0"
    assert [problem.kind for problem in problems] == ["metadata"]
    assert lines["bin"] == {
        "path": "bin",
        "kind": "directory",
        "mtime_ns": -1,
        "xattrs": {"user.a": base64.b64encode(b"\0\xff").decode(), "hex:757365722eff": ""},
        **owner,
    }
    link = lines["bin/\\xff"]
    assert (link["path_hex"], link["target_hex"], link["kind"]) == (
        b"bin/\xff".hex(),
        "fe",
        "symlink",
    )
    assert (lines["bin/tty"]["rdev"], lines["bin/tty"]["kind"]) == (1088, "char_device")
    assert lines["run"]["kind"] == "socket"
    assert (lines["vm"]["link"], lines["vm"]["extents"]) == (7, [[2, 3], [6, 1]])


@pytest.mark.parametrize(
    ("overwrite", "expected"),
    [
        ("never", {SIDE_FILE: {"a"}, ".loopbackup-metadata-2.jsonl": {"b"}}),
        ("always", {SIDE_FILE: {"b"}}),
    ],
)
def test_side_file_of_an_earlier_restore_stays_unless_asked(
    place: str, overwrite: Any, expected: dict[str, set[str]]
) -> None:
    """With overwrite="never" the next one gets a number."""
    for path in (b"a", b"b"):
        target = open_target(f"memory:/{place}", overwrite=overwrite)
        put(target, path, b"x")
        target.finish()
        target.close()

    names = [name for name in contents(place) if name.startswith(".loopbackup")]
    assert {name: set(lines_in(place, name)) for name in names} == expected


def test_entry_with_the_name_of_the_side_file_keeps_it(place: str) -> None:
    """A backup of a restored place holds one, and it is content."""
    target = open_target(f"memory:/{place}", overwrite="always")

    put(target, SIDE_FILE.encode(), b"content")
    target.finish()
    target.close()

    assert contents(place)[SIDE_FILE] == b"content"
    assert set(lines_in(place, ".loopbackup-metadata-2.jsonl")) == {SIDE_FILE}


def test_items_alone_make_no_side_file(place: str) -> None:
    """They have nothing that is left out."""
    target = open_target(f"memory:/{place}")

    put(target, b"mail/7", b"item", ITEM)
    problems = target.finish()
    target.close()

    assert problems == []
    assert set(contents(place)) == {"mail/7"}


def test_many_lines_pass_through_little_memory(place: str) -> None:
    """The file is larger than what is held, and complete."""
    target = open_target(f"memory:/{place}")
    nodes = [
        Node(b"%06d-" % n + b"x" * 200, SYMLINK, extra=Extra(target=b"t")) for n in range(9000)
    ]

    for node in nodes:
        target.make(node)
    target.finish()
    target.close()

    assert len(lines_in(place)) == 9000


def test_side_file_that_cannot_be_written_is_told(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links and empty folders would be lost in silence."""
    target = open_target(f"memory:/{place}")
    target.make(Node(b"l", SYMLINK, extra=Extra(target=b"t")))

    def fail(self: object, path: str, value: bytes, **more: object) -> None:
        raise RuntimeError("secret=hunter2")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", fail)
    problems = target.finish()
    target.close()

    assert [problem.kind for problem in problems] == ["unwritable"]


@pytest.mark.parametrize("pieces", [[b"abc"], [b"abcde"], [b"ab", b"cd", b"e"], []], ids=repr)
def test_extents_that_do_not_fit_the_content_are_told(place: str, pieces: list[bytes]) -> None:
    """Nothing is written where data and holes do not add up."""
    target = open_target(f"memory:/{place}")
    node = Node(b"a", FILE, size=9, extra=Extra(extents=[(2, 3), (6, 1)]))

    with pytest.raises(NotRestored) as caught:
        target.write(node, pieces)
    target.close()

    assert caught.value.problem.kind == "size"
    assert contents(place) == {}
