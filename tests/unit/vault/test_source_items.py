"""Items reach the backup one by one, checked, and read only when needed."""

from __future__ import annotations

import io
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopbackup.errors import InputError
from loopbackup.vault.format.entries import ITEM
from loopbackup.vault.source import Found, Item, Source, open_source, subject_from_path
from loopbackup.vault.source.items import ItemSource, time_ns


def read(source: Source, found: Found, size: int = 3) -> bytes:
    """Read all content of *found* in small steps."""
    buffer, content = bytearray(size), b""
    with source.open(found) as reader:
        while count := reader.readinto(memoryview(buffer)):
            content += buffer[:count]
        assert not reader.changed()
    return content


def found_in(source: Source) -> list[Found]:
    """Scan a source that has no problems."""
    return [found for found in source.scan() if isinstance(found, Found)]


class NoReadinto:
    """A stream that only reads, as database drivers give."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def read(self, size: int) -> bytes:
        return self._content.read(size)


@pytest.mark.parametrize(
    "data",
    [
        b"Dear user-42",
        bytearray(b"Dear user-42"),
        memoryview(b"Dear user-42"),
        io.BytesIO(b"Dear user-42"),
        NoReadinto(b"Dear user-42"),
        lambda: b"Dear user-42",
        lambda: io.BytesIO(b"Dear user-42"),
    ],
    ids=["bytes", "bytearray", "memoryview", "file", "read only", "function", "function of file"],
)
def test_data_may_be_bytes_a_file_or_a_function(data: Any) -> None:
    """Whatever carries the content, the content is the same."""
    source = ItemSource([Item("mail/7", data=data)])

    (content,) = [read(source, found) for found in source.scan() if isinstance(found, Found)]

    assert content == b"Dear user-42"


def test_metadata_of_an_item_is_recorded() -> None:
    """Path, time, version and meta stand in the node, the subject beside it."""
    moment = datetime(2026, 11, 23, 17, 0, 0, 123456, tzinfo=timezone(timedelta(hours=1)))
    item = Item(
        "mail/ü",
        data=b"",
        subject=("acme", "42"),
        version="e1",
        modified_at=moment,
        meta={"a": "b"},
    )

    (found,) = found_in(ItemSource([item]))

    assert found.node.path == "mail/ü".encode()
    assert found.node.kind == ITEM
    assert found.node.mtime_ns == 1_795_449_600_123_456_000
    assert found.node.extra is not None
    assert (found.node.extra.version, found.node.extra.meta) == ("e1", {"a": "b"})
    assert (found.subject, found.unchanged_by) == (("acme", "42"), "version")


@given(st.datetimes(timezones=st.just(UTC)))
def test_time_is_exact(moment: datetime) -> None:
    """No microsecond is lost on the way to nanoseconds."""
    back = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_ns(moment) // 1000)

    assert back == moment


def test_item_without_version_is_always_read() -> None:
    """Nothing tells that its content is known."""
    (found,) = found_in(ItemSource([Item("a", data=b"")]))

    assert found.unchanged_by is None


def test_data_is_not_called_before_it_is_opened() -> None:
    """An item that turns out unchanged costs the host no read."""
    calls: list[int] = []

    def data() -> bytes:
        calls.append(1)
        return b"x"

    source = ItemSource([Item("a", data=data, version="1")])
    (found,) = found_in(source)
    before = list(calls)
    read(source, found)

    assert before == []
    assert calls == [1]


def test_file_is_closed_after_reading() -> None:
    """A file handed over belongs to the backup."""
    file = io.BytesIO(b"abc")
    source = ItemSource([Item("a", data=file)])

    for found in found_in(source):
        read(source, found)

    assert file.closed


def test_items_are_streamed() -> None:
    """A generator of millions holds one item at a time."""
    alive: weakref.WeakSet[io.BytesIO] = weakref.WeakSet()
    most = 0

    def items() -> Iterator[Item]:
        for number in range(100):
            data = io.BytesIO(b"x")
            alive.add(data)
            yield Item(f"{number:03}", data=data)

    for _ in ItemSource(items()).scan():
        most = max(most, len(alive))

    assert most <= 3


def test_error_of_a_generator_goes_through() -> None:
    """Half of the items must never look like all of them."""

    def items() -> Iterator[Item]:
        yield Item("a", data=b"")
        raise RuntimeError("the database went away")

    with pytest.raises(RuntimeError, match="went away"):
        list(ItemSource(items()).scan())


def test_what_is_no_item_is_named_by_its_position() -> None:
    """The message leads to the place in the host's data."""
    source = ItemSource([Item("a", data=b""), ("b", b"")])  # type: ignore[list-item]

    with pytest.raises(InputError, match="number 1 is no Item but tuple") as caught:
        list(source.scan())
    assert caught.value.position == 1


