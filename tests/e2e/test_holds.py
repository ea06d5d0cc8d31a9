"""Holds: what they cover is neither forgotten nor pruned away until they are released."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.support import Clock, create, items, new_vault, noise, read_snapshot, reopen

import loopbackup as lb
from loopbackup.errors import HoldActive, InputError, NotFoundError, PolicyError
from loopbackup.terms import AllowAll, Decision, Facts
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.verbs.held import holds_on
from loopbackup.vault.verbs.standing import standing

REVIEW = datetime(2027, 1, 1, tzinfo=UTC)
WHO = ("acme", "42")
OTHER = ("acme", "43")


@pytest.fixture(params=["memory", "local"])
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[lb.Vault]:
    """Open a vault, once in memory and once on disk."""
    if request.param == "memory":
        with lb.testing.memory_vault(grace_s=0) as found:
            yield found
        return
    key = lb.KeyFile.generate(tmp_path / "key")
    with lb.Vault.create(tmp_path / "vault", key, grace_s=0, state_dir=tmp_path / "state") as made:
        yield made


def letters(**who: bytes) -> list[lb.Item]:
    """Make an item for each subject of the tenant."""
    return [
        lb.Item(f"users/{name[1:]}/a", data=data, subject=("acme", name[1:]))
        for name, data in who.items()
    ]


def hold(vault: lb.Vault, *args: Any, **more: Any) -> lb.Hold:
    """Place a hold."""
    return vault.hold(*args, **{"reason": "case 17", "review_at": REVIEW, **more})


def test_held_snapshot_is_not_forgotten_until_the_hold_is_released(vault: lb.Vault) -> None:
    """The refusal names the hold and changes nothing; afterwards forgetting works."""
    snapshot = vault.backup(letters(_42=b"held", _43=b"free"), name="s")
    placed = hold(vault, WHO)
    head = vault.head

    with pytest.raises(HoldActive) as refused:
        vault.forget(snapshot, reason="old")

    assert refused.value.hold == placed
    assert vault.head == head
    assert isinstance(refused.value, PolicyError)
    assert "42" not in str(refused.value).replace(snapshot.id[:8], "").replace(placed.id[:8], "")
    vault.prune()
    assert read_snapshot(snapshot) == {"users/42/a": b"held", "users/43/a": b"free"}
    vault.release(placed, reason="closed")
    vault.forget(snapshot, reason="old")
    assert vault.snapshots() == []


def test_hold_covers_nothing_else(vault: lb.Vault) -> None:
    """A snapshot without data of the subject is forgotten as ever."""
    other = vault.backup(letters(_43=b"free"), name="s")
    hold(vault, WHO)

    vault.forget(other, reason="old")

    assert vault.snapshots() == []


def test_holds_are_told_as_they_were_placed(vault: lb.Vault) -> None:
    """Id, reason, review, subject and patterns come back, times in UTC."""
    there = datetime(2027, 1, 1, 5, tzinfo=timezone(timedelta(hours=5)))
    first = hold(vault, "user-42", reason="case 17", review_at=there)
    second = hold(vault, paths="*.pdf", reason="case 18")

    assert list(vault.holds) == [first, second]
    assert [found.review_at for found in vault.holds] == [REVIEW, REVIEW]
    assert vault.holds[0].subject == ("user-42",)
    assert vault.holds[1].paths == ("*.pdf",)
    vault.release(first.id, reason="closed")
    assert list(vault.holds) == [second]


def test_hold_outlives_the_process(tmp_path: Path) -> None:
    """Another opening finds it, with local state and without."""
    key = lb.KeyFile.generate(tmp_path / "key")
    with lb.Vault.create(tmp_path / "vault", key, state_dir=tmp_path / "state") as made:
        snapshot = made.backup(letters(_42=b"held"), name="s")
        placed = hold(made, WHO)

    for state_dir in (tmp_path / "state", None):
        with lb.Vault.open(tmp_path / "vault", key, state_dir=state_dir) as again:
            assert again.holds == (placed,)
            with pytest.raises(HoldActive):
                again.forget(snapshot.id, reason="old")


def test_hold_of_a_tenant_covers_its_people(vault: lb.Vault) -> None:
    """Those who were there, and those who come later."""
    before = vault.backup(letters(_42=b"held"), name="s")
    placed = hold(vault, "acme")
    after = vault.backup(letters(_77=b"new"), name="t")

    for snapshot in (before, after):
        with pytest.raises(HoldActive) as refused:
            vault.forget(snapshot, reason="old")
        assert refused.value.hold == placed


def test_hold_of_a_person_does_not_cover_the_tenant(vault: lb.Vault) -> None:
    """What is about the tenant itself, or another tenant's person of that name, may go."""
    about = [lb.Item("a", data=b"1", subject="acme"), lb.Item("b", data=b"2", subject=("x", "42"))]
    snapshot = vault.backup(about, name="s")
    hold(vault, WHO)

    vault.forget(snapshot, reason="old")

    assert vault.snapshots() == []


