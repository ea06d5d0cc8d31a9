"""Erasing a person: gone from every snapshot at once, with a receipt that anybody can verify."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
from attrs import define
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.e2e.support import Clock, create, dump, load, new_vault, noise, read_snapshot, reopen

import loopbackup as lb
from loopbackup.testing import FaultStore, find_canary
from loopbackup.testing.faults import Call, Crash, Crashed, Refused, Rule, script
from loopbackup.vault.format import record as rec
from loopbackup.vault.keys.suppress import Suppression
from loopbackup.vault.ledger.core import decode_state, encode_state
from loopbackup.vault.ledger.log import Draft
from loopbackup.vault.ledger.values import key_short
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.verbs import epoch

ACME = ("acme", "user-42")
OTHER = ("acme", "user-4")
CANARY = "canary-9f3b-of-user-42"
OTHERS = {"users/4.txt": b"four" * 10, "about": b"nobody"}


def items(*, also: bool = False) -> list[lb.Item]:
    """Give entries of two people and of nobody; a name, a content and a version are canaries."""
    found = [
        lb.Item(f"users/{CANARY}.txt", data=CANARY.encode() * 3, version=CANARY, subject=ACME),
        lb.Item("users/4.txt", data=b"four" * 10, version="1", subject=OTHER),
        lb.Item("about", data=b"nobody", version="1"),
    ]
    return [*found, lb.Item("users/42/late", data=b"late", subject=ACME)] if also else found


def key_of(folder: Path) -> lb.KeyFile:
    """Give the key file of *folder*."""
    path = folder / "key"
    return lb.KeyFile(path) if path.exists() else lb.KeyFile.generate(path)


def local_vault(folder: Path, **options: Any) -> lb.Vault:
    """Make a vault on disk, without any grace; its local state lies beside it."""
    state = folder / "state"
    key = key_of(folder)
    return lb.Vault.create(folder / "vault", key, grace_s=0, state_dir=state, **options)


# ---- what it does


def test_erased_person_is_gone_from_every_snapshot_and_others_stay() -> None:
    """One call; the receipt is verified with the public key alone."""
    with new_vault() as vault:
        first = vault.backup(items(), name="n")
        second = vault.backup(items(also=True), name="n")

        receipt = vault.erase_subjects([ACME], reason="request 118")

        receipt.verify(vault.public_key)
        assert int(receipt.head.split(":")[0]) < int(vault.head.split(":")[0])
        assert (receipt.level, receipt.stage) == ("E1", "keys_destroyed")
        assert receipt.concerns(ACME, receipt.openings[ACME])
        assert not receipt.concerns(OTHER, receipt.openings[ACME])
        assert receipt.facts["before"]["snapshots"] == 2
        (removal,) = receipt.facts["physical"]["destinations"]
        assert removal["grace_s"] == 86_400
        assert removal["earliest"] > receipt.facts["signed_at"]
        for snapshot in (first, second):
            assert read_snapshot(vault.snapshot(snapshot.id)) == OTHERS
        for look in (
            lambda: vault.restore(first, "memory://nowhere", subject=ACME),
            lambda: list(vault.snapshot(second.id).ls(subject=ACME)),
        ):
            with pytest.raises(lb.NotFoundError) as caught:
                look()
            assert caught.value.kind == "erased"
            assert caught.value.index == receipt.facts["ledger"]["size"] - 1
        assert vault.check(data=True).ok
        vault.ledger.verify()
        assert "erase" in {entry.action for entry in vault.ledger.entries()}


def test_nothing_that_remaining_keys_open_holds_the_canary(tmp_path: Path) -> None:
    """Names, contents, versions: neither before nor after the prune that frees the room."""
    with local_vault(tmp_path) as vault:
        vault.backup(items(), name="n")
        vault.backup(items(also=True), name="n")
        assert find_canary(vault, CANARY, places=[tmp_path / "state"])

        receipt = vault.erase_subjects([ACME], reason="request 118")
        receipt.save(tmp_path / "receipt.json")

        assert find_canary(vault, CANARY, places=[tmp_path]) == []
        assert not vault.holdings(ACME)
        vault.prune()
        assert find_canary(vault, CANARY, places=[tmp_path]) == []
        assert vault.check(data=True).ok
    with lb.Vault.open(tmp_path / "vault", key_of(tmp_path), state_dir=tmp_path / "state") as vault:
        assert find_canary(vault, CANARY, places=[tmp_path]) == []
        assert vault.check(data=True).ok


def test_canary_is_found_where_an_erasure_leaves_the_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A build that only pretends is caught by the search and by the erasure's own look."""

    def keep(self: Suppression, number: int, shard: Any, *more: Any) -> Any:
        found = self.find(number, shard)
        rows = apply(self, number, shard, *more)
        return [*rows, *(row for row in shard.rows() if row[1] in found)]

    apply = Suppression.apply
    with new_vault() as vault:
        vault.backup(items(), name="n")
        monkeypatch.setattr(Suppression, "apply", keep)

        with pytest.raises(lb.DamagedData, match="still holds"):
            vault.erase_subjects([ACME], reason="request 118")

        assert find_canary(vault, CANARY)


