"""Whatever fsspec reaches is walked as a local tree is."""

from __future__ import annotations

import os
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from loopbackup.errors import InputError
from loopbackup.vault.format.entries import DIRECTORY, ITEM, tree_order
from loopbackup.vault.source import Found, ScanProblem, Source, open_source
from loopbackup.vault.source.remote import RemoteSource

components = st.text("ab-.é\n", min_size=1, max_size=3).filter(lambda part: part.strip(".\n"))


class Tagged(MemoryFileSystem):  # type: ignore[misc] # fsspec has no types
    """A store that gives ETags and times, and fails where it is told to."""

    protocol = "tagged"
    store: dict[str, Any] = {}  # noqa: RUF012 - as in the class above
    pseudo_dirs = [""]  # noqa: RUF012
    broken: set[str] = set()  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("tagged://", "memory://")))

    def _tag(self, info: dict[str, Any]) -> dict[str, Any]:
        if info["type"] == "file":
            data = self.store[info["name"]].getvalue()
            return {**info, "ETag": f'"{hash(data)}"', "LastModified": "2026-11-23T16:00:00+00:00"}
        return info

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        if self._strip_protocol(path) in self.broken:
            raise RuntimeError("credentials: hunter2")
        return [self._tag(info) for info in super().ls(path, detail=True)]

    def info(self, path: str, **kwargs: Any) -> Any:
        return self._tag(super().info(path, **kwargs))


@pytest.fixture
def tagged() -> Iterator[Tagged]:
    """Register a back end with ETags for the time of a test."""
    import fsspec

    fsspec.register_implementation("tagged", Tagged, clobber=True)
    yield Tagged()
    Tagged.store.clear()
    Tagged.pseudo_dirs[:] = [""]
    Tagged.broken.clear()


def scan(source: Source) -> list[Found]:
    """Scan a source in which nothing goes wrong."""
    found = list(source.scan())
    assert [entry for entry in found if isinstance(entry, ScanProblem)] == []
    return [entry for entry in found if isinstance(entry, Found)]


def read(source: Source, found: Found) -> tuple[bytes, bool]:
    """Read all content of *found*, and tell whether it changed."""
    buffer, content = bytearray(4096), b""
    with source.open(found) as reader:
        while count := reader.readinto(memoryview(buffer)):
            content += buffer[:count]
        return content, reader.changed()


@settings(max_examples=50)
@given(st.lists(st.lists(components, min_size=1, max_size=4), max_size=8))
def test_remote_tree_is_yielded_in_tree_order(paths: list[list[str]]) -> None:
    """Files and the folders between them come once each, by components."""
    fs, root = MemoryFileSystem(), f"/{uuid.uuid4().hex}"
    fs.makedirs(root)
    files: set[str] = set()
    for parts in paths:
        path = "/".join(parts)
        if not any(f.startswith(path + "/") or path.startswith(f + "/") for f in files):
            files.add(path)
            fs.pipe_file(f"{root}/{path}", path.encode())

    source = open_source(f"memory:/{root}")
    found = scan(source)
    contents = {e.node.path: read(source, e) for e in found if e.node.kind == ITEM}
    fs.rm(root, recursive=True)

    walked = [entry.node.path for entry in found]
    assert walked == sorted(set(walked), key=tree_order)
    assert contents == {path.encode(): (path.encode(), False) for path in files}
    assert {p for p in walked if p not in contents} == {
        str(parent).encode() for path in files for parent in list(Path(path).parents)[:-1]
    }


