"""The faulty store fails exactly as it is told to."""

from datetime import UTC, datetime, timedelta

import pytest

from loopbackup.testing.faults import (
    BitFlip,
    Call,
    Crash,
    Crashed,
    Delayed,
    Fault,
    FaultStore,
    LostRequest,
    LostResponse,
    Refused,
    Rule,
    StaleList,
    Torn,
    Truncated,
    damage,
    script,
)
from loopbackup.vault.store.memory import MemoryStore

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def inner() -> MemoryStore:
    """Give the store that the handles of a test share; its clock moves at each put."""
    times = (START + timedelta(seconds=n) for n in range(10_000))
    return MemoryStore(lambda: next(times))


def keys_of(store: FaultStore | MemoryStore, prefix: str = "") -> list[str]:
    """Return the keys that a listing shows."""
    return sorted(entry.key for entry in store.list(prefix))


def test_without_a_plan_nothing_fails(inner: MemoryStore) -> None:
    """Calls are passed on and kept in their order."""
    store = FaultStore(inner)

    store.put("a", b"1", if_absent=True)
    assert store.get("a") == b"1"
    assert keys_of(store) == ["a"]
    store.delete("a")

    assert store.calls == [
        Call(1, "put", "a"),
        Call(2, "get", "a"),
        Call(3, "list", ""),
        Call(4, "delete", "a"),
    ]


@pytest.mark.parametrize(("when", "stored"), [("before", []), ("after", ["a"])])
def test_a_crash_ends_the_handle(inner: MemoryStore, when: str, stored: list[str]) -> None:
    """The call has its effect or not, and every later call through the handle dies too."""
    store = FaultStore(inner, script(Rule(Crash(when), "put")))  # type: ignore[arg-type]
    other = FaultStore(inner)

    with pytest.raises(Crashed):
        store.put("a", b"1", if_absent=True)
    with pytest.raises(Crashed):
        store.get("a")
    with pytest.raises(Crashed):
        store.describe()

    assert keys_of(other) == stored


def test_no_handler_of_errors_catches_a_crash() -> None:
    """Crashed is no Exception."""
    assert not issubclass(Crashed, Exception)


def test_a_lost_request_has_no_effect(inner: MemoryStore) -> None:
    """The caller sees a ConnectionError, the store saw nothing."""
    store = FaultStore(inner, script(Rule(LostRequest(), "put")))

    with pytest.raises(ConnectionError):
        store.put("a", b"1", if_absent=True)

    assert keys_of(inner) == []


def test_a_lost_response_has_its_effect(inner: MemoryStore) -> None:
    """The caller sees a ConnectionError for what the store did."""
    store = FaultStore(
        inner, script(Rule(LostResponse(), "put"), Rule(LostResponse(), "delete", "b"))
    )
    inner.put("b", b"2", if_absent=True)

    with pytest.raises(ConnectionError):
        store.put("a", b"1", if_absent=True)
    with pytest.raises(ConnectionError):
        store.delete("b")

    assert keys_of(inner) == ["a"]


def test_a_throttle_lets_the_next_call_through(inner: MemoryStore) -> None:
    """A rule says how many calls in a row are refused."""
    store = FaultStore(inner, script(Rule(Refused(TimeoutError), "get", times=2)))
    inner.put("a", b"1", if_absent=True)

    for _ in range(2):
        with pytest.raises(TimeoutError):
            store.get("a")

    assert store.get("a") == b"1"


def test_a_delayed_put_arrives_at_its_release(inner: MemoryStore) -> None:
    """Until then nothing is stored; a create that comes too late has no effect."""
    store = FaultStore(inner, script(Rule(Delayed(), "put", times=3)))
    for key, if_absent in (("a", True), ("b", True), ("c", False)):
        with pytest.raises(TimeoutError):
            store.put(key, b"late", if_absent=if_absent)
    assert keys_of(inner) == []
    inner.put("b", b"first", if_absent=True)
    inner.put("c", b"first", if_absent=True)

    arrived = store.release()

    assert arrived == 2
    assert [inner.get(key) for key in "abc"] == [b"late", b"first", b"late"]
    assert store.release() == 0


def test_a_delayed_put_outlives_its_sender(inner: MemoryStore) -> None:
    """A dead handle's put may still arrive."""
    store = FaultStore(inner, script(Rule(Delayed(), "put"), Rule(Crash("before"), "get")))
    with pytest.raises(TimeoutError):
        store.put("a", b"late", if_absent=True)
    with pytest.raises(Crashed):
        store.get("a")

    store.release()

    assert inner.get("a") == b"late"


