"""Marks beside other handles: whoever was later obeys, and what cannot be read harms nobody."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import define
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.e2e.support import Clock, create, noise, read_snapshot, reopen

import loopbackup as lb
from loopbackup.errors import ConflictError, HoldActive, NotFoundError, PolicyError
from loopbackup.vault.format import record as rec
from loopbackup.vault.ledger.commit import Body, Draft
from loopbackup.vault.ledger.core import state_digest
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.protocol import Data
from loopbackup.vault.store.wrappers import WrapperStore
from loopbackup.vault.verbs.refold import fold_again
from loopbackup.vault.verbs.standing import standing

REVIEW = datetime(2027, 1, 1, tzinfo=UTC)
WHO = "user-42"
CONTENT = noise(30_000, "content")


@define
class Interposed(WrapperStore):
    """Lets somebody else act right before the next object below a prefix is put."""

    inner: Any
    prefix: str = ""
    act: Callable[[], object] | None = None

    def catch_up(self) -> None:
        """Act now if there was no occasion."""
        act, self.act = self.act, None
        if act is not None:
            act()

    @property
    def has_acted(self) -> bool:
        """Whether there was one."""
        return self.act is None

    def put(self, key: str, data: Data, *, if_absent: bool) -> None:
        """Act once, then put."""
        act, self.act = (self.act, None) if key.startswith(self.prefix) else (None, self.act)
        if act is not None:
            act()
        self.inner.put(key, data, if_absent=if_absent)


@pytest.fixture
def store() -> MemoryStore:
    """A vault without a grace."""
    store = MemoryStore()
    create(store, grace_s=0)
    return store


@pytest.fixture
def first(store: MemoryStore) -> Iterator[lb.Vault]:
    """Open it."""
    with reopen(store, clock=Clock()) as vault:
        yield vault


@pytest.fixture
def between(store: MemoryStore) -> Iterator[tuple[lb.Vault, Interposed]]:
    """Open it through a store that lets others act in between."""
    interposed = Interposed(store)
    with reopen(interposed, clock=Clock()) as vault:
        yield vault, interposed


def back_up(vault: lb.Vault, name: str = "s", data: bytes = CONTENT) -> lb.Snapshot:
    """Back up an item of somebody."""
    return vault.backup([lb.Item("a", data=data, subject=WHO)], name=name)


def hold(vault: lb.Vault, **more: Any) -> lb.Hold:
    """Place a hold."""
    about = {"subject": WHO} if "paths" not in more else {}
    return vault.hold(**about, **more, reason="case 17", review_at=REVIEW)


MARKS: dict[str, Callable[[lb.Vault], object]] = {
    "hold": hold,
    "patterns": lambda vault: hold(vault, paths=["a"]),
    "tenant": lambda vault: vault.hold("acme", reason="case 17", review_at=REVIEW),
    "restriction": lambda vault: vault.ledger.append("restriction", {"reason": "x"}, subject=WHO),
}


@pytest.mark.parametrize("kind", MARKS)
def test_mark_that_comes_before_the_commit_of_a_forget_stops_it(
    first: lb.Vault, between: tuple[lb.Vault, Interposed], kind: str
) -> None:
    """The forget had looked before it came, and looks again; no record is void."""
    second, store = between
    about = ("acme", "42") if kind == "tenant" else WHO
    snapshot = first.backup([lb.Item("a", data=CONTENT, subject=about)], name="s")
    store.prefix, store.act = "ledger/", lambda: MARKS[kind](first)

    with pytest.raises(PolicyError):
        second.forget(snapshot.id, reason="old")

    assert store.has_acted
    assert [found.id for found in first.snapshots()] == [snapshot.id]
    assert first._session.log.state.alarms == ()
    assert first.check(data=True).ok


def test_forget_that_was_first_stands(
    first: lb.Vault, between: tuple[lb.Vault, Interposed]
) -> None:
    """The hold then covers what comes later."""
    second, store = between
    snapshot = back_up(first)
    second.holdings(WHO)
    store.prefix, store.act = "ledger/", lambda: first.forget(snapshot, reason="old")

    placed = hold(second)

    assert first.snapshots() == []
    assert first.holds == (placed,)
    with pytest.raises(HoldActive):
        first.forget(back_up(first), reason="old")


@pytest.mark.parametrize("prefix", ["packs/", "index/", "ledger/"])
def test_prune_beside_a_hold_leaves_what_is_held(
    first: lb.Vault, between: tuple[lb.Vault, Interposed], prefix: str
) -> None:
    """Whenever the hold comes, a snapshot that is there then stays whole."""
    second, store = between
    held = back_up(first)
    for number in range(9):
        back_up(first, "t", noise(20_000, f"{number}"))
    for old in first.snapshots(name="t")[1:]:
        first.forget(old, reason="old")
    store.prefix, store.act = prefix, lambda: hold(first)

    second.prune()
    store.catch_up()
    with pytest.raises(HoldActive):
        second.forget(held.id, reason="old")
    second.prune()

    assert read_snapshot(held) == {"a": CONTENT}
    assert first.check(data=True).ok


@pytest.mark.parametrize("prefix", ["packs/", "index/", "ledger/"])
@pytest.mark.parametrize("replacement", [b"right", CONTENT, noise(90_000, "other")], ids=len)
def test_overlay_beside_a_prune_stays_whole(
    first: lb.Vault, between: tuple[lb.Vault, Interposed], prefix: str, replacement: bytes
) -> None:
    """Also where the prune is about to take a copy of the very same bytes."""
    second, store = between
    snapshot = back_up(first, data=b"wrong")
    gone = back_up(first, "t", replacement)
    for number in range(9):
        back_up(first, "u", noise(20_000, f"{number}"))
    for old in [gone, *first.snapshots(name="u")[1:]]:
        first.forget(old, reason="old")
    payload = {"path": "a", "replacement": replacement}
    store.prefix = prefix
    store.act = lambda: first.ledger.append("overlay", payload, subject=WHO)

    second.prune()
    store.catch_up()
    second.prune()

    assert read_snapshot(snapshot) == {"a": replacement}
    assert first.check(data=True).ok


@pytest.mark.parametrize("prefix", ["packs/", "ledger/"])
def test_prune_beside_an_overlay_makes_it_store_again(
    first: lb.Vault, between: tuple[lb.Vault, Interposed], prefix: str
) -> None:
    """Its packs are unknown to all before its record, and without a grace they go."""
    second, store = between
    snapshot = back_up(first, data=b"wrong")
    store.prefix, store.act = prefix, first.prune

    second.ledger.append("overlay", {"path": "a", "replacement": CONTENT}, subject=WHO)

    assert store.has_acted
    first.prune()
    assert read_snapshot(snapshot) == {"a": CONTENT}
    assert first.check(data=True).ok


def test_overlay_of_a_snapshot_that_was_just_forgotten_is_refused(
    first: lb.Vault, between: tuple[lb.Vault, Interposed]
) -> None:
    """There is nothing left to correct."""
    second, store = between
    snapshot = back_up(first)
    store.prefix, store.act = "ledger/", lambda: first.forget(snapshot, reason="old")

    with pytest.raises(NotFoundError):
        second.ledger.append("overlay", {"path": "a", "replacement": b"x"}, subject=WHO)


def test_release_beside_a_release_is_told(
    first: lb.Vault, between: tuple[lb.Vault, Interposed]
) -> None:
    """Two handles cannot both end one hold."""
    second, store = between
    placed = hold(first)
    store.prefix, store.act = "ledger/", lambda: first.release(placed, reason="closed")

    with pytest.raises(NotFoundError):
        second.release(placed, reason="closed")


def test_forget_that_ignores_a_hold_is_void_for_all(first: lb.Vault, store: MemoryStore) -> None:
    """A client that does not obey costs an alarm, and nothing is lost to the next prune."""
    snapshot = back_up(first)
    hold(first)
    session = first._session
    rogue = Draft("forget", rec.Forgotten([bytes.fromhex(snapshot.id)]))

    with pytest.raises(ConflictError):
        session.log.commit_draft(rogue)

    first.prune()
    assert read_snapshot(snapshot) == {"a": CONTENT}
    with reopen(store) as again:
        assert [found.id for found in again.snapshots()] == [snapshot.id]
        assert len(again._session.log.state.alarms) == 1


BODIES: dict[str, bytes] = {
    "no msgpack": b"\xc1",
    "nothing": b"",
    "a list": b"\x90",
    "wrong types": b"\x82\xa6reason\x01\xa9review_us\xa1x",
    "unknown fields": b"\x81\xa1x\x01",
    "far": b"\x82\xa6reason\xa1x\xa9review_us\xcf" + b"\xff" * 8,
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("kind", ["hold", "patterns", "restriction", "overlay"])
def test_hostile_body_crashes_nobody(first: lb.Vault, kind: str, body: str) -> None:
    """What the frame says binds; what cannot be read is reported, and a hold by it keeps all."""
    snapshot = back_up(first)
    session = first._session
    domain = session.keyring.find((WHO,))
    assert domain is not None
    mark = b"M" * 16
    facts: dict[str, tuple[str, rec.Facts]] = {
        "hold": ("hold", rec.Held(mark, domain.id)),
        "patterns": ("hold", rec.Held(mark)),
        "restriction": ("restriction", rec.Restricted(mark, domain.id)),
        "overlay": ("overlay", rec.Overlaid(mark, domain.id, b"")),
    }
    meta = ("meta", session.keyring.generation_ref)
    key, ref = meta if kind == "patterns" else ("domain", domain.id)
    sealed: Body = session.body(key, ref, BODIES[body])
    name, said = facts[kind]

    session.log.commit_draft(Draft(name, said, [sealed, session.audit(lb.Actor("x"), "hold")]))

    assert {p.kind for p in first.check().problems} == {"unreadable_mark"}
    assert [entry.kind for entry in first.ledger.entries()][-2:] == [name, "check"]
    assert first.holdings(WHO).snapshots
    if kind == "overlay":
        assert read_snapshot(snapshot) == {"a": CONTENT}
        first.forget(snapshot, reason="old")
        return
    with pytest.raises(PolicyError):
        first.forget(snapshot, reason="old")
    if kind == "restriction":
        assert list(snapshot.ls(recursive=True)) == []
        return
    (found,) = first.holds
    assert found.reason == ""
    first.release(found, reason="cannot be read")
    first.forget(snapshot, reason="old")


@pytest.mark.parametrize("kind", ["patterns", "overlay"])
def test_lost_body_loses_no_data(first: lb.Vault, store: MemoryStore, kind: str) -> None:
    """A bit that flips in the store ends no hold, and lets no prune take what an overlay shows."""
    snapshot = back_up(first)
    if kind == "patterns":
        hold(first, paths=["nothing/like/this"])
    else:
        first.ledger.append("overlay", {"path": "a", "replacement": b"right"}, subject=WHO)
    index = len(first.ledger) - 1
    key = f"ledger/{index:020}"
    data = bytearray(store.get(key))
    packs = {entry.key for entry in store.list("packs/")}
    frame = rec.take_apart(bytes(data))
    data[len(data) - len(frame.rest) + 120] ^= 1
    store.put(key, bytes(data), if_absent=False)

    with reopen(store) as vault:
        if kind == "patterns":
            with pytest.raises(HoldActive):
                vault.forget(snapshot.id, reason="old")
        else:
            vault.prune()
            assert read_snapshot(vault.snapshot(snapshot.id)) == {"a": CONTENT}
            assert packs <= {entry.key for entry in store.list("packs/")}
        assert "unreadable_mark" in {p.kind for p in vault.check().problems}


def test_marks_are_obeyed_without_the_law(tmp_path: Any) -> None:
    """In a process that imports neither the policy engine nor the helpers for the law."""
    code = f"""