def test_canary_is_found_where_an_erasure_leaves_the_old_keyring(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The ledger names another one, and the credential opens the old one all the same."""
    with new_vault() as vault:
        vault.backup(items(), name="n")
        monkeypatch.setattr(epoch, "_delete", lambda _session, _gone: [])

        receipt = vault.erase_subjects([ACME], reason="request 118")

        assert receipt.level == "E1"  # It does not know better.
        assert find_canary(vault, CANARY)
        monkeypatch.undo()
        vault.erase_subjects([ACME], reason="once more")
        assert find_canary(vault, CANARY) == []


def test_bytes_of_an_erased_person_leave_the_store_with_the_next_prune(tmp_path: Path) -> None:
    """The packs that held them go; everybody else's contents move out first."""
    with local_vault(tmp_path) as vault:
        people = [("acme", f"user-{n}") for n in range(6)]
        snapshot = vault.backup(
            [
                lb.Item(f"{p[1]}/{n}", data=noise(90_000, f"{p}{n}"), subject=p)
                for p in people
                for n in range(20)
            ],
            name="n",
        )
        packs = {p for p in (tmp_path / "vault/packs").rglob("*") if p.is_file()}
        receipt = vault.erase_subjects([people[3]], reason="request 118")

        pruned = vault.prune()

        assert receipt.facts["before"]["packs"] >= 1
        assert pruned.freed_bytes > 20 * 90_000
        left = {p for p in (tmp_path / "vault/packs").rglob("*") if p.is_file()}
        assert not packs & left
        contents = read_snapshot(vault.snapshot(snapshot.id))
        assert len(contents) == 5 * 20
        assert all(
            contents[f"{p[1]}/{n}"] == noise(90_000, f"{p}{n}")
            for p in people
            if p != people[3]
            for n in range(20)
        )
        assert vault.check(data=True).ok
        assert vault.prune().condemned == 0


# ---- who comes back


def test_backup_of_an_erased_person_leaves_it_out_and_says_so() -> None:
    """The rest is committed; readmitted, the person begins anew."""
    with new_vault() as vault:
        old = vault.backup(items(), name="n")
        vault.erase_subjects([ACME], reason="request 118")

        with pytest.raises(lb.ErasedSubject) as caught:
            vault.backup(items(), name="n")

        assert [problem.kind for problem in caught.value.problems] == ["erased"]
        assert read_snapshot(caught.value.snapshot) == OTHERS
        vault.readmit(ACME, reason="a customer again")
        vault.readmit(ACME, reason="twice does nothing")
        again = vault.backup(items(), name="n")
        assert len(read_snapshot(again)) == 3
        assert read_snapshot(vault.snapshot(old.id)) == OTHERS
        vault.erase_subjects([ACME], reason="request 119")
        assert read_snapshot(vault.snapshot(again.id)) == OTHERS
        with pytest.raises(lb.NotFoundError, match="not erased"):
            vault.readmit(OTHER, reason="never was")


def test_tree_of_an_erased_person_is_left_out(tmp_path: Path) -> None:
    """Folders and files of one subject, found by path."""
    for name in ("42/a", "42/deep/b", "4/a"):
        path = tmp_path / "users" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    subject = lb.subject_from_path("{subject}/**")
    with new_vault() as vault:
        vault.backup(tmp_path / "users", name="n", subject=subject)
        vault.erase_subjects(["42"], reason="request 118")

        with pytest.raises(lb.ErasedSubject) as caught:
            vault.backup(tmp_path / "users", name="n", subject=subject)

        assert set(read_snapshot(caught.value.snapshot)) == {"4/a"}
        assert len(caught.value.problems) == 4


def test_whole_tenant_is_erased_with_its_people_and_its_newcomers() -> None:
    """Another tenant stays; a new child of the erased one is left out as well."""
    with new_vault() as vault:
        snapshot = vault.backup(
            [
                *(
                    lb.Item(f"a/{n}", data=b"a%d" % n, subject=("acme", f"user-{n}"))
                    for n in range(9)
                ),
                lb.Item("acme", data=b"acme", subject="acme"),
                lb.Item("b", data=b"b", subject=("acme-2", "user-1")),
                lb.Item("c", data=b"c", subject="user-1"),
            ],
            name="n",
        )

        receipt = vault.erase_subjects(["acme"], reason="end of contract")

        assert len(receipt.facts["domains"]) == 10
        assert read_snapshot(vault.snapshot(snapshot.id)) == {"b": b"b", "c": b"c"}
        new = [lb.Item("a/new", data=b"x", subject=("acme", "user-new")), lb.Item("d", data=b"d")]
        with pytest.raises(lb.ErasedSubject) as caught:
            vault.backup(new, name="n")
        assert read_snapshot(caught.value.snapshot) == {"d": b"d"}
        vault.readmit(("acme", "user-new"), reason="sold to another company")
        assert len(read_snapshot(vault.backup(new, name="n"))) == 2


def test_people_of_a_tenant_without_a_domain_of_its_own_go_too() -> None:
    """The tenant itself never stored anything."""
    with new_vault() as vault:
        vault.backup([lb.Item("a", data=b"a", subject=("acme", "user-42"))], name="n")

        vault.erase_subjects(["acme"], reason="end of contract")

        with pytest.raises(lb.ErasedSubject):
            vault.backup([lb.Item("b", data=b"b", subject=("acme", "another"))], name="n")


# ---- what stands against it


SOON = datetime(2027, 2, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "held", [ACME, ("acme",), None], ids=["the person", "the tenant", "by patterns"]
)
def test_hold_stands_against_an_erasure_until_it_is_released(
    held: tuple[str, ...] | None,
) -> None:
    """Nothing is changed, and the error names the hold."""
    with new_vault() as vault:
        snapshot = vault.backup(items(), name="n")
        marked: dict[str, Any] = {"paths": ["users/canary-*"]} if held is None else {}
        hold = vault.hold(held, reason="case 17", review_at=SOON, **marked)

        with pytest.raises(lb.HoldActive) as caught:
            vault.erase_subjects([ACME], reason="request 118")

        assert caught.value.hold.id == hold.id
        assert len(read_snapshot(snapshot)) == 3
        if held != ("acme",):
            vault.erase_subjects([OTHER], reason="request 119").verify(vault.public_key)
        vault.release(hold, reason="case closed")
        vault.erase_subjects([ACME], reason="request 118").verify(vault.public_key)
        assert CANARY not in str(read_snapshot(vault.snapshot(snapshot.id)))


def test_tenant_is_not_erased_while_one_of_its_people_is_held() -> None:
    """What covers a child is in the way of its tenant."""
    with new_vault() as vault:
        vault.backup(items(), name="n")
        vault.hold(ACME, reason="case 17", review_at=SOON)

        with pytest.raises(lb.HoldActive):
            vault.erase_subjects(["acme"], reason="end of contract")


def test_restricted_person_is_not_erased() -> None:
    """To delete what must not be processed would be processing (Art. 18)."""
    with new_vault() as vault:
        vault.backup(items(), name="n")
        vault.ledger.append("restriction", {"reason": "disputed"}, subject=ACME)

        with pytest.raises(lb.PolicyError) as caught:
            vault.erase_subjects([ACME], reason="request 118")

        assert caught.value.kind == "restricted"


@define
class AtPut:
    """Does something before the nth put of a store."""

    nth: int
    do: Callable[[], None]
    seen: int = 0

    def __call__(self, call: Call) -> None:
        """Count the puts; strike none of them."""
        self.seen += call.method == "put"
        if call.method == "put" and self.seen == self.nth:
            self.do()


def place_hold(store: MemoryStore) -> None:
    """Place a hold from another process, if the person is still there."""
    with reopen(store) as other, suppress(lb.NotFoundError):
        other.hold(ACME, reason="case 17", review_at=SOON)


def test_hold_that_is_placed_while_the_keys_are_built_still_stands_against_it() -> None:
    """At every put of the erasure another process places one; it never loses its data."""
    store = MemoryStore()
    create(store)
    with reopen(store) as vault:
        snapshot = vault.backup(items(), name="n")
    objects = dump(store)
    outcomes = set()
    for nth in range(1, 20):
        inner = load(objects)
        faulty = FaultStore(inner, AtPut(nth, partial(place_hold, inner)))
        try:
            with reopen(faulty) as vault:
                vault.erase_subjects([ACME], reason="request 118")
        except lb.HoldActive:
            outcomes.add("held")
            expected = 3
        else:
            outcomes.add("erased")
            expected = 2
        with reopen(inner) as vault:
            assert len(read_snapshot(vault.snapshot(snapshot.id))) == expected
            assert vault.check(data=True).ok
    assert outcomes == {"held", "erased"}


def test_no_mark_is_set_on_somebody_who_was_erased() -> None:
    """No hold and no restriction: there are no data that they could be about."""
    with new_vault() as vault:
        vault.backup(items(), name="n")
        vault.erase_subjects([ACME], reason="request 118")

        for say in (
            lambda: vault.hold(ACME, reason="case 17", review_at=SOON),
            lambda: vault.ledger.append("restriction", {"reason": "r"}, subject=ACME),
        ):
            with pytest.raises(lb.NotFoundError) as caught:
                say()
            assert caught.value.kind == "erased"
        vault.ledger.verify()
        assert len(list(vault.ledger.entries())) == int(vault.head.split(":")[0])


def test_overlay_dies_with_its_subject() -> None:
    """What was put right is about the person, too."""
    with new_vault(grace_s=0) as vault:
        vault.backup(items(), name="n")
        path = f"users/{CANARY}.txt"
        overlay = {"path": path, "replacement": b"right-" * 9, "reason": "request 9"}
        vault.ledger.append("overlay", overlay, subject=ACME)
        assert read_snapshot(vault.snapshot())[path] == b"right-" * 9

        vault.erase_subjects([ACME], reason="request 118")

        assert read_snapshot(vault.snapshot()) == OTHERS
        assert find_canary(vault, "right-right-") == []
        vault.prune()
        assert vault.check(data=True).ok


# ---- names


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)


