"""Nothing is written that no reader takes, and one strange entry costs that entry alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from tests.e2e.support import new_vault
from tests.unit.vault.target_support import file, folder, restore

import loopbackup as lb
from loopbackup.errors import DamagedData, IncompleteBackup, InputError
from loopbackup.vault.content import streams
from loopbackup.vault.content.file import ChunkFile
from loopbackup.vault.content.streams import StreamWriter
from loopbackup.vault.content.upload import Upload
from loopbackup.vault.format.entries import FILE, MAX_LABELS_BYTES, TIMES_NS, Extra, Node
from loopbackup.vault.format.pack import MAX_PLAIN_BYTES
from loopbackup.vault.keys.domains import Domain, meta_domain
from loopbackup.vault.source import ScanProblem
from loopbackup.vault.source.files import FileReader
from loopbackup.vault.source.remote import RemoteSource
from loopbackup.vault.source.tree import TreeSource
from loopbackup.vault.target import LocalTarget
from loopbackup.vault.target import names as target_names


@pytest.fixture
def upload() -> Iterator[Upload]:
    """Begin a run in a vault in memory."""
    with lb.testing.memory_vault() as vault:
        session = vault._session
        yield Upload(
            session.store,
            session.log,
            session.keyring,
            session.index,
            executor=session.executor,
            pack_size=1 << 20,
            bundle_size=65_536,
        )


def domain_of(upload: Upload) -> Domain:
    """Give a domain to write to."""
    return upload._keyring.meta


def test_a_chunk_that_no_reader_takes_is_not_written(upload: Upload) -> None:
    """A byte too many is refused before anything is handed over, small or not."""
    data = bytes(MAX_PLAIN_BYTES + 1)

    with pytest.raises(InputError, match="could never be read"):
        upload.put(domain_of(upload), bytes(32), data)
    with pytest.raises(InputError, match="could never be read"):
        upload.put_small(domain_of(upload), 0, bytes(32), data)

    assert upload.finish().packs == []


def test_version_and_meta_of_an_item_are_bounded_together() -> None:
    """The last byte that fits is taken; one more is refused, whichever holds it."""
    half = "x" * (MAX_LABELS_BYTES // 2)

    lb.Item("a", data=b"", version=half, meta={"k": half[1:]})
    for more in (
        {"version": half + "v", "meta": {"k": half[1:]}},
        {"meta": {"k" * MAX_LABELS_BYTES: "v"}},
        {"version": "é" * (MAX_LABELS_BYTES // 2 + 1)},
    ):
        with pytest.raises(InputError, match="at most"):
            lb.Item("a", data=b"", **more)


def add_long_paths(writer: StreamWriter) -> None:
    """Add entries of which each fills a chunk."""
    for number in range(1000):
        writer.add(b"%04d" % number + b"x" * 60_000, bytes(300_000), 0)


def test_a_stream_whose_list_could_not_be_read_ends_early(
    upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long paths are refused as soon as their list is too long, not at its writing."""
    monkeypatch.setattr(streams, "MAX_LIST_BYTES", 300_000)
    writer = StreamWriter(domain_of(upload), upload)

    with pytest.raises(InputError, match="too long for one snapshot"):
        add_long_paths(writer)

    assert writer.entries == 5


def test_one_path_twice_in_promised_order_is_reported() -> None:
    """The first counts, as it does where the vault sorts; the other is a duplicate."""
    twice = [lb.Item("a", data=b"1"), lb.Item("a", data=b"2"), lb.Item("b", data=b"3")]
    with new_vault() as vault:
        with pytest.raises(IncompleteBackup) as caught:
            vault.backup(twice, name="n", source_options={"in_order": True})

        snapshot = caught.value.snapshot
        assert [problem.kind for problem in caught.value.problems] == ["duplicate"]
        assert [entry.path for entry in snapshot.ls()] == ["a", "b"]
        with snapshot.open("a") as content:
            assert content.read() == b"1"


