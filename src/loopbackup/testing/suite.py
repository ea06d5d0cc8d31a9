"""What every store must do, as a pytest class for the authors of storage plugins."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from loopbackup.vault.store.probe import probe_exclusive_create
from loopbackup.vault.store.protocol import MAX_KEY_CHARS, Data, Remains, Store, StoreInfo

__all__ = ["StoreSuite"]

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
_LARGE_BYTES = 5 * 2**20 + 7


class StoreSuite:
    """
    Check the whole contract of :class:`~loopbackup.vault.store.protocol.Store`.

    Subclass it in a test module under a name that pytest collects and give it
    ``make_store``; a fixture with ``autouse=True`` may prepare what that needs.
    """

    def make_store(self) -> Store:
        """Return a handle of a store that holds nothing yet: a fresh one at every call."""
        raise TypeError(f"{type(self).__name__} must define make_store()")

    # ---- put and get

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

    def test_a_put_replaces_in_one_step(self) -> None:
        """While one thread replaces an object, others see one of its whole states only."""
        store = self.make_store()
        states = [bytes([n]) * (1000 + 100 * n) for n in range(8)]
        store.put("a", states[0], if_absent=True)
        done = threading.Event()

        def read() -> list[bytes]:
            seen = []
            while not done.is_set():
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

    # ---- exclusive create

    def test_a_taken_name_is_file_exists(self) -> None:
        """An exclusive create of a taken name changes nothing, also for equal bytes."""
        store = self.make_store()
        store.put("a", b"first", if_absent=True)

        for data in (b"second", b"first"):
            with pytest.raises(FileExistsError):
                store.put("a", data, if_absent=True)

        assert store.get("a") == b"first"

    def test_a_deleted_name_is_free_again(self) -> None:
        """An exclusive create succeeds where an object was deleted."""
        store = self.make_store()
        store.put("a", b"first", if_absent=True)
        store.delete("a")

        store.put("a", b"second", if_absent=True)

        assert store.get("a") == b"second"

    def test_exclusive_create_has_one_winner(self) -> None:
        """Of 32 concurrent creates of one name one wins, as describe() says it does."""
        store = self.make_store()

        exclusive = probe_exclusive_create(store, rounds=3, contenders=32)

        assert exclusive or not store.describe().exclusive_create
        assert list(store.list("")) == []

    def test_calls_may_run_side_by_side(self) -> None:
        """Threads that put, get, list and delete their own objects do not disturb each other."""
        store = self.make_store()

        def work(worker: int) -> set[str]:
            kept = set()
            for number in range(10):
                key = f"work/{worker}/{number}"
                store.put(key, key.encode(), if_absent=True)
                assert store.get(key) == key.encode()
                if number % 2:
                    store.delete(key)
                else:
                    kept.add(key)
                list(store.list(f"work/{worker}/"))
            return kept

        with ThreadPoolExecutor(8) as executor:
            kept = set().union(*executor.map(work, range(8)))

        assert {entry.key for entry in store.list("work/")} == kept

    # ---- list

    @pytest.mark.parametrize(
        ("prefix", "expected"),
        [
            ("", {"vault", "packs/ab/1", "packs/ab/2", "packs/abc", "packs/b-1/1"}),
            ("packs/", {"packs/ab/1", "packs/ab/2", "packs/abc", "packs/b-1/1"}),
            ("packs", {"packs/ab/1", "packs/ab/2", "packs/abc", "packs/b-1/1"}),
            ("packs/ab", {"packs/ab/1", "packs/ab/2", "packs/abc"}),
            ("packs/ab/", {"packs/ab/1", "packs/ab/2"}),
            ("packs/ab/2", {"packs/ab/2"}),
            ("packs/abc/", set()),
            ("va", {"vault"}),
            ("nothing/here/", set()),
        ],
    )
    def test_a_prefix_is_a_string_prefix(self, prefix: str, expected: set[str]) -> None:
        """A listing shows exactly the keys that begin with the prefix, each once."""
        store = self.make_store()
        for key in ("vault", "packs/ab/1", "packs/ab/2", "packs/abc", "packs/b-1/1"):
            store.put(key, b"x", if_absent=True)

        keys = [entry.key for entry in store.list(prefix)]

        assert set(keys) == expected
        assert len(keys) == len(expected)

    def test_a_listing_tells_size_and_time(self) -> None:
        """Sizes are exact; a time, where there is one, is aware, in UTC and plausible."""
        store = self.make_store()
        store.put("a", b"12345", if_absent=True)

        (entry,) = store.list("")

        assert entry.size_bytes == 5
        if entry.modified_at is not None:
            assert entry.modified_at.utcoffset() == timedelta(0)
            assert abs(datetime.now(UTC) - entry.modified_at) < timedelta(days=1)

    def test_a_listing_is_never_cached(self) -> None:
        """What was put or deleted before the call is in, or out of, the listing."""
        store = self.make_store()
        assert list(store.list("")) == []

        store.put("a", b"x", if_absent=True)
        after_put = [entry.key for entry in store.list("")]
        store.delete("a")
        after_delete = [entry.key for entry in store.list("")]

        assert after_put == ["a"]
        assert after_delete == []

    def test_a_listing_is_complete(self) -> None:
        """More objects than a page of most providers holds are all shown."""
        store = self.make_store()
        keys = {f"many/{number}" for number in range(1100)}
        with ThreadPoolExecutor(8) as executor:
            list(executor.map(lambda key: store.put(key, b"x", if_absent=True), sorted(keys)))

        found = [entry.key for entry in store.list("many/")]

        assert set(found) == keys
        assert len(found) == len(keys)

    def test_objects_may_be_deleted_while_they_are_listed(self) -> None:
        """A loop that deletes what it is shown ends, and leaves nothing."""
        store = self.make_store()
        for number in range(50):
            store.put(f"many/{number}", b"x", if_absent=True)

        for entry in store.list("many/"):
            store.delete(entry.key)

        assert list(store.list("")) == []

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
        """describe() returns a StoreInfo whose fields have their types."""
        info = self.make_store().describe()

        assert isinstance(info, StoreInfo)
        assert type(info.exclusive_create) is bool
        assert type(info.durable_put) is bool
        assert info.tls in (True, False, None)
        assert info.locks is None or isinstance(info.locks, str)
        assert info.soft_delete_days is None or info.soft_delete_days >= 0

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
