"""What is put comes back: whole objects, ranges, replacements, names, deletes."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from ...terms import Location
from ...vault.store.protocol import MAX_KEY_CHARS, Data, Remains, StoreInfo
from ...vault.store.transport import Transport
from .base import StoreTests

__all__ = ["ObjectTests"]

_HOSTILE_KEYS = (
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/../b",
    "a/./b",
    ".tmp/a",
    "A",
    "a b",
    "a\n",
    "a\0b",
    "a*",
    "a?versionid=1",
    "a%2f",
    "a\\b",
    "å",
    "a" * 256,
    "/".join(["a" * 255] * 3),
)
# A busy server may ask to be asked again; what it may not do is show a part.
_TRANSIENT = (ConnectionError, TimeoutError)
_LARGE_BYTES = 5 * 2**20 + 7


class ObjectTests(StoreTests):
    """Put, get, delete, describe."""

    def test_what_is_put_comes_back(self) -> None:
        """The bytes of an object are returned exactly."""
        store = self.make_store()
        data = bytes(range(256))

        store.put("packs/ab/cd", data, if_absent=True)

        assert store.get("packs/ab/cd") == data

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview], ids=lambda kind: kind.__name__)
    def test_every_kind_of_bytes_is_taken(self, kind: Callable[[bytes], Data]) -> None:
        """bytes, bytearray and memoryview are stored alike, and get returns bytes."""
        store = self.make_store()

        store.put("a", kind(b"data"), if_absent=True)

        got = store.get("a")
        assert type(got) is bytes
        assert got == b"data"

    def test_a_buffer_may_be_used_again_after_put(self) -> None:
        """What the caller does to his buffer later does not reach the object."""
        store = self.make_store()
        buffer = bytearray(b"first")

        store.put("a", buffer, if_absent=True)
        buffer[:] = b"other"

        assert store.get("a") == b"first"

    def test_an_empty_object_is_an_object(self) -> None:
        """No bytes are stored, listed and returned like any others."""
        store = self.make_store()

        store.put("empty", b"", if_absent=True)

        assert store.get("empty") == b""
        assert [(entry.key, entry.size_bytes) for entry in store.list("")] == [("empty", 0)]

    def test_a_large_object_comes_back(self) -> None:
        """A few MiB of an odd length survive, and so does a range inside them."""
        store = self.make_store()
        data = hashlib.shake_128(b"large").digest(_LARGE_BYTES)

        store.put("large", data, if_absent=True)

        assert store.get("large") == data
        assert store.get("large", start=2**20 - 3, length=4097) == data[2**20 - 3 :][:4097]

    def test_a_missing_object_is_file_not_found(self) -> None:
        """Whatever the range, what is not there is not found."""
        store = self.make_store()
        store.put("folder/a", b"x", if_absent=True)

        for key in ("missing", "folder", "folder/b", "no/such/folder"):
            for start, length in ((0, None), (0, 0), (7, 3)):
                with pytest.raises(FileNotFoundError):
                    store.get(key, start=start, length=length)

    @pytest.mark.parametrize(
        ("start", "length", "expected"),
        [
            (0, None, b"0123456789"),
            (4, None, b"456789"),
            (0, 4, b"0123"),
            (3, 4, b"3456"),
            (9, 1, b"9"),
            (5, 0, b""),
            (8, 5, b"89"),
            (0, 2**40, b"0123456789"),
            (10, None, b""),
            (10, 1, b""),
            (99, 5, b""),
            (2**40, 1, b""),
        ],
    )
    def test_a_range_is_cut_off_at_the_end(
        self, start: int, length: int | None, expected: bytes
    ) -> None:
        """A range returns what lies inside the object, at or beyond its end nothing."""
        store = self.make_store()
        store.put("digits", b"0123456789", if_absent=True)

        got = store.get("digits", start=start, length=length)

        assert got == expected

    @pytest.mark.parametrize(("start", "length"), [(-1, None), (0, -1), (-5, 2)])
    def test_a_negative_range_is_refused(self, start: int, length: int | None) -> None:
        """A range with a negative number is an error, not a range from the end."""
        store = self.make_store()
        store.put("digits", b"0123456789", if_absent=True)

        with pytest.raises(ValueError, match="range"):
            store.get("digits", start=start, length=length)

    def test_an_object_that_vanishes_is_whole_or_not_found(self) -> None:
        """A get beside a delete gives all of it or FileNotFoundError, and no listing breaks."""
        store = self.make_store()
        data = hashlib.shake_128(b"vanishing").digest(100_000)
        keys = [f"going/{number}" for number in range(20)]
        for key in keys:
            store.put(key, data, if_absent=True)

        def take(key: str) -> bytes | None:
            while True:
                with suppress(*_TRANSIENT):
                    try:
                        return store.get(key)
                    except FileNotFoundError:
                        return None

        with ThreadPoolExecutor(3) as executor:
            deleted = executor.submit(lambda: [store.delete(key) for key in keys])
            listed = executor.submit(lambda: {entry.key for entry in store.list("going/")})
            found = list(executor.map(take, keys))
            deleted.result()

        assert set(found) <= {data, None}
        assert listed.result() <= set(keys)
        assert list(store.list("")) == []

    @pytest.mark.parametrize(
        "keys",
        [
            ("a-b", "a/b", "ab"),
            ("0", "00", "0-0", "-", "-0"),
            ("tmp-file", "tmp/file"),
            ("con", "nul", "aux"),
            ("index-html", "robots-txt", "favicon-ico"),
        ],
        ids=["hyphens", "digits", "tmp", "devices", "web"],
    )
    def test_unusual_keys_are_keys_like_others(self, keys: tuple[str, ...]) -> None:
        """Names that some storages treat in their own way each keep their own bytes."""
        store = self.make_store()
        for key in keys:
            store.put(key, key.encode(), if_absent=True)

        assert {key: store.get(key) for key in keys} == {key: key.encode() for key in keys}
        assert sorted(entry.key for entry in store.list("")) == sorted(keys)

    def test_a_put_that_may_replace_also_creates(self) -> None:
        """Where nothing stands there is nothing to replace."""
        store = self.make_store()

        store.put("packs/a", b"first", if_absent=False)

        assert store.get("packs/a") == b"first"

    def test_a_shorter_object_replaces_a_longer_one(self) -> None:
        """Nothing of the old one is left behind the new, nor in the listing."""
        store = self.make_store()
        store.put("a", b"0123456789", if_absent=True)

        store.put("a", b"abc", if_absent=False)

        assert store.get("a") == b"abc"
        assert store.get("a", start=3) == b""
        assert [entry.size_bytes for entry in store.list("a")] == [3]

    def test_no_part_of_an_object_is_ever_seen(self) -> None:
        """While a large object is put and deleted, others see the whole of it or nothing."""
        store = self.make_store()
        data = hashlib.shake_128(b"whole").digest(_LARGE_BYTES)
        done = threading.Event()

        def look() -> set[int]:
            sizes = set()
            while not done.is_set():
                with suppress(*_TRANSIENT):
                    sizes |= {entry.size_bytes for entry in store.list("whole")}
                with suppress(FileNotFoundError, *_TRANSIENT):
                    sizes.add(len(store.get("whole")))
            return sizes

        with ThreadPoolExecutor(2) as executor:
            looks = [executor.submit(look) for _ in range(2)]
            try:
                for _ in range(4):
                    store.put("whole", data, if_absent=True)
                    store.delete("whole")
            finally:
                done.set()
            seen = {size for found in looks for size in found.result()}

        assert seen <= {_LARGE_BYTES}

    def test_a_put_replaces_in_one_step(self) -> None:
        """While one thread replaces an object, others see one of its whole states only."""
        store = self.make_store()
        states = [bytes([n]) * (1000 + 100 * n) for n in range(8)]
        store.put("a", states[0], if_absent=True)
        done = threading.Event()

        def read() -> list[bytes]:
            seen = []
            while not done.is_set():
                with suppress(*_TRANSIENT):
                    seen.append(store.get("a"))
            return seen

        with ThreadPoolExecutor(2) as executor:
            readers = [executor.submit(read) for _ in range(2)]
            try:
                for state in states:
                    store.put("a", state, if_absent=False)
            finally:
                done.set()
            seen = {data for reader in readers for data in reader.result()}

        assert seen <= set(states)
        assert store.get("a") == states[-1]

    # ---- delete and describe

    def test_a_delete_may_be_repeated(self) -> None:
        """A delete returns Remains, also for what is not there or never was."""
        store = self.make_store()
        store.put("folder/a", b"x", if_absent=True)

        remains = [store.delete(key) for key in ("folder/a", "folder/a", "never", "no/folder")]

        assert all(isinstance(left, Remains) for left in remains)
        assert all(left.until is None or left.until.tzinfo for left in remains)
        with pytest.raises(FileNotFoundError):
            store.get("folder/a")

    def test_a_delete_takes_one_object_only(self) -> None:
        """Neither a longer name nor what lies below the name is deleted with it."""
        store = self.make_store()
        keys = {"a/b", "a/bc", "a/b-c", "d/e/f"}
        for key in keys:
            store.put(key, b"x", if_absent=True)

        store.delete("a/b")
        store.delete("d")

        assert {entry.key for entry in store.list("")} == keys - {"a/b"}

    def test_the_store_describes_itself(self) -> None:
        """describe() returns a StoreInfo whose fields have their types and agree."""
        info = self.make_store().describe()

        assert isinstance(info, StoreInfo)
        assert type(info.exclusive_create) is bool
        assert type(info.durable_put) is bool
        assert type(info.tells_location) is bool
        assert info.tls in (True, False, "unknown", None)
        assert info.locks is None or isinstance(info.locks, str)
        assert info.soft_delete_days is None or info.soft_delete_days >= 0
        assert info.versioning in ("enabled", "suspended", "off", None)
        assert info.keeps_deleted is None or type(info.keeps_deleted) is bool
        assert isinstance(info.findings, tuple)
        assert all(isinstance(finding, str) for finding in info.findings)
        assert info.location is None or isinstance(info.location, Location)
        # Who does not tell where he is must not be quoted with it.
        assert info.location is None or info.tells_location
        if info.transport is not None:
            assert isinstance(info.transport, Transport)
            assert "@" not in info.transport.endpoint
            assert info.tls is (info.transport.tls_minimum is not None)

    # ---- what a store may have beside its methods

    def test_a_closed_store_may_be_used_again(self) -> None:
        """close(), where there is one, may be repeated, and takes nothing away."""
        store = self.make_store()
        store.put("a", b"data", if_absent=True)

        close = getattr(store, "close", None)
        if close is not None:
            close()
            close()

        assert store.get("a") == b"data"
        if close is not None:
            close()

    @pytest.mark.parametrize(("name", "most"), [("attempts", 100), ("concurrency", 1000)])
    def test_numbers_that_a_store_gives_are_sensible(self, name: str, most: int) -> None:
        """``attempts`` and ``concurrency``, where there are any, are whole numbers from 1."""
        number = getattr(self.make_store(), name, 1)

        assert type(number) is int
        assert 1 <= number <= most

    def test_a_handle_is_shown_without_its_memory(self) -> None:
        """repr() is one line of text, and needs no answer of the storage."""
        shown = repr(self.make_store())

        assert shown.isprintable()
        assert len(shown) < 4096

    # ---- keys

    @pytest.mark.parametrize("key", _HOSTILE_KEYS, ids=ascii)
    def test_a_hostile_key_is_refused(self, key: str) -> None:
        """What is no key is a ValueError for put, get and delete, and stores nothing."""
        store = self.make_store()

        with pytest.raises(ValueError, match="key"):
            store.put(key, b"x", if_absent=False)
        with pytest.raises(ValueError, match="key"):
            store.get(key)
        with pytest.raises(ValueError, match="key"):
            store.delete(key)

        assert list(store.list("")) == []

    def test_a_key_of_full_length_is_taken(self) -> None:
        """The longest key that there may be names an object like any other."""
        store = self.make_store()
        key = f"{'a' * 255}/{'0-' * 127}/z"
        assert len(key) == MAX_KEY_CHARS

        store.put(key, b"x", if_absent=True)

        assert [entry.key for entry in store.list("")] == [key]
        assert store.get(key) == b"x"
