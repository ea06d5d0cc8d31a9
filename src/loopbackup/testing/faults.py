"""A store that fails on cue: crashes, lost and late calls, torn and altered bytes, stale lists."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias, TypeVar

from attrs import define, frozen

from ..vault.store.protocol import Data, Remains, Store, StoredObject, StoreInfo
from ..vault.store.wrappers import WrapperStore

__all__ = [
    "BitFlip",
    "Call",
    "Crash",
    "Crashed",
    "Delayed",
    "Fault",
    "FaultStore",
    "LostRequest",
    "LostResponse",
    "Plan",
    "Refused",
    "Rule",
    "StaleList",
    "Torn",
    "Truncated",
    "damage",
    "script",
]

_T = TypeVar("_T")
Method: TypeAlias = Literal["put", "get", "list", "delete", "describe"]


class Crashed(BaseException):
    """
    The process is dead, as far as this handle of the store can tell.

    No ``Exception``: nothing that mends errors may mend this.
    """


@frozen
class Call:
    """
    Say which call a plan is asked about.

    Args:
        number: Counted from 1 over all calls of the handle.
        method: The method's name.
        key: The key, or the prefix of a listing; empty for ``describe``.
    """

    number: int
    method: Method
    key: str


@frozen
class Crash:
    """Die before the call takes effect, or after it; later calls die too."""

    when: Literal["before", "after"]


@frozen
class LostRequest:
    """Raise ``ConnectionError``; the store never heard of the call."""


@frozen
class LostResponse:
    """Do what was asked, then raise ``ConnectionError``."""


@frozen
class Refused:
    """Raise what *error* makes, such as a full disk or a throttle; no effect."""

    error: Callable[[], OSError]


@frozen
class Delayed:
    """Raise ``TimeoutError``; the put happens at :meth:`FaultStore.release`."""


@frozen
class Torn:
    """Store only the first bytes of a put, then die, or claim success."""

    keep_bytes: int
    crash: bool = True


@frozen
class BitFlip:
    """Flip one bit, counted modulo the length: of a get's reply, or of what a put stores."""

    bit: int = 0


@frozen
class Truncated:
    """Return only the first bytes of a get."""

    keep_bytes: int


@frozen
class StaleList:
    """
    List an earlier state.

    Args:
        hide: How many of the newest objects below the prefix to leave out, by
            ``modified_at`` and then by key; None lists what stood there at
            :meth:`FaultStore.remember_lists`.
    """

    hide: int | None = 1


Fault: TypeAlias = (
    Crash | LostRequest | LostResponse | Refused | Delayed | Torn | BitFlip | Truncated | StaleList
)
Plan: TypeAlias = Callable[[Call], Fault | None]


@define
class Rule:
    """
    Say when a fault strikes: at some of the calls that match.

    Args:
        fault: What happens.
        method: Which method; None for any.
        key: Shell pattern of keys (``*`` also crosses slashes).
        nth: The first of the matching calls that is struck, from 1.
        times: How many are struck from there on.
    """

    fault: Fault
    method: Method | None = None
    key: str = "*"
    nth: int = 1
    times: int = 1
    _seen: int = 0

    def strikes(self, call: Call) -> bool:
        """Count the call if it matches, and tell whether the fault strikes it."""
        if self.method not in (None, call.method) or not fnmatchcase(call.key, self.key):
            return False
        self._seen += 1
        return self.nth <= self._seen < self.nth + self.times


def script(*rules: Rule) -> Plan:
    """
    Return a plan from rules; every rule counts every call, the first that strikes decides.

    For one :class:`FaultStore`, which asks for one call at a time.
    """

    def plan(call: Call) -> Fault | None:
        struck = [rule.fault for rule in rules if rule.strikes(call)]
        return struck[0] if struck else None

    return plan