@settings(max_examples=25)
@given(st.lists(st.tuples(NAMES, NAMES), min_size=2, max_size=5, unique=True), st.data())
def test_only_the_one_who_was_named_goes(names: list[tuple[str, str]], data: st.DataObject) -> None:
    """Prefixes, e-mail addresses, any Unicode: names are compared whole and as they are."""
    names = [*names, (names[0][0], names[0][1] + "x"), ("user-42@acme.example", names[0][1])]
    subjects = list(dict.fromkeys(names))
    gone = data.draw(st.sampled_from(subjects))
    with new_vault() as vault:
        snapshot = vault.backup(
            [lb.Item(f"{n}", data=b"%d" % n, subject=s) for n, s in enumerate(subjects)], name="n"
        )

        vault.erase_subjects([gone], reason="request 118")

        left = read_snapshot(vault.snapshot(snapshot.id))
        assert left == {f"{n}": b"%d" % n for n, s in enumerate(subjects) if s != gone}


# ---- wrong use


def test_wrong_use_changes_nothing() -> None:
    """No subjects, no reason, strangers, a vault for reading: each is a clear error."""
    store = MemoryStore()
    create(store)
    with reopen(store) as vault:
        snapshot = vault.backup(items(), name="n")
        head = vault.head
        for subjects, reason, error in (
            ([], "r", lb.InputError),
            ("user-42", "r", lb.InputError),
            ([("a", "b", "c")], "r", lb.InputError),
            ([ACME], "", lb.InputError),
            ([("acme", "nobody")], "r", lb.NotFoundError),
            ([ACME, ("acme", "nobody")], "r", lb.NotFoundError),
            (["stranger"], "r", lb.NotFoundError),
        ):
            with pytest.raises(error):
                vault.erase_subjects(subjects, reason=reason)
        assert vault.head == head
        assert len(read_snapshot(snapshot)) == 3
    with reopen(store, read_only=True) as vault, pytest.raises(lb.InputError):
        vault.erase_subjects([ACME], reason="r")


