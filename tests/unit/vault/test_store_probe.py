"""The probe tells honest stores from those that only say so."""

import time

import pytest

from loopbackup.errors import StoreError
from loopbackup.testing.faults import FaultStore, Refused, Rule, script
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.probe import probe_exclusive_create
from loopbackup.vault.store.protocol import Data
from loopbackup.vault.store.seam import StoreSeam
from loopbackup.vault.store.wrappers import CountingStore, ReadOnlyStore, WrapperStore


class IgnoresCondition(WrapperStore):
    """Overwrites, as some servers do with a header that they do not know."""

    def put(self, key: str, data: Data, *, if_absent: bool) -> None:
        super().put(key, data, if_absent=False)


class LooksFirst(WrapperStore):
    """Looks and then writes, as most file system layers do."""

    def put(self, key: str, data: Data, *, if_absent: bool) -> None:
        if if_absent and any(self.list(key)):
            raise FileExistsError(key)
        time.sleep(0.001)
        super().put(key, data, if_absent=False)


class KeepsAnother(WrapperStore):
    """Tells one client that he won, and keeps other bytes."""

    def put(self, key: str, data: Data, *, if_absent: bool) -> None:
        super().put(key, bytes(len(data)), if_absent=if_absent)


def test_an_honest_store_passes() -> None:
    """One winner in each round, three rounds of 32, and nothing left behind."""
    store = CountingStore(MemoryStore())

    assert probe_exclusive_create(StoreSeam(store))

    assert store.snapshot().requests == {"put": 96, "get": 96, "delete": 3}
    assert list(store.list("")) == []


@pytest.mark.parametrize("liar", [IgnoresCondition, LooksFirst, KeepsAnother])
def test_a_liar_is_caught(liar: type[WrapperStore]) -> None:
    """A store with two winners, or with other bytes than the winner's, fails and is left clean."""
    store = liar(MemoryStore())

    assert not probe_exclusive_create(StoreSeam(store))

    assert list(store.list("")) == []


def test_a_store_without_winner_fails() -> None:
    """A store on which nobody ever wins is not exclusive but unusable."""
    store = FaultStore(MemoryStore(), script(Rule(Refused(FileExistsError), "put", times=999)))

    assert not probe_exclusive_create(StoreSeam(store), rounds=1, contenders=4)


def test_a_refusal_is_no_verdict() -> None:
    """An error that says nothing about exclusiveness is raised."""
    with pytest.raises(StoreError, match="refused"):
        probe_exclusive_create(StoreSeam(ReadOnlyStore(MemoryStore())))
