"""The fold: what each record does, what makes it void, and that all clients come to one state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

import loopbackup as lb
from loopbackup.errors import DamagedData, NewerFormat
from loopbackup.vault.format import codec
from loopbackup.vault.format import record as rec
from loopbackup.vault.format.names import content_hash
from loopbackup.vault.ledger.core import decode_state, encode_state, state_digest
from loopbackup.vault.ledger.state import Front, State, join_names, object_name, split_names

VAULT = b"v" * 16
AUTHORITY = Ed25519PrivateKey.from_private_bytes(b"a" * 32)
HOUSE = Ed25519PrivateKey.from_private_bytes(b"h" * 32)
PACK, OTHER, INDEX = b"p" + b"1" * 32, b"p" + b"2" * 32, b"i" + b"3" * 32
HASH = b"f" * 32
PACK_FRONT, OTHER_FRONT, INDEX_FRONT = PACK + HASH, OTHER + HASH, INDEX + HASH


def certificate(key: Ed25519PrivateKey, writer: bytes, *roles: str) -> rec.Certificate:
    """Certify a writer."""
    plain = rec.Certificate(writer, key.public_key().public_bytes_raw(), list(roles))
    return rec.sign_certificate(plain, vault_id=VAULT, authority=AUTHORITY)


class Ledger:
    """A ledger in memory that signs whatever a test says."""

    def __init__(self) -> None:
        self.state = self.genesis()
        self.records: list[bytes] = []
        self.lists: dict[bytes, bytes] = {}
        house = certificate(HOUSE, b"H" * 16, *rec.ALL_ROLES)
        created = rec.Created(
            b"x" * 32,
            b"s" * 32,
            house,
            [(b"slot-one", "keyfile", b"k" * 32)],
            [(7, b"S" * 32)],
            b"n" * 16,
        )
        self.say("created", created)

    @staticmethod
    def genesis() -> State:
        """Give the state before the first record."""
        return State(VAULT, AUTHORITY.public_key().public_bytes_raw())

    def fetch_list(self, digest: bytes) -> bytes:
        """Give a list, if it is there."""
        if digest not in self.lists:
            raise DamagedData("a list is missing")
        return self.lists[digest]

    def make(
        self,
        kind: str,
        facts: rec.Facts,
        *,
        key: Ed25519PrivateKey = HOUSE,
        writer: bytes = b"H" * 16,
        bodies: tuple[bytes, ...] = (),
        **changed: Any,
    ) -> bytes:
        """Make the next record."""
        state = self.state
        frame = rec.Frame(
            rec.VERSION,
            state.size,
            bytes([state.size]) * 16,
            state.tree.head(),
            b"e" * 16,
            b"r" * 32,
            writer,
            1000 + state.size,
            kind,
            [rec.BodyRef("audit", b"2026-11", content_hash(body)) for body in bodies],
            msgspec.Raw(codec.encode(facts)),
        )
        frame = msgspec.structs.replace(frame, **changed)
        return rec.encode_record(frame, bodies, vault_id=VAULT, key=key)

    def fold(self, data: bytes) -> rec.Record | None:
        """Append a record's bytes."""
        record = self.state.apply(data, self.fetch_list)
        self.records.append(data)
        return record

    def say(self, kind: str, facts: rec.Facts, **options: Any) -> rec.Record | None:
        """Make and append a record."""
        return self.fold(self.make(kind, facts, **options))

    def again(self) -> State:
        """Fold everything anew."""
        state = self.genesis()
        for data in self.records:
            state.apply(data, self.fetch_list)
        return state


@pytest.fixture
def ledger() -> Ledger:
    """Begin a ledger."""
    return Ledger()


def snapshot(name: bytes = b"s", **more: Any) -> rec.SnapshotCommitted:
    """Make a snapshot's facts."""
    return rec.SnapshotCommitted(name * 16, b"R" * 32, 0, **{"segments": b"", **more})


NEW_HOUSE = Ed25519PrivateKey.from_private_bytes(b"n" * 32)


STORE = b"2" * 16
"""Id of a replica."""