def test_erasing_again_gives_another_receipt_of_the_same_erasure() -> None:
    """The first one's openings may be lost; nothing is erased twice."""
    with new_vault() as vault:
        vault.backup(items(), name="n")
        receipt = vault.erase_subjects([ACME], reason="request 118")

        again = vault.erase_subjects([ACME], reason="request 118 once more")

        again.verify(vault.public_key)
        for name in ("erasure", "reason", "domains", "before", "ledger", "level"):
            assert again.facts[name] == receipt.facts[name]
        assert again.concerns(ACME, again.openings[ACME])
        assert not again.concerns(ACME, receipt.openings[ACME])
        kinds = [entry.kind for entry in vault.ledger.entries()]
        assert kinds.count("epoch") == 1


def test_batch_with_some_who_were_erased_before_erases_the_others_and_covers_all() -> None:
    """One receipt proves both erasures under one head; each subject is tied to its own."""
    with new_vault() as vault:
        snapshot = vault.backup(items(), name="n")
        first = vault.erase_subjects([ACME], reason="request 118")

        both = vault.erase_subjects([ACME, OTHER], reason="request 119")

        assert read_snapshot(vault.snapshot(snapshot.id)) == {"about": b"nobody"}
        both.verify(vault.public_key)
        (earlier,) = both.facts["earlier"]
        for name in ("erasure", "reason", "domains", "before", "effective_by", "erased_at"):
            assert earlier[name] == first.facts[name]
        assert both.facts["reason"] == "request 119"
        assert len(both.facts["ledger"]["records"]) == 2
        by_name = dict(zip(both.openings, both.facts["subjects"], strict=True))
        assert by_name[ACME]["erasures"] == [first.facts["erasure"]]
        assert by_name[OTHER]["erasures"] == [both.facts["erasure"]]
        for who in (ACME, OTHER):
            assert both.concerns(who, both.openings[who])
        again = vault.erase_subjects([OTHER, ACME], reason="once more")
        again.verify(vault.public_key)
        assert again.facts["earlier"] == both.facts["earlier"]
        assert again.facts["erasure"] == both.facts["erasure"]


def test_one_of_many_is_counted_without_reading_whom_each_snapshot_is_about() -> None:
    """Three requests a snapshot, of parts of its table, instead of a list of all its people."""
    store = MemoryStore()
    create(store)
    many = [lb.Item(f"{n}", data=b"x", version="1", subject=("acme", f"{n}")) for n in range(1100)]
    with reopen(store) as vault:
        for _ in range(3):
            vault.backup([*items(), *many], name="n")
        vault.backup(many, name="without", errors="report")
    counting = FaultStore(store, lambda _call: None)
    with reopen(counting) as vault:
        receipt = vault.erase_subjects([ACME], reason="request 118")

    assert receipt.facts["before"]["snapshots"] == 3
    assert not [call for call in counting.calls if call.key.startswith("lists/")]


