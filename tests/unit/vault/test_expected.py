"""What a reader of a distant store expects: nobody waits for ever, and nothing fills up."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from tests.e2e.support import items, noise

import loopbackup as lb
from loopbackup.testing import memory_vault
from loopbackup.vault.content import reader as module
from loopbackup.vault.format.pack import CONTENT_KINDS
from loopbackup.vault.keys.domains import Domain
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.wrappers import LatencyStore


class Stalling(LatencyStore):
    """Answers reads of packs only once it is told to."""

    def __init__(self, inner: MemoryStore) -> None:
        super().__init__(inner, request_s=0, sleep=lambda _: None)
        self.go = threading.Event()
        self.go.set()

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        if key.startswith("packs/"):
            assert self.go.wait(30)
        return super().get(key, start=start, length=length)


@pytest.fixture
def store() -> Stalling:
    """Give an empty store."""
    return Stalling(MemoryStore())


@pytest.fixture
def vault(store: Stalling) -> Iterator[lb.Vault]:
    """Give a vault with one long entry."""
    with memory_vault(store=store) as vault:
        vault.backup(items({"a": noise(2_000_000, "a")}), name="n")
        yield vault


def expected(vault: lb.Vault) -> tuple[Domain, list[bytes]]:
    """Give the domain and the chunks of the entry."""
    session = vault._session
    domain = session.keyring.none
    state = session.log.state
    ids = [
        blob.id
        for segment in session.index.segments(state)
        for blob, _ in segment.rows(domain)
        if CONTENT_KINDS[blob.kind] == "data"
    ]
    return domain, ids


def test_nobody_waits_for_what_was_cancelled(
    store: Stalling, vault: lb.Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vault that is closed while others read ends what they wait for."""
    reader = vault._session.reader
    domain, ids = expected(vault)
    store.go.clear()
    # More requests than threads: some wait for a thread, and are cancelled.
    monkeypatch.setattr(module, "RANGE_BYTES", module.ALIGN)
    monkeypatch.setattr(module, "GAP_BYTES", -1)
    for chunk_id in ids:
        reader.expect(domain, [chunk_id])
    closing = threading.Thread(target=vault._session.store.close)
    closing.start()
    store.go.set()
    closing.join(30)

    assert not closing.is_alive()
    assert not reader._fetching
    for chunk_id in ids:
        assert len(reader.read(domain, chunk_id)) > 0


def test_what_failed_is_expected_no_more(store: Stalling, vault: lb.Vault) -> None:
    """Else a missing pack would keep others from being fetched ahead, for good."""
    reader = vault._session.reader
    domain, ids = expected(vault)
    inner: MemoryStore = store.inner  # type: ignore[assignment]
    for found in list(inner.list("packs/")):
        inner.delete(found.key)
    reader.forget_expected()
    with reader._lock:
        reader._ranges.clear()
        reader._range_bytes = 0
    reader.expect(domain, ids)
    vault._session.store.close()  # Waits for what is under way.

    assert reader._expected_bytes == 0
    assert not reader._expected


def test_what_nobody_came_for_makes_room(vault: lb.Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest goes, after a while."""
    reader = vault._session.reader
    domain, ids = expected(vault)
    with reader._lock:
        reader._ranges.clear()
        reader._range_bytes = 0
        reader._expected[b"other", 0] = module.EXPECTED_BYTES, 0.0
        reader._expected_bytes = module.EXPECTED_BYTES
    monkeypatch.setattr(module, "UNREAD_S", -1.0)
    reader.expect(domain, ids)

    assert (b"other", 0) not in reader._expected
    assert reader._expected_bytes > 0
