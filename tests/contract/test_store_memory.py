"""The memory driver keeps the contract of stores."""

from loopbackup.testing.suite import StoreSuite
from loopbackup.vault.store.memory import MemoryStore


class TestMemoryStore(StoreSuite):
    between_processes = False

    def make_store(self) -> MemoryStore:
        return MemoryStore()