def test_damaged_table_keeps_nobody_from_being_erased() -> None:
    """What cannot be counted is not counted; the receipt says so."""
    store = MemoryStore()
    create(store)
    with reopen(store) as vault:
        many = [lb.Item(f"{n}", data=b"x", subject=("acme", f"{n}")) for n in range(1100)]
        vault.backup([*items(), *many], name="n")
    for entry in list(store.list("packs/")):
        store.delete(entry.key)

    with reopen(store) as vault:
        receipt = vault.erase_subjects([ACME], reason="request 118")

    assert receipt.facts["before"] is None
    assert receipt.level == "E1"


def test_mistyped_name_among_known_ones_erases_nobody() -> None:
    """Also where names are plain strings, which may be tenants."""
    with new_vault() as vault:
        both = [lb.Item("a", data=b"a", subject="alice"), lb.Item("b", data=b"b", subject="bob")]
        snapshot = vault.backup(both, name="n")

        with pytest.raises(lb.NotFoundError) as caught:
            vault.erase_subjects(["alice", "bbo"], reason="r")

        assert caught.value.subjects == (("bbo",),)
        assert len(read_snapshot(vault.snapshot(snapshot.id))) == 2


def test_erased_again_after_readmission_it_has_the_receipt_of_the_second_erasure() -> None:
    """The older mark goes, whatever shard it stood in."""
    with new_vault() as vault:
        vault.backup(items(), name="n")
        first = vault.erase_subjects([ACME], reason="request 118")
        vault.readmit(ACME, reason="back")
        vault.backup(items(), name="n")
        second = vault.erase_subjects([ACME], reason="request 119")

        again = vault.erase_subjects([ACME], reason="r")

        assert again.facts["erasure"] == second.facts["erasure"] != first.facts["erasure"]


def test_newcomers_of_a_readmitted_tenant_are_let_in_and_its_erased_people_are_not() -> None:
    """Whoever was erased by name or with the tenant has a mark of his own."""
    with new_vault() as vault:
        vault.backup(items(), name="n")
        vault.erase_subjects(["acme"], reason="end of contract")
        vault.readmit("acme", reason="a new contract")
        new = lb.Item("new", data=b"new", subject=("acme", "user-new"))

        with pytest.raises(lb.ErasedSubject) as caught:
            vault.backup([*items(), new], name="n")

        assert set(read_snapshot(caught.value.snapshot)) == {"about", "new"}


# ---- what stays where it should not


def test_old_keys_that_an_earlier_change_left_go_with_the_erasure(tmp_path: Path) -> None:
    """No key object that was ever condemned stays behind, or the receipt says so."""
    store = MemoryStore()
    create(store)
    with reopen(store) as vault:
        vault.backup(items(), name="n")
        before = dump(store)
        vault.keys.rotate()
        for key, data in before.items():
            if key.startswith("keys/"):
                store.put(key, data, if_absent=False)

        receipt = vault.erase_subjects([ACME], reason="request 118")

        assert (receipt.level, receipt.facts["keys"]["destinations"][0]["left"]) == ("E1", [])
        assert len({e.key.split("/")[1] for e in store.list("keys/")} - {"shard"}) == 1
        assert find_canary(vault, CANARY) == []


def test_store_that_keeps_old_keys_gets_a_receipt_that_says_so() -> None:
    """Erasing again, once they can go, gives the higher level."""
    store = MemoryStore()
    create(store)
    refuse = script(Rule(Refused(PermissionError), "delete", times=1000))
    with reopen(store) as vault:
        vault.backup(items(), name="n")
    with reopen(FaultStore(store, refuse)) as vault, pytest.raises(lb.ErasureIncomplete) as caught:
        vault.erase_subjects([ACME], reason="request 118")

    receipt = caught.value.receipt
    receipt.verify(vault.public_key)
    assert (receipt.level, receipt.irrevocable_at) == ("E0", None)
    assert len(caught.value.remaining) == len(receipt.facts["keys"]["destinations"][0]["left"]) > 0
    with reopen(store) as vault:
        again = vault.erase_subjects([ACME], reason="request 118")
        assert again.level == "E1"
        assert again.irrevocable_at is not None
        assert find_canary(vault, CANARY) == []