def far_status(path: Path) -> os.stat_result:
    """Give the status of a file whose time of change no integer of the format holds."""
    status = list(os.stat(path))
    return os.stat_result(status, {"st_mtime_ns": 10**20, "st_ctime_ns": 5, "st_rdev": 0})


@pytest.mark.usefixtures("step_by_step")
def test_a_time_beyond_the_format_is_clamped_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry is there with the nearest time, a problem says so, and it has not changed."""
    (tmp_path / "a").write_bytes(b"x")
    far = far_status(tmp_path / "a")
    monkeypatch.setattr("loopbackup.vault.disk.os.lstat", lambda *_, **__: far)

    (found,) = TreeSource(tmp_path).scan()
    monkeypatch.setattr("loopbackup.vault.source.files.os.fstat", lambda _: far)

    assert not isinstance(found, ScanProblem)
    assert found.node.mtime_ns == TIMES_NS[-1]
    assert found.problem is not None
    assert (found.problem.kind, found.problem.in_tree) == ("time", True)
    assert not FileReader(-1, found.node).changed()


def test_a_remote_time_beyond_the_format_is_clamped_and_reported() -> None:
    """What a back end tells is held to the same bounds."""
    source = RemoteSource("memory://")
    level = type("Level", (), {"subject": None})()

    found = source._found(level, b"a", {"type": "file", "size": 0, "mtime": -(10**12)})

    assert not isinstance(found, ScanProblem)
    assert found.node.mtime_ns == TIMES_NS[0]
    assert found.problem is not None
    assert found.problem.kind == "time"


@pytest.mark.parametrize("renames", [True, False], ids=["one call", "link and unlink"])
def test_nothing_takes_a_place_in_a_folder_of_this_restore(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: bool
) -> None:
    """The second entry of a name is reported; the first stays, and so does what others made."""
    if not renames:
        monkeypatch.setattr(target_names, "_rename_flagged", lambda: lambda *_: 38)
    target = LocalTarget(tmp_path)

    problems = restore(target, [folder(b"d"), file(b"d/a", b"one"), file(b"d/a", b"two")])

    assert problems == ["exists"]
    assert (tmp_path / "d/a").read_bytes() == b"one"
    assert sorted(os.listdir(tmp_path / "d")) == ["a"]


def test_folders_of_a_restore_that_was_cut_short_have_their_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times are right, permissions too but for what the next restore needs to go on."""
    source, to = tmp_path / "source", tmp_path / "to"
    (source / "d").mkdir(parents=True)
    (source / "d/a").write_bytes(b"x")
    (source / "d/z").mkdir()
    os.chmod(source / "d", 0o555)
    os.utime(source / "d", ns=(10**18, 10**18))
    with new_vault() as vault:
        snapshot = vault.backup(source, name="n")
        reader = vault._session.reader
        read = reader.read

        def interrupted(domain: Domain, chunk_id: bytes, kind: str = "data") -> bytes | memoryview:
            if kind == "data":
                raise KeyboardInterrupt
            return read(domain, chunk_id, kind)

        with monkeypatch.context() as patch:
            patch.setattr(reader, "read", interrupted)
            with pytest.raises(KeyboardInterrupt):
                vault.restore(snapshot, to)

        os.chmod(source / "d", 0o755)
        status = os.stat(to / "d")
        assert (status.st_mode & 0o7777, status.st_mtime_ns) == (0o755, 10**18)
        vault.restore(snapshot, to, overwrite="changed")
        assert os.stat(to / "d").st_mode & 0o7777 == 0o555
        assert (to / "d/a").read_bytes() == b"x"
        os.chmod(to / "d", 0o755)


