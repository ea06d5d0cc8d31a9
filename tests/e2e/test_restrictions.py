"""Restrictions (Art. 18 GDPR): what they cover is stored, and neither shown nor deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.support import Clock, read_snapshot

import loopbackup as lb
from loopbackup.errors import HoldActive, InputError, NotFoundError, PolicyError

WHO = ("acme", "42")
OTHER = ("acme", "43")


@pytest.fixture
def clock() -> Clock:
    """Start the clock of the vault."""
    return Clock()


@pytest.fixture(params=["memory", "local"])
def vault(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[lb.Vault]:
    """Open a vault, once in memory and once on disk."""
    if request.param == "memory":
        with lb.testing.memory_vault(grace_s=0, clock=clock) as found:
            yield found
        return
    key = lb.KeyFile.generate(tmp_path / "key")
    options: dict[str, Any] = {"grace_s": 0, "clock": clock, "state_dir": tmp_path / "state"}
    with lb.Vault.create(tmp_path / "vault", key, **options) as made:
        yield made


@pytest.fixture
def snapshot(vault: lb.Vault) -> lb.Snapshot:
    """Back up something of two people, and of nobody."""
    return vault.backup(
        [
            lb.Item("users/42/a", data=b"of 42", subject=WHO),
            lb.Item("users/42/b", data=b"more of 42", subject=WHO),
            lb.Item("users/43/a", data=b"of 43", subject=OTHER),
            lb.Item("readme", data=b"of nobody"),
        ],
        name="s",
    )


def restrict(vault: lb.Vault, subject: lb.Subject = WHO, **more: Any) -> str:
    """Restrict a subject."""
    return vault.ledger.append("restriction", {"reason": "disputed", **more}, subject=subject)


def lift(vault: lb.Vault, restriction: str, subject: lb.Subject = WHO) -> str:
    """Lift a restriction."""
    payload = {"reason": "settled", "lifts": restriction}
    return vault.ledger.append("restriction", payload, subject=subject)


Ask = Callable[[lb.Vault, lb.Snapshot, Path], object]
ASKED: dict[str, Ask] = {
    "open": lambda v, s, p: s.open("users/42/a"),
    "open for": lambda v, s, p: s.open("users/42/a", subject=WHO),
    "entry": lambda v, s, p: s.entry("users/42/b"),
    "ls": lambda v, s, p: list(s.ls("users", subject=WHO)),
    "walk": lambda v, s, p: list(s.walk(subject=WHO)),
    "find": lambda v, s, p: list(s.find("*", subject=WHO)),
    "versions": lambda v, s, p: v.versions("users/42/a"),
    "versions of": lambda v, s, p: v.versions("users/42/a", subject=WHO),
    "restore": lambda v, s, p: v.restore(s, p / "out", subject=WHO),
    "dry restore": lambda v, s, p: v.restore(s, p / "out", subject=WHO, dry_run=True),
    "forget": lambda v, s, p: v.forget(s, reason="old"),
}


@pytest.mark.parametrize("verb", ASKED)
def test_whoever_asks_for_restricted_data_is_refused(
    vault: lb.Vault, snapshot: lb.Snapshot, verb: str, tmp_path: Path
) -> None:
    """With a kind that tells it from a gate's refusal, and nothing is written."""
    restrict(vault)
    head = vault.head

    with pytest.raises(PolicyError) as refused:
        ASKED[verb](vault, snapshot, tmp_path)

    assert refused.value.kind == "restricted"
    assert not isinstance(refused.value, HoldActive)
    assert vault.head == head
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ASKED)
def test_lifting_gives_everything_back(
    vault: lb.Vault, snapshot: lb.Snapshot, verb: str, tmp_path: Path
) -> None:
    """The same calls work as before."""
    lift(vault, restrict(vault))

    ASKED[verb](vault, snapshot, tmp_path)


def test_listings_show_nothing_of_it(vault: lb.Vault, snapshot: lb.Snapshot) -> None:
    """Not even that something is there."""
    restrict(vault)

    shown = {entry.path for entry in snapshot.ls(recursive=True)}

    assert shown == {"users/43/a", "readme"}
    assert [entry.path for entry in snapshot.ls("users")] == ["users/43"]
    assert {entry.path for entry in snapshot.find("users/**")} == {"users/43/a"}
    assert {folder for folder, *_ in snapshot.walk()} == {"", "users", "users/43"}
    with pytest.raises(NotFoundError):
        list(snapshot.ls("users/42"))


