"""Tables of records: what is where, when it moves, and that nothing gets lost meanwhile."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable

import pytest

from loopbackup.errors import StoreError
from loopbackup.vault.content import records as module
from loopbackup.vault.content.records import RecordTable
from loopbackup.vault.content.scratch import ScratchFile

WIDTH = 40


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few thousand records do what takes millions."""
    monkeypatch.setattr(module, "PART_ROWS", 256)
    monkeypatch.setattr(module, "SPILL_ROWS", 16)
    monkeypatch.setattr(module, "_MIN_SPILL_ROWS", 500)
    monkeypatch.setattr(module, "_SPARE_BYTES", 10_000)
    monkeypatch.setattr(module, "_MAPPED_BYTES", 4096)


def some(count: int) -> list[bytes]:
    """Make records."""
    return [os.urandom(WIDTH) for _ in range(count)]


def add(table: RecordTable, records: Iterable[bytes]) -> None:
    """Add records and sort them in."""
    table.extend(records)
    table.settle()


def check(table: RecordTable, records: Iterable[bytes]) -> None:
    """See that a table holds just these, each once."""
    ids = [record[:32] for record in records]
    assert table.firsts(ids) == list(records)
    assert [table.first(i) for i in ids] == list(records)
    assert [table.matching(i) for i in ids] == [[record] for record in records]
    assert table.firsts([os.urandom(32) for _ in ids]) == [None] * len(ids)
    assert len(table) == len(ids)


@pytest.mark.parametrize("memory_bytes", [0, 1 << 20], ids=["disk", "memory"])
@pytest.mark.parametrize("expected", [0, 20_000])
@pytest.mark.parametrize("batch", [7, 70, 3000])
def test_records_are_found_while_and_after_they_are_added(
    memory_bytes: int, expected: int, batch: int
) -> None:
    """Spilled, split, sorted in or still waiting."""
    table, records = RecordTable(WIDTH, memory_bytes), some(6000)
    table.expect(expected)

    for at in range(0, len(records), batch):
        table.extend(records[at : at + batch])
        if at % 2000 == 0:
            assert table.first(records[at][:32]) == records[at]
    check(table, records)
    table.settle()
    check(table, records)

    assert (table.file_bytes > 0) == (memory_bytes == 0)
    table.close()
    assert (len(table), table.first(records[0][:32]), table.file_bytes) == (0, None, 0)


def test_table_moves_to_disk_when_it_outgrows_its_memory() -> None:
    """And the part of it that is still waiting is found meanwhile."""
    table, records = RecordTable(WIDTH, 2000 * WIDTH), some(4000)

    table.extend(records[:2000])
    table.settle()
    in_memory = table.memory_bytes
    assert (table.file_bytes, in_memory > 2000 * WIDTH) == (0, True)
    table.extend(records[2000:2500])
    check(table, records[:2500])
    table.settle()

    assert table.file_bytes > 2500 * WIDTH
    assert table.memory_bytes < in_memory / 4
    table.extend(records[2500:])
    check(table, records)
    table.close()


def test_room_of_what_was_replaced_is_freed() -> None:
    """A file that is added to for ever does not grow for ever."""
    table, records = RecordTable(WIDTH, 0), some(3000)

    longest = 0
    for at in range(0, len(records), 100):
        table.extend(records[at : at + 100])
        table.settle()
        longest = max(longest, table.file_bytes)

    check(table, records)
    assert longest < 3 * len(records) * (WIDTH + 4) + 20_000
    table.close()


@pytest.mark.parametrize("failing", [1, 2, 3, 7])
def test_disk_that_fills_up_loses_nothing(failing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was added before is found, and all is once there is room again."""
    table, records = RecordTable(WIDTH, 0), some(2000)
    add(table, records[:1000])
    real, calls = ScratchFile.put, 0

    def full(self: ScratchFile, pieces: Iterable[bytes]) -> int:
        nonlocal calls
        calls += 1
        if calls >= failing:
            raise StoreError("no space left")
        return real(self, pieces)

    monkeypatch.setattr(ScratchFile, "put", full)
    with pytest.raises(StoreError):
        add(table, records[1000:])
    monkeypatch.undo()

    found = table.firsts([record[:32] for record in records[:1000]])
    assert found == records[:1000]
    table.settle()
    check(table, records)
    table.close()


def test_threads_look_up_while_one_adds() -> None:
    """What was there before is found at every moment."""
    table, records = RecordTable(WIDTH, 3000 * WIDTH), some(6000)
    table.extend(records[:1000])
    table.settle()
    wrong: list[bytes] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            wrong.extend(r for r in records[:1000:50] if table.first(r[:32]) != r)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for at in range(1000, len(records), 250):
        table.extend(records[at : at + 250])
        table.settle()
    done.set()
    for thread in threads:
        thread.join()

    check(table, records)
    assert wrong == []
    table.close()


def test_claim_of_many_records_costs_little() -> None:
    """A count that somebody made up allocates a few megabytes at most."""
    table = RecordTable(WIDTH, 1 << 20)

    table.expect(2**60)

    assert table.memory_bytes < 32 << 20
