"""Listings show what is there: by prefix, uncached, complete, beside writers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from .base import StoreTests

__all__ = ["ListingTests"]

_HOSTILE_PREFIXES = ("/", "/a", "a//", "a//b", "../", "a/../", ".tmp/", "A", "a*", "å", "a" * 256)


class ListingTests(StoreTests):
    """List."""

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

    def test_a_listing_beside_writers_misses_nothing_older(self) -> None:
        """What was put before a listing began is in it, whatever others put meanwhile."""
        store = self.make_store()
        older = {f"many/{number}" for number in range(0, 100, 2)}
        for key in older:
            store.put(key, b"x", if_absent=True)
        done = threading.Event()

        def write() -> None:
            for number in range(1, 100, 2):
                store.put(f"many/{number}", b"x", if_absent=True)
            done.set()

        with ThreadPoolExecutor(1) as executor:
            writer = executor.submit(write)
            listings = [[entry.key for entry in store.list("many/")]]
            while not done.is_set() and not writer.done():
                listings.append([entry.key for entry in store.list("many/")])
            writer.result()

        assert all(older <= set(keys) for keys in listings)
        assert all(len(keys) == len(set(keys)) for keys in listings)

    def test_objects_may_be_deleted_while_they_are_listed(self) -> None:
        """A loop that deletes what it is shown ends, and leaves nothing."""
        store = self.make_store()
        for number in range(50):
            store.put(f"many/{number}", b"x", if_absent=True)

        for entry in store.list("many/"):
            store.delete(entry.key)

        assert list(store.list("")) == []

    @pytest.mark.parametrize("prefix", _HOSTILE_PREFIXES, ids=ascii)
    def test_a_hostile_prefix_is_refused(self, prefix: str) -> None:
        """What no key begins with is a ValueError, at the call or at the first object."""
        store = self.make_store()
        store.put("a/b", b"x", if_absent=True)

        with pytest.raises(ValueError, match="key"):
            list(store.list(prefix))