def test_a_torn_write_keeps_its_beginning(inner: MemoryStore) -> None:
    """The first bytes are stored, and the handle dies or goes on as if all were."""
    store = FaultStore(inner, script(Rule(Torn(2, crash=False), key="a"), Rule(Torn(3), key="b")))

    store.put("a", memoryview(b"12345"), if_absent=True)
    with pytest.raises(Crashed):
        store.put("b", b"12345", if_absent=True)

    assert (inner.get("a"), inner.get("b")) == (b"12", b"123")


def test_a_bit_flips_in_a_reply_or_at_rest(inner: MemoryStore) -> None:
    """A get's reply is altered once, a put's bytes for good."""
    store = FaultStore(inner, script(Rule(BitFlip(9), "put", "b"), Rule(BitFlip(0), "get", "a")))
    store.put("a", b"\0\0", if_absent=True)
    store.put("b", b"\0\0", if_absent=True)

    assert (store.get("a"), store.get("a")) == (b"\1\0", b"\0\0")
    assert inner.get("b") == b"\0\2"


def test_damage_is_done_where_the_object_lies(inner: MemoryStore) -> None:
    """One bit differs afterwards, and again flips it back."""
    inner.put("a", b"data", if_absent=True)

    damage(inner, "a", bit=8)
    damaged = inner.get("a")
    damage(inner, "a", bit=8)

    assert damaged == b"d`ta"
    assert inner.get("a") == b"data"


def test_a_get_may_be_cut_short(inner: MemoryStore) -> None:
    """Only the first bytes of the range come back."""
    store = FaultStore(inner, script(Rule(Truncated(2), "get")))
    inner.put("a", b"0123456789", if_absent=True)

    assert store.get("a", start=3, length=5) == b"34"


def test_a_stale_list_misses_the_newest(inner: MemoryStore) -> None:
    """The objects put last are hidden, below the prefix only."""
    store = FaultStore(inner, script(Rule(StaleList(hide=2), "list")))
    for key in ("l/3", "l/1", "l/2", "m/1"):
        inner.put(key, b"x", if_absent=True)

    assert keys_of(store, "l/") == ["l/3"]
    assert keys_of(store, "l/") == ["l/1", "l/2", "l/3"]


def test_a_stale_list_may_show_an_earlier_state(inner: MemoryStore) -> None:
    """Deleted objects are shown again and new ones are missing."""
    store = FaultStore(inner, script(Rule(StaleList(hide=None), "list")))
    inner.put("a/old", b"x", if_absent=True)
    inner.put("b/old", b"x", if_absent=True)
    store.remember_lists()
    inner.delete("a/old")
    inner.put("a/new", b"x", if_absent=True)

    assert keys_of(store, "a/") == ["a/old"]
    assert keys_of(store, "a/") == ["a/new"]


def test_rules_count_their_own_calls(inner: MemoryStore) -> None:
    """A rule counts the calls that match method and key, whatever else is called between."""
    store = FaultStore(inner, script(Rule(LostRequest(), "put", "l/*", nth=2)))

    store.put("m/1", b"x", if_absent=True)
    store.put("l/1", b"x", if_absent=True)
    store.get("l/1")
    with pytest.raises(ConnectionError):
        store.put("l/2", b"x", if_absent=True)
    store.put("l/3", b"x", if_absent=True)

    assert keys_of(inner, "l/") == ["l/1", "l/3"]


def test_a_plan_may_be_any_function(inner: MemoryStore) -> None:
    """The number of the call chooses the fault as well as its key."""

    def third_call(call: Call) -> Fault | None:
        return LostRequest() if call.number == 3 else None

    store = FaultStore(inner, third_call)
    store.put("a", b"x", if_absent=True)
    store.put("b", b"x", if_absent=True)

    with pytest.raises(ConnectionError):
        store.put("c", b"x", if_absent=True)

    assert keys_of(store) == ["a", "b"]


@pytest.mark.parametrize("fault", [Delayed(), Torn(1), Truncated(1), BitFlip()], ids=repr)
def test_a_fault_on_the_wrong_method_is_a_mistake(inner: MemoryStore, fault: Fault) -> None:
    """A plan that asks for what cannot be is told so."""
    store = FaultStore(inner, script(Rule(fault, "delete")))

    with pytest.raises(TypeError, match="does not apply"):
        store.delete("a")