def epoch(**more: Any) -> rec.EpochChanged:
    """Make the facts of a change of epoch."""
    facts = {
        "epoch": b"f" * 16,
        "root": b"q" * 32,
        "salt": b"t" * 32,
        "house": certificate(NEW_HOUSE, b"N" * 16, *rec.ALL_ROLES),
        "slots": [(b"slot-two", "keyfile", b"l" * 32)],
        "changes": [(7, b"S" * 32, b"T" * 32)],
    }
    return rec.EpochChanged(**{**facts, **more})


def test_first_record_makes_the_vault(ledger: Ledger) -> None:
    """Epoch, root, slots, shards and the house writer."""
    state = ledger.state

    assert (state.size, state.epoch, state.root, state.salt) == (1, b"e" * 16, b"r" * 32, b"s" * 32)
    assert state.slots == ((b"slot-one", "keyfile", b"k" * 32),)
    assert state.shards == {7: b"S" * 32}
    assert state.alarms == ()


def test_records_have_their_effects(ledger: Ledger) -> None:
    """One after the other, as a vault's life goes."""
    ledger.say("domains", rec.DomainsAdded([(7, b"S" * 32, b"T" * 32), (256, b"", b"Y" * 32)]))
    ledger.say("claim", rec.Claimed(b"R" * 16, b"S" * 16, PACK_FRONT))
    ledger.say("snapshot", snapshot(segments=INDEX_FRONT, packs=PACK_FRONT, runs=b"R" * 16))
    ledger.say("snapshot", snapshot(b"t", segments=OTHER_FRONT, packs=OTHER_FRONT))
    ledger.say("forget", rec.Forgotten([b"s" * 16]))
    ledger.say("prune", rec.Pruned(condemned=PACK + INDEX, old_segments=INDEX, packs=OTHER_FRONT))
    ledger.say("swept", rec.Swept(VAULT, ledger.state.size - 1, PACK))
    state = ledger.state

    assert state.shards == {7: b"T" * 32, 256: b"Y" * 32}
    assert state.claims == {}
    assert list(state.snapshots) == [b"t" * 16]
    assert [segment.name for segment in state.segments] == [OTHER]
    assert state.condemned.keys() == {PACK, INDEX, b"s" + b"S" * 32}
    assert state.swept == {VAULT: (6, frozenset([PACK]))}
    assert state.alarms == ()
    assert state_digest(ledger.again()) == state_digest(state)


def condemned(ledger: Ledger) -> None:
    """Condemn a pack."""
    ledger.say("prune", rec.Pruned(condemned=PACK))


def committed(ledger: Ledger) -> None:
    """Commit a snapshot."""
    ledger.say("snapshot", snapshot(segments=INDEX_FRONT))


def replicated(ledger: Ledger) -> None:
    """Let there be a replica."""
    ledger.say("replica", rec.ReplicaAdded(STORE))


