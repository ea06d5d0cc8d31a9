"""Entry streams and tables: cut by content, found in any order, hostile bytes refused."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import loopbackup as lb
from loopbackup.errors import DamagedData
from loopbackup.vault.content import streams
from loopbackup.vault.content.streams import (
    Cursor,
    StreamReader,
    StreamWriter,
    TableReader,
    TableWriter,
    decode_nodes,
)
from loopbackup.vault.content.upload import Upload
from loopbackup.vault.format import codec
from loopbackup.vault.format import record as rec
from loopbackup.vault.format.entries import FILE, Extra, Node, is_safe_path, tree_order
from loopbackup.vault.format.snapshot import SnapshotRoot, StreamList, TableRow
from loopbackup.vault.keys.domains import Domain
from loopbackup.vault.ledger.log import Draft
from loopbackup.vault.ledger.state import join_fronts
from loopbackup.vault.verbs.session import Session


@pytest.fixture
def session() -> Iterator[Session]:
    """Open a vault in memory and give its parts."""
    with lb.testing.memory_vault() as vault:
        yield vault._session


def new_upload(session: Session) -> Upload:
    """Begin a run."""
    return Upload(
        session.store,
        session.log,
        session.keyring,
        session.index,
        executor=session.executor,
        pack_size=1 << 20,
        bundle_size=65_536,
    )


def commit(session: Session, upload: Upload) -> None:
    """Make what was put part of the index."""
    uploaded = upload.finish()
    facts = rec.Pruned(
        new_segments=join_fronts(uploaded.segments), packs=join_fronts(uploaded.packs)
    )
    session.log.commit_draft(Draft("prune", facts))


def nodes(count: int) -> list[Node]:
    """Make entries in tree order."""
    made = [
        Node(b"folder-%d/file-%06d" % (n % 7, n), FILE, 0o644, size=n, chunks=bytes([n % 256]) * 32)
        for n in range(count)
    ]
    return sorted(made, key=lambda node: tree_order(node.path))


def write(session: Session, entries: list[Node]) -> TableRow:
    """Write and commit one stream of nobody's domain."""
    upload = new_upload(session)
    writer = StreamWriter(session.keyring.none, upload)
    for node in entries:
        writer.add(node.path, codec.encode(node), node.size)
    row = writer.finish()
    commit(session, upload)
    return row


@pytest.mark.parametrize("count", [0, 1, 700, 12_000])
def test_stream_gives_back_every_entry_in_order(session: Session, count: int) -> None:
    """Short ones stand in the row, long ones behind a list."""
    entries = nodes(count)

    row = write(session, entries)
    reader = StreamReader(session.keyring.none, row, session.reader)

    assert list(reader) == entries
    assert (row.entries, row.size) == (count, sum(node.size for node in entries))
    assert row.listed == (count == 12_000)