@pytest.mark.parametrize("other", ["user-4", "user-422", ("user-42x", "y"), "User-42", "user-42 "])
def test_names_that_begin_alike_are_not_held(vault: lb.Vault, other: lb.Subject) -> None:
    """A subject is compared whole, as a tuple of its parts."""
    snapshot = vault.backup([lb.Item("a", data=b"x", subject=other)], name="s")
    hold(vault, "user-42")

    vault.forget(snapshot, reason="old")

    assert vault.snapshots() == []


@pytest.mark.parametrize(
    "subject",
    [
        "a@example.com",
        "\u00e5sa.\u00f6berg@example.se",
        "\u202e\U0001f9d1\u200d",
        ("t/../t", "\n"),
        "x" * 256,
    ],
    ids=["e-mail", "letters", "signs", "separators", "long"],
)
def test_any_subject_can_be_held(vault: lb.Vault, subject: lb.Subject) -> None:
    """Whatever a host calls people."""
    placed = hold(vault, subject)
    snapshot = vault.backup([lb.Item("a", data=b"x", subject=subject)], name="s")

    with pytest.raises(HoldActive) as refused:
        vault.forget(snapshot, reason="old")

    assert refused.value.hold == placed


def test_unknown_subject_is_covered_when_it_comes(vault: lb.Vault) -> None:
    """A hold may be older than the first backup of the person."""
    hold(vault, "user-99")
    snapshot = vault.backup([lb.Item("a", data=b"x", subject="user-99")], name="s")

    with pytest.raises(HoldActive):
        vault.forget(snapshot, reason="old")


@pytest.mark.parametrize(
    ("pattern", "is_held"),
    [
        ("users/42/**", True),
        ("*/43/*", True),
        ("users/", True),
        ("users/44/**", False),
        ("*.pdf", False),
    ],
    ids=["a folder", "stars", "all", "another", "a suffix"],
)
def test_hold_by_patterns_covers_what_they_match(
    vault: lb.Vault, pattern: str, is_held: bool
) -> None:
    """Of all subjects and in all snapshots, also in later ones."""
    early = vault.backup(letters(_42=b"1", _43=b"2"), name="s")
    placed = hold(vault, paths=[pattern])
    late = vault.backup(letters(_42=b"3", _43=b"2"), name="s")

    for snapshot in (early, late):
        if is_held:
            with pytest.raises(HoldActive) as refused:
                vault.forget(snapshot, reason="old")
            assert refused.value.hold == placed
        else:
            vault.forget(snapshot, reason="old")


def test_patterns_may_make_exceptions(vault: lb.Vault) -> None:
    """The last pattern that matches decides, as everywhere."""
    snapshot = vault.backup(letters(_42=b"1"), name="s")
    hold(vault, paths=["users/**", "!users/42/**"])

    vault.forget(snapshot, reason="old")

    assert vault.snapshots() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"review_at": datetime(2027, 1, 1)},  # noqa: DTZ001
        {"review_at": "2027-01-01"},
        {"reason": ""},
        {"reason": "x" * 16_385},
        {"reason": 17},
        {"subject": None},
        {"paths": ["*.pdf"]},
        {"subject": ""},
        {"subject": ("a", "b", "c")},
        {"subject": None, "paths": [""]},
        {"subject": None, "paths": ["# a comment"]},
        {"subject": None, "paths": 5},
        {"subject": None, "paths": ["*"] * 257},
        {"subject": None, "paths": ["x" * 4097]},
        {"subject": None, "paths": ["\udcff"]},
    ],
    ids=str,
)
def test_malformed_hold_is_refused_and_writes_nothing(
    vault: lb.Vault, wrong: dict[str, Any]
) -> None:
    """A mistake in an argument costs a message, not a record."""
    head = vault.head

    with pytest.raises(InputError):
        hold(vault, **{"subject": "user-42", **wrong})

    assert vault.head == head