VOID: dict[str, tuple[Callable[[Ledger], Any], Callable[[Ledger], bytes]]] = {
    "condemned pack": (condemned, lambda g: g.make("snapshot", snapshot(packs=PACK_FRONT))),
    "condemned segment": (condemned, lambda g: g.make("snapshot", snapshot(segments=PACK_FRONT))),
    "condemned list": (
        lambda g: g.say("prune", rec.Pruned(condemned=b"l" + b"L" * 32)),
        lambda g: g.make("prune", rec.Pruned(packs_list=b"L" * 32)),
    ),
    "same snapshot": (committed, lambda g: g.make("snapshot", snapshot())),
    "policy in the place of none": (
        lambda g: g.say("policy", rec.PolicySet(-1)),
        lambda g: g.make("policy", rec.PolicySet(-1)),
    ),
    "policy in the place of another": (committed, lambda g: g.make("policy", rec.PolicySet(0))),
    "stale shard": (
        committed,
        lambda g: g.make("domains", rec.DomainsAdded([(7, b"Z" * 32, b"T" * 32)])),
    ),
    "shard from nothing": (
        committed,
        lambda g: g.make("domains", rec.DomainsAdded([(7, b"", b"T" * 32)])),
    ),
    "segment not live": (
        committed,
        lambda g: g.make("prune", rec.Pruned(old_segments=OTHER, new_segments=PACK_FRONT)),
    ),
    "new segment condemned": (
        committed,
        lambda g: g.make("prune", rec.Pruned(condemned=PACK, new_segments=PACK_FRONT)),
    ),
    "sweep of the future": (committed, lambda g: g.make("swept", rec.Swept(VAULT, g.state.size))),
    "names cut short": (committed, lambda g: g.make("prune", rec.Pruned(condemned=PACK[:-1]))),
    "names of no kind": (
        committed,
        lambda g: g.make("prune", rec.Pruned(condemned=b"x" + bytes(32))),
    ),
    "other epoch": (committed, lambda g: g.make("forget", rec.Forgotten([]), epoch=b"f" * 16)),
    "other root": (committed, lambda g: g.make("forget", rec.Forgotten([]), root=b"q" * 32)),
    "second creation": (committed, lambda g: g.records[0]),
    "facts of another kind": (committed, lambda g: g.make("forget", rec.Looked())),
    "certificate forged": (
        committed,
        lambda g: g.make(
            "writer",
            rec.WriterEnrolled(
                msgspec.structs.replace(certificate(HOUSE, b"W" * 16, "admin"), signature=b"0" * 64)
            ),
        ),
    ),
    "primary as a replica": (
        committed,
        lambda g: g.make("replica", rec.ReplicaAdded(VAULT)),
    ),
    "replica unknown": (
        committed,
        lambda g: g.make("replicated", rec.Replicated(STORE, 0, [], 0, 0)),
    ),
    "replica ahead of the ledger": (
        replicated,
        lambda g: g.make("replicated", rec.Replicated(STORE, 0, [], g.state.size + 1, 0)),
    ),
    "replica with other peaks": (
        replicated,
        lambda g: g.make("replicated", rec.Replicated(STORE, 2, [], 2, 2)),
    ),
    "other number": (committed, lambda g: g.make("forget", rec.Forgotten([]), index=99)),
    "not enrolled": (
        committed,
        lambda g: g.make("forget", rec.Forgotten([]), writer=b"W" * 16),
    ),
    "wrong signature": (
        committed,
        lambda g: g.make("forget", rec.Forgotten([]), key=AUTHORITY),
    ),
    "empty": (committed, lambda g: b""),
    "garbage": (committed, lambda g: b"garbage" * 100),
    "a newer version that nobody signed": (
        committed,
        lambda g: g.make("forget", rec.Forgotten([]), key=AUTHORITY, version=9),
    ),
}


def test_check_says_which_packs_are_not_to_be_relied_on(ledger: Ledger) -> None:
    """Each check replaces what the last one said; what is condemned needs no saying."""
    ledger.say("prune", rec.Pruned(condemned=INDEX))
    ledger.say("check", rec.Checked(2, 0.0, distrusted=PACK + OTHER + INDEX))
    assert ledger.state.distrusted == {PACK, OTHER}

    ledger.say("prune", rec.Pruned(condemned=OTHER))
    assert ledger.state.distrusted == {PACK}
    decoded = decode_state(encode_state(ledger.state), authority=ledger.state.authority)
    assert decoded.distrusted == {PACK}
    ledger.say("check", rec.Checked(0, 0.0))

    assert ledger.state.distrusted == frozenset()
    assert state_digest(ledger.again()) == state_digest(ledger.state)


@pytest.mark.parametrize("case", VOID)
def test_void_record_has_no_effect_and_the_ledger_goes_on(ledger: Ledger, case: str) -> None:
    """An alarm is raised, the next writer continues, and every fold agrees."""
    before, make = VOID[case]
    before(ledger)
    data = make(ledger)
    effects = msgspec.msgpack.decode(encode_state(ledger.state))

    record = ledger.fold(data)
    after = msgspec.msgpack.decode(encode_state(ledger.state))
    ledger.say("check", rec.Checked(0, 0.0))

    # Everything but the size, the tree and the alarms is as it was.
    assert record is None
    assert after[3:-1] == effects[3:-1]
    assert [alarm.index for alarm in ledger.state.alarms] == [2]
    assert ledger.state.size == 4
    assert state_digest(ledger.again()) == state_digest(ledger.state)