def test_bytes_go_also_where_an_unfinished_run_has_claimed_their_packs(tmp_path: Path) -> None:
    """A claim keeps a pack for now; that it has somebody's bytes is not forgotten meanwhile."""
    clock = Clock()
    store = MemoryStore(clock=clock)
    create(store, grace_s=3600, clock=clock)
    with reopen(store, clock=clock) as vault:
        noises = [
            lb.Item(f"{p[1]}/{n}", data=noise(80_000, f"{p}{n}"), subject=p)
            for p in (ACME, OTHER)
            for n in range(20)
        ]
        snapshot = vault.backup(noises, name="n")
        state = vault._session.log.state
        domain = vault._session.keyring.find(ACME)
        assert domain is not None
        packs = {p.name for r in vault._session.index.segments(state) for p in r.packs}
        claim = rec.Claimed(b"R" * 16, b"S" * 16, b"", b"".join(sorted(packs)))
        vault._session.log.commit_draft(Draft("claim", claim, []))
        vault.erase_subjects([ACME], reason="request 118")
        vault.prune()
        clock.pass_by(hours=30)

        for _ in range(3):
            vault.prune()
            clock.pass_by(hours=2)

        state = vault._session.log.state
        standing = [b"p" + bytes.fromhex(e.key[-64:]) for e in store.list("packs/")]
        assert standing
        for pack in standing:
            assert domain.id not in set(vault._session.index.pack(pack).domains())
        assert len(read_snapshot(vault.snapshot(snapshot.id))) == 20
        assert vault.check(data=True).ok


def test_domain_that_was_read_before_the_erasure_is_not_kept_after_it() -> None:
    """Another thread of the process may have been reading the old shard just then."""
    store = MemoryStore()
    create(store)
    with reopen(store) as vault, reopen(store) as other:
        snapshot = other.backup(items(), name="n")
        keyring = vault._session.keyring
        vault.snapshots()
        held = keyring.find(ACME)
        root = keyring.root
        assert held is not None
        other.erase_subjects([ACME], reason="request 118")
        vault.snapshots()

        keyring._keep(held, root)

        assert keyring.find(ACME) is None
        with pytest.raises(lb.NotFoundError):
            keyring.by_id(held.id)
        assert read_snapshot(vault.snapshot(snapshot.id)) == OTHERS


def test_hold_by_patterns_keeps_what_is_committed_while_the_keys_are_built() -> None:
    """What the hold matches may come with a snapshot that the first look did not see."""
    store = MemoryStore()
    create(store)
    with reopen(store) as vault:
        vault.backup([lb.Item("users/other", data=b"x", subject=ACME)], name="n")
        vault.hold(paths=["users/canary-*"], reason="case 17", review_at=SOON)

    def commit() -> None:
        with reopen(store) as other:
            other.backup(items(), name="n")

    with reopen(FaultStore(store, AtPut(2, commit))) as vault, pytest.raises(lb.HoldActive):
        vault.erase_subjects([ACME], reason="request 118")


def test_items_of_somebody_who_is_erased_in_mid_run_are_left_out() -> None:
    """The run has folded the erasure before it writes its lists of entries."""
    store = MemoryStore()
    create(store)
    with reopen(store) as vault:
        vault.backup(items(), name="n")

        def data() -> bytes:
            erase_during(store)()
            vault.snapshots()
            return b"late"

        with pytest.raises(lb.ErasedSubject) as caught:
            vault.backup([*items(also=True), lb.Item("late", data=data)], name="n")

        assert read_snapshot(caught.value.snapshot) == {**OTHERS, "late": b"late"}


# ---- attacks


def test_old_copy_opens_with_the_passphrase_as_the_receipt_says(tmp_path: Path) -> None:
    """Level E1 promises nothing against who had both; what knows the erasure refuses the copy."""
    with local_vault(tmp_path) as vault:
        snapshot = vault.backup(items(), name="n")
        shutil.copytree(tmp_path / "vault", tmp_path / "copy")
        receipt = vault.erase_subjects([ACME], reason="request 118")
        head = vault.head

    assert receipt.level == "E1"
    assert any("Old copies" in limit for limit in receipt.limits)
    with lb.Vault.open(tmp_path / "copy", key_of(tmp_path), state_dir=None) as copy:
        assert len(read_snapshot(copy.snapshot(snapshot.id))) == 3
    lb.KeyFile.generate(tmp_path / "stranger")
    with pytest.raises(lb.CredentialError):
        lb.Vault.open(tmp_path / "copy", lb.KeyFile(tmp_path / "stranger"), state_dir=None)
    with pytest.raises(lb.RollbackDetected):
        lb.Vault.open(tmp_path / "copy", key_of(tmp_path), state_dir=None, head=head)
    shutil.rmtree(tmp_path / "vault")
    shutil.copytree(tmp_path / "copy", tmp_path / "vault")
    with pytest.raises(lb.RollbackDetected):
        lb.Vault.open(tmp_path / "vault", key_of(tmp_path), state_dir=tmp_path / "state")


def test_old_keyring_that_is_put_back_opens_nothing() -> None:
    """
    Slots, root and shards of before lie in the store again; the ledger names others.

    Whoever has a credential could open them with a program of his own, as the search does,
    until the next prune or erasure: that is what level E1 says of old copies.
    """
    store = MemoryStore()
    create(store)
    with reopen(store) as vault:
        snapshot = vault.backup(items(), name="n")
        before = dump(store)
        vault.erase_subjects([ACME], reason="request 118")
    for key, data in before.items():
        if key.startswith("keys/"):
            store.put(key, data, if_absent=False)

    with reopen(store) as vault:
        assert read_snapshot(vault.snapshot(snapshot.id)) == OTHERS
        with pytest.raises(lb.ErasedSubject):
            vault.backup(items(), name="n")
        assert vault.check(data=True).ok
        assert find_canary(vault, CANARY)
        assert vault.erase_subjects([ACME], reason="once more").level == "E1"
        assert find_canary(vault, CANARY) == []


