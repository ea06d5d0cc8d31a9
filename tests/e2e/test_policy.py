"""A policy lives in its vault: it binds every opening, and changes only as it allows itself."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.support import SEED, Clock, items, reopen
from tests.plugins import Install

import loopbackup as lb
from loopbackup import policy
from loopbackup.terms import AllowAll, StoredGate
from loopbackup.testing.faults import FaultStore, Refused, Rule, script
from loopbackup.testing.memory import SIZES
from loopbackup.vault.format import record as rec
from loopbackup.vault.ledger.log import Draft
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.protocol import Data, Store
from loopbackup.vault.store.wrappers import CountingStore, WrapperStore
from loopbackup.vault.vault import Vault
from loopbackup.vault.verbs.creation import create_vault
from loopbackup.vault.verbs.hosting import system_clock

JOB = lb.Actor("svc-backup", roles={"job"})
ADMIN = lb.Actor("user-42", roles={"admin"})
RULES = policy.Policy(
    policy.Residency(allow="EEA"),
    policy.Access({"policy": {"admin"}, "restore": {"support"}}, others={"job", "admin"}),
)


def create(
    store: Store,
    rules: StoredGate | None = RULES,
    *,
    location: str | None = "eu-north-1",
    clock: Callable[..., object] = system_clock,
) -> None:
    """Make a vault with a policy in *store*."""
    create_vault(
        "memory://test",
        SEED,
        storage_options=None,
        location=location,
        grace_s=86_400,
        single_writer=True,
        clock=clock,  # type: ignore[arg-type]
        store=store,
        sizes=SIZES,
        policy=rules,
    )


def kinds(vault: Vault) -> list[str]:
    """Give the kinds of all records."""
    return [entry.kind for entry in vault.ledger.entries()]


def test_policy_binds_every_later_opening(tmp_path: Path) -> None:
    """Nobody names it again; what it says decides in this process and in any other."""
    key = lb.KeyFile.generate(tmp_path / "key")
    url, state = tmp_path / "vault", tmp_path / "state"
    with lb.Vault.create(
        url, key, location="SE", policy=RULES, actor=JOB, state_dir=state
    ) as vault:
        vault.backup(items({"a": b"a"}), name="n")
        assert vault.policy == RULES

    code = (
        "import sys, loopbackup as lb\n"
        "url, key, state, out = sys.argv[1:]\n"
        "with lb.Vault.open(url, lb.KeyFile(key), state_dir=state,"
        " actor=lb.Actor('svc-backup', roles={'job'})) as vault:\n"
        "    try:\n"
        "        vault.restore('latest', out)\n"
        "    except lb.PolicyError as refused:\n"
        "        print(refused)\n"
    )
    out = tmp_path / "out"
    command = [sys.executable, "-c", code, str(url), str(tmp_path / "key"), str(state), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert done.stdout.startswith("restore refused: the actor has the role job. Access(")
    assert "needs an actor with the role support" in done.stdout
    assert not out.exists()
    with lb.Vault.open(url, key, actor=ADMIN, state_dir=state) as vault:
        refused = [entry for entry in vault.ledger.entries() if entry.kind == "refused"]
    assert [(entry.actor, entry.action) for entry in refused] == [("svc-backup", "restore")]


def test_vault_without_a_policy_allows_all_and_says_so() -> None:
    """None is no policy."""
    store = MemoryStore()
    create(store, None, location=None)
    with reopen(store) as vault:
        assert vault.policy is None
        vault.backup(items({"a": b"a"}), name="n")


@pytest.mark.parametrize("location", ["eu-west-2", "US", None], ids=str)
def test_place_that_the_policy_refuses_gets_no_vault(location: str | None) -> None:
    """The store is asked where it lies, and nothing else."""
    store = CountingStore(MemoryStore())

    with pytest.raises(lb.PolicyError, match="create refused") as caught:
        create(store, location=location)

    assert store.snapshot().requests == {"describe": 1}
    assert caught.value.decision.outcome == ("deny" if location else "indeterminate")
    assert pickle.loads(pickle.dumps(caught.value)).decision == caught.value.decision


@pytest.mark.parametrize(
    "given", [AllowAll(), "version = 1", policy.Policy, policy.Residency(allow="SE")], ids=str
)
def test_policy_has_to_be_one_that_can_be_kept(given: Any) -> None:
    """A gate that nobody could load again is refused before anything is asked."""
    store = CountingStore(MemoryStore())

    with pytest.raises(lb.InputError, match=r"Policy\(\.\.\.\)"):
        create(store, given)

    assert store.snapshot().total == 0


# ---- another policy


def test_policy_changes_as_the_old_one_allows() -> None:
    """The old one is asked, the new one binds at once and everywhere."""
    store = MemoryStore()
    create(store)
    looser = policy.Policy(policy.Residency(allow="EEA"))
    with reopen(store, actor=JOB) as other, reopen(store, actor=ADMIN) as vault:
        other.backup(items({"a": b"a"}), name="n")
        with pytest.raises(lb.PolicyError, match="needs an actor with the role admin"):
            other.set_policy(looser, reason="ours")
        with pytest.raises(lb.PolicyError, match="role support"):
            other.restore("latest", "/nowhere")

        vault.set_policy(looser, reason="roles are checked elsewhere")

        assert vault.policy == looser
        with pytest.raises(lb.InputError):
            other.restore("latest", "")
        assert other.policy == looser
    with reopen(store) as vault:
        set_ = [entry for entry in vault.ledger.entries() if entry.kind == "policy"]
        assert [(e.actor, e.reason) for e in set_] == [("user-42", "roles are checked elsewhere")]


def test_newer_policy_binds_a_process_that_had_asked_the_older_one() -> None:
    """A verb that meets another policy when it folds asks that one too."""
    store = MemoryStore()
    create(store, policy.Policy())
    with reopen(store, actor=JOB) as vault:
        snapshot = vault.backup(items({"a": b"a"}), name="n")
        with reopen(store, actor=ADMIN) as other:
            other.set_policy(RULES, reason="from today on")
        with pytest.raises(lb.PolicyError, match="role support"):
            vault.restore(snapshot, "/nowhere")


@pytest.mark.parametrize("verb", ["restore", "replicate"])
def test_newer_policy_is_told_where_the_data_would_go(verb: str) -> None:
    """Places are asked for under the policy that binds now, not under none as before."""
    store = MemoryStore()
    create(store, None)
    with reopen(store, actor=JOB) as vault:
        snapshot = vault.backup(items({"a": b"a"}), name="n")
        with reopen(store, actor=ADMIN) as other:
            other.set_policy(policy.Policy(policy.Residency(allow="EEA")), reason="from today on")
        acts: dict[str, Callable[[], object]] = {
            "restore": partial(
                vault.restore, snapshot, "memory://elsewhere", target_location="eu-west-2"
            ),
            "replicate": partial(vault.replicate, "memory://elsewhere", location="eu-west-2"),
        }
        with pytest.raises(lb.PolicyError, match=f"{verb} refused"):
            acts[verb]()


def test_refusal_of_an_older_policy_is_no_refusal_any_more() -> None:
    """The one that binds now is asked, in a process that knows the older one too."""
    store = MemoryStore()
    create(store)
    with reopen(store, actor=JOB) as vault:
        snapshot = vault.backup(items({"a": b"a"}), name="n")
        with reopen(store, actor=ADMIN) as other:
            other.set_policy(policy.Policy(policy.Residency(allow="EEA")), reason="looser")

        vault.restore(snapshot, "memory://elsewhere", target_location="SE")

    with reopen(store) as vault:
        assert "refused" not in kinds(vault)


def test_policy_under_which_the_vault_could_not_be_opened_is_refused() -> None:
    """Nobody locks himself out of a vault that lies elsewhere."""
    store = MemoryStore()
    create(store)
    with reopen(store, actor=ADMIN) as vault:
        with pytest.raises(lb.PolicyError, match="could not be opened"):
            vault.set_policy(policy.Policy(policy.Residency(allow="US")), reason="moving")
        assert vault.policy == RULES
        assert "policy" not in kinds(vault)


class Meddling(WrapperStore):
    """Lets another process set a policy right before a record is created."""

    meddle: Callable[[], None] | None = None

    def put(self, key: str, data: Data, *, if_absent: bool) -> None:
        """Put, or let the other come first."""
        if key.startswith("ledger/") and self.meddle is not None:
            meddle, self.meddle = self.meddle, None
            meddle()
        super().put(key, data, if_absent=if_absent)


def test_policy_that_came_first_decides_on_the_one_that_came_second() -> None:
    """Two are set at the same moment: the loser asks the winner, and is refused."""
    inner = MemoryStore()
    create(inner, policy.Policy())
    store = Meddling(inner)
    with reopen(inner, actor=ADMIN) as other, reopen(store, actor=JOB) as vault:
        store.meddle = lambda: other.set_policy(RULES, reason="first")

        with pytest.raises(lb.PolicyError, match="needs an actor with the role admin"):
            vault.set_policy(policy.Policy(policy.Residency(allow="SE")), reason="second")

        assert kinds(other).count("policy") == 1
    with reopen(inner, actor=ADMIN) as vault:
        assert vault.policy == RULES


def test_policy_record_on_another_base_is_void() -> None:
    """Whoever did not look at the policy that binds replaces nothing."""
    store = MemoryStore()
    create(store)
    with reopen(store, actor=ADMIN) as vault:
        with pytest.raises(lb.ConflictError, match="no longer the one that binds"):
            vault._session.log.commit_draft(Draft("policy", rec.PolicySet(-1)))
        assert vault.policy == RULES


def test_policy_outlives_summaries_and_new_keys() -> None:
    """Whoever opens from a summary, under other keys, is bound by it."""
    store, clock = MemoryStore(), Clock()
    create(store, clock=clock)
    with reopen(store, actor=ADMIN, clock=clock) as vault:
        vault.keys.rotate()
        for number in range(70):
            vault.backup(items({"a": b"%d" % number}), name="n")
        assert "summary" in kinds(vault)

    counting = CountingStore(store)
    with reopen(counting, actor=ADMIN, clock=clock) as vault:
        assert counting.snapshot().requests["get"] < 40
        assert vault.policy == RULES


# ---- plug-ins that are not there, and texts that are lost


def test_vault_stays_closed_without_the_plug_in_of_a_rule(install: Install) -> None:
    """The refusal names the plug-in; with it the vault opens as before."""
    remove = install("sundays", "loopbackup.policies", "sundays", "acme_sundays:NotOnSundays")
    from acme_sundays import NotOnSundays  # type: ignore[import-not-found]

    store = MemoryStore()
    create(store, policy.Policy(NotOnSundays(hour=5)))
    with reopen(store) as vault:
        assert vault.policy == policy.Policy(NotOnSundays(hour=5))
    remove()

    with pytest.raises(lb.PolicyError, match="'sundays' are not installed here") as caught:
        reopen(store)

    assert caught.value.kind == "not_installed"
    assert "override=" in str(caught.value)


def test_rule_that_no_entry_point_names_is_not_kept(install: Install) -> None:
    """Another process could not find it, so the vault is not made."""
    remove = install("sundays", "loopbackup.policies", "sundays", "acme_sundays:NotOnSundays")
    from acme_sundays import NotOnSundays

    rules = policy.Policy(NotOnSundays(hour=5))
    remove()

    with pytest.raises(lb.InputError, match="no entry point"):
        create(MemoryStore(), rules)


def test_gate_of_another_house_is_loaded_by_its_entry_point(install: Install) -> None:
    """The vault knows no rules: any gate with a text and an entry point can bind it."""
    remove = install("house", "loopbackup.gates", "house", "acme_sundays:load_house")
    from acme_sundays import House

    store = MemoryStore()
    create(store, House("no backups"))
    with reopen(store) as vault, pytest.raises(lb.PolicyError, match="house rule"):
        vault.backup(items({"a": b"a"}), name="n")
    remove()

    with pytest.raises(lb.PolicyError, match="plug-in 'house'") as caught:
        reopen(store)
    assert caught.value.kind == "not_installed"


def test_plug_in_that_makes_another_policy_of_the_text_is_refused(install: Install) -> None:
    """A newer version that reads the same words otherwise does not bind in silence."""
    install("house", "loopbackup.gates", "house", "acme_sundays:load_house")
    import acme_sundays

    store = MemoryStore()
    create(store, acme_sundays.House("no backups"))
    acme_sundays.VERSION = "2"

    with pytest.raises(lb.PolicyError, match="of another version"):
        reopen(store)


def lose_policy(store: MemoryStore) -> None:
    """Alter a byte of what the newest record says of a policy: its body is lost, it is not."""
    name = max(o.key for o in store.list("ledger/"))
    data = bytearray(store.get(name))
    body = len(rec.MAGIC) + 4 + len(rec.take_apart(bytes(data)).leaf) + 4
    data[body] ^= 1
    store.delete(name)
    store.put(name, bytes(data), if_absent=True)


def test_policy_that_is_lost_allows_nothing_until_another_is_set() -> None:
    """Damage opens no door; breaking the glass does, and is told."""
    store = MemoryStore()
    create(store)
    with reopen(store, actor=ADMIN) as vault:
        vault.set_policy(policy.Policy(policy.Residency(allow="SE")), reason="closer")
        index = len(vault.ledger) - 1
    lose_policy(store)

    with pytest.raises(lb.PolicyError, match=f"record {index}, cannot be read") as caught:
        reopen(store, actor=ADMIN)

    assert caught.value.kind == "lost_policy"
    with reopen(store, override="the policy is lost") as vault:
        with pytest.raises(lb.PolicyError, match="cannot be read"):
            vault.policy  # noqa: B018
        vault.set_policy(RULES, reason="as in the books")
        assert vault.policy == RULES
    with reopen(store, actor=ADMIN) as vault:
        assert vault.policy == RULES


# ---- break glass


def test_override_is_recorded_before_anything_else(tmp_path: Path) -> None:
    """And all that is done under it says so."""
    store = MemoryStore()
    create(store)
    with reopen(store, actor=JOB) as vault:
        vault.backup(items({"a": b"a"}), name="n")
        size = len(vault.ledger)

    with reopen(store, actor=JOB, override="incident 88") as vault:
        assert len(vault.ledger) == size + 1
        vault.restore("latest", tmp_path / "out")
        assert vault.policy == RULES

    assert (tmp_path / "out" / "a").read_bytes() == b"a"
    with reopen(store, actor=ADMIN) as vault:
        last = list(vault.ledger.entries())[size:]
    assert [(e.kind, e.actor) for e in last[:2]] == [
        ("override", "svc-backup"),
        ("restore", "svc-backup"),
    ]
    assert last[0].reason == "incident 88"
    assert last[0].policy == last[1].policy == f"override of {RULES.digest}"


def test_override_that_cannot_be_recorded_opens_nothing() -> None:
    """Without a record there is no break-glass."""
    inner = MemoryStore()
    create(inner)
    denied = Refused(lambda: PermissionError("denied"))
    store = FaultStore(inner, script(Rule(denied, "put", key="ledger/*", times=99)))

    with pytest.raises(lb.StoreError):
        reopen(store, override="incident 88")


def test_override_for_reading_only_writes_nothing() -> None:
    """It works where nothing can be written any more."""
    store = MemoryStore()
    create(store)
    with reopen(store, actor=JOB) as vault:
        vault.backup(items({"a": b"a"}), name="n")
        size = len(vault.ledger)

    with reopen(store, read_only=True, override="incident 88") as vault:
        assert vault.snapshot("latest").open("a").read() == b"a"
        assert len(vault.ledger) == size


@pytest.mark.parametrize("reason", ["", 5, "\ud800"], ids=["empty", "number", "surrogate"])
def test_override_needs_a_reason(reason: object) -> None:
    """What nobody can read later is no reason."""
    store = MemoryStore()
    create(store)

    with pytest.raises(lb.InputError, match="reason"):
        reopen(store, override=reason)  # type: ignore[arg-type]


# ---- what if


def test_past_is_asked_what_would_change() -> None:
    """Nothing is set: what was done and would be refused, what was refused and would be allowed."""
    store, clock = MemoryStore(), Clock()
    create(store, clock=clock)
    with reopen(store, actor=JOB, clock=clock) as vault:
        for night in range(4):
            vault.backup(items({"a": b"%d" % night}), name="n")
            clock.pass_by(days=1)
        with pytest.raises(lb.PolicyError):
            vault.restore("latest", "/nowhere")
    turned = policy.Policy(
        policy.Access({"restore": {"job"}, "backup": {"admin"}}, others={"job", "admin"}),
        policy.Retention(keep_last=1),
    )
    with reopen(store, actor=ADMIN, clock=clock) as vault:
        size = len(vault.ledger)
        found = turned.simulate(vault.history())
        assert len(vault.ledger) == size

    assert [past.action for past, _ in found.refused] == ["backup"] * 4
    assert [past.action for past, _ in found.allowed] == ["restore"]
    assert len(found.plan.expire) == 3
    assert "4 of what was done would be refused" in str(found)
    assert "refused 4 times: backup refused: the actor has the role job" in str(found)
    assert RULES.simulate(policy.History(), at=clock.now).same == 0
    with pytest.raises(lb.InputError, match="zone"):
        RULES.simulate(policy.History())


def test_past_is_not_judged_by_what_the_ledger_does_not_tell() -> None:
    """With which roles others agreed, and which snapshots it was about."""
    store = MemoryStore()
    both = lb.Actor("anna", roles={"dpo"}, approved_by=[lb.Actor("bert", roles={"dpo"})])
    create(store, policy.Policy(policy.Access({}, others={"job", "dpo"})))
    with reopen(store, actor=both) as vault:
        vault.backup(items({"a": b"a"}, subject="user-42"), name="n")
        vault.hold(subject="user-42", reason="a case", review_at=datetime(2030, 1, 1, tzinfo=UTC))
        history = vault.history()
    two = policy.Access({}, others={"job", "dpo"}, requires={"backup": 2})
    some = policy.Access({}, others={"admin"}, where={"name": "n"})

    for rule in (two, some):
        found = policy.Policy(rule).simulate(history)
        assert "backup" in [past.action for past, _ in found.undecided]
        assert "backup" not in [past.action for past, _ in found.refused]
    (info,) = history.snapshots
    assert [blocker.kind for blocker in info.blockers] == ["hold"]


# ---- who agrees, and how long the glass stays broken


def test_erasure_needs_a_second_person_and_the_ledger_names_both() -> None:
    """Whom the host asserts."""
    rules = policy.Policy(
        policy.Access({"erase": {"dpo"}}, others={"job", "dpo"}, requires={"erase": 2})
    )
    store = MemoryStore()
    create(store, rules)
    anna = lb.Actor("anna", roles={"dpo"})
    both = lb.Actor("anna", roles={"dpo"}, approved_by=[lb.Actor("bert", roles={"dpo"})])
    with reopen(store, actor=anna) as vault:
        vault.backup(items({"a": b"a"}, subject="user-42"), name="n")
        with pytest.raises(lb.PolicyError, match="2 people with the role dpo to agree"):
            vault.erase_subjects(["user-42"], reason="request 1")

        vault.acting_as(both).erase_subjects(["user-42"], reason="request 1")

        (erased,) = [entry for entry in vault.ledger.entries() if entry.kind == "epoch"]
    assert (erased.actor, erased.details["approved_by"]) == ("anna", "bert")


def test_broken_glass_is_mended_after_an_hour() -> None:
    """By the vault's clock; who needs longer says so again."""
    store, clock = MemoryStore(), Clock()
    create(store, clock=clock)
    with reopen(store, override="incident 88", clock=clock) as vault:
        vault.backup(items({"a": b"a"}), name="n")
        clock.pass_by(minutes=61)
        with pytest.raises(lb.PolicyError, match="role"):
            vault.backup(items({"a": b"b"}), name="n")