@pytest.mark.parametrize("kind", [k for k in rec.ROLES if k != "created"])
def test_each_kind_needs_its_role(ledger: Ledger, kind: str) -> None:
    """A writer with all roles but that one is void; a reader may say what readers say."""
    role = rec.ROLES[kind]
    key = Ed25519PrivateKey.generate()
    roles = [r for r in rec.ALL_ROLES if r not in (role, "admin")]
    ledger.say("writer", rec.WriterEnrolled(certificate(key, b"W" * 16, *roles)))
    facts = {
        "domains": rec.DomainsAdded([]),
        "snapshot": snapshot(),
        "claim": rec.Claimed(b"R" * 16, b"S" * 16),
        "run-failed": rec.RunEnded(b"R" * 16),
        "claim-lapsed": rec.RunEnded(b"R" * 16),
        "forget": rec.Forgotten([]),
        "prune": rec.Pruned(),
        "swept": rec.Swept(VAULT, 0),
        "summary": rec.Summarised(0, b"h" * 32, b"t" * 32, b"d" * 32),
        "check": rec.Checked(0, 0.0),
        "restore": rec.Looked(),
        "read": rec.Looked(),
        "refused": rec.Refused(),
        "writer": rec.WriterEnrolled(certificate(key, b"V" * 16, "reader")),
        "hold": rec.Held(b"M" * 16, b"D" * 16),
        "release": rec.Released(b"M" * 16),
        "restriction": rec.Restricted(b"M" * 16, b"D" * 16),
        "lift": rec.Lifted(b"M" * 16),
        "overlay": rec.Overlaid(b"M" * 16, b"D" * 16, b""),
        "register": rec.Registered("requests", b"E" * 16),
        "epoch": epoch(),
        "receipt": rec.Receipted(b"X" * 16, "keys_destroyed"),
        "located": rec.Located(rec.Observed("aws", "eu-north-1")),
        "replica": rec.ReplicaAdded(STORE),
        "replicated": rec.Replicated(STORE, 0, [], 0, 0),
        "replica-lost": rec.ReplicaLost(STORE),
        "policy": rec.PolicySet(-1),
        "override": rec.Overridden(-1),
    }[kind]

    record = ledger.say(kind, facts, key=key, writer=b"W" * 16)

    if role == "reader":
        assert record is not None
    else:
        assert record is None
        assert role in ledger.state.alarms[0].reason


def test_altered_record_before_a_full_right_one_is_no_void_record(ledger: Ledger) -> None:
    """Else one flipped bit would silently take the vault back to before it."""
    committed(ledger)
    later = ledger.make("forget", rec.Forgotten([]))
    state = ledger.genesis()
    state.apply(ledger.records[0], ledger.fetch_list)
    flipped = bytearray(ledger.records[1])
    flipped[60] ^= 1
    assert state.apply(bytes(flipped), ledger.fetch_list) is None

    with pytest.raises(DamagedData) as caught:
        state.apply(later, ledger.fetch_list)

    assert caught.value.kind == "altered_ledger"


def test_only_what_is_signed_and_follows_is_admitted(ledger: Ledger) -> None:
    """Asking changes nothing, and a newer version is left to the second reading."""
    good = ledger.make("check", rec.Checked(0, 0.0))
    before = state_digest(ledger.state)

    assert ledger.state.admits(good)
    for bit in range(0, 8 * len(good), 7):
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not ledger.state.admits(bytes(flipped))
    assert not ledger.state.admits(ledger.make("check", rec.Checked(0, 0.0), tree=b"x" * 32))
    assert state_digest(ledger.state) == before