def test_old_ledger_tail_is_refused_for_want_of_its_keys() -> None:
    """Cutting the erasure off the ledger leaves an epoch whose keys are gone."""
    store = MemoryStore()
    create(store)
    with reopen(store) as vault:
        vault.backup(items(), name="n")
        size = len(list(store.list("ledger/")))
        vault.erase_subjects([ACME], reason="request 118")
    for entry in list(store.list("ledger/"))[size:]:
        store.delete(entry.key)

    with pytest.raises(lb.LoopbackupError):
        reopen(store)


def test_snapshot_of_the_erased_alone_is_gone_and_nothing_is_amiss() -> None:
    """Not even its name can be read; its idempotency key is free again."""
    with new_vault(grace_s=0) as vault:
        own = [lb.Item("a", data=b"a", subject=ACME)]
        vault.backup(own, name="own", idempotency_key="k1")
        shared = vault.backup(items(), name="n")

        vault.erase_subjects([ACME], reason="request 118")

        assert vault.check(data=True).ok
        assert [snapshot.id for snapshot in vault.snapshots()] == [shared.id]
        again = vault.backup([lb.Item("b", data=b"b")], name="own", idempotency_key="k1")
        assert read_snapshot(again) == {"b": b"b"}
        vault.prune()
        assert vault.check(data=True).ok
    with new_vault() as vault:
        vault.backup(own, name="own")
        vault.erase_subjects([ACME], reason="request 118")
        state = vault._session.log.state
        assert decode_state(encode_state(state), authority=state.authority).snapshots == {}


def test_what_was_opened_before_reads_no_more() -> None:
    """Neither a file nor a listing, in the process that erased and in others that have folded."""
    store = MemoryStore()
    create(store)
    long = lb.Item("long", data=noise(300_000, "long"), subject=ACME)
    with reopen(store) as vault, reopen(store) as other:
        snapshot = vault.backup([*items(), long], name="n")
        seen = other.snapshot(snapshot.id)
        files = [snapshot.open("long", subject=ACME), seen.open("long", subject=ACME)]
        vault.erase_subjects([ACME], reason="request 118")
        other.snapshots()

        for file in files:
            with file, pytest.raises(lb.DamagedData) as caught:
                file.read()
            assert caught.value.kind == "erased"
        assert find_canary(vault, CANARY) == find_canary(other, CANARY) == []


def test_two_erasures_of_one_person_at_once_leave_no_void_record() -> None:
    """The slower finds nobody left, and signs another receipt of the faster."""
    store = MemoryStore()
    create(store)
    with reopen(store) as vault:
        vault.backup(items(), name="n")
    receipts: list[lb.Receipt] = []

    def first() -> None:
        with reopen(store) as other:
            receipts.append(other.erase_subjects([ACME], reason="request 118"))

    with reopen(FaultStore(store, AtPut(2, first))) as vault:
        receipts.append(vault.erase_subjects([ACME], reason="request 118"))

        assert receipts[0].facts["erasure"] == receipts[1].facts["erasure"]
        assert vault.check(data=True).ok
        assert vault._session.log.state.alarms == ()


# ---- races


def erase_during(store: MemoryStore, of: tuple[str, str] = ACME) -> Callable[[], bytes]:
    """Give content that has its subject erased by another process while it is read."""

    def data() -> bytes:
        with reopen(store) as other:
            other.erase_subjects([of], reason="request 118")
        return b"late"

    return data


def test_writer_that_held_the_keys_commits_without_the_erased_person() -> None:
    """Its chunks are written and its keys at hand; the commit leaves them out all the same."""
    store = MemoryStore()
    create(store, grace_s=0)
    with reopen(store) as vault:
        vault.backup(items(), name="n")
        late = lb.Item("late", data=erase_during(store))

        with pytest.raises(lb.ErasedSubject) as caught:
            vault.backup([*items(also=True), late], name="n")

        expected = {**OTHERS, "late": b"late"}
        assert read_snapshot(caught.value.snapshot) == expected
        assert find_canary(vault, CANARY) == []
        vault.prune()
        assert vault.check(data=True).ok
        assert read_snapshot(vault.snapshot("latest", name="n")) == expected


def test_writer_whose_only_subject_was_erased_commits_an_empty_snapshot() -> None:
    """Its description must not be sealed under keys that are gone."""
    store = MemoryStore()
    create(store)
    with reopen(store) as vault:
        mine = [lb.Item("a", data=b"a", subject=ACME)]
        vault.backup(mine, name="n")
        late = lb.Item("b", data=erase_during(store), subject=ACME)

        with pytest.raises(lb.ErasedSubject) as caught:
            vault.backup([*mine, late], name="n")

        assert caught.value.snapshot.name == "n"
        assert read_snapshot(caught.value.snapshot) == {}