import sys
from datetime import UTC, datetime
import loopbackup as lb
from loopbackup.testing import memory_vault
vault = memory_vault()
snapshot = vault.backup([lb.Item("a", data=b"wrong", subject="user-42")], name="s")
hold = vault.hold("user-42", reason="case 17", review_at=datetime(2027, 1, 1, tzinfo=UTC))
try:
    vault.forget(snapshot, reason="old")
except lb.HoldActive:
    print("held")
vault.ledger.append("overlay", {{"path": "a", "replacement": b"right"}}, subject="user-42")
print(snapshot.open("a").read().decode())
vault.ledger.append("restriction", {{"reason": "x"}}, subject="user-42")
print(list(snapshot.ls()), vault.restore(snapshot, {str(tmp_path / "out")!r}).restricted)
vault.ledger.append("register.requests", b"x", subject="user-42")
vault.close()
print([name for name in ("loopbackup.gdpr", "loopbackup.policy") if name in sys.modules])
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == ["held", "right", "[] 1", "[]"]


# ---- any history

SUBJECTS = ["user-42", ("acme", "42"), ("acme", "43"), None]
ABOUT: list[dict[str, Any]] = [
    {"subject": "user-42"},
    {"subject": "acme"},
    {"subject": ("acme", "43")},
    {"paths": ["a"]},
    {"paths": ["c/**"]},
]
steps = st.one_of(
    st.tuples(
        st.just("backup"),
        st.dictionaries(
            st.tuples(st.sampled_from(["a", "b", "c/d"]), st.integers(0, 3)),
            st.integers(0, 3),
            min_size=1,
            max_size=4,
        ),
    ),
    st.tuples(st.just("hold"), st.integers(0, len(ABOUT) - 1)),
    st.tuples(st.sampled_from(["release", "forget"]), st.integers(0, 5)),
    st.tuples(st.just("prune"), st.none()),
)
Held = dict[tuple[str, str, Any], bytes]


