"""The lease by its two clocks: the vault's, and one that nobody sets."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from loopbackup.errors import StoreError
from loopbackup.vault.ledger.lease import (
    GLANCE_S,
    LEASE_S,
    RENEW_S,
    RETRY_S,
    Lease,
    running_seconds,
)


class Times:
    """Two clocks that a test moves, and looks that it counts."""

    def __init__(self) -> None:
        self.running_s = 1_000.0
        self.at = datetime(2026, 3, 1, tzinfo=UTC)
        self.looks = 0
        self.is_away = False
        self.lease = Lease(lambda: self.at, threading.RLock(), self.look, lambda: self.running_s)
        self.lease.renew(self.lease.now())

    def look(self) -> None:
        """Fold, or fail."""
        self.looks += 1
        if self.is_away:
            raise StoreError("no answer", transient=True)
        self.lease.renew(self.lease.now())


def test_clock_that_is_set_back_does_not_lengthen_the_lease() -> None:
    """The running clock goes on."""
    times = Times()
    times.at -= timedelta(days=1)
    times.running_s += LEASE_S + 1

    times.lease.keep()

    assert times.looks == 1


def test_machine_that_was_stopped_looks_before_it_goes_on() -> None:
    """Its running clock knows hardly anything of the time between; the vault's clock does."""
    times = Times()
    times.at += timedelta(seconds=LEASE_S + 1)
    times.running_s += GLANCE_S

    times.lease.keep()

    assert times.looks == 1
    times.lease.keep()
    assert times.looks == 1


def test_failed_look_is_not_repeated_at_once_and_stops_only_when_the_lease_is_over() -> None:
    """From five minutes on it is tried twice a minute; from fifteen on nothing goes."""
    times = Times()
    times.is_away = True
    times.running_s += RENEW_S + 1

    times.lease.keep()
    times.lease.keep()
    assert times.looks == 1
    times.running_s += RETRY_S
    times.lease.keep()
    assert times.looks == 2
    times.running_s += LEASE_S
    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            times.lease.keep()
        assert (caught.value.kind, caught.value.transient) == ("lease", True)
    times.is_away = False
    times.lease.keep()
    assert times.lease.age_s() == 0


def test_nobody_waits_for_a_look_of_another_thread_while_the_lease_lasts() -> None:
    """Whoever folds holds the lock, for as long as the store takes to answer."""
    times = Times()
    times.running_s += RENEW_S + 1
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with times.lease.lock:
            taken.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(10)
    times.lease.keep()
    done.set()
    thread.join()

    assert times.looks == 0


def test_before_the_first_look_no_key_is_used() -> None:
    """There is nothing yet that could say who was erased."""
    times = Times()
    lease = Lease(lambda: times.at, threading.RLock(), times.look, lambda: times.running_s)

    assert lease.age_s() == float("inf")


def test_running_clock_only_grows() -> None:
    """It is the one that counts what a machine sleeps through, where there is one."""
    first = running_seconds()

    assert running_seconds() >= first > 0