def test_path_of_nobody_is_not_found_beside_a_restriction(
    vault: lb.Vault, snapshot: lb.Snapshot
) -> None:
    """Only what is there and restricted is refused; a slip stays a slip."""
    restrict(vault)

    with pytest.raises(NotFoundError):
        snapshot.open("users/42/c")


def test_whole_restore_leaves_it_out_and_counts_it(
    vault: lb.Vault, snapshot: lb.Snapshot, tmp_path: Path
) -> None:
    """The rest is restored, and the report says how many entries are not."""
    restrict(vault)

    done = vault.restore(snapshot, tmp_path / "out")

    assert done.restricted == 2
    assert "2 left out as restricted" in str(done)
    found = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*")}
    assert found == {"users", "users/43", "users/43/a", "readme"}
    assert vault.restore(snapshot, tmp_path / "dry", dry_run=True).restricted == 2


def test_restriction_of_a_tenant_covers_its_people(
    vault: lb.Vault, snapshot: lb.Snapshot, tmp_path: Path
) -> None:
    """Those of whom something is there, and those who come."""
    restrict(vault, "acme")
    later = vault.backup([lb.Item("new", data=b"x", subject=("acme", "77"))], name="t")

    assert {entry.path for entry in snapshot.ls(recursive=True)} == {"readme"}
    assert list(later.ls(recursive=True)) == []
    for subject in (WHO, ("acme", "77"), ("acme", "99"), "acme"):
        with pytest.raises(PolicyError):
            vault.restore(snapshot, tmp_path / "out", subject=subject)
    with pytest.raises(PolicyError):
        vault.forget(later, reason="old")


def test_tenant_is_given_without_its_restricted_people(
    vault: lb.Vault, snapshot: lb.Snapshot, tmp_path: Path
) -> None:
    """A person's restriction leaves the rest of the tenant as it is."""
    restrict(vault)

    done = vault.restore(snapshot, tmp_path / "out", subject="acme")

    assert (done.files, done.restricted) == (1, 2)
    assert {e.path for e in snapshot.find("*", subject="acme")} == {"users/43/a"}


def test_backups_of_restricted_data_go_on(vault: lb.Vault, snapshot: lb.Snapshot) -> None:
    """Art. 18(2) allows storage; what was stored meanwhile is there once it is lifted."""
    restriction = restrict(vault)
    later = vault.backup([lb.Item("users/42/a", data=b"newer", subject=WHO)], name="s")
    vault.prune()

    assert vault.check(data=True).ok
    lift(vault, restriction)
    assert read_snapshot(later) == {"users/42/a": b"newer"}
    assert read_snapshot(snapshot)["users/42/a"] == b"of 42"


def test_restriction_ends_at_its_time(vault: lb.Vault, snapshot: lb.Snapshot, clock: Clock) -> None:
    """By the vault's clock, to the moment, in any zone; holdings then do not name it any more."""
    until = clock.now.astimezone(timezone(timedelta(hours=-7))) + timedelta(days=30)
    restrict(vault, until=until)
    (standing,) = vault.holdings(WHO).restrictions
    assert standing.until == until
    with pytest.raises(PolicyError):
        snapshot.open("users/42/a")

    clock.pass_by(days=31)

    with snapshot.open("users/42/a") as file:
        assert file.read() == b"of 42"
    assert vault.holdings(WHO).restrictions == ()
    vault.forget(snapshot, reason="old")


def test_each_restriction_is_lifted_for_itself(vault: lb.Vault, snapshot: lb.Snapshot) -> None:
    """Of two grounds one may be left."""
    first, second = restrict(vault), restrict(vault, reason="claims")
    lift(vault, first)

    with pytest.raises(PolicyError):
        snapshot.open("users/42/a")
    (left,) = vault.holdings(WHO).restrictions
    assert (left.id, left.reason, left.subject) == (second, "claims", WHO)


