"""Processes of one vault that go on one store call at a time, as a test tells them to."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ParamSpec, TypeVar

import pytest
import tenacity

from loopbackup.testing.faults import Call, Crash, Fault, FaultStore, Method
from loopbackup.vault.format import header
from loopbackup.vault.format import record as rec
from loopbackup.vault.keys.credentials import Seed
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.protocol import Data, Remains, StoredObject, StoreInfo
from loopbackup.vault.store.wrappers import WrapperStore
from loopbackup.vault.vault import Vault
from loopbackup.vault.verbs.creation import create_vault
from loopbackup.vault.verbs.opening import open_vault
from loopbackup.vault.verbs.session import Session

__all__ = ["Clock", "Process", "Shared", "still"]

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE_S = 30.0
MAX_CALLS = 5_000
"""No verb of these tests needs as many; one that does never ends."""

SIZES = {
    "chunk_min": 1024,
    "chunk_max": 16_384,
    "chunk_t_cut": 24_019_198_012_642_645,
    "chunk_t_jump": 600_479_950_316_066_133,
    "pack_size": 65_536,
    "bundle_size": 4096,
}
"""Small chunks and packs, so that a few items take every path."""


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_time(self, seconds: float) -> None:
        """Move on; never back."""
        self.now += timedelta(seconds=seconds)


@contextmanager
def still() -> Iterator[None]:
    """Take chance and waiting out of the library: the same schedule gives the same calls."""
    chance = random.Random(7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "urandom", chance.randbytes)
        patch.setattr(random, "SystemRandom", lambda: chance)
        # Packs may then be so small that a few items fill several.
        patch.setattr(header, "MAX_STREAM_CHUNK", SIZES["chunk_max"])
        patch.setattr(tenacity.nap, "time", SimpleNamespace(sleep=lambda _seconds: None))
        yield


class Inline(ThreadPoolExecutor):
    """Runs everything at once in the caller's thread, so that a verb has one thread."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run now; errors wait in the future, a crash goes through."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as exc:  # noqa: BLE001 - as every executor does
            future.set_exception(exc)
        return future


class Turnstile(WrapperStore):
    """Stops before every call until the process is told to go on."""

    def __init__(self, inner: FaultStore, wait: Callable[[Method, str, str], None]) -> None:
        super().__init__(inner)
        self._wait = wait

    def put(self, key: str, data: Data, *, if_absent: bool) -> None:
        """Wait, then put."""
        self._wait("put", key, _kind_of_record(key, bytes(data)))
        super().put(key, data, if_absent=if_absent)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Wait, then get."""
        self._wait("get", key, "")
        return super().get(key, start=start, length=length)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Wait, then list."""
        self._wait("list", prefix, "")
        return super().list(prefix)

    def delete(self, key: str) -> Remains:
        """Wait, then delete."""
        self._wait("delete", key, "")
        return super().delete(key)

    def describe(self) -> StoreInfo:
        """Wait, then describe."""
        self._wait("describe", "", "")
        return super().describe()


def _kind_of_record(key: str, data: bytes) -> str:
    folder, _, number = key.rpartition("/")
    return rec.parse_record(data, int(number)).frame.kind if folder == "ledger" else ""


class Shared:
    """What the processes of a test share: the store, the clock, the credential."""

    def __init__(self, *, grace_s: int) -> None:
        self.clock = Clock()
        self.store = MemoryStore(clock=self.clock)
        self.seed = Seed(bytes(range(32)))
        create_vault(
            "memory://shared",
            self.seed,
            storage_options=None,
            location=None,
            grace_s=grace_s,
            single_writer=True,
            clock=self.clock,
            store=self.store,
            sizes=SIZES,
        )

    def open(
        self,
        store: WrapperStore | MemoryStore,
        *,
        read_only: bool = False,
        state_dir: Path | None = None,
    ) -> Session:
        """Open the vault through one handle of the store."""
        session = open_vault(
            "memory://shared",
            self.seed,
            storage_options=None,
            actor=None,
            read_only=read_only,
            head=None,
            clock=self.clock,
            state_dir=state_dir,
            store=store,
        )
        session._executor = Inline(max_workers=1)
        return session