def test_low_writer_cannot_stop_the_ledger(ledger: Ledger) -> None:
    """What he signs on another history is void, not damage."""
    key = Ed25519PrivateKey.generate()
    ledger.say("writer", rec.WriterEnrolled(certificate(key, b"W" * 16, "reader")))

    record = ledger.say("read", rec.Looked(), key=key, writer=b"W" * 16, tree=b"x" * 32)

    assert record is None
    assert len(ledger.state.alarms) == 1


def test_newer_record_of_full_rights_stops_the_fold(ledger: Ledger) -> None:
    """A newer version and a newer kind: this library must not guess."""
    before = state_digest(ledger.state)

    for data in (
        ledger.make("forget", rec.Forgotten([]), version=2),
        ledger.make("newest", rec.Looked()),
    ):
        with pytest.raises(NewerFormat):
            ledger.fold(data)

    assert state_digest(ledger.state) == before


def test_missing_list_stops_the_fold_and_makes_nothing_void(ledger: Ledger) -> None:
    """Clients that can read the list fold the record, so nobody may call it void."""
    data = ledger.make("prune", rec.Pruned(condemned_list=b"L" * 32))
    before = state_digest(ledger.state)

    with pytest.raises(DamagedData, match="list"):
        ledger.state.apply(data, ledger.fetch_list)
    assert state_digest(ledger.state) == before
    ledger.lists[b"L" * 32] = PACK + OTHER
    ledger.fold(data)

    assert ledger.state.condemned.keys() == {PACK, OTHER}
    assert ledger.state.lists == {b"L" * 32}


def test_state_survives_its_encoding_and_goes_on(ledger: Ledger) -> None:
    """A summary's reader folds the next record as everybody else."""
    committed(ledger)
    condemned(ledger)
    ledger.say("claim", rec.Claimed(b"R" * 16, b"S" * 16, PACK_FRONT, OTHER))
    loaded = decode_state(encode_state(ledger.state), authority=ledger.state.authority)

    assert state_digest(loaded) == state_digest(ledger.state)
    data = ledger.make("forget", rec.Forgotten([b"s" * 16]))
    loaded.apply(data, ledger.fetch_list)
    ledger.fold(data)

    assert state_digest(loaded) == state_digest(ledger.state)


def test_replica_only_goes_forward(ledger: Ledger) -> None:
    """What is said late of how far it has come takes nothing back; once given up, it stays so."""
    replicated(ledger)
    committed(ledger)
    ledger.say("prune", rec.Pruned(condemned=PACK))
    ledger.say("replicated", rec.Replicated(STORE, 2, [b"p" * 32], 3, 3, PACK))
    ledger.say("replicated", rec.Replicated(STORE, 1, [b"q" * 32], 2, 1))
    replica = ledger.state.replicas[STORE]

    assert (replica.index, replica.size, replica.peaks) == (1, 2, (b"p" * 32,))
    assert (replica.keys, replica.swept, replica.kept) == (3, 3, frozenset([PACK]))
    ledger.say("replica-lost", rec.ReplicaLost(STORE))
    ledger.say("replica", rec.ReplicaAdded(STORE))
    assert ledger.state.replicas[STORE].lost
    assert len(ledger.state.alarms) == 1
    decoded = decode_state(encode_state(ledger.state), authority=ledger.state.authority)
    assert decoded.replicas == ledger.state.replicas
    assert state_digest(ledger.again()) == state_digest(ledger.state)


def test_summary_remembers_what_a_replica_still_has(ledger: Ledger) -> None:
    """A name that is swept from the primary is dropped once no replica can hold it any more."""
    replicated(ledger)
    ledger.say("prune", rec.Pruned(condemned=PACK + OTHER))
    ledger.say("swept", rec.Swept(VAULT, 2))
    assert ledger.state.needed_condemned(VAULT).keys() == {PACK, OTHER}

    size = ledger.state.size
    ledger.say("replicated", rec.Replicated(STORE, 0, [], 0, size, OTHER))
    assert ledger.state.needed_condemned(VAULT).keys() == {OTHER}
    ledger.say("replica-lost", rec.ReplicaLost(STORE))

    assert ledger.state.needed_condemned(VAULT) == {}