class FaultStore(WrapperStore):
    """
    One handle of a store, through which calls fail as a plan says.

    Several handles may share one inner store: each is then a process of its
    own, with its own connection and its own death. Deterministic as long as
    its calls come in a definite order; thread-safe.

    Args:
        inner: The store, usually a ``MemoryStore``.
        plan: Asked once before each call; ``script(Rule(...), ...)`` makes one.
    """

    def __init__(self, inner: Store, plan: Plan | None = None) -> None:
        super().__init__(inner)
        self.calls: list[Call] = []
        self._plan = plan
        self._lock = threading.Lock()
        self._dead = False
        self._late: list[tuple[str, bytes, bool]] = []
        self._remembered: tuple[StoredObject, ...] = ()

    def release(self) -> int:
        """
        Let the delayed puts happen now, oldest first; return how many took effect.

        An exclusive create that finds its name taken has none. Works on a dead
        handle too: packets outlive their sender.
        """
        done = 0
        with self._lock:
            late, self._late = self._late, []
        for key, data, if_absent in late:
            try:
                self.inner.put(key, data, if_absent=if_absent)
            except FileExistsError:
                continue
            done += 1
        return done

    def remember_lists(self) -> None:
        """Keep the present listing for ``StaleList(hide=None)``."""
        self._remembered = tuple(self.inner.list(""))

    def put(self, key: str, data: Data, *, if_absent: bool) -> None:
        """Store an object, or fail as planned."""
        match fault := self._next("put", key):
            case Torn():
                torn = memoryview(data).cast("B")[: fault.keep_bytes]
                self.inner.put(key, torn, if_absent=if_absent)
                if fault.crash:
                    raise self._died()
            case BitFlip():
                self.inner.put(key, _flipped(bytes(data), fault.bit), if_absent=if_absent)
            case Delayed():
                with self._lock:
                    self._late.append((key, bytes(data), if_absent))
                raise TimeoutError(f"no reply: put {key}")
            case _:
                self._around(fault, lambda: self.inner.put(key, data, if_absent=if_absent))

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Return a range of an object, or fail as planned."""

        def fetch() -> bytes:
            return self.inner.get(key, start=start, length=length)

        match fault := self._next("get", key):
            case BitFlip():
                return _flipped(fetch(), fault.bit)
            case Truncated():
                return fetch()[: fault.keep_bytes]
            case _:
                return self._around(fault, fetch)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """List objects, or fail as planned, at the call."""
        match fault := self._next("list", prefix):
            case StaleList(hide=None):
                return (entry for entry in self._remembered if entry.key.startswith(prefix))
            case StaleList(hide=int(hide)):
                oldest_first = sorted(
                    self.inner.list(prefix),
                    key=lambda entry: (
                        entry.modified_at.timestamp() if entry.modified_at else 0.0,
                        entry.key,
                    ),
                )
                return iter(oldest_first[: max(0, len(oldest_first) - hide)])
            case _:
                return self._around(fault, lambda: self.inner.list(prefix))

    def delete(self, key: str) -> Remains:
        """Delete an object, or fail as planned."""
        return self._around(self._next("delete", key), lambda: self.inner.delete(key))

    def describe(self) -> StoreInfo:
        """Say what the store can do, or fail as planned."""
        return self._around(self._next("describe", ""), self.inner.describe)

    def _next(self, method: Method, key: str) -> Fault | None:
        with self._lock:
            if self._dead:
                raise Crashed(f"{method} {key} on a dead handle")
            call = Call(len(self.calls) + 1, method, key)
            self.calls.append(call)
            return self._plan(call) if self._plan else None

    def _around(self, fault: Fault | None, act: Callable[[], _T]) -> _T:
        match fault:
            case None:
                return act()
            case Crash(when="before"):
                raise self._died()
            case Crash():
                act()
                raise self._died()
            case LostRequest():
                raise ConnectionError("request lost")
            case LostResponse():
                act()
                raise ConnectionError("response lost")
            case Refused():
                raise fault.error()
            case _:
                raise TypeError(f"{fault} does not apply to this method")

    def _died(self) -> Crashed:
        self._dead = True
        return Crashed(f"died at call {len(self.calls)}")


def damage(store: Store, key: str, *, bit: int = 0) -> None:
    """
    Flip one bit of an object where it lies.

    Args:
        store: The store, of which no fault is asked.
        key: The object; not empty.
        bit: Counted from the first byte's lowest bit, modulo the length.
    """
    store.put(key, _flipped(store.get(key), bit), if_absent=False)


def _flipped(data: bytes, bit: int) -> bytes:
    altered = bytearray(data)
    altered[bit // 8 % len(altered)] ^= 1 << bit % 8
    return bytes(altered)
