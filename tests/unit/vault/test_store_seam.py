"""The seam: one outcome for each error, retries where they are safe, lengths checked."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count

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
from loopbackup.vault.store.probe import probe_exclusive_create
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
        (errno.ESTALE, "store"),
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


UNREADABLE = ("EIO", "ELOOP", "EISDIR", "ENOTDIR", "EINVAL", "ENXIO", "EBADMSG")


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_object_that_cannot_be_read_is_damage(name: str) -> None:
    """A bad sector, or a link in the object's place, is no failure of the store."""
    number = getattr(errno, name)
    seam, store = seam_with(Rule(Refused(partial(os_error, number)), "get", times=99))

    reads: list[Callable[[], bytes]] = [
        lambda: seam.get("a/1"),
        lambda: seam.get("a/1", length=1),
        lambda: seam.get_upto("a/1", 1),
        lambda: seam.get_whole("a/1", 1),
    ]
    for read in reads:
        with pytest.raises(DamagedData, match=os.strerror(number)) as caught:
            read()
        assert (caught.value.kind, caught.value.object) == ("unreadable", "a/1")
        assert "secret" not in str(caught.value)

    assert len(store.calls) == 4


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("verb", sorted(set(VERBS) - {"get"}))
def test_only_a_read_can_meet_an_unreadable_object(verb: str, name: str) -> None:
    """A write, a listing or a delete that fails so is an error of the store."""
    seam, _ = seam_with(Rule(Refused(partial(os_error, getattr(errno, name))), times=99))

    with pytest.raises(StoreError) as caught:
        VERBS[verb](seam)

    assert caught.value.kind == "store"


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


class Endless(WrapperStore):
    """Shows a thousand terabytes under every name, and counts what it was asked for."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.asked: list[int | None] = []

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        self.asked.append(length)
        assert length is not None, "the whole was asked for"
        return bytes(min(length, 1 << 16))

    def list(self, prefix: str) -> Iterator[StoredObject]:
        return (StoredObject(f"{prefix}{number}", 1) for number in count())


def test_an_object_over_its_bound_is_damage() -> None:
    """One byte more than the bound is asked for, and tells that there is more."""
    store = Endless()

    with pytest.raises(DamagedData, match=r"more than 1,000 bytes") as caught:
        StoreSeam(store).get_whole("a", 1000)

    assert (caught.value.kind, caught.value.object) == ("oversized", "a")
    assert store.asked == [1001]


def test_an_object_of_exactly_its_bound_is_whole() -> None:
    """The bound itself is allowed, and so is nothing at all."""
    seam, store = seam_with()
    store.inner.put("full", bytes(1000), if_absent=True)
    store.inner.put("empty", b"", if_absent=True)

    assert seam.get_whole("full", 1000) == bytes(1000)
    assert seam.get_whole("empty", 1000) == b""


def test_no_read_is_without_a_bound() -> None:
    """A length is given for whatever is read, also to hold a put against what stands there."""
    store = Endless()
    seam = StoreSeam(store)
    store.inner.put("a", b"x", if_absent=True)

    seam.get("a")
    with pytest.raises(AlreadyExistsError):
        seam.put("a", b"data")

    assert store.asked == [(1 << 32) + 1, 5]


def test_a_driver_that_pays_no_regard_to_ranges_is_found_out() -> None:
    """More bytes than there can be in the range are not passed on."""

    class IgnoresRange(WrapperStore):
        def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
            return super().get(key)

    inner = MemoryStore()
    inner.put("a", b"0123456789", if_absent=True)

    with pytest.raises(DamagedData, match="10 bytes came where 4"):
        StoreSeam(IgnoresRange(inner)).get_upto("a", 4)


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


def test_a_listing_without_end_is_given_up() -> None:
    """A hostile store cannot take all memory by listing on and on; the bound itself is allowed."""
    store = Endless()

    with pytest.raises(StoreError, match="given up after 1,000 objects") as caught:
        StoreSeam(store, max_listed=1000).list("packs/")

    assert (caught.value.kind, caught.value.transient) == ("endless", False)
    inner = MemoryStore()
    for number in range(3):
        inner.put(f"a/{number}", b"x", if_absent=True)
    assert len(list(StoreSeam(inner, max_listed=3).list("a/"))) == 3


# ---- exclusive create


def test_the_probe_speaks_our_errors() -> None:
    """A place that may not be written to is a StoreError, tried once."""
    seam, _ = seam_with(Rule(Refused(PermissionError), times=99))

    with pytest.raises(StoreError) as caught:
        probe_exclusive_create(seam)

    assert (caught.value.kind, caught.value.transient) == ("denied", False)


def test_the_probe_is_asked_again_after_a_lost_request() -> None:
    """One lost connection does not decide what a store can do."""
    seam, _ = seam_with(Rule(LostRequest(), "put"))

    assert probe_exclusive_create(seam)


# ---- many


def test_many_objects_come_in_order() -> None:
    """Objects are yielded as asked, however they finish."""
    inner = MemoryStore()
    for number in range(20):
        inner.put(f"a/{number}", bytes([number]) * 10, if_absent=True)
    keys = [f"a/{number}" for number in range(20)]

    with ThreadPoolExecutor(4) as executor:
        got = list(StoreSeam(inner).get_each(keys, executor, max_bytes=10, ahead=3))

    assert got == [bytes([number]) * 10 for number in range(20)]


@pytest.mark.parametrize("ahead", [1, 5, 32])
def test_objects_in_flight_are_bounded(ahead: int) -> None:
    """No more is asked for than the bound allows."""
    inner = MemoryStore()
    inner.put("a", b"x", if_absent=True)
    asked = 0

    def keys() -> Iterator[str]:
        nonlocal asked
        for _ in range(200):
            asked += 1
            yield "a"

    waiting: list[int] = []
    with ThreadPoolExecutor(2) as executor:
        for _ in StoreSeam(inner).get_each(keys(), executor, max_bytes=1, ahead=ahead):
            # The last one read from the iterable waits for room and is not asked for.
            waiting.append(asked - len(waiting) - 1)

    assert len(waiting) == 200
    assert max(waiting) == ahead


def test_the_first_error_stands_in_its_place() -> None:
    """What comes before a failing object is yielded; what comes after is cancelled."""
    inner = MemoryStore()
    for key in ("a", "c"):
        inner.put(key, b"01", if_absent=True)

    with ThreadPoolExecutor(1) as executor:
        replies = StoreSeam(inner).get_each(["a", "missing", "c"], executor, max_bytes=2)
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
        keys = [f"a/{number}" for number in range(10)]
        replies = StoreSeam(Slow(inner)).get_each(keys, executor, max_bytes=1)
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