def test_claims_of_a_run_add_up(ledger: Ledger) -> None:
    """Each names what is new since the last; one that names nothing says that the run lives."""
    ledger.say("claim", rec.Claimed(b"R" * 16, b"S" * 16, PACK_FRONT))
    ledger.say("claim", rec.Claimed(b"R" * 16, b"S" * 16, OTHER_FRONT, PACK))
    before = ledger.state.claims[b"R" * 16]
    ledger.say("claim", rec.Claimed(b"R" * 16, b"S" * 16))
    claim = ledger.state.claims[b"R" * 16]

    assert claim.packs == (Front(PACK, HASH), Front(OTHER, HASH))
    assert claim.names == ledger.state.claimed() == {PACK, OTHER}
    assert claim.at_us > before.at_us
    assert before.packs == claim.packs


def test_state_in_hand_stays_what_it_is(ledger: Ledger) -> None:
    """A copy is folded on; whoever looks at the old one sees a single moment."""
    held = ledger.state
    head = held.tree.head()
    copy = held.copy()
    copy.apply(ledger.make("claim", rec.Claimed(b"R" * 16, b"S" * 16)), ledger.fetch_list)

    assert (held.size, held.tree.head(), held.claims) == (1, head, {})
    assert copy.size == 2


def test_swept_names_are_dropped_only_when_no_segment_can_name_them(ledger: Ledger) -> None:
    """A chunk's place in an old segment must still look condemned."""
    committed(ledger)
    condemned(ledger)
    assert PACK in ledger.state.needed_condemned(VAULT)

    ledger.say("swept", rec.Swept(VAULT, ledger.state.size - 1))
    assert PACK in ledger.state.needed_condemned(VAULT)
    ledger.say("prune", rec.Pruned(old_segments=INDEX, new_segments=OTHER_FRONT, packs=OTHER_FRONT))

    assert ledger.state.needed_condemned(VAULT) == {}


@given(st.binary(max_size=200))
def test_any_bytes_are_a_void_record_of_one_leaf(data: bytes) -> None:
    """Garbage cannot stop a ledger, and its bytes are part of the tree."""
    ledger = Ledger()
    head = ledger.state.tree.head()

    assert ledger.fold(data) is None
    assert ledger.state.size == 2
    assert ledger.state.tree.head() != head


@given(st.data())
def test_altered_summary_is_damage_or_another_state(data: st.DataObject) -> None:
    """Its hash stands in a record; decoding it raises nothing else."""
    raw = bytearray(encode_state(Ledger().state))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))

    try:
        state = decode_state(bytes(raw), authority=b"a" * 32)
    except DamagedData:
        return
    assert isinstance(state.size, int)


def test_names_are_split_as_they_were_joined() -> None:
    """Thirty-three bytes each, of known kinds only."""
    names = [PACK, INDEX, b"l" + bytes(32), b"s" + bytes(32)]

    assert split_names(join_names(names)) == names
    assert object_name(PACK).startswith("packs/31/")
    for hostile in (PACK[:-1], b"z" + bytes(32)):
        with pytest.raises(DamagedData):
            split_names(hostile)


def test_whole_vault_folds_to_the_state_in_use() -> None:
    """A real vault, from its first record."""
    with lb.testing.memory_vault() as vault:
        for number in range(5):
            vault.backup([lb.Item("a", data=b"%d" % number, subject="user-42")], name="n")
        vault.forget(vault.snapshot("latest"), reason="test")
        vault.prune()
        log = vault._session.log
        state = State(log.state.vault_id, log.state.authority)
        for index in range(log.state.size):
            assert state.apply(log.record(index), log.fetch_list) is not None

        assert state_digest(state) == state_digest(log.state)


# ---- epochs