def test_two_erasures_at_once_both_hold() -> None:
    """Of two epochs built on one another's base the slower is built again."""
    store = MemoryStore()
    create(store)
    people = [("acme", f"user-{n}") for n in range(8)]
    with reopen(store) as vault:
        snapshot = vault.backup(
            [lb.Item(p[1], data=p[1].encode(), subject=p) for p in people], name="n"
        )
        receipts: list[lb.Receipt] = []

        def erase(number: int) -> None:
            with reopen(store) as other:
                receipts.append(other.erase_subjects([people[number]], reason="r"))

        threads = [threading.Thread(target=erase, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(receipts) == 4
        for receipt in receipts:
            receipt.verify(vault.public_key)
        assert set(read_snapshot(vault.snapshot(snapshot.id))) == {p[1] for p in people[4:]}
        assert vault.check(data=True).ok


PEOPLE = [("acme", f"user-{n}") for n in range(6)]


def people_items(round_: int) -> list[lb.Item]:
    """Give four items of each, which change from round to round."""
    return [
        lb.Item(f"{p[1]}/{n}", data=noise(3_000, f"{p}{n}{round_}"), subject=p)
        for p in PEOPLE
        for n in range(4)
    ]


def back_up(vault: lb.Vault) -> None:
    """Run after run, with or without somebody."""
    for round_ in range(6):
        vault.backup(people_items(round_), name="n", errors="report")


def prune(vault: lb.Vault) -> None:
    """Free the room while others write."""
    for _ in range(4):
        vault.prune()


def read(vault: lb.Vault) -> None:
    """Read everything; what is erased between look and reading is not found."""
    for _ in range(6):
        for snapshot in vault.snapshots():
            with suppress(lb.NotFoundError):
                read_snapshot(snapshot)


def restore(vault: lb.Vault, folder: Path) -> None:
    """Restore everything; what is erased meanwhile is left out and told."""
    for number in range(4):
        for snapshot in vault.snapshots():
            with suppress(lb.NotFoundError):
                done = vault.restore(snapshot, folder / f"{number}-{snapshot.id}")
                assert {problem.kind for problem in done.problems} <= {"erased"}


def erase(vault: lb.Vault) -> None:
    """One after the other."""
    for person in PEOPLE[:3]:
        vault.erase_subjects([person], reason="r").verify(vault.public_key)


def test_erasing_beside_backup_prune_and_restore_breaks_none_of_them(tmp_path: Path) -> None:
    """Each either does its work or says that it left somebody out."""
    store = MemoryStore()
    create(store, grace_s=0)
    with reopen(store) as vault:
        vault.backup(people_items(0), name="n")

    def run(work: Callable[[lb.Vault], None]) -> None:
        with reopen(store) as vault:
            work(vault)

    works = (back_up, prune, read, erase, partial(restore, folder=tmp_path))
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(run, work) for work in works]:
            done.result()

    with reopen(store) as vault:
        assert vault.check(data=True).ok
        vault.prune()
        assert vault.check(data=True).ok
        for snapshot in vault.snapshots():
            found = {path.split("/")[0] for path in read_snapshot(snapshot)}
            assert found == {p[1] for p in PEOPLE[3:]}


# ---- crashes


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_call_it_is_not_begun_or_holds(when: Literal["before", "after"]) -> None:
    """Whoever comes next reads everything or nothing of the person, and can finish it."""
    store = MemoryStore()
    create(store, grace_s=0)
    with reopen(store) as vault:
        snapshot = vault.backup(items(), name="n")
    objects = dump(store)
    outcomes = set()
    for nth in range(1, 1000):
        inner = load(objects)
        faulty = FaultStore(inner, script(Rule(Crash(when), nth=nth)))
        with suppress(Crashed, lb.LoopbackupError), reopen(faulty) as vault:
            vault.erase_subjects([ACME], reason="request 118")
        if len(faulty.calls) < nth:
            break
        with reopen(inner) as vault:
            there = read_snapshot(vault.snapshot(snapshot.id))
            erased = len(there) == 2
            outcomes.add(erased)
            assert len(there) in (2, 3)
            receipt = vault.erase_subjects([ACME], reason="request 118")
            receipt.verify(vault.public_key)
            assert receipt.level == "E1"
            assert read_snapshot(vault.snapshot(snapshot.id)) == OTHERS
            assert find_canary(vault, CANARY) == []
            condemned = vault._session.log.state.condemned
            assert not [e for e in inner.list("keys/") if key_short(e.key) in condemned]
            vault.prune()
            keys = [entry.key for entry in inner.list("keys/")]
            assert len({key.split("/")[1] for key in keys} - {"shard"}) == 1
            assert vault.check(data=True).ok
    assert outcomes == {True, False}