def test_a_long_file_is_read_on_when_the_store_is_well_again() -> None:
    """A failed request for a list of ids costs that read, and no later one."""
    domain = meta_domain(bytes(16), bytes(32), [(1, bytes(32))])
    chunks = {bytes([n]) * 32: bytes([n]) * 10 for n in range(4)}
    ids = [*chunks]
    chunks[b"L" * 32], chunks[b"M" * 32] = b"".join(ids[:2]), b"".join(ids[2:])
    broken = [b"M" * 32, ids[3]]

    class Shelf:
        def read(self, domain: Domain, chunk_id: bytes, kind: str = "data") -> bytes:
            if chunk_id in broken:
                broken.remove(chunk_id)
                raise OSError("not now")
            return chunks[chunk_id]

        def may_read(self, domain: Domain) -> object:
            return None

        def expect(self, domain: Domain, chunk_ids: Iterable[bytes]) -> int:
            return 0

    node = Node(b"a", FILE, size=40, chunks=b"L" * 32 + b"M" * 32, extra=Extra(listed=True))
    opened = ChunkFile(node, domain, Shelf(), lambda _: None)

    for _ in range(2):
        opened.seek(35)
        with pytest.raises(OSError, match="not now"):
            opened.read(5)
    opened.seek(35)

    assert opened.read(5) == bytes([3]) * 5
    opened.seek(40)
    assert opened.read(1) == b""
    with pytest.raises(DamagedData):
        opened._chunk_at(40)


def closings(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Note each source of a tree that is closed."""
    closed: list[object] = []

    def close(source: TreeSource) -> None:
        closed.append(source)

    monkeypatch.setattr(TreeSource, "close", close)
    return closed


def test_a_backup_that_ends_before_it_begins_closes_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels that do not fit and a key that is known leave nothing open."""
    with new_vault() as vault:
        vault.backup(tmp_path, name="n", idempotency_key="k")
        closed = closings(monkeypatch)

        with pytest.raises(InputError):
            vault.backup(tmp_path, name="n" * 5000)
        assert len(closed) == 1
        vault.backup(tmp_path, name="n", idempotency_key="k")

    assert len(closed) == 2


def test_paths_are_remembered_only_where_two_subjects_may_share_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot of one domain is restored without a table of its paths."""
    hashed: list[bytes] = []

    def noted(path: bytes) -> Any:
        hashed.append(path)
        return blake3(path)

    monkeypatch.setattr("loopbackup.vault.verbs.restore.blake3", noted)
    with new_vault() as vault:
        one = vault.backup([lb.Item("a", data=b"1")], name="n")
        two = vault.backup(
            [lb.Item("a", data=b"1"), lb.Item("b", data=b"2", subject=("acme", "42"))], name="n"
        )

        vault.restore(one, tmp_path / "one")
        assert hashed == []
        vault.restore(two, tmp_path / "two")

    assert sorted(hashed) == [b"a", b"b"]


def test_a_dry_run_looks_all_subjects_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards are read in their order, each once, whatever the order of the subjects."""
    with new_vault() as vault:
        keyring = vault._session.keyring
        asked: list[int] = []
        monkeypatch.setattr(keyring, "current_shard", asked.append)

        found = keyring.imagine(("acme", str(number)) for number in range(500))

    assert len(found) == 500
    assert len(asked) == len(set(asked))


def test_names_of_one_file_cost_one_read_of_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Content is not fetched for a name that becomes a hard link."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(b"content")
    for number in range(9):
        os.link(source / "a", source / f"b{number}")
    with new_vault() as vault:
        snapshot = vault.backup(source, name="n")
        reader = vault._session.reader
        read: list[str] = []
        real = reader.read

        def counted(domain: Domain, chunk_id: bytes, kind: str = "data") -> bytes | memoryview:
            read.append(kind)
            return real(domain, chunk_id, kind)

        monkeypatch.setattr(reader, "read", counted)
        vault.restore(snapshot, tmp_path / "to")

    assert read.count("data") == 1
    assert os.stat(tmp_path / "to/a").st_nlink == 10


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_an_executor_of_processes_is_refused() -> None:
    """It is said what is wanted, before anything is read."""
    with new_vault() as vault, ProcessPoolExecutor(1) as pool:
        with pytest.raises(InputError, match="one of threads"):
            vault.backup([lb.Item("a", data=b"a")], name="n", executor=pool)

        assert vault.snapshots() == []