def test_flood_of_refusals_is_one_record() -> None:
    """Counted, and written when the vault is closed."""
    store = MemoryStore()
    create(store)
    with reopen(store, actor=JOB) as vault:
        snapshot = vault.backup(items({"a": b"a"}), name="n")
        size = len(vault.ledger)
        for _ in range(1000):
            with pytest.raises(lb.PolicyError):
                vault.restore(snapshot, "/nowhere")
        assert len(vault.ledger) == size

    with reopen(store, actor=ADMIN) as vault:
        assert len(vault.ledger) == size + 1
        (refused,) = [entry for entry in vault.ledger.entries() if entry.kind == "refused"]
    assert (refused.action, refused.facts["count"]) == ("restore", 1000)


def test_access_and_keys_have_places_that_the_vault_tells(tmp_path: Path) -> None:
    """Where the actor is, as the host says; where the key service is, as it says itself."""
    rules = policy.Policy(policy.Residency(allow="EEA", access_from="EEA", keys_in="EEA"))

    class Service(lb.LocalKms):
        region = "eu-north-1"

    class Elsewhere(lb.LocalKms):
        region = "us-east-1"

    given: dict[str, Any] = {"location": "SE", "policy": rules, "state_dir": None}
    inside, abroad = lb.Actor("anna", country="SE"), lb.Actor("anna", country="US")
    kms = Service(tmp_path / "kms")
    with lb.Vault.create(tmp_path / "v", kms, actor=inside, **given) as vault:
        vault.backup(items({"a": b"a"}), name="n")
        with pytest.raises(lb.PolicyError, match="the actor is in US"):
            vault.acting_as(abroad).backup(items({"a": b"a"}), name="n")
    with pytest.raises(lb.PolicyError, match="where the actor is is not known"):
        lb.Vault.open(tmp_path / "v", kms, state_dir=None)
    with pytest.raises(lb.PolicyError, match="the key service is in US"):
        lb.Vault.create(tmp_path / "w", Elsewhere(tmp_path / "kms2"), actor=inside, **given)
    with pytest.raises(lb.PolicyError, match="where the key service is is not known"):
        lb.Vault.create(tmp_path / "x", lb.Passphrase("correct horse"), actor=inside, **given)


def test_refusals_are_recorded_although_the_policy_cannot_be_loaded_any_more(
    install: Install,
) -> None:
    """Another process sets a policy that this one lacks the plug-in for, and this one ends."""
    remove = install("house", "loopbackup.gates", "house", "acme_sundays:load_house")
    from acme_sundays import House

    store = MemoryStore()
    create(store)
    with reopen(store, actor=JOB) as vault:
        snapshot = vault.backup(items({"a": b"a"}), name="n")
        with pytest.raises(lb.PolicyError):
            vault.restore(snapshot, "/nowhere")
        with reopen(store, actor=ADMIN) as other:
            other.set_policy(House("no backups"), reason="ours")
        remove()
        with pytest.raises(lb.PolicyError, match="not installed"):
            vault.snapshots()
    with reopen(store, override="looking") as vault:
        last = list(vault.ledger.entries())[-2]
    assert (last.kind, last.action, last.actor) == ("refused", "restore", "svc-backup")
