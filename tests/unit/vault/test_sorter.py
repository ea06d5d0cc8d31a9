"""Sorting entries: any order in, tree order out, nothing in clear on a disk."""

import tempfile
from typing import IO, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopbackup.vault.content import sorter
from loopbackup.vault.content.sorter import EntrySorter


@pytest.fixture
def small_spills(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spill every few entries."""
    monkeypatch.setattr(sorter, "SPILL_BYTES", 2000)
    monkeypatch.setattr(sorter, "_BATCH", 3)


@given(
    st.lists(
        st.tuples(st.sampled_from([b"d" * 16, b"e" * 16]), st.binary(max_size=20)), max_size=80
    )
)
@pytest.mark.usefixtures("small_spills")
def test_entries_come_back_by_domain_then_key_then_arrival(rows: list[tuple[bytes, bytes]]) -> None:
    """With and without spilling; of equal keys the first in comes first out."""
    entries = EntrySorter()
    for number, (domain, key) in enumerate(rows):
        entries.add(domain, key, str(number).encode(), number)

    found = list(entries)
    entries.close()

    expected = sorted((domain, key, number) for number, (domain, key) in enumerate(rows))
    assert [(domain, key, arrival) for domain, key, arrival, _, _ in found] == expected
    assert all(encoded == str(size).encode() for _, _, _, encoded, size in found)


@pytest.mark.usefixtures("small_spills")
def test_names_never_reach_a_disk_in_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is spilled is encrypted, and the file has no name."""
    files: list[IO[bytes]] = []
    make = tempfile.TemporaryFile

    def watched(*args: Any, **kwargs: Any) -> IO[bytes]:
        files.append(make(*args, **kwargs))
        return files[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", watched)
    entries = EntrySorter()
    for number in range(50):
        entries.add(b"d" * 16, b"users/user-42/%d" % number, b"canary" * 10, number)

    (file,) = files
    file.seek(0)
    spilled = file.read()
    entries.close()

    assert len(spilled) > 1000
    assert b"user-42" not in spilled
    assert b"canary" not in spilled
    assert file.closed