def test_generator_is_closed_with_the_source() -> None:
    """A cursor that the generator holds is given back after an abort."""
    closed: list[bool] = []

    def items() -> Iterator[Item]:
        try:
            yield Item("a", data=b"")
            yield Item("b", data=b"")
        finally:
            closed.append(True)

    source = ItemSource(items())
    next(source.scan())
    source.close()

    assert closed == [True]


def test_promised_order_is_checked() -> None:
    """Tree order is by components, and a broken promise is an error."""
    good = ItemSource([Item(p, data=b"") for p in ("a/b", "a/b", "a-b")], in_order=True)
    bad = ItemSource([Item(p, data=b"") for p in ("a-b", "a/b")], in_order=True)

    assert len(found_in(good)) == 3
    with pytest.raises(InputError, match="sorts before"):
        list(bad.scan())


def test_subject_of_an_item_wins_over_the_rule() -> None:
    """A rule is for items that do not say themselves whom they are about."""
    items = [
        Item("users/1/a", data=b""),
        Item("users/1/b", data=b"", subject="2"),
        Item("c", data=b""),
    ]

    found = found_in(ItemSource(items, subject=subject_from_path("users/{subject}/**")))

    assert [entry.subject for entry in found] == [("1",), ("2",), None]
    assert [entry.no_subject for entry in found] == [None, None, "unmatched"]


def test_whatever_reading_an_item_raises_is_an_oserror() -> None:
    """One broken row does not end the backup of all the others."""

    def data() -> bytes:
        raise KeyError("row 7")

    source = ItemSource([Item("a", data=data)])

    with pytest.raises(OSError, match="KeyError"):
        source.open(found_in(source)[0])


@pytest.mark.parametrize(
    "data",
    [lambda: "text", lambda: io.StringIO("text"), lambda: memoryview(b"abcdef")[::2]],
    ids=["text", "text file", "strided"],
)
def test_function_that_gives_no_bytes_is_an_input_error(data: Any) -> None:
    """Text has no bytes until the host chooses an encoding."""
    source = ItemSource([Item("a", data=data)])
    (found,) = found_in(source)

    with pytest.raises(InputError):
        read(source, found)


@pytest.mark.parametrize(
    "arguments",
    [
        {"path": ""},
        {"path": "/etc/passwd"},
        {"path": "a/../b"},
        {"path": "a//b"},
        {"path": "a\0b"},
        {"path": "\ud800"},
        {"path": 7},
        {"data": "text"},
        {"data": None},
        {"version": ""},
        {"version": 3},
        {"version": "\udcff"},
        {"subject": ""},
        {"subject": ("a", "b", "c")},
        {"modified_at": datetime(2026, 11, 23)},  # noqa: DTZ001 - naive on purpose
        {"modified_at": "2026-11-23"},
        {"meta": {"a": 1}},
        {"meta": {"\udcff": "a"}},
        {"meta": "a=b"},
    ],
    ids=repr,
)
def test_wrong_argument_of_an_item_is_told_at_once(arguments: dict[str, Any]) -> None:
    """Mistakes show where the item is made, before anything is stored."""
    with pytest.raises(InputError):
        Item(**{"path": "a", "data": b"", **arguments})


def test_path_may_be_bytes_of_any_encoding() -> None:
    """Text stands for the same bytes through surrogateescape."""
    assert Item("a/\udcff", data=b"").raw_path == Item(b"a/\xff", data=b"").raw_path == b"a/\xff"


@pytest.mark.parametrize(
    ("source", "more"),
    [
        (Item("a", data=b""), {}),
        (7, {}),
        ([], {"include": ["*"]}),
        ([], {"options": {"anon": True}}),
        ("/nowhere/at/all", {}),
        ("/", {"options": {"anon": True}}),
        ("nosuchscheme://x/y", {}),
    ],
    ids=repr,
)
def test_what_cannot_be_a_source_is_an_input_error(source: Any, more: dict[str, Any]) -> None:
    """A source that does not exist, or an argument that does not fit it."""
    with pytest.raises(InputError):
        open_source(source, **more)
