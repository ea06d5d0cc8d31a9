"""The seam: one outcome for each error, retries where they are safe, lengths checked."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from loopbackup.errors import (
    AlreadyExistsError,
    DamagedData,
    InputError,
    InsecureTransport,
    LoopbackupError,
    NotFoundError,
    StoreError,
)
from loopbackup.testing.faults import (
    BitFlip,
    Crash,
    Crashed,
    FaultStore,
    LostRequest,
    LostResponse,
    Refused,
    Rule,
    Torn,
    Truncated,
    script,
)
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.protocol import StoredObject
from loopbackup.vault.store.seam import StoreSeam
from loopbackup.vault.store.wrappers import WrapperStore

VERBS: dict[str, Callable[[StoreSeam], object]] = {
    "put": lambda seam: seam.put("a/1", b"x"),
    "overwrite": lambda seam: seam.overwrite("a/1", b"x"),
    "create_once": lambda seam: seam.create_once("a/1", b"x"),
    "get": lambda seam: seam.get("a/1"),
    "list": lambda seam: list(seam.list("a/1")),
    "delete": lambda seam: seam.delete("a/1"),
    "describe": lambda seam: seam.describe(),
}
WRITES = {"put", "overwrite", "create_once", "delete"}
PUTS = {"put", "overwrite", "create_once"}


def seam_with(*rules: Rule, attempts: int = 4) -> tuple[StoreSeam, FaultStore]:
    """Return a seam over a store in memory that fails by these rules, and that store."""
    store = FaultStore(MemoryStore(), script(*rules))
    return StoreSeam(store, attempts=attempts, wait_s=0), store


def os_error(number: int) -> OSError:
    """Make an error whose own text holds a secret."""
    return OSError(number, os.strerror(number), "https://user:secret@host/a/1")


# ---- translation


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EACCES, "denied"),
        (errno.EPERM, "denied"),
        (errno.EROFS, "read_only"),
        (errno.ENOSPC, "full"),
        (errno.EDQUOT, "full"),
        (errno.EIO, "store"),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else value,
)
def test_lasting_errors_get_their_kind(verb: str, number: int, kind: str) -> None:
    """A lasting error is tried once, says its kind, its object and its cause, and no secret."""
    seam, store = seam_with(Rule(Refused(partial(os_error, number)), times=99))

    with pytest.raises(StoreError) as caught:
        VERBS[verb](seam)

    error = caught.value
    assert error.kind == kind
    assert not error.transient
    assert error.ambiguous is (verb in WRITES and kind not in ("denied", "read_only"))
    assert error.object == ("" if verb == "describe" else "a/1")
    assert isinstance(error.__cause__, OSError)
    assert "secret" not in str(error)
    assert os.strerror(number) in str(error)
    assert len(store.calls) == 1


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("error", [ConnectionError, TimeoutError, BrokenPipeError])
def test_transient_errors_stay_transient(verb: str, error: type[OSError]) -> None:
    """When no try succeeds, the error is transient, and ambiguous for writes."""
    seam, store = seam_with(Rule(Refused(error), times=99))

    with pytest.raises(StoreError) as caught:
        VERBS[verb](seam)

    assert caught.value.transient
    assert caught.value.ambiguous is (verb in WRITES)
    assert error.__name__ in str(caught.value)
    assert len(store.calls) == (1 if verb == "create_once" else 4)


def test_a_missing_object_is_not_found() -> None:
    """A read of nothing is NotFoundError of kind "object", which names it, at once."""
    seam, store = seam_with()

    with pytest.raises(NotFoundError, match="no such object: a/1") as caught:
        seam.get("a/1")

    assert (caught.value.kind, caught.value.object) == ("object", "a/1")
    assert len(store.calls) == 1


@pytest.mark.parametrize("verb", sorted(PUTS))
def test_a_write_is_never_not_found(verb: str) -> None:
    """A missing bucket or folder is an error of the store, not of an object."""
    seam, _ = seam_with(Rule(Refused(FileNotFoundError)))

    with pytest.raises(StoreError) as caught:
        VERBS[verb](seam)

    assert not isinstance(caught.value, NotFoundError)


def test_our_own_errors_pass_as_they_are() -> None:
    """What a driver raises as one of ours is not wrapped again."""

    class Insecure(WrapperStore):
        def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
            raise InsecureTransport("no TLS")

    with pytest.raises(InsecureTransport):
        StoreSeam(Insecure(MemoryStore())).get("a")


def test_a_bad_key_is_an_input_error() -> None:
    """No retry and no store error for what the caller got wrong."""
    seam, store = seam_with()

    with pytest.raises(InputError):
        seam.put("../a", b"x")

    assert len(store.calls) == 1


def test_a_crash_is_no_error_of_the_store() -> None:
    """What is no Exception goes through untouched and is not retried."""
    seam, store = seam_with(Rule(Crash("after"), "put"))

    with pytest.raises(Crashed):
        seam.put("a", b"x")

    assert len(store.calls) == 1
    assert store.inner.get("a") == b"x"


# ---- retries


@pytest.mark.parametrize("verb", sorted(set(VERBS) - {"create_once"}))
def test_a_transient_error_is_tried_again(verb: str) -> None:
    """Two failures and a success are a success."""
    seam, store = seam_with(Rule(LostRequest(), times=2))
    store.inner.put("a/1", b"x", if_absent=True)

    VERBS[verb](seam)

    assert len(store.calls) >= 3


def test_one_attempt_means_no_retry() -> None:
    """attempts=1 asks the store once."""
    seam, store = seam_with(Rule(LostRequest(), times=9), attempts=1)

    with pytest.raises(StoreError):
        seam.get("a")

    assert len(store.calls) == 1


def test_a_lost_reply_to_put_is_success() -> None:
    """The second try finds the name taken by the first, and equal bytes settle it."""
    seam, store = seam_with(Rule(LostResponse(), "put"))

    seam.put("a", memoryview(b"data"))

    assert [call.method for call in store.calls] == ["put", "put", "get"]
    assert store.inner.get("a") == b"data"


def test_other_bytes_under_the_name_are_told() -> None:
    """A put of a taken name with other bytes fails and changes nothing."""
    seam, store = seam_with()
    store.inner.put("a", b"other", if_absent=True)

    with pytest.raises(AlreadyExistsError) as caught:
        seam.put("a", b"data")

    assert caught.value.object == "a"
    assert store.inner.get("a") == b"other"


def test_a_torn_object_is_not_taken_for_ones_own() -> None:
    """Half of the same bytes is other bytes."""
    seam, _ = seam_with(Rule(Torn(2, crash=False), "put"))
    seam.put("a", b"data")

    with pytest.raises(AlreadyExistsError):
        seam.put("a", b"data")


@pytest.mark.parametrize("fault", [LostRequest(), LostResponse()], ids=["request", "response"])
def test_an_exclusive_create_is_tried_once(fault: LostRequest | LostResponse) -> None:
    """create_once surfaces the doubt instead of settling it."""
    seam, store = seam_with(Rule(fault, "put"))

    with pytest.raises(StoreError) as caught:
        seam.create_once("ledger/1", b"record")

    assert caught.value.ambiguous
    assert len(store.calls) == 1


def test_an_exclusive_create_of_equal_bytes_is_taken() -> None:
    """create_once does not read back: equal bytes are AlreadyExistsError, too."""
    seam, store = seam_with()
    seam.create_once("ledger/1", b"record")

    with pytest.raises(AlreadyExistsError):
        seam.create_once("ledger/1", b"record")

    assert [call.method for call in store.calls] == ["put", "put"]


def test_overwrite_replaces() -> None:
    """An overwrite stores over whatever stands there."""
    seam, store = seam_with(Rule(LostResponse(), "put"))
    store.inner.put("a", b"old", if_absent=True)

    seam.overwrite("a", b"new")

    assert store.inner.get("a") == b"new"


# ---- lengths


def test_a_short_reply_is_read_again() -> None:
    """One reply cut short does no harm."""
    seam, store = seam_with(Rule(Truncated(1), "get"))
    store.inner.put("a", b"0123456789", if_absent=True)

    assert seam.get("a", start=2, length=4) == b"2345"
    assert len(store.calls) == 2


def test_a_short_object_is_damage() -> None:
    """An object that ends before the asked range is DamagedData that names it."""
    seam, store = seam_with()
    store.inner.put("a", b"0123", if_absent=True)

    with pytest.raises(DamagedData, match="holds 2 bytes from 2, not 4") as caught:
        seam.get("a", start=2, length=4)

    assert caught.value.object == "a"


def test_too_long_a_reply_is_damage() -> None:
    """More bytes than asked for are not trimmed into something plausible."""

    class IgnoresRange(WrapperStore):
        def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
            return super().get(key)

    inner = MemoryStore()
    inner.put("a", b"0123456789", if_absent=True)

    with pytest.raises(DamagedData):
        StoreSeam(IgnoresRange(inner)).get("a", start=0, length=4)


def test_altered_bytes_are_not_the_seams_business() -> None:
    """A flipped bit has the right length; hashes above find it."""
    seam, store = seam_with(Rule(BitFlip(0), "get"))
    store.inner.put("a", b"\0", if_absent=True)

    assert seam.get("a", length=1) == b"\1"


# ---- listings


def test_a_listing_that_breaks_off_is_begun_again() -> None:
    """No object is shown twice or missed when the second page fails once."""

    class BreaksOnce(WrapperStore):
        broken = False

        def list(self, prefix: str) -> Iterator[StoredObject]:
            for number, entry in enumerate(super().list(prefix)):
                if number == 3 and not self.broken:
                    self.broken = True
                    raise ConnectionError
                yield entry

    inner = MemoryStore()
    for number in range(6):
        inner.put(f"a/{number}", b"x", if_absent=True)

    found = list(StoreSeam(BreaksOnce(inner), wait_s=0).list("a/"))

    assert sorted(entry.key for entry in found) == [f"a/{number}" for number in range(6)]


def test_foreign_names_are_left_out() -> None:
    """What somebody else put beside the vault is not shown as an object."""

    class Shared(WrapperStore):
        def list(self, prefix: str) -> Iterator[StoredObject]:
            yield from super().list(prefix)
            yield StoredObject("README.md", 3)
            yield StoredObject("a//b", 3)

    inner = MemoryStore()
    inner.put("a/1", b"x", if_absent=True)

    assert [entry.key for entry in StoreSeam(Shared(inner)).list("")] == ["a/1"]


# ---- many


def test_many_ranges_come_in_order() -> None:
    """Ranges are yielded as asked, however they finish."""
    inner = MemoryStore()
    for number in range(20):
        inner.put(f"a/{number}", bytes([number]) * 10, if_absent=True)
    ranges = [(f"a/{number}", number % 3, 5) for number in range(20)]

    with ThreadPoolExecutor(4) as executor:
        got = list(StoreSeam(inner).get_many(ranges, executor, max_in_flight_bytes=17))

    assert got == [bytes([number]) * 5 for number in range(20)]


@pytest.mark.parametrize(
    ("length", "bound", "at_most"), [(100, 350, 3), (1000, 350, 1), (0, 350, 64)]
)
def test_bytes_in_flight_are_bounded(length: int, bound: int, at_most: int) -> None:
    """No more is asked for than the bound allows, but always one range, and 64 at most."""
    inner = MemoryStore()
    inner.put("a", bytes(1000), if_absent=True)
    asked = 0

    def ranges() -> Iterator[tuple[str, int, int]]:
        nonlocal asked
        for _ in range(200):
            asked += 1
            yield "a", 0, length

    waiting: list[int] = []
    with ThreadPoolExecutor(2) as executor:
        for _ in StoreSeam(inner).get_many(ranges(), executor, max_in_flight_bytes=bound):
            # The last one read from the iterable waits for room and is not asked for.
            waiting.append(asked - len(waiting) - 1)

    assert len(waiting) == 200
    assert max(waiting) == at_most
    assert waiting[100] == at_most


def test_the_first_error_stands_in_its_place() -> None:
    """What comes before a failing range is yielded; what comes after is cancelled."""
    inner = MemoryStore()
    inner.put("a", b"0123", if_absent=True)
    ranges = [("a", 0, 2), ("missing", 0, 1), ("a", 2, 2)]

    with ThreadPoolExecutor(1) as executor:
        replies = StoreSeam(inner).get_many(ranges, executor)
        first = next(replies)
        with pytest.raises(NotFoundError) as caught:
            next(replies)

    assert first == b"01"
    assert caught.value.object == "missing"
    assert list(replies) == []


def test_an_abandoned_run_cancels_its_requests() -> None:
    """Closing the iterator leaves no request that has not begun."""
    begun: list[str] = []
    gate = threading.Event()

    class Slow(WrapperStore):
        def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
            begun.append(key)
            if len(begun) > 1:
                gate.wait(10)
            return super().get(key, start=start, length=length)

    inner = MemoryStore()
    for number in range(10):
        inner.put(f"a/{number}", b"x", if_absent=True)

    with ThreadPoolExecutor(1) as executor:
        replies = StoreSeam(Slow(inner)).get_many([(f"a/{n}", 0, 1) for n in range(10)], executor)
        next(replies)
        del replies  # closes the generator
        gate.set()

    assert len(begun) <= 2


def test_every_error_of_the_seam_is_ours() -> None:
    """Whatever OSError a store raises, a caller of the seam sees a LoopbackupError."""
    for number in errno.errorcode:
        for verb, call in VERBS.items():
            seam, _ = seam_with(Rule(Refused(partial(os_error, number)), times=99), attempts=1)
            with pytest.raises(LoopbackupError) as caught:
                call(seam)
            assert "secret" not in str(caught.value), verb
