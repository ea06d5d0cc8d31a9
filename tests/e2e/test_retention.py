"""Retention in a vault: planned, looked at, applied, and never against a mark or a minimum."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve
from tests.e2e.support import Clock, items

import loopbackup as lb
from loopbackup import policy
from loopbackup.testing import memory_vault

DAYS = 60
KEEP = policy.Retention(keep_daily=7, keep_weekly=4, id="nights")


def nights(
    vault: lb.Vault, clock: Clock, count: int = DAYS, *, name: str = "documents", **more: Any
) -> list[lb.Snapshot]:
    """Back up once a day."""
    made = []
    for number in range(count):
        made.append(vault.backup(items({"a": b"%d" % number}, **more), name=name))
        clock.pass_by(days=1)
    return made


@pytest.fixture
def clock() -> Clock:
    """Give a clock that tests move."""
    return Clock()


@pytest.fixture
def vault(clock: Clock) -> Iterator[lb.Vault]:
    """Give a vault with a rule."""
    with memory_vault(policy=policy.Policy(KEEP), clock=clock) as vault:
        yield vault


def test_plan_is_looked_at_and_then_applied(vault: lb.Vault, clock: Clock) -> None:
    """The plan changes nothing; applied, what it lets go is gone, and the ledger says why."""
    nights(vault, clock)

    plan = vault.plan_retention()

    assert len(vault.snapshots()) == DAYS == len(plan.keep) + len(plan.expire)
    assert "nights: daily, of 7" in str(plan)
    assert f"{len(plan.keep)} snapshots stay (0 of them blocked), {len(plan.expire)} go" in str(
        plan
    )

    applied = vault.apply(plan)

    assert applied.ok
    assert applied.forgotten == len(plan.expire) > 40
    assert {s.id for s in vault.snapshots()} == {fate.snapshot.id for fate in plan.keep}
    (record,) = [entry for entry in vault.ledger.entries() if entry.kind == "forget"]
    assert record.reason == f"retention: {applied.forgotten} snapshots"
    assert record.details[plan.expire[0].snapshot.id] == "no rule keeps it"
    assert vault.plan_retention().expire == ()
    assert vault.check().ok


def test_plan_is_applied_once(vault: lb.Vault, clock: Clock) -> None:
    """What somebody else has forgotten is counted, and nothing else happens."""
    nights(vault, clock)
    plan = vault.plan_retention()
    vault.apply(plan)

    again = vault.apply(plan)

    assert (again.forgotten, again.gone) == (0, len(plan.expire))
    assert str(again) == f"0 snapshots forgotten, {len(plan.expire)} gone before"


def test_plan_of_another_policy_is_not_applied(vault: lb.Vault, clock: Clock) -> None:
    """What was planned under rules that bind no longer is planned again."""
    nights(vault, clock)
    plan = vault.plan_retention()
    vault.set_policy(policy.Policy(policy.Retention(keep_last="all")), reason="keep all")

    with pytest.raises(lb.ConflictError, match="Plan again"):
        vault.apply(plan)
    with pytest.raises(lb.InputError, match="plan_retention"):
        vault.apply("all")  # type: ignore[arg-type]

    assert len(vault.snapshots()) == DAYS


def test_vault_without_a_policy_keeps_everything(clock: Clock) -> None:
    """No rule, no deletion."""
    with memory_vault(clock=clock) as vault:
        nights(vault, clock, 5)

        assert vault.plan_retention().expire == ()
        assert vault.apply(vault.plan_retention()).forgotten == 0


@pytest.mark.parametrize("mark", ["hold", "paths", "restriction", "request"])
def test_blocked_snapshot_stays_and_goes_when_its_blocker_ends(
    vault: lb.Vault, clock: Clock, mark: str
) -> None:
    """The plan names what stands against it; the ledger records it; the next plan takes it up."""
    who = ("acme", "42")
    old = vault.backup(items({"private/a": b"x"}, subject=who), name="documents")
    clock.pass_by(days=1)
    nights(vault, clock)
    requests: dict[str, Any] = {}
    if mark == "hold":
        hold = vault.hold(who, reason="case 17", review_at=clock.now)
    elif mark == "paths":
        hold = vault.hold(paths=["private/**"], reason="case 17", review_at=clock.now)
    elif mark == "restriction":
        restriction = vault.ledger.append("restriction", {"reason": "disputed"}, subject=who)
    else:
        requests = {"requests": [who]}

    plan = vault.plan_retention(**requests)
    applied = vault.apply(plan)

    (blocked,) = plan.blocked
    kind = {"request": "access request", "paths": "hold"}.get(mark, mark)
    assert blocked.snapshot.id == old.id
    assert blocked.blocked_by[0].startswith(kind)
    assert blocked in plan.keep
    assert (applied.blocked, applied.ok) == ((blocked,), True)
    assert old.id in {snapshot.id for snapshot in vault.snapshots()}

    if mark in ("hold", "paths"):
        vault.release(hold, reason="closed")
    elif mark == "restriction":
        vault.ledger.append("restriction", {"reason": "settled", "lifts": restriction}, subject=who)

    assert vault.apply(vault.plan_retention()).forgotten == 1
    assert old.id not in {snapshot.id for snapshot in vault.snapshots()}


def test_what_is_held_between_plan_and_deed_stays(vault: lb.Vault, clock: Clock) -> None:
    """The rest of the plan is carried out."""
    who = ("acme", "42")
    old = vault.backup(items({"a": b"x"}, subject=who), name="documents")
    clock.pass_by(days=1)
    nights(vault, clock)
    plan = vault.plan_retention()
    vault.hold(who, reason="case 17", review_at=clock.now)

    applied = vault.apply(plan)

    assert applied.forgotten == len(plan.expire) - 1
    assert [(fate.snapshot.id, fate.blocked_by) for fate in applied.blocked] == [
        (old.id, ("hold",))
    ]


def test_blocked_deletions_are_recorded_when_the_vault_is_closed(clock: Clock) -> None:
    """With the blocker, gathered."""
    from tests.e2e.support import SEED
    from tests.e2e.test_policy import create

    from loopbackup.testing.memory import open_memory_vault
    from loopbackup.vault.store.memory import MemoryStore

    store = MemoryStore()
    create(store, policy.Policy(policy.Retention(keep_last=1)), clock=clock)
    with open_memory_vault(store, SEED, clock=clock) as vault:
        for night in range(3):
            vault.backup(items({"a": b"%d" % night}, subject="user-42"), name="n")
        hold = vault.hold("user-42", reason="case 17", review_at=clock.now)
        assert len(vault.apply(vault.plan_retention()).blocked) == 2

    with open_memory_vault(store, SEED, clock=clock) as vault:
        last = list(vault.ledger.entries())[-1]
    assert (last.kind, last.action, last.facts["count"]) == ("refused", "forget", 2)
    assert f"blocked by hold {hold.id[:8]}" in str(last.reason)


def test_actor_who_may_not_forget_applies_nothing(clock: Clock) -> None:
    """The plan may be looked at; each snapshot is asked about."""
    rules = policy.Policy(
        policy.Retention(keep_last=1), policy.Access({"forget": {"admin"}}, others={"job"})
    )
    with memory_vault(policy=rules, clock=clock, actor=lb.Actor("j", roles={"job"})) as vault:
        nights(vault, clock, 3)

        applied = vault.apply(vault.plan_retention())

        assert (applied.forgotten, len(applied.refused), applied.ok) == (0, 2, False)
        assert len(vault.snapshots()) == 3


# ---- minimums and maximums


def test_snapshot_younger_than_the_minimum_is_not_forgotten(clock: Clock) -> None:
    """By nobody, with the day from which on it may."""
    rules = policy.Policy(policy.Retention(keep_last=1, keep_at_least="P30D", id="guard"))
    with memory_vault(policy=rules, clock=clock) as vault:
        first, *_ = nights(vault, clock, 20)

        assert vault.plan_retention().expire == ()
        with pytest.raises(lb.PolicyError, match="guard needs snapshots to live for P30D") as e:
            vault.forget(first, reason="space")
        assert e.value.decision.nearest == "after 2026-03-31 12:00 UTC"

        clock.pass_by(days=11)
        vault.forget(first, reason="space")


def test_old_snapshot_goes_although_rules_keep_it(clock: Clock) -> None:
    """Storage limitation comes before keeping."""
    rules = policy.Policy(policy.Retention(keep_yearly=100, erase_after="P1Y", id="limit"))
    with memory_vault(policy=rules, clock=clock) as vault:
        old = vault.backup(items({"a": b"a"}), name="n")
        clock.pass_by(days=400)
        vault.backup(items({"a": b"b"}), name="n")

        plan = vault.plan_retention()

        (gone,) = plan.expire
        assert (gone.snapshot.id, gone.reasons) == (old.id, ("limit: older than P1Y",))
        assert gone.not_after == old.created_at.replace(year=2027)
        assert gone.not_after_rule == "limit"


def test_statutory_minimum_stands_against_an_erasure_and_a_guard_does_not(clock: Clock) -> None:
    """Accounts have to be kept by law (Art. 17(3)(b)); a guard is there for floods only."""
    rules = policy.Policy(
        policy.Retention(where={"name": "accounts"}, keep_at_least="P7Y", ground="a law", id="law"),
        policy.Retention(keep_at_least="P30D", where={"name": "documents"}),
    )
    with memory_vault(policy=rules, clock=clock) as vault:
        vault.backup(items({"invoice": b"1"}, subject=("acme", "42")), name="accounts")
        vault.backup(items({"letter": b"2"}, subject=("acme", "43")), name="documents")

        with pytest.raises(lb.PolicyError, match=r"law needs snapshots to live for P7Y \(a law\)"):
            vault.erase_subjects([("acme", "42")], reason="request 1")
        with pytest.raises(lb.PolicyError, match="a law"):
            vault.erase_subjects(["acme"], reason="request 2")
        vault.erase_subjects([("acme", "43")], reason="request 3")

        clock.pass_by(days=8 * 366)
        vault.erase_subjects([("acme", "42")], reason="request 4")


# ---- hostile snapshots


def test_snapshots_of_another_writer_push_nothing_out(clock: Clock) -> None:
    """Whoever signs with a key of his own is counted apart, whatever name he uses."""
    now = datetime(2026, 3, 1, tzinfo=UTC)
    mine = [policy.SnapshotInfo(f"{n:032x}", "n", now - timedelta(days=9 - n), n) for n in range(5)]
    his = [evolve(s, id=f"{n + 100:032x}", index=n + 100, writer="w") for n, s in enumerate(mine)]
    rules = policy.Policy(policy.Retention(keep_last=5))

    plan = rules.plan_retention([*mine, *his], at=now)

    assert plan.expire == ()


def test_lost_description_keeps_its_snapshot(clock: Clock) -> None:
    """Nobody can tell which rules it is under."""
    from tests.e2e.support import SEED
    from tests.e2e.test_policy import create, lose_policy

    from loopbackup.testing.memory import open_memory_vault
    from loopbackup.vault.store.memory import MemoryStore

    store = MemoryStore()
    create(store, policy.Policy(policy.Retention(keep_last=1)), clock=clock)
    with open_memory_vault(store, SEED, clock=clock) as vault:
        lost = vault.backup(items({"a": b"a"}), name="n")
    lose_policy(store)  # The first body of the newest record, which is the description here.
    with open_memory_vault(store, SEED, clock=clock) as vault:
        for night in range(3):
            vault.backup(items({"a": b"%d" % night}), name="n")

        plan = vault.plan_retention()

        assert lost.id in {fate.snapshot.id for fate in plan.keep}
        assert "its description is lost" in str(plan)
        assert len(plan.expire) == 2