def test_epoch_replaces_all_keys_and_condemns_what_it_replaces(ledger: Ledger) -> None:
    """Epoch, root, salt, slots, shards and house key are the new ones from then on."""
    assert ledger.say("epoch", epoch()) is not None

    state = ledger.state
    assert (state.epoch, state.root, state.salt) == (b"f" * 16, b"q" * 32, b"t" * 32)
    assert state.slots == ((b"slot-two", "keyfile", b"l" * 32),)
    assert state.shards == {7: b"T" * 32}
    assert (state.house, set(state.writers)) == (b"N" * 16, {b"N" * 16})
    assert state.condemned.keys() == {b"s" + b"S" * 32, b"k" + b"e" * 16 + bytes(16)}
    assert state_digest(decode_state(encode_state(state), authority=state.authority)) == (
        state_digest(state)
    )
    assert state_digest(ledger.again()) == state_digest(state)


def test_old_house_key_says_nothing_any_more(ledger: Ledger) -> None:
    """What it signs after the epoch that ended it is void, whatever epoch it names."""
    ledger.say("epoch", epoch())

    assert ledger.say("forget", rec.Forgotten([]), epoch=b"f" * 16, root=b"q" * 32) is None
    assert "nobody who is enrolled" in ledger.state.alarms[-1].reason


def test_enrolled_writers_outlive_the_epoch_and_have_to_know_it(ledger: Ledger) -> None:
    """A record that names the keys of before is void, one that names the new ones holds."""
    key = Ed25519PrivateKey.generate()
    ledger.say("writer", rec.WriterEnrolled(certificate(key, b"W" * 16, "maintainer")))
    ledger.say("epoch", epoch())
    signed = {"key": key, "writer": b"W" * 16}

    assert ledger.say("forget", rec.Forgotten([]), **signed) is None
    assert "no longer current" in ledger.state.alarms[-1].reason
    current = {"epoch": b"f" * 16, "root": b"q" * 32}
    assert ledger.say("forget", rec.Forgotten([]), **signed, **current) is not None


FORGED = Ed25519PrivateKey.from_private_bytes(b"f" * 32)


@pytest.mark.parametrize(
    "more",
    [
        {"epoch": b"e" * 16},
        {"epoch": b"d" * 16},
        {"slots": []},
        {"slots": [(b"slot-two", "keyfile", b"l" * 32)] * 2},
        {"slots": [(n.to_bytes(8, "big"), "keyfile", b"l" * 32) for n in range(65)]},
        {"changes": [(7, b"T" * 32, b"U" * 32)]},
        {"changes": [(8, b"S" * 32, b"T" * 32)]},
        {"changes": [(7, b"S" * 32, b"T" * 32)] * 2},
        {"changes": [(7, b"S" * 32, b"C" * 32)]},
        {"house": certificate(NEW_HOUSE, b"H" * 16, *rec.ALL_ROLES)},
        {"house": rec.Certificate(b"N" * 16, b"k" * 32, rec.ALL_ROLES, b"s" * 64)},
    ],
    ids=[
        "the current epoch",
        "a condemned epoch",
        "no slot",
        "a slot twice",
        "too many slots",
        "an older shard",
        "a shard that is not there",
        "a shard twice",
        "a condemned shard",
        "the id of a writer",
        "a house key that nobody certified",
    ],
)
def test_epoch_on_what_no_longer_holds_is_void(ledger: Ledger, more: dict[str, Any]) -> None:
    """Then nothing changes, and everybody sees that it was tried."""
    condemned = b"k" + b"d" * 16 + bytes(16) + b"s" + b"C" * 32
    ledger.say("prune", rec.Pruned(condemned=condemned))
    before = ledger.state

    assert ledger.say("epoch", epoch(**more)) is None
    assert (ledger.state.epoch, ledger.state.shards) == (before.epoch, before.shards)
    assert len(ledger.state.alarms) == 1


@pytest.mark.parametrize("name", [b"k" + b"e" * 16 + bytes(16), b"s" + b"S" * 32])
def test_keys_that_are_current_are_condemned_by_nobody(ledger: Ledger, name: bytes) -> None:
    """A prune that names them is void: swept, they would take the vault with them."""
    assert ledger.say("prune", rec.Pruned(condemned=name)) is None
    assert ledger.state.condemned == {}
