"""A second receipt, once nothing that holds the bytes of the erased is left on the store."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Literal

import pytest
from tests.e2e.support import Clock, create, dump, load, new_vault, noise, reopen

import loopbackup as lb
from loopbackup.testing import FaultStore
from loopbackup.testing.faults import Call, Crash, Crashed, Fault, Refused, Rule, script
from loopbackup.vault.format import record as rec
from loopbackup.vault.ledger.log import Draft
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.protocol import Remains, StoreInfo
from loopbackup.vault.store.wrappers import WrapperStore

ACME = ("acme", "user-42")
OTHER = ("acme", "user-4")
GRACE_S = 3600


def items() -> list[lb.Item]:
    """Give enough of two people for several packs."""
    return [
        lb.Item(f"{p[1]}/{n}", data=noise(80_000, f"{p}{n}"), subject=p)
        for p in (ACME, OTHER)
        for n in range(10)
    ]


def erased_vault(
    grace_s: int = GRACE_S, clock: Clock | None = None
) -> tuple[MemoryStore, Clock, lb.Receipt]:
    """Make a vault of which one of two people was erased."""
    clock = clock or Clock()
    store = MemoryStore(clock=clock)
    create(store, grace_s=grace_s, clock=clock)
    with reopen(store, clock=clock) as vault:
        vault.backup(items(), name="n")
        receipt = vault.erase_subjects([ACME], reason="request 118")
    return store, clock, receipt


def standing(store: MemoryStore, receipt: lb.Receipt) -> list[str]:
    """Say which objects of a store know of the domains that a receipt names."""
    gone = {bytes.fromhex(domain) for domain in receipt.facts["domains"]}
    found = []
    with reopen(store) as vault:
        for prefix, letter in (("packs/", b"p"), ("index/", b"i")):
            for entry in store.list(prefix):
                reader = vault._session.index.pack(letter + bytes.fromhex(entry.key[-64:]))
                found += [entry.key] if gone & set(reader.domains()) else []
    return found


def test_erasure_is_completed_by_the_prune_that_finds_nothing_left() -> None:
    """Two prunes with the grace between; the receipt is of the same people and the same chain."""
    store, clock, first = erased_vault()
    assert standing(store, first)
    with reopen(store, clock=clock) as vault:
        early = vault.prune()
        assert early.receipts == []
        (waiting,) = early.waiting
        assert waiting.erasure == first.facts["erasure"]
        assert waiting.objects > 0
        assert waiting.until is not None
        assert waiting.until <= clock.now + timedelta(seconds=GRACE_S)
        assert vault.receipts() == [first]
        clock.pass_by(seconds=GRACE_S + 60)

        done = vault.prune()

        (receipt,) = done.receipts
        assert (done.waiting, receipt.stage, receipt.level) == ([], "completed", "E1")
        receipt.verify(vault.public_key)
        assert receipt.concerns(ACME, first.openings[ACME])
        assert receipt.facts["completes"] == hashlib.sha256(first.to_json()).hexdigest()
        for name in ("erasure", "reason", "domains", "before", "effective_by", "ledger"):
            assert receipt.facts[name] == first.facts[name]
        (place,) = receipt.facts["physical"]["destinations"]
        assert place["removed_by"] == receipt.facts["verification"]["at"]
        assert datetime.fromisoformat(place["removed_by"]) <= datetime.fromisoformat(
            place["deadline"]
        )
        assert vault.receipts() == [receipt]
        assert vault.prune().receipts == []
        vault.ledger.verify()
        assert vault.check(data=True).ok
    assert standing(store, first) == []
    with reopen(store, clock=clock) as vault:
        assert vault.receipts() == [receipt]
        again = vault.erase_subjects([ACME], reason="once more")
        assert again.stage == "completed"
        assert again.facts["physical"] == receipt.facts["physical"]
        again.verify(vault.public_key)


def test_vault_without_grace_completes_with_one_prune() -> None:
    """Also of somebody of whom nothing but records was there."""
    store, clock, first = erased_vault(grace_s=0)
    with reopen(store, clock=clock) as vault:
        vault.ledger.append("register.requests", b"said", subject=OTHER)
        records = vault.erase_subjects([OTHER], reason="r", scope="records")

        done = vault.prune()

        assert {r.facts["erasure"] for r in done.receipts} == {
            first.facts["erasure"],
            records.facts["erasure"],
        }
        assert [r.stage for r in vault.receipts()] == ["completed", "completed"]
        nobody = new_vault(grace_s=0)
        assert nobody.prune().receipts == nobody.receipts() == []
        nobody.close()


def test_refused_delete_keeps_it_waiting() -> None:
    """One locked object is enough; it is tried again by every prune."""
    store, clock, first = erased_vault()
    with reopen(store, clock=clock) as vault:
        vault.prune()
    locked = standing(store, first)[0]
    clock.pass_by(seconds=GRACE_S + 60)

    def refuse(call: Call) -> Fault | None:
        is_it = call.method == "delete" and call.key == locked
        return Refused(PermissionError) if is_it else None

    with reopen(FaultStore(store, refuse), clock=clock) as vault:
        done = vault.prune()
        (waiting,) = done.waiting
        assert (done.receipts, waiting.objects, waiting.until) == ([], 1, None)
        assert vault.receipts()[0].stage == "keys_destroyed"
    assert standing(store, first) == [locked]
    with reopen(store, clock=clock) as vault:
        assert [r.stage for r in vault.prune().receipts] == ["completed"]


class Versioned(WrapperStore):
    """Keeps what is deleted for thirty days, and says so."""

    def __init__(self, inner: MemoryStore, clock: Clock) -> None:
        super().__init__(inner)
        self.clock = clock
        self.gone_at: dict[str, datetime] = {}

    def delete(self, key: str) -> Remains:
        """Delete what is listed; say how long its bytes stay."""
        there = any(entry.key == key for entry in self.inner.list(key))
        if there:
            self.gone_at[key] = self.clock.now + timedelta(days=30)
        self.inner.delete(key)
        end = self.gone_at.get(key)
        return Remains() if end is None or end <= self.clock.now else Remains(1, end)

    def describe(self) -> StoreInfo:
        """Tell that nothing is gone at once."""
        return StoreInfo(exclusive_create=True, durable_put=True, tls=None, soft_delete_days=30)


def test_versions_that_the_store_keeps_are_waited_for_with_their_date() -> None:
    """Nothing lists them any more; the store says until when they are there."""
    clock = Clock()
    store = MemoryStore(clock=clock)
    create(store, grace_s=GRACE_S, clock=clock)
    versioned = Versioned(store, clock)
    with reopen(versioned, clock=clock) as vault:
        vault.backup(items(), name="n")
        with pytest.raises(lb.ErasureIncomplete) as caught:
            vault.erase_subjects([ACME], reason="request 118")
        first = caught.value.receipt
        assert first.level == "E0"
        (place,) = first.facts["physical"]["destinations"]
        assert place["soft_delete_days"] == 30
        assert datetime.fromisoformat(place["earliest"]) > clock.now + timedelta(days=30)
        vault.prune()
        clock.pass_by(seconds=GRACE_S + 60)
        swept_at = clock.now

        for _ in range(3):
            done = vault.prune()
            (waiting,) = done.waiting
            assert done.receipts == []
            assert waiting.until is not None
            assert timedelta(0) <= waiting.until - swept_at - timedelta(days=30)
            clock.pass_by(days=5)
        assert standing(store, first) == []
        clock.pass_by(days=30)
        (receipt,) = vault.prune().receipts

    assert (receipt.level, receipt.facts["keys"]["destinations"][0]["left"]) == ("E1", [])


class Described(WrapperStore):
    """Says of itself what a test wants it to."""

    def __init__(self, inner: MemoryStore, **facts: Any) -> None:
        super().__init__(inner)
        self.facts = facts

    def describe(self) -> StoreInfo:
        """Give the facts."""
        return StoreInfo(exclusive_create=True, durable_put=True, tls=None, **self.facts)


@pytest.mark.parametrize(
    ("facts", "is_known"),
    [
        ({}, True),
        ({"versioning": "off", "keeps_deleted": False, "soft_delete_days": 7}, True),
        ({"versioning": "enabled"}, False),
        ({"versioning": "suspended"}, False),
        ({"keeps_deleted": True}, False),
        ({"keeps_deleted": None}, False),
        ({"locks": "COMPLIANCE"}, False),
    ],
)
def test_deadline_is_given_only_where_what_is_deleted_is_gone(
    facts: dict[str, Any], is_known: bool
) -> None:
    """Of versions, and of what nobody can ask, nobody knows by when they go."""
    store = MemoryStore()
    create(store, grace_s=GRACE_S)
    with reopen(Described(store, **facts)) as vault:
        vault.backup(items(), name="n")
        receipt = vault.erase_subjects([ACME], reason="request 118")

    (place,) = receipt.facts["physical"]["destinations"]
    assert (place["deadline"] is not None) == is_known
    assert place["earliest"]


def test_pack_that_comes_late_is_seen() -> None:
    """A request that was under way for hours, say; it has no place in the ledger."""
    store, clock, first = erased_vault()
    objects = dump(store)
    with reopen(store, clock=clock) as vault:
        vault.prune()
    late = standing(store, first)[0]
    clock.pass_by(seconds=GRACE_S + 60)
    with reopen(store, clock=clock) as vault:
        (erasure,) = vault._session.log.state.erasures
        assert vault._session.log.state.erasures[erasure].cleared > 0

        lists: list[Call] = []

        def put_back(call: Call) -> None:
            if call.method == "list" and call.key == "packs/":
                lists.append(call)
                if len(lists) == 3:  # After the plan's and the sweep's.
                    store.put(late, objects[late], if_absent=True)

        with reopen(FaultStore(store, put_back), clock=clock) as other:
            assert other.prune().receipts == []
        assert standing(store, first) == [late]
        assert [r.stage for r in vault.prune().receipts] == ["completed"]
    assert standing(store, first) == []


def test_claim_of_an_unfinished_run_keeps_it_waiting() -> None:
    """Until it lapses, for the run may still need what others have in those packs."""
    store, clock, first = erased_vault()
    with reopen(store, clock=clock) as vault:
        state = vault._session.log.state
        packs = {p.name for r in vault._session.index.segments(state) for p in r.packs}
        claim = rec.Claimed(b"R" * 16, b"S" * 16, b"", b"".join(sorted(packs)))
        vault._session.log.commit_draft(Draft("claim", claim, []))

        done = vault.prune()
        assert "move out" in str(done.waiting[0])
        receipts: list[lb.Receipt] = []
        for _ in range(4):
            clock.pass_by(hours=30)
            assert not receipts or standing(store, first) == []
            receipts += vault.prune().receipts

        assert [r.stage for r in receipts] == ["completed"]
    assert standing(store, first) == []


def test_two_prunes_at_once_complete_it_once() -> None:
    """Whoever is slower keeps nothing."""
    store, clock, _first = erased_vault()
    with reopen(store, clock=clock) as vault:
        vault.prune()
    clock.pass_by(seconds=GRACE_S + 60)
    found: list[lb.Receipt] = []

    def overtake(call: Call) -> None:
        if call.method == "put" and call.key.startswith("ledger/") and len(found) < 1:
            with reopen(store, clock=clock) as other:
                found.extend(other.prune().receipts)

    with reopen(FaultStore(store, overtake), clock=clock) as vault:
        found += vault.prune().receipts

        assert [receipt.stage for receipt in found] == ["completed"]
        said: list[Any] = [
            entry.facts["stage"] for entry in vault.ledger.entries() if entry.kind == "receipt"
        ]
        assert said == ["keys_destroyed", "completed"]
        assert vault._session.log.state.alarms == ()


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_call_it_never_says_that_bytes_are_gone_that_stand(
    when: Literal["before", "after"],
) -> None:
    """Both prunes, cut off at each call of the store; the next ones complete it."""
    store, clock, first = erased_vault()
    objects, began = dump(store), clock.now
    outcomes = set()
    for nth in range(1, 1000):
        inner = load(objects)
        clock.now = began
        faulty = FaultStore(inner, script(Rule(Crash(when), nth=nth)))
        with suppress(Crashed, lb.LoopbackupError), reopen(faulty, clock=clock) as vault:
            vault.prune()
            clock.pass_by(seconds=GRACE_S + 60)
            vault.prune()
        if len(faulty.calls) < nth:
            break
        clock.pass_by(seconds=GRACE_S + 60)
        with reopen(inner, clock=clock) as vault:
            is_complete = vault.receipts()[0].stage == "completed"
        outcomes.add(is_complete)
        assert not is_complete or standing(inner, first) == []
        with reopen(inner, clock=clock) as vault:
            for _ in range(3):
                vault.prune()
                clock.pass_by(hours=30)
            assert vault.receipts()[0].stage == "completed"
            assert vault.check(data=True).ok
        assert standing(inner, first) == []
    # Nothing is asked of the store after the receipt, so before no call there is one.
    assert outcomes == ({True, False} if when == "after" else {False})