def test_diff_leaves_it_out(vault: lb.Vault, snapshot: lb.Snapshot) -> None:
    """What changed about somebody who is restricted is nobody's business."""
    later = vault.backup(
        [
            lb.Item("users/42/a", data=b"changed", subject=WHO),
            lb.Item("users/43/a", data=b"changed too", subject=OTHER),
        ],
        name="s",
    )
    restrict(vault)

    diff = later.diff(snapshot)

    assert [entry.path for entry in diff.changed] == ["users/43/a"]
    assert [entry.path for entry in diff.removed] == ["readme"]


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"reason": ""},
        {"reason": 5},
        {"reason": "x" * 16_385},
        {"reason": "x", "until": datetime(2027, 1, 1)},  # noqa: DTZ001
        {"reason": "x", "until": "soon"},
        {"reason": "x", "until": 5},
        {"reason": "x", "unknown": 1},
        {"reason": "x", "lifts": "no id"},
        {"reason": "x", "lifts": "00" * 16, "until": datetime(2027, 1, 1, tzinfo=UTC)},
        {"reason": "\ud800"},
        b"",
        b"[]",
        b'{"reason": "x", "until": "2027-01-01T00:00:00"}',
        b'{"reason": "x"',
        b"\xff",
        "text",
        None,
        5,
    ],
    ids=str,
)
def test_malformed_restriction_is_refused_and_writes_nothing(vault: lb.Vault, payload: Any) -> None:
    """A mistake in a payload costs a message, not a record."""
    head = vault.head

    with pytest.raises(InputError):
        vault.ledger.append("restriction", payload, subject=WHO)

    assert vault.head == head


def test_payload_may_be_json(vault: lb.Vault, snapshot: lb.Snapshot) -> None:
    """As a mapping from another process comes."""
    text = b'{"reason": "disputed", "until": "2026-04-01T00:00:00+02:00"}'

    vault.ledger.append("restriction", text, subject=WHO)

    (standing,) = vault.holdings(WHO).restrictions
    assert standing.until == datetime(2026, 3, 31, 22, tzinfo=UTC)


def test_restriction_is_about_somebody(vault: lb.Vault) -> None:
    """Nobody's data cannot be restricted."""
    with pytest.raises(InputError):
        vault.ledger.append("restriction", {"reason": "x"})


def test_only_a_restriction_of_that_subject_is_lifted(
    vault: lb.Vault, snapshot: lb.Snapshot
) -> None:
    """A wrong id, a hold's, another person's, or one that is lifted already is not found."""
    restriction = restrict(vault)
    hold = vault.hold(WHO, reason="case 17", review_at=datetime(2027, 1, 1, tzinfo=UTC))

    for mark, subject in (("00" * 16, WHO), (hold.id, WHO), (restriction, OTHER)):
        with pytest.raises(NotFoundError):
            lift(vault, mark, subject)
    lift(vault, restriction)
    with pytest.raises(NotFoundError):
        lift(vault, restriction)


@pytest.mark.parametrize("kind", ["hold", "erase", "register", "register.", "register.A", "x", 5])
def test_nothing_else_is_appended(vault: lb.Vault, kind: Any) -> None:
    """Kinds of the vault itself are not for others to write."""
    head = vault.head

    with pytest.raises(InputError):
        vault.ledger.append(kind, {"reason": "x"}, subject=WHO)

    assert vault.head == head


def test_register_events_come_back_as_they_were(vault: lb.Vault) -> None:
    """Bytes as bytes, mappings as JSON; sealed to the subject, or to nobody."""
    about = vault.ledger.append("register.requests", {"b": [1], "a": "å"}, subject=WHO)
    vault.ledger.append("register.processors-2", b"\x00raw")

    found = [e for e in vault.ledger.entries() if e.kind.startswith("register.")]

    assert [(e.kind, e.payload) for e in found] == [
        ("register.requests", '{"a":"å","b":[1]}'.encode()),
        ("register.processors-2", b"\x00raw"),
    ]
    assert found[0].facts["event"] == about
    assert [e.actor for e in found] == ["unnamed", "unnamed"]
    ours = [e.kind for e in vault.ledger.entries(subject=WHO)]
    assert ours == ["domains", "register.requests"]


@pytest.mark.parametrize("payload", [bytes((8 << 20) + 1), {"x": object()}, {1: {2}, "a": 1}, "t"])
def test_event_that_cannot_be_stored_is_refused(vault: lb.Vault, payload: Any) -> None:
    """Too long, or no JSON."""
    with pytest.raises(InputError):
        vault.ledger.append("register.requests", payload)
