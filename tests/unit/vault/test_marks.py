"""Marks in the fold: all clients come to the same, from zero and from a summary."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.unit.vault.test_state import PACK_FRONT, Ledger, certificate, snapshot

from loopbackup.errors import DamagedData
from loopbackup.vault.format import record as rec
from loopbackup.vault.format.names import content_hash
from loopbackup.vault.ledger.core import decode_state, encode_state, state_digest
from loopbackup.vault.ledger.state import State

MARK, MORE = b"M" * 16, b"N" * 16
WHO, OTHER = b"D" * 16, b"E" * 16
ONE, TWO = b"s" * 16, b"t" * 16


@pytest.fixture
def ledger() -> Ledger:
    """Begin a ledger with two snapshots, the first of which has data of somebody."""
    ledger = Ledger()
    ledger.say("snapshot", snapshot(b"s", domains=WHO + OTHER))
    ledger.say("snapshot", snapshot(b"t", domains=OTHER))
    return ledger


def loaded(state: State) -> State:
    """Give a state as a summary brings it back."""
    return decode_state(encode_state(state), authority=state.authority)


def assert_agreed(ledger: Ledger) -> None:
    """Fold again from zero and from a summary, and hold all against each other."""
    assert state_digest(ledger.again()) == state_digest(ledger.state)
    assert loaded(ledger.state).marks == ledger.state.marks == ledger.again().marks


def forget(ledger: Ledger, *snapshots: bytes, **options: Any) -> bool:
    """Forget snapshots; say whether the record had an effect."""
    return ledger.say("forget", rec.Forgotten(list(snapshots)), **options) is not None


def test_forgetting_held_data_is_void(ledger: Ledger) -> None:
    """As a whole, with an alarm; other snapshots may go, and all may after the release."""
    ledger.say("hold", rec.Held(MARK, WHO))
    assert not forget(ledger, TWO, ONE)
    assert ledger.state.snapshots.keys() == {ONE, TWO}
    assert "held or restricted" in ledger.state.alarms[-1].reason
    assert_agreed(ledger)

    assert forget(ledger, TWO)
    ledger.say("release", rec.Released(MARK))
    assert forget(ledger, ONE)

    assert ledger.state.marks == {}
    assert_agreed(ledger)


def test_fold_that_starts_from_a_summary_obeys_the_same_holds(ledger: Ledger) -> None:
    """What came before the summary still forbids what comes after it."""
    ledger.say("hold", rec.Held(MARK, WHO), bodies=(b"why",))
    state = loaded(ledger.state)
    data = ledger.make("forget", rec.Forgotten([ONE]))

    assert state.apply(data, ledger.fetch_list) is None
    ledger.fold(data)
    assert state_digest(state) == state_digest(ledger.again())


def test_domains_in_a_list_are_held_too(ledger: Ledger) -> None:
    """A large snapshot names its domains in an object, which the fold then reads."""
    listed = content_hash(b"a list")
    ledger.lists[listed] = WHO
    ledger.say("snapshot", snapshot(b"u", domains_list=listed))
    ledger.say("hold", rec.Held(MARK, WHO))

    assert not forget(ledger, b"u" * 16)

    del ledger.lists[listed]
    with pytest.raises(DamagedData):
        forget(ledger, b"u" * 16)
    ledger.say("release", rec.Released(MARK))
    assert forget(ledger, b"u" * 16)


def test_hold_by_patterns_is_for_honest_clients(ledger: Ledger) -> None:
    """The fold sees no paths; the mark stands all the same."""
    ledger.say("hold", rec.Held(MARK))

    assert forget(ledger, ONE)
    assert ledger.state.marks.keys() == {MARK}
    assert_agreed(ledger)


@pytest.mark.parametrize(("until_us", "is_void"), [(None, True), (5_000, True), (900, False)])
def test_restriction_binds_by_the_time_of_the_record(
    ledger: Ledger, until_us: int | None, is_void: bool
) -> None:
    """That of who forgets: all clients see the same."""
    ledger.say("restriction", rec.Restricted(MARK, WHO, until_us))

    assert forget(ledger, ONE) is not is_void
    assert_agreed(ledger)


def test_marks_end_by_their_own_kind_only(ledger: Ledger) -> None:
    """A release lifts nothing, a lift releases nothing, neither ends an overlay."""
    ledger.say("hold", rec.Held(MARK, WHO))
    ledger.say("restriction", rec.Restricted(MORE, WHO))
    ledger.say("overlay", rec.Overlaid(b"O" * 16, WHO, b""))
    for mark in (MARK, MORE, b"O" * 16, b"?" * 16):
        kind, facts = ("lift", rec.Lifted) if mark == MARK else ("release", rec.Released)
        ledger.say(kind, facts(mark))

    assert ledger.state.marks.keys() == {MARK, MORE, b"O" * 16}
    ledger.say("lift", rec.Lifted(MORE))
    ledger.say("release", rec.Released(MARK))
    assert ledger.state.marks.keys() == {b"O" * 16}
    assert ledger.state.alarms == ()


def test_overlay_adds_its_packs_and_stands_while_it_changes_something(ledger: Ledger) -> None:
    """Named snapshots, or all before it; later ones never."""
    ledger.say("overlay", rec.Overlaid(MARK, WHO, PACK_FRONT, PACK_FRONT, b"", (ONE,)))
    ledger.say("overlay", rec.Overlaid(MORE, WHO, b""))
    ledger.say("snapshot", snapshot(b"u", domains=WHO))
    first, second = ledger.state.marks[MARK], ledger.state.marks[MORE]
    changed = [
        [mark.changes(ledger.state.snapshots[name * 16]) for name in (b"s", b"t", b"u")]
        for mark in (first, second)
    ]
    assert changed == [[True, False, False], [True, True, False]]
    assert [segment.name for segment in ledger.state.segments] == [PACK_FRONT[:33]]

    forget(ledger, ONE)
    assert ledger.state.marks.keys() == {MORE}
    forget(ledger, TWO)
    assert ledger.state.marks == {}
    assert_agreed(ledger)


HOSTILE: dict[str, tuple[str, Any]] = {
    "short id": ("hold", [b"x", WHO]),
    "short domain": ("hold", [MORE, b"x"]),
    "no domain": ("restriction", [MORE, b""]),
    "text": ("restriction", [MORE, WHO, "soon"]),
    "far": ("restriction", [MORE, WHO, 1 << 63]),
    "surplus": ("hold", [MORE, WHO, 1]),
    "nothing": ("overlay", []),
    "many snapshots": ("overlay", [MORE, WHO, b"", b"", b"", [b"s" * 16] * 2049]),
    "cut names": ("overlay", [MORE, WHO, b"p"]),
    "same id": ("hold", [MARK, OTHER]),
    "same id of another kind": ("overlay", [MARK, WHO, b""]),
    "map": ("hold", {"mark": MORE}),
    "long register": ("register", ["a" * 65, MORE]),
    "name in a register": ("register", ["user@example.com", MORE]),
    "end of line": ("register", ["requests\n", MORE]),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_malformed_mark_is_void(ledger: Ledger, case: str) -> None:
    """It raises an alarm and has no effect, and the ledger goes on."""
    ledger.say("hold", rec.Held(MARK, WHO))
    before = ledger.state.marks
    kind, facts = HOSTILE[case]
    data = ledger.make(kind, facts)

    assert ledger.fold(data) is None

    assert ledger.state.marks == before
    assert len(ledger.state.alarms) == 1
    assert forget(ledger, TWO)
    assert_agreed(ledger)


def test_overlay_of_condemned_packs_is_void(ledger: Ledger) -> None:
    """What it would show may be swept."""
    ledger.say("prune", rec.Pruned(condemned=PACK_FRONT[:33]))

    assert ledger.say("overlay", rec.Overlaid(MARK, WHO, PACK_FRONT, PACK_FRONT)) is None
    assert ledger.state.marks == {}


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        ("hold", rec.Held(MORE, OTHER)),
        ("release", rec.Released(MARK)),
        ("restriction", rec.Restricted(MORE, WHO)),
        ("lift", rec.Lifted(MARK)),
        ("overlay", rec.Overlaid(MORE, WHO, b"")),
        ("register", rec.Registered("requests", MORE)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mark_of_a_writer_without_the_role_is_void(
    ledger: Ledger, kind: str, facts: rec.Facts
) -> None:
    """Only an administrator sets and ends marks."""
    key = Ed25519PrivateKey.generate()
    ledger.say("writer", rec.WriterEnrolled(certificate(key, b"W" * 16, "writer", "maintainer")))
    ledger.say("hold", rec.Held(MARK, WHO))

    assert ledger.say(kind, facts, key=key, writer=b"W" * 16) is None

    assert ledger.state.marks.keys() == {MARK}
    assert "role admin" in ledger.state.alarms[-1].reason


def test_bodies_of_marks_come_back_from_a_summary(ledger: Ledger) -> None:
    """With their hashes; one that is lost stays lost, and no digest depends on it."""
    ledger.say("hold", rec.Held(MARK, WHO), bodies=(b"why",))
    whole = loaded(ledger.state)
    torn = ledger.genesis()
    for data in ledger.records:
        torn.apply(data.removesuffix(b"why"), ledger.fetch_list)

    assert whole.marks[MARK].body == b"why"
    assert torn.marks[MARK].body is None
    assert loaded(torn).marks[MARK].body is None
    assert state_digest(torn) == state_digest(ledger.state)