@pytest.mark.parametrize("order", ["in order", "backwards", "shuffled"])
@pytest.mark.parametrize("count", [700, 12_000])
def test_cursor_finds_entries_in_any_order(session: Session, count: int, order: str) -> None:
    """And says None for what is not there: before, between and behind."""
    entries = nodes(count)
    cursor = Cursor(StreamReader(session.keyring.none, write(session, entries), session.reader))
    asked = entries[:: max(1, count // 300)]
    if order == "backwards":
        asked = asked[::-1]
    elif order == "shuffled" and count < 1000:
        random.Random(7).shuffle(asked)

    for node in asked:
        assert cursor.find(node.path) == node
    for path in (b"a", b"folder-3/file-x", b"folder-3", b"zzz", b"folder-2/file-000002/below"):
        assert cursor.find(path) is None


def test_change_in_one_place_leaves_the_other_chunks_as_they_were(session: Session) -> None:
    """Cut points follow from the paths, so most of a stream is deduplicated."""
    entries = nodes(12_000)
    before = StreamReader(session.keyring.none, write(session, entries), session.reader).chunks

    entries[6000].size += 1
    after = StreamReader(session.keyring.none, write(session, entries), session.reader).chunks

    assert len(set(after) - set(before)) == 1
    assert len(before) > 5


def test_chunks_of_a_stream_are_bounded(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where no path ever cuts."""
    monkeypatch.setattr(streams, "_CUT", 0)
    monkeypatch.setattr(streams, "MAX_STREAM_CHUNK", 50_000)

    row = write(session, nodes(5000))
    reader = StreamReader(session.keyring.none, row, session.reader)

    sizes = [len(session.reader.read(reader.domain, c, "stream")) for c in reader.chunks]
    assert max(sizes) <= 50_000 + 200
    assert len(list(reader)) == 5000


class Given:
    """Chunks that a test makes up."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, domain: Domain, chunk_id: bytes, kind: str = "data") -> bytes:
        """Give always the same."""
        return self.data

    def may_read(self, domain: Domain) -> object:
        """Raise nothing: nobody is erased here."""
        return None

    def expect(self, domain: Domain, chunk_ids: Iterable[bytes]) -> int:
        """Do nothing: it is all here."""
        return 0


@pytest.mark.parametrize(
    "listing",
    [
        StreamList(b"x" * 64, [b"a"]),
        StreamList(b"x" * 33, [b"a"]),
        StreamList(b"", [b"a"]),
    ],
    ids=["too few firsts", "cut id", "no ids"],
)
def test_list_that_does_not_fit_itself_is_damage(session: Session, listing: StreamList) -> None:
    """Ids and first paths belong together."""
    row = TableRow(b"d" * 16, b"l" * 32, True, 1, 1)

    with pytest.raises(DamagedData):
        StreamReader(session.keyring.none, row, Given(codec.encode(listing)))


def test_row_with_a_cut_id_is_damage(session: Session) -> None:
    """Ids have 32 bytes."""
    with pytest.raises(DamagedData):
        StreamReader(session.keyring.none, TableRow(b"d" * 16, b"x" * 33, False, 1, 1), Given(b""))


@given(st.binary(max_size=120))
def test_any_bytes_are_entries_or_damage(data: bytes) -> None:
    """No other exception comes out of a stream chunk."""
    try:
        found = decode_nodes(data)
    except DamagedData:
        return
    assert isinstance(found, list)


@given(st.data())
def test_altered_entries_are_entries_or_damage(data: st.DataObject) -> None:
    """Flipped bits of a chunk that authenticates all the same."""
    node = Node(b"a/\xff", FILE, 0o644, user="user-42", extra=Extra(meta={"key": "value"}))
    raw = bytearray(codec.encode([node, node]))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))

    try:
        found = decode_nodes(bytes(raw))
    except DamagedData:
        return
    assert all(isinstance(node, Node) for node in found)


@given(st.lists(st.text("ab/.", max_size=8).map(str.encode), max_size=12))
def test_tree_order_puts_a_folder_right_before_what_lies_in_it(paths: list[bytes]) -> None:
    """Sorting by the key is sorting by components."""
    safe = [path for path in paths if is_safe_path(path)]

    assert sorted(safe, key=tree_order) == sorted(safe, key=lambda path: path.split(b"/"))


# ---- tables


def rows(count: int) -> list[TableRow]:
    """Make rows, ascending by domain."""
    # A last byte of 0 would end a chunk of the table early.
    ids = sorted(os.urandom(15) + (b"\1" if count <= 100 else os.urandom(1)) for _ in range(count))
    return [TableRow(domain, os.urandom(32), False, 1, n) for n, domain in enumerate(ids)]


@pytest.mark.parametrize("count", [0, 1, 100, 10_000])
def test_table_finds_every_row(session: Session, count: int) -> None:
    """Row by row, and in order; a snapshot of 10,000 people reads a part only."""
    made, upload, meta = rows(count), new_upload(session), session.keyring.meta
    table = TableWriter(meta, upload)
    for row in made:
        table.add(row)
    again = [] if table._chunks else list(table.rows_again(session.reader))
    chunk_id, root = table.finish(b"s" * 16, b"n" * 32)
    commit(session, upload)

    reader = TableReader(meta, root, session.reader)

    assert codec.decode(session.reader.read(meta, chunk_id, "root"), SnapshotRoot) == root
    assert list(reader) == made
    assert again == (made if count <= 100 else [])
    for row in made[:: max(1, count // 200)]:
        assert reader.find(row.domain) == row
        assert table.has_domain(row.domain)
    for missing in (bytes(16), b"\xff" * 16, b"m" * 16):
        assert reader.find(missing) is None
        assert not table.has_domain(missing)
    assert (root.entries, root.size) == (count, sum(range(count)))
    assert table.domain_ids == b"".join(row.domain for row in made)


@pytest.mark.parametrize(("table", "firsts"), [(33, 16), (64, 16), (32, 0), (0, 16)])
def test_root_that_does_not_fit_itself_is_damage(session: Session, table: int, firsts: int) -> None:
    """Chunks and their first domains belong together."""
    root = SnapshotRoot(1, b"s" * 16, b"t" * table, b"f" * firsts, 0, 0, b"n" * 32)

    with pytest.raises(DamagedData):
        TableReader(session.keyring.meta, root, session.reader)