def test_second_release_is_not_found(vault: lb.Vault) -> None:
    """Who releases learns that the hold is not in force any more."""
    placed = hold(vault, WHO)
    vault.release(placed, reason="closed")

    with pytest.raises(NotFoundError) as missing:
        vault.release(placed, reason="closed")

    assert missing.value.kind == "hold"


@pytest.mark.parametrize("name", ["", "xyz", "00", 5, None, "00" * 17])
def test_release_needs_an_id(vault: lb.Vault, name: Any) -> None:
    """Something that names no hold is a wrong argument."""
    with pytest.raises(InputError):
        vault.release(name, reason="closed")


def test_restriction_is_not_released_as_a_hold(vault: lb.Vault) -> None:
    """Each ends in its own way."""
    restriction = vault.ledger.append("restriction", {"reason": "disputed"}, subject=WHO)

    with pytest.raises(NotFoundError):
        vault.release(restriction, reason="closed")


def test_two_holds_both_have_to_be_released(vault: lb.Vault) -> None:
    """Each case keeps the data for itself."""
    snapshot = vault.backup(letters(_42=b"held"), name="s")
    first, second = hold(vault, WHO), hold(vault, "acme", reason="case 18")
    vault.release(first, reason="closed")

    with pytest.raises(HoldActive) as refused:
        vault.forget(snapshot, reason="old")

    assert refused.value.hold == second


def test_holds_on_subjects_are_found_both_ways(vault: lb.Vault) -> None:
    """Erasing a tenant meets the holds of its people, and erasing a person those of the tenant."""
    vault.backup(letters(_42=b"1", _43=b"2"), name="s")
    person, paths = hold(vault, WHO), hold(vault, paths=["users/43/**"])
    session = vault._session

    assert holds_on(session, [WHO]) == (person,)
    assert holds_on(session, [OTHER]) == (paths,)
    assert holds_on(session, [("acme",)]) == (person, paths)
    assert holds_on(session, [("acme-b",), ("42",)]) == ()
    tenant = hold(vault, "acme")
    assert holds_on(session, [OTHER]) == (paths, tenant)


def test_holdings_say_which_holds_stand(vault: lb.Vault) -> None:
    """In the report, and in words without reasons."""
    vault.backup(letters(_42=b"1"), name="s")
    person, paths = hold(vault, WHO), hold(vault, paths=["users/42/**"])
    hold(vault, "user-77")

    held = vault.holdings(WHO)

    assert held.holds == (person, paths)
    assert person.id[:8] in str(held)
    assert "case" not in str(held)
    assert person.id[:8] in held._repr_html_()


def test_entries_show_holds_with_their_reasons(vault: lb.Vault) -> None:
    """What is sealed under the subject is opened for whoever may read the ledger."""
    placed = hold(vault, WHO, reason="case 17")
    vault.release(placed, reason="closed")

    shown = [e for e in vault.ledger.entries(subject=WHO) if e.kind in ("hold", "release")]

    assert [(e.kind, e.reason, e.action) for e in shown] == [
        ("hold", "case 17", "hold"),
        ("release", "closed", "release"),
    ]
    assert shown[0].facts["mark"] == placed.id


def test_nothing_about_anybody_stands_in_clear() -> None:
    """No name, reason or pattern is in the bytes of the store."""
    store = MemoryStore()
    create(store)
    with reopen(store) as vault:
        hold(vault, ("tenant-of-mine", "somebody"), reason="whose-case")
        vault.release(hold(vault, paths=["some/where/**"], reason="which-case"), reason="why-not")
        stored = b"".join(store.get(entry.key) for entry in store.list(""))

    for secret in (b"tenant-of-mine", b"somebody", b"whose-case", b"some/where", b"why-not"):
        assert secret not in stored


