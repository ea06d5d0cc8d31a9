"""What the memory driver does beyond the contract."""

import pickle
import secrets
from datetime import UTC, datetime

import pytest

from loopbackup.errors import InputError
from loopbackup.vault.store.memory import MemoryStore

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_times_come_from_the_clock() -> None:
    """modified_at is what the given clock said at the put."""
    times = iter([NOON, NOON.replace(hour=13)])
    store = MemoryStore(lambda: next(times))

    store.put("a", b"1", if_absent=True)
    first = next(store.list("a")).modified_at
    store.put("a", b"2", if_absent=False)
    second = next(store.list("a")).modified_at

    assert (first, second) == (NOON, NOON.replace(hour=13))


def test_one_name_is_one_store() -> None:
    """Two handles of a URL share objects; another name shares none."""
    url = f"memory://{secrets.token_hex(8)}"

    MemoryStore.at(url).put("a", b"1", if_absent=True)

    assert MemoryStore.at(url).get("a") == b"1"
    assert list(MemoryStore.at(url + "-b").list("")) == []


@pytest.mark.parametrize("url", ["memory://", "memory", "file:///srv"])
def test_a_url_without_name_is_refused(url: str) -> None:
    """Only memory://name names a store in memory."""
    with pytest.raises(InputError, match="memory://name"):
        MemoryStore.at(url)


def test_a_store_in_memory_does_not_travel() -> None:
    """Pickling fails instead of giving another process an empty copy."""
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(MemoryStore())


def test_nothing_outlives_the_process() -> None:
    """describe() calls puts exclusive and not durable."""
    info = MemoryStore().describe()

    assert info.exclusive_create
    assert not info.durable_put