def test_zip_file_is_a_source(tmp_path: Path) -> None:
    """Chained URLs work as everywhere in fsspec."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("users/42/cv.txt", "hello")

    for _ in range(2):
        # The second time shows that no closed archive comes out of a cache.
        source = open_source(f"zip://::file://{tmp_path}/a.zip", include=["cv.*"])
        found = scan(source)
        content = read(source, found[-1])
        source.close()

    assert [entry.node.path for entry in found] == [b"users", b"users/42", b"users/42/cv.txt"]
    assert [entry.node.kind for entry in found] == [DIRECTORY, DIRECTORY, ITEM]
    assert content == (b"hello", False)


def test_single_remote_file_is_a_source(tagged: Tagged) -> None:
    """It goes by its own name."""
    tagged.pipe_file("/dir/a.txt", b"x")

    (found,) = scan(RemoteSource("tagged://dir/a.txt"))

    assert found.node.path == b"a.txt"


def test_etag_is_the_version(tagged: Tagged) -> None:
    """Only a back end that names states of content lets a read be saved."""
    tagged.pipe_file("/a", b"x")
    MemoryFileSystem().pipe_file("/plain/a", b"x")

    (found,) = scan(RemoteSource("tagged://"))
    tagged.pipe_file("/a", b"y")
    (later,) = scan(RemoteSource("tagged://"))
    (plain,) = scan(RemoteSource("memory://plain"))
    MemoryFileSystem().rm("/plain", recursive=True)

    assert found.node.extra is not None
    assert later.node.extra is not None
    assert found.unchanged_by == "version"
    assert found.node.extra.version != later.node.extra.version
    assert found.node.mtime_ns == 1_795_449_600_000_000_000
    assert plain.unchanged_by is None


def test_large_file_that_changes_while_it_is_read_is_noticed(tagged: Tagged) -> None:
    """A file that comes in several requests is looked at before and after."""
    tagged.pipe_file("/a", bytes(5 << 20))
    source = RemoteSource("tagged://")
    (found,) = scan(source)

    with source.open(found) as reader:
        while reader.readinto(memoryview(bytearray(1 << 20))):
            pass
        tagged.pipe_file("/a", b"\1" * (5 << 20))
        changed = reader.changed()
    again = read(source, source.refresh(found))

    assert changed
    assert again == (b"\1" * (5 << 20), False)


def test_file_of_another_size_than_listed_has_changed(tagged: Tagged) -> None:
    """The listing and the content must be of one state."""
    tagged.pipe_file("/a", b"old")
    source = RemoteSource("tagged://")
    (found,) = scan(source)
    tagged.pipe_file("/a", b"newer")

    assert read(source, found) == (b"newer", True)


def test_folder_that_cannot_be_listed_is_told_without_secrets(tagged: Tagged) -> None:
    """Texts of back ends may hold credentials and are not passed on."""
    tagged.pipe_file("/a/x", b"")
    tagged.pipe_file("/b", b"")
    tagged.broken.add("/a")

    folder, problem, file = RemoteSource("tagged://").scan()

    assert isinstance(folder, Found)
    assert isinstance(problem, ScanProblem)
    assert isinstance(file, Found)
    assert (problem.path, problem.kind, problem.in_tree) == (b"a", "unreadable", True)
    assert "hunter2" not in problem.message
    tagged.broken.add("")
    with pytest.raises(InputError) as caught:
        list(RemoteSource("tagged://").scan())
    assert "hunter2" not in str(caught.value)


def test_name_that_no_path_can_have_is_told(tagged: Tagged) -> None:
    """An object store allows names that a file system must never see."""
    tagged.pipe_file("/a", b"")
    tagged.store["/.."] = tagged.store["/a"]

    problem, found = RemoteSource("tagged://").scan()

    assert isinstance(problem, ScanProblem)
    assert problem.kind == "unsafe_path"
    assert isinstance(found, Found)


def test_file_that_is_gone_is_an_oserror(tagged: Tagged) -> None:
    """The backup goes on without it."""
    tagged.pipe_file("/a", b"")
    source = RemoteSource("tagged://")
    (found,) = scan(source)
    tagged.rm_file("/a")

    with pytest.raises(OSError, match=r"a"):
        source.open(found)
    with pytest.raises(OSError, match=r"a"):
        source.refresh(found)


def test_url_that_leads_nowhere_is_an_input_error() -> None:
    """Unknown back ends and missing folders are told before anything is stored."""
    for url in ("nosuch://x", f"memory://{uuid.uuid4().hex}", f"zip://::file://{os.devnull}"):
        with pytest.raises(InputError):
            open_source(url)