class Process:
    """
    One process with its own handle of the store and its own open vault.

    ``begin`` starts a verb and stops before its first store call, ``step``
    lets one call go. A verb that ends leaves its result or its error.
    """

    def __init__(self, shared: Shared, *, state_dir: Path | None = None) -> None:
        self._shared = shared
        self._fault: Fault | None = None
        self.handle = FaultStore(shared.store, self._take_fault)
        self.pending: tuple[Method, str] | None = None
        """The call before which the verb has stopped."""
        self.record = ""
        """Which kind of ledger record the pending call would create."""
        self.result: Any = None
        self.error: BaseException | None = None
        self.after_call: Callable[[Method, str], None] = lambda _method, _key: None
        self._thread: threading.Thread | None = None
        self._go = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)
        turnstile = Turnstile(self.handle, self._wait)
        self.session = shared.open(turnstile, state_dir=state_dir)
        self.vault = Vault(self.session, None)

    # ---- in the verb's thread

    def _wait(self, method: Method, key: str, kind: str) -> None:
        if threading.current_thread() is not self._thread:
            return
        self.pending, self.record = (method, key), kind
        self._stopped.release()
        self._go.acquire()
        self.pending = None

    def _take_fault(self, _call: Call) -> Fault | None:
        fault, self._fault = self._fault, None
        return fault

    def _run(self, verb: Callable[[Vault], Any]) -> None:
        try:
            self.result = verb(self.vault)
        except BaseException as exc:  # noqa: BLE001 - the test looks at it
            self.error = exc
        finally:
            self.pending = None
            self._stopped.release()

    # ---- in the test's thread

    @property
    def busy(self) -> bool:
        """Whether a verb is under way."""
        return self._thread is not None

    def begin(self, verb: Callable[[Vault], Any]) -> None:
        """Start a verb; it stops before its first call of the store."""
        assert not self.busy, "one verb at a time"
        self.result = self.error = None
        self._thread = threading.Thread(target=self._run, args=(verb,), name="verb", daemon=True)
        self._thread.start()
        self._settle()

    def step(self, fault: Fault | None = None) -> None:
        """Let the pending call go, struck by *fault*."""
        assert self.pending is not None, "no call is pending"
        method, key = self.pending
        self._fault = fault
        self._go.release()
        self._settle()
        self.after_call(method, key)

    def _settle(self) -> None:
        if not self._stopped.acquire(timeout=PATIENCE_S):
            raise TimeoutError("a verb neither ends nor asks the store: it is stuck")
        if self.pending is None:
            assert self._thread is not None
            self._thread.join()
            self._thread = None

    def until(self, method: Method, key: str = "*") -> bool:
        """Go on up to a call that matches; False if the verb ended before."""
        for _ in range(MAX_CALLS):
            if self.pending is None:
                return False
            if self.pending[0] == method and fnmatchcase(self.pending[1], key):
                return True
            self.step()
        raise AssertionError(f"a verb made {MAX_CALLS} calls and does not end")

    def until_record(self, kind: str) -> None:
        """Go on until just before a record of this kind is created."""
        while self.until("put", "ledger/*"):
            if self.record == kind:
                return
            self.step()
        raise AssertionError(f"the verb ended without a {kind} record: {self.error!r}")

    def finish(self) -> Any:
        """Go on to the end alone; give the result or raise the error."""
        for _ in range(MAX_CALLS):
            if self.pending is None:
                break
            self.step()
        else:
            raise AssertionError(f"a verb made {MAX_CALLS} calls and does not end")
        if self.error is not None:
            raise self.error
        return self.result

    def run(self, verb: Callable[[Vault], Any]) -> Any:
        """Begin and finish."""
        self.begin(verb)
        return self.finish()

    def kill(self) -> None:
        """Die before the pending call, or idle."""
        while self.pending is not None:
            self.step(Crash("before"))