class Gate(AllowAll):
    """Refuses some actions, and remembers what it was asked."""

    def __init__(self, *refused: str) -> None:
        super().__init__()
        object.__setattr__(self, "refused", refused)
        object.__setattr__(self, "asked", [])

    def decide(self, action: str, facts: Facts, *, at: datetime) -> Decision:
        """Refuse what is to be refused."""
        self.asked.append((str(action), facts.subject))
        return Decision(allowed=str(action) not in self.refused)

    refused: tuple[str, ...]
    asked: list[tuple[str, Any]]


Act = Callable[[lb.Vault, lb.Hold], object]
ACTS: dict[str, Act] = {
    "hold": lambda vault, _: hold(vault, WHO),
    "release": lambda vault, placed: vault.release(placed, reason="closed"),
    "restrict": lambda vault, _: vault.ledger.append("restriction", {"reason": "x"}, subject=WHO),
    "record": lambda vault, _: vault.ledger.append("register.r", b"x", subject=WHO),
    "rectify": lambda vault, _: vault.ledger.append(
        "overlay", {"path": "users/42/a", "replacement": b""}, subject=WHO
    ),
}


@pytest.mark.parametrize("action", ACTS)
def test_gate_is_asked_for_each_mark(action: str) -> None:
    """A refusal changes nothing but the count of refusals; the gate learns whom it is about."""
    store, gate = MemoryStore(), Gate(action)
    create(store)
    with reopen(store) as vault:
        placed = hold(vault, WHO) if action == "release" else None
        vault.backup(letters(_42=b"1"), name="s")
    with reopen(store, gate=gate) as vault:
        head = vault.head

        with pytest.raises(PolicyError):
            ACTS[action](vault, placed)  # type: ignore[arg-type]

        assert vault.head == head
    assert (action, WHO) in gate.asked


def test_read_only_vault_sets_no_marks() -> None:
    """It may look at them."""
    store = MemoryStore()
    create(store)
    with reopen(store) as vault:
        placed = hold(vault, WHO)
    with reopen(store, read_only=True) as vault:
        assert vault.holds == (placed,)
        for act in ACTS.values():
            with pytest.raises(InputError):
                act(vault, placed)


def test_keys_that_cannot_be_read_hold_everything() -> None:
    """A hold whose subject nobody can tell any more keeps all snapshots."""
    store = MemoryStore()
    create(store)
    with reopen(store) as vault:
        snapshot = vault.backup([lb.Item("a", data=b"x")], name="s")
        hold(vault, "user-42")
    shards = [entry.key for entry in store.list("keys/shard/")]
    for key in shards:
        store.put(key, noise(5000, key), if_absent=False)

    with reopen(store) as vault, pytest.raises(HoldActive):
        vault.forget(snapshot.id, reason="old")


def test_hold_keeps_what_a_forgotten_series_shared(vault: lb.Vault) -> None:
    """Pruning beside a hold takes what is free and leaves what is held, byte for byte."""
    big = noise(300_000, "big")
    held = vault.backup(letters(_42=big, _43=noise(200_000, "b")), name="s")
    placed = hold(vault, WHO)
    free = vault.backup(letters(_43=noise(250_000, "c")), name="t")
    vault.forget(free, reason="old")

    vault.prune()
    vault.prune()

    assert read_snapshot(held)["users/42/a"] == big
    assert vault.check(data=True).ok
    vault.release(placed, reason="closed")


def test_marks_are_opened_once_for_many_looks() -> None:
    """While no mark is set or ended, a look opens nothing anew."""
    with new_vault(clock=Clock()) as vault:
        vault.backup(items({"a": b"x"}, subject="user-42"), name="s")
        hold(vault, "user-42")
        first = standing(vault._session)
        vault.backup(items({"a": b"y"}, subject="user-42"), name="s")

        assert standing(vault._session) is first
        hold(vault, "user-43")
        assert standing(vault._session) is not first