def is_held(about: dict[str, Any], path: str, subject: Any) -> bool:
    """Say by the plain words of the documentation whether a hold covers an entry."""
    if "paths" in about:
        return path == "a" if about["paths"] == ["a"] else path.startswith("c/")
    key = subject if isinstance(subject, tuple) else (subject,)
    held = about["subject"] if isinstance(about["subject"], tuple) else (about["subject"],)
    return key == held or (len(held) == 1 and key[:1] == held)


@settings(max_examples=40)
@given(history=st.lists(steps, max_size=14))
def test_no_history_loses_a_byte_that_was_held(history: list[tuple[str, Any]]) -> None:
    """Two handles back up, hold, release, forget and prune in any order."""
    store = MemoryStore()
    create(store, grace_s=0)
    with reopen(store, clock=Clock()) as one, reopen(store, clock=Clock()) as two:
        contents: dict[str, dict[tuple[str, Any], bytes]] = {}
        holds: list[tuple[lb.Hold, dict[str, Any]]] = []
        for number, (verb, arg) in enumerate(history):
            vault = (one, two)[number % 2]
            if verb == "backup":
                made = {(p, SUBJECTS[s]): noise(5_000 * v, f"{v}") for (p, s), v in arg.items()}
                drawn = [lb.Item(p, data=d, subject=s) for (p, s), d in made.items()]
                contents[vault.backup(drawn, name="s").id] = made
            elif verb == "hold":
                placed = vault.hold(**ABOUT[arg], reason="case 17", review_at=REVIEW)
                holds.append((placed, ABOUT[arg]))
            elif verb == "release" and holds:
                vault.release(holds.pop(arg % len(holds))[0], reason="closed")
            elif verb == "forget" and contents:
                chosen = list(contents)[arg % len(contents)]
                kept = any(is_held(about, *at) for _, about in holds for at in contents[chosen])
                try:
                    vault.forget(chosen, reason="old")
                except HoldActive:
                    assert kept
                else:
                    assert not kept
                    del contents[chosen]
            elif verb == "prune":
                vault.prune()
        one.prune()

        assert set(one.holds) == {hold for hold, _ in holds}
        for snapshot_id, made in contents.items():
            snapshot = two.snapshot(snapshot_id)
            for (path, subject), data in made.items():
                with snapshot.open(path, subject=subject) as file:
                    assert file.read() == data
        again = fold_again(one._session, one._session.log.state)
        assert again.marks == one._session.log.state.marks
        assert state_digest(again) == state_digest(one._session.log.state)


def test_marks_of_a_long_ledger_come_from_its_summary(store: MemoryStore) -> None:
    """An opening that starts from a summary obeys what was set before it."""
    with reopen(store, clock=Clock()) as vault:
        snapshot = back_up(vault, data=b"wrong")
        placed = hold(vault)
        vault.ledger.append("overlay", {"path": "a", "replacement": b"right"}, subject=WHO)
        restriction = {"reason": "x", "until": REVIEW}
        vault.ledger.append("restriction", restriction, subject="user-43")
        for _ in range(70):
            vault.ledger.append("register.requests", b"x")
    assert list(store.list("summary/"))

    with reopen(store, clock=Clock()) as vault:
        state = vault._session.log.state
        assert len(state.commits) < state.size
        assert vault.holds == (placed,)
        with vault.snapshot(snapshot.id).open("a") as file:
            assert file.read() == b"right"
        assert len(standing(vault._session).restrictions) == 1
        assert fold_again(vault._session, state).marks == state.marks
