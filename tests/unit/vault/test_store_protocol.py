"""The grammar of keys, prefixes and ranges."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopbackup.errors import InputError
from loopbackup.vault.store.protocol import (
    check_key,
    check_prefix,
    check_range,
    is_key,
)

SEGMENTS = st.text("0123456789abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=80)
KEYS = st.lists(SEGMENTS, min_size=1, max_size=6).map("/".join)


@given(KEYS)
def test_every_key_is_taken(key: str) -> None:
    """Segments of the alphabet joined by slashes are a key, returned as it is."""
    assert check_key(key) == key


@given(st.text(max_size=40))
def test_a_key_holds_its_alphabet_only(text: str) -> None:
    """Any text is a key only if its alphabet and its slashes are in order."""
    expected = bool(re.fullmatch(r"[0-9a-z/-]+", text)) and all(text.split("/"))

    assert is_key(text) is expected


@pytest.mark.parametrize(
    "key",
    ["", "/a", "a/", "a//b", "..", "a/../b", "A", "a.b", "a\n", "a" * 256, "a/" * 256 + "a"],
    ids=lambda key: ascii(key[:10]) + str(len(key)),
)
def test_no_key_is_refused(key: str) -> None:
    """What is no key is an InputError that quotes at most its beginning."""
    with pytest.raises(InputError, match="no key") as caught:
        check_key(key)

    assert len(str(caught.value)) < 200


@given(KEYS, st.data())
def test_every_beginning_of_a_key_is_a_prefix(key: str, data: st.DataObject) -> None:
    """A listing may be asked for any beginning of a key, also the empty one."""
    prefix = key[: data.draw(st.integers(0, len(key)))]

    assert check_prefix(prefix) == prefix


@pytest.mark.parametrize("prefix", ["/", "a//", "../", "A", "a*", ".tmp/", "a\n"], ids=ascii)
def test_what_begins_no_key_is_no_prefix(prefix: str) -> None:
    """A prefix that no key could have is an InputError."""
    with pytest.raises(InputError, match="no prefix"):
        check_prefix(prefix)


def test_a_negative_range_is_refused() -> None:
    """Neither a start nor a length may be negative; zero may be."""
    check_range(0, 0)
    check_range(0, None)

    with pytest.raises(InputError, match="start -1"):
        check_range(-1, None)
    with pytest.raises(InputError, match="length -1"):
        check_range(0, -1)
