"""
The lease: how long keys may be used on the strength of one look at the ledger.

An erasure is known to whoever folds the ledger after it. A process that folds
at least once in :data:`LEASE_S` while it uses keys therefore obeys every erasure
within that time, and nobody has to write down which processes there are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from attrs import define, frozen

from ...errors import StoreError
from ...logs import get_logger

__all__ = ["LEASE_S", "RENEW_S", "Lease", "Moment", "running_seconds"]

LEASE_S: Final = 900
"""After so many seconds without a look at the ledger no key is used any more."""
RENEW_S: Final = 300
"""After so many it is looked at again: a store that is away for a while stops nobody."""
RETRY_S: Final = 30
"""So long a look that failed is not tried again while the lease lasts."""

GLANCE_S: Final = 1
"""So long one reading of the vault's clock serves: it costs more than the other."""

# On Linux CLOCK_MONOTONIC stands still while the machine sleeps, elsewhere it goes on.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def running_seconds() -> float:
    """Give seconds since some moment in the past, those in which the machine slept included."""
    return time.clock_gettime(_CLOCK)


@frozen
class Moment:
    """One moment by two clocks."""

    running_s: float
    at: datetime


@define(eq=False)
class Lease:
    """
    Sees to it that keys are used only while the last look at the ledger is young enough.

    By two clocks, of which the one counts that says more: the vault's own is the
    one that receipts are dated by, and goes on while a virtual machine is
    stopped; the other cannot be set back. Thread-safe.

    Args:
        clock: The vault's clock.
        lock: Held while the ledger is folded.
        look: Folds what was committed since, and calls :meth:`renew`.
        running: Gives seconds that only grow.
    """

    clock: Callable[[], datetime]
    lock: threading.RLock
    look: Callable[[], object]
    running: Callable[[], float] = running_seconds
    _since: Moment | None = None
    _good_until_s: float = float("-inf")
    _retry_at_s: float = float("-inf")

    def now(self) -> Moment:
        """Read both clocks."""
        return Moment(self.running(), self.clock())

    def renew(self, looked: Moment) -> None:
        """Begin anew: the head was asked for at *looked* or later, and all before it is folded."""
        self._since = looked
        self._good_until_s = looked.running_s + GLANCE_S

    def age_s(self) -> float:
        """Give how old the last look is, in seconds; infinite before the first."""
        since = self._since
        if since is None:
            return float("inf")
        elapsed = self.running() - since.running_s
        if elapsed > RENEW_S:
            return elapsed
        return max(elapsed, (self.clock() - since.at).total_seconds())

    def keep(self) -> None:
        """
        Look at the ledger again where the last look is too old.

        Not to be called with a lock that taking up other keys needs as well.

        Raises:
            StoreError: Kind "lease", transient: the lease is over and the store
                cannot be asked.
            CredentialError, DamagedData: As for any fold.

        Cost: one reading of a clock, 0.2 us; every five minutes one request.
        """
        if self.running() < self._good_until_s:
            return
        age_s = self.age_s()
        if age_s > LEASE_S:
            self._look_or_stop()
        elif age_s > RENEW_S:
            self._try_to_look()
        else:
            self._good_until_s = self.running() + GLANCE_S

    def _try_to_look(self) -> None:
        """Look, unless somebody is at it or the store was away just now."""
        if self.running() < self._retry_at_s or not self.lock.acquire(blocking=False):
            return
        try:
            if self.age_s() > RENEW_S:
                self.look()
        except StoreError as exc:
            self._retry_at_s = self.running() + RETRY_S
            get_logger().warning("the ledger cannot be looked at; trying again", kind=exc.kind)
        finally:
            self.lock.release()

    def _look_or_stop(self) -> None:
        with self.lock:
            if self.age_s() <= LEASE_S:
                return
            try:
                self.look()
            except StoreError as exc:
                raise StoreError(
                    f"the store could not be asked for {LEASE_S // 60} minutes whether anybody "
                    "was erased, so no key is used until it can. Try again when the store answers",
                    kind="lease",
                    transient=True,
                ) from exc
