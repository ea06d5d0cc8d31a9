"""Registers are what the ledger says: kept, sealed per subject, and the same for every process."""

from __future__ import annotations

import json
import threading
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.e2e.support import Clock, create, dump, load, new_vault, reopen

import loopbackup as lb
from loopbackup import gdpr
from loopbackup.terms import AllowAll, Decision, Facts
from loopbackup.testing import find_canary
from loopbackup.vault.format import codec, names
from loopbackup.vault.format import record as rec
from loopbackup.vault.ledger.commit import Draft
from loopbackup.vault.store.memory import MemoryStore

ACME = gdpr.Party("Acme AB", country="SE", time_zone="Europe/Stockholm")
USER = ("acme", "user-42")
OTHER = ("acme", "user-4")


def disclosure(party: gdpr.Party, subject: Any = USER, **more: Any) -> gdpr.Disclosure:
    """Make the record of a disclosure."""
    fields: dict[str, Any] = {"legal_basis": "A6-1-b", "what": "orders", **more}
    fields["disclosed_on"] = date(2026, 3, 1)
    return gdpr.Disclosure("recipient", party=party.id, subject=subject, **fields)


class Counting(MemoryStore):
    """Remembers what was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Give an object, and remember its name."""
        self.asked.append(key)
        return super().get(key, start=start, length=length)


@pytest.fixture
def store() -> MemoryStore:
    """An empty vault."""
    store = MemoryStore()
    create(store)
    return store


# ---- one verb set


def test_what_is_added_is_found_by_another_process(store: MemoryStore) -> None:
    """The ledger is all that a register has."""
    with reopen(store) as vault:
        registers = gdpr.Registers(vault, controller=ACME)
        party = registers.parties.add(gdpr.Party("Acme AB", country="SE", roles=("recipient",)))
        added = [
            party,
            registers.activities.add(gdpr.Activity("orders", role="controller")),
            registers.recipients.add(gdpr.Recipient("parcel services", party=party.id)),
            registers.disclosures.add(disclosure(party)),
            registers.notices.add(gdpr.Notice("erasure", recipient=party.id, subject=USER)),
        ]

    with reopen(store, read_only=True) as vault:
        again = gdpr.Registers(vault)
        found = [
            again.parties.get(added[0].id),
            again.activities.list()[0],
            again.recipients.list()[0],
            again.disclosures.list()[0],
            again.notices.list()[0],
        ]

        assert found == added
        assert again.keeper is not None
        assert (again.keeper.name, again.role) == ("Acme AB", "controller")


def test_a_change_keeps_what_was_before_and_who_made_it() -> None:
    """Nothing is overwritten."""
    clock = Clock()
    with new_vault(clock=clock) as vault:
        registers = gdpr.Registers(vault, controller=ACME, clock=clock)
        dpo = registers.acting_as(lb.Actor("anna", roles={"dpo"}, purpose="yearly review"))
        first = registers.activities.add(gdpr.Activity("orders", role="controller"))

        clock.pass_by(days=1)
        second = dpo.activities.change(first, department="sales", reason="reorganised")

        made, changed = registers.activities.history(second)
        assert registers.activities.get(second) == second
        assert (made.record, changed.record) == (first, second)
        assert (second.version, second.recorded_by, second.name) == (2, "anna", "orders")
        assert (changed.op, changed.reason, changed.roles) == ("change", "reorganised", ("dpo",))
        assert changed.purpose == "yearly review"
        assert changed.at is not None
        assert made.at is not None
        assert changed.at - made.at > timedelta(hours=23)


def test_nested_values_come_back_as_they_were(store: MemoryStore) -> None:
    """Tuples of values, dates and words survive the ledger."""
    activity = gdpr.Activity(
        "orders",
        role="controller",
        purposes=(gdpr.Purpose("delivery", basis="A6-1-b"),),
        data_categories=(gdpr.DataCategory("address", source="the customer"),),
        retention=(gdpr.RetentionLimit("address", limit="P7Y", counted_from="contract_end"),),
        measures=(gdpr.Measure("encryption", description="AES-256-GCM"),),
        ended_on=date(2027, 1, 31),
    )
    with reopen(store) as vault:
        added = gdpr.Registers(vault).activities.add(activity)

    with reopen(store) as vault:
        found = gdpr.Registers(vault).activities.get(added.id)

    assert found == added
    assert found.purposes == activity.purposes
    assert found.ended_on == activity.ended_on


def test_lists_are_filtered_by_fields_tenants_and_members() -> None:
    """A tenant's own subject takes its people along; one of many values is enough."""
    with new_vault() as vault:
        registers = gdpr.Registers(vault)
        party = registers.parties.add(gdpr.Party("Acme AB", country="SE", roles=("recipient",)))
        first = registers.disclosures.add(disclosure(party))
        second = registers.disclosures.add(disclosure(party, OTHER, count=3))

        assert registers.disclosures.list() == [first, second]
        assert registers.disclosures.list(subject=USER) == [first]
        assert registers.disclosures.list(subject="acme") == [first, second]
        assert registers.disclosures.list(subject="user-42") == []
        assert registers.disclosures.list(subject=None) == []
        assert registers.disclosures.list(count=3, party=party.id) == [second]
        assert registers.parties.list(roles="recipient") == [party]
        assert registers.parties.list(roles="dpo") == []
        with pytest.raises(lb.InputError, match="no 'colour'"):
            registers.parties.list(colour="red")


# ---- the keeper


def test_the_keeper_is_recorded_once() -> None:
    """The same call again writes nothing; another party or role is refused."""
    with new_vault() as vault:
        gdpr.Registers(vault, controller=ACME)
        before = len(vault.ledger)

        again = gdpr.Registers(vault, controller=ACME)

        assert len(vault.ledger) == before
        assert again.role == "controller"
        with pytest.raises(lb.InputError, match="another controller"):
            gdpr.Registers(vault, controller=gdpr.Party("Acme Ltd", country="GB"))
        with pytest.raises(lb.InputError, match="another role than processor"):
            gdpr.Registers(vault, processor=ACME)
        with pytest.raises(lb.InputError, match="not both"):
            gdpr.Registers(vault, controller=ACME, processor=ACME)
        assert len(vault.ledger) == before


def test_two_processes_that_record_the_keeper_at_once_agree(store: MemoryStore) -> None:
    """The ledger has one order: the first counts for both."""
    with reopen(store) as one, reopen(store) as two:
        barrier = threading.Barrier(2)
        found: list[gdpr.Party | None] = []

        def keep(vault: lb.Vault) -> None:
            barrier.wait()
            found.append(gdpr.Registers(vault, controller=ACME).keeper)

        threads = [threading.Thread(target=keep, args=(vault,)) for vault in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert found[0] is not None
        assert found[0] == found[1]
        assert len(gdpr.Registers(one).parties.list()) == 1


def test_the_keeper_may_move_but_not_change_its_role() -> None:
    """Its record is a party's, with a history."""
    with new_vault() as vault:
        registers = gdpr.Registers(vault, processor=ACME)
        assert registers.keeper is not None

        registers.parties.change(registers.keeper, name="Acme Europe AB")

        assert registers.keeper.name == "Acme Europe AB"
        assert [change.op for change in registers.parties.history(registers.keeper)] == [
            "add",
            "change",
        ]
        with pytest.raises(lb.InputError, match="recorded once"):
            registers.parties.change(registers.keeper, roles=("controller",))


# ---- races


def test_a_change_of_an_old_version_is_a_conflict(store: MemoryStore) -> None:
    """Whoever was slower hears of it, and nothing of the faster one is lost."""
    with reopen(store) as one, reopen(store) as two:
        mine, theirs = gdpr.Registers(one), gdpr.Registers(two)
        first = mine.activities.add(gdpr.Activity("orders", role="controller"))
        theirs.activities.change(first.id, department="sales")
        before = len(two.ledger)

        with pytest.raises(lb.ConflictError, match="changed meanwhile"):
            mine.activities.change(first, department="support")

        assert len(one.ledger) == before
        assert mine.activities.get(first).department == "sales"


def test_a_change_that_lost_the_race_stays_in_history_without_effect(store: MemoryStore) -> None:
    """The commit decides: an event on an older version changes nothing, and is kept."""
    with reopen(store) as vault:
        registers = gdpr.Registers(vault)
        first = registers.activities.add(gdpr.Activity("orders", role="controller"))
        registers.activities.change(first, department="sales")
        late = {
            "v": 1,
            "op": "change",
            "record": first.id,
            "after": first.event,
            "fields": {"department": "support"},
        }

        vault.ledger.append("register.activities", late)

        history = registers.activities.history(first)
        assert registers.activities.get(first).department == "sales"
        assert [change.problem is None for change in history] == [True, True, False]
        assert "changed meanwhile" in str(history[-1].problem)
        assert registers.activities.get(first).version == 2


def test_of_two_changes_at_once_one_counts_and_the_other_hears_of_it(store: MemoryStore) -> None:
    """Whatever the timing: nobody is told that a change holds which does not."""
    with reopen(store) as one, reopen(store) as two:
        both = [gdpr.Registers(one), gdpr.Registers(two)]
        first = both[0].activities.add(gdpr.Activity("orders", role="controller"))
        barrier = threading.Barrier(2)
        held: list[str] = []
        lost: list[str] = []

        def change(registers: gdpr.Registers, department: str) -> None:
            for number in range(5):
                barrier.wait()
                known = registers.activities.get(first.id)
                try:
                    registers.activities.change(known, department=f"{department} {number}")
                    held.append(f"{department} {number}")
                except lb.ConflictError:
                    lost.append(f"{department} {number}")

        threads = [
            threading.Thread(target=change, args=pair)
            for pair in zip(both, ("sales", "support"), strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        history = both[0].activities.history(first.id)
        took = [change.record.department for change in history[1:] if change.problem is None]
        assert sorted(took) == sorted(held)
        assert len(held) + len(lost) == 10
        assert len(held) >= 5
        assert both[1].activities.history(first.id) == history


# ---- foreign, newer, hostile


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (b"", "foreign"),
        (b"\xff\xfe", "foreign"),
        (b"[" * 100_000, "foreign"),
        (b'{"v": 1}', "foreign"),
        (b'{"v": 0, "op": "add"}', "foreign"),
        (b'{"v": true, "op": "add"}', "foreign"),
        (b'{"v": 2, "op": "merge", "with": ["x"]}', "newer"),
        (b'{"v": 1, "op": "add", "extra": 1}', "foreign"),
        (b'{"v": 1, "op": "add"}', "refused"),
        (b'{"v": 1, "op": "add", "fields": {"name": 5, "country": "SE"}}', "refused"),
        (b'{"v": 1, "op": "add", "fields": {"name": "x", "country": "SE", "y": 1}}', "refused"),
        (b'{"v": 1, "op": "add", "fields": {"name": "", "country": "SE"}}', "refused"),
        (
            b'{"v": 1, "op": "add", "record": "' + b"a" * 32 + b'", "fields": '
            b'{"name": "x", "country": "SE"}}',
            "refused",
        ),
        (b'{"v": 1, "op": "change", "record": "' + b"b" * 32 + b'"}', "refused"),
        (json.dumps({"v": 1, "op": "add", "reason": "x" * (1 << 20)}).encode(), "foreign"),
    ],
)
def test_an_event_that_is_none_is_kept_and_shown(payload: bytes, kind: str) -> None:
    """It changes no record, stops no reading, and stands there for whoever looks."""
    with new_vault(actor=lb.Actor("user-42")) as vault:
        registers = gdpr.Registers(vault)
        before = registers.parties.add(ACME)

        event = vault.ledger.append("register.parties", payload)
        after = registers.parties.add(ACME)

        (unread,) = registers.parties.unread
        assert registers.parties.list() == [before, after]
        assert (unread.kind, unread.event, unread.actor) == (kind, event, "user-42")
        assert unread.message


def test_an_event_of_a_newer_library_changes_nothing_older(store: MemoryStore) -> None:
    """Of a record that a newer library changed, the last known version is shown, and the event."""
    with reopen(store) as vault:
        registers = gdpr.Registers(vault)
        party = registers.parties.add(ACME)
        newer = {"v": 2, "op": "change", "record": party.id, "fields": {"lei": "x"}}
        vault.ledger.append("register.parties", newer)

        assert registers.parties.get(party) == party
        assert [unread.kind for unread in registers.parties.unread] == ["newer"]


def test_an_event_of_a_writer_without_the_role_is_void(store: MemoryStore) -> None:
    """The ledger decides that before any register sees it."""
    with reopen(store) as vault:
        registers = gdpr.Registers(vault)
        party = registers.parties.add(ACME)
        session = vault._session
        low = Ed25519PrivateKey.generate()
        certificate = rec.sign_certificate(
            rec.Certificate(b"l" * 16, low.public_key().public_bytes_raw(), ["writer"]),
            vault_id=session.header.vault_id,
            authority=Ed25519PrivateKey.from_private_bytes(session.keyring.root.authority_key),
        )
        session.log.commit_draft(Draft("writer", rec.WriterEnrolled(certificate)))
        audit = session.audit(lb.Actor("mallory"), lb.Action.RECORD)
        change = {
            "v": 1,
            "op": "change",
            "record": party.id,
            "after": party.event,
            "fields": {"name": "Mallory Ltd"},
        }
        body = session.body(audit.key, audit.ref, json.dumps(change).encode())
        state = session.log.state
        frame = rec.Frame(
            rec.VERSION,
            state.size,
            b"c" * 16,
            state.tree.head(),
            state.epoch,
            state.root,
            b"l" * 16,
            state.at_us,
            "register",
            [
                rec.BodyRef(each.key, each.ref, names.content_hash(each.data))
                for each in (body, audit)
            ],
            msgspec.Raw(codec.encode(rec.Registered("parties", b"e" * 16))),
        )
        forged = rec.encode_record(
            frame, (body.data, audit.data), vault_id=session.header.vault_id, key=low
        )
        store.put(names.record_name(state.size), forged, if_absent=True)

        assert registers.parties.list() == [party]
        assert registers.parties.unread == ()
        assert [entry.kind for entry in vault.ledger.entries()][-1] == "void"


def test_events_of_other_registers_are_left_alone() -> None:
    """A host may keep registers of its own beside these."""
    with new_vault() as vault:
        vault.ledger.append("register.visitors", b"whatever")

        registers = gdpr.Registers(vault)

        assert registers.parties.list() == []
        assert registers.parties.unread == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", 5),
        ("name", ""),
        ("name", "user-42" * 100),
        ("country", "Sweden"),
        ("roles", ("king of user-42",)),
        ("email", "user-42\udc80"),
        ("represents", "user-42"),
        ("email", 1j),
    ],
    ids=str,
)
def test_a_field_that_is_not_as_it_must_be_is_refused_by_its_name(field: str, value: Any) -> None:
    """Nothing is recorded, and the error does not repeat what was given."""
    with new_vault() as vault:
        registers = gdpr.Registers(vault)
        before = len(vault.ledger)
        party = gdpr.Party(**{"name": "Acme AB", "country": "SE", field: value})

        with pytest.raises(lb.InputError) as caught:
            registers.parties.add(party)

        assert "user-42" not in str(caught.value)
        assert len(vault.ledger) == before


def test_rules_between_fields_hold() -> None:
    """What law asks for together is not recorded apart."""
    with pytest.raises(lb.InputError, match="why"):
        gdpr.Notice("erasure", recipient="a" * 32, state="impossible")
    with pytest.raises(lb.InputError, match="sent_on"):
        gdpr.Notice("erasure", recipient="a" * 32, state="sent")
    with pytest.raises(lb.InputError, match="interest"):
        gdpr.Purpose("advertising", basis="A6-1-f")
    with pytest.raises(lb.InputError, match="criterion"):
        gdpr.RetentionLimit("orders")
    with pytest.raises(lb.InputError, match="IANA"):
        gdpr.Party("Acme AB", country="SE", time_zone="Stockholm")


def test_wrong_calls_are_told_what_is_right() -> None:
    """Before anything is recorded."""
    with new_vault() as vault:
        registers = gdpr.Registers(vault)
        party = registers.parties.add(ACME)
        before = len(vault.ledger)
        wrong: Any = gdpr.Recipient("parcel services")

        with pytest.raises(lb.InputError, match="holds Party, not Recipient"):
            registers.parties.add(wrong)
        with pytest.raises(lb.InputError, match="there already"):
            registers.parties.add(party)
        with pytest.raises(lb.InputError, match="takes a recorded Party"):
            registers.parties.get(ACME)
        with pytest.raises(lb.InputError, match="nothing is to be changed"):
            registers.parties.change(party)
        with pytest.raises(lb.InputError, match="no 'subject'"):
            registers.parties.change(party, subject=USER)
        with pytest.raises(lb.InputError, match="no 'colour'"):
            registers.parties.change(party, colour="red")
        with pytest.raises(lb.NotFoundError):
            registers.parties.get("ab" * 16)
        assert len(vault.ledger) == before


def test_a_gate_decides_who_writes_and_who_reads() -> None:
    """``record`` to write, ``audit`` to read; what was read before is no way round."""

    class Gate:
        digest = "test"

        def decide(self, action: lb.Action, facts: Facts, *, at: datetime) -> Decision:
            """Let the officer do both, the clerk only read."""
            roles = frozenset() if facts.actor is None else facts.actor.roles
            allowed = {"record": "dpo", "audit": "clerk"}.get(str(action))
            return Decision(allowed is None or bool(roles & {allowed, "dpo"}))

        def plan_retention(self, *_: Any, **__: Any) -> Any:
            """Not asked for."""
            raise NotImplementedError

    with new_vault(gate=Gate(), actor=lb.Actor("anna", roles={"dpo"})) as vault:
        registers = gdpr.Registers(vault, controller=ACME)
        clerk = registers.acting_as(lb.Actor("karl", roles={"clerk"}))
        stranger = registers.acting_as(lb.Actor("user-42"))

        assert len(clerk.parties.list()) == 1
        with pytest.raises(lb.PolicyError, match="record"):
            clerk.parties.add(gdpr.Party("Acme AB", country="SE"))
        with pytest.raises(lb.PolicyError, match="audit"):
            stranger.parties.list()
        assert len(registers.parties.list()) == 1


def test_whoever_is_refused_makes_nobody_read_again() -> None:
    """A refusal leaves what was read where it is."""

    class Gate(AllowAll):
        def decide(self, action: str, facts: Facts, *, at: datetime) -> Decision:
            """Refuse strangers everything."""
            return Decision(facts.actor is None or facts.actor.id != "user-42")

    store = Counting()
    create(store)
    with reopen(store, gate=Gate()) as vault:
        registers = gdpr.Registers(vault, controller=ACME)
        for number in range(10):
            registers.parties.add(gdpr.Party(f"Acme {number}", country="SE"))
        stranger = registers.acting_as(lb.Actor("user-42"))
        with pytest.raises(lb.PolicyError):
            stranger.parties.list()
        store.asked.clear()

        assert len(registers.parties.list()) == 11

    assert len([key for key in store.asked if key.startswith("ledger/")]) <= 2


# ---- sealed per subject


def test_what_is_about_somebody_goes_with_their_records(store: MemoryStore) -> None:
    """Also from the memory of a process that had read it; that there was something stays."""
    said = "canary-of-user-42"
    with reopen(store) as vault, reopen(store) as other:
        registers, reader = gdpr.Registers(vault), gdpr.Registers(other)
        party = registers.parties.add(ACME)
        about = registers.disclosures.add(disclosure(party, what=said))
        others = registers.disclosures.add(disclosure(party, OTHER))
        assert reader.disclosures.list() == [about, others]

        vault.erase_subjects([USER], reason="time is over", scope="records")

        for each in (registers, reader):
            assert each.disclosures.list() == [others]
            (gone,) = each.disclosures.unread
            assert (gone.kind, gone.event) == ("sealed", about.event)
            with pytest.raises(lb.NotFoundError, match="erased") as caught:
                each.disclosures.get(about.id)
            assert caught.value.kind == "erased"
        assert find_canary(vault, said) == []


def test_what_is_about_somebody_outlives_the_erasure_of_their_data() -> None:
    """The controller has to show what was done (Art. 5(2))."""
    with new_vault() as vault:
        registers = gdpr.Registers(vault)
        party = registers.parties.add(ACME)
        about = registers.disclosures.add(disclosure(party))
        vault.backup([lb.Item("a", data=b"a", subject=USER)], name="n")

        vault.erase_subjects([USER], reason="request 118")

        changed = registers.disclosures.change(about, count=2)
        assert registers.disclosures.list(subject=USER) == [changed]


def test_names_of_people_stand_nowhere_in_clear(store: MemoryStore) -> None:
    """Nothing that a register holds is on the store in clear, keeper included."""
    with reopen(store) as vault:
        registers = gdpr.Registers(vault, controller=gdpr.Party("canary-keeper", country="SE"))
        party = registers.parties.add(gdpr.Party("canary-party", country="SE"))
        registers.disclosures.add(disclosure(party, ("canary-tenant", "canary-user")))

    assert not [key for key, data in dump(store).items() if b"canary" in data]


def test_reading_on_costs_what_is_new() -> None:
    """A look takes what the ledger got since the last one, not all of it."""
    store = Counting()
    create(store)
    with reopen(store) as vault:
        registers = gdpr.Registers(vault)
        for number in range(20):
            registers.parties.add(gdpr.Party(f"Acme {number}", country="SE"))
        store.asked.clear()

        registers.parties.add(ACME)
        assert len(registers.parties.list()) == 21

        records = [key for key in store.asked if key.startswith("ledger/")]
        assert len(records) <= 6


# ---- holds and restrictions


def test_a_hold_is_placed_and_released_with_its_reasons(store: MemoryStore) -> None:
    """The mark keeps the data, the record says why."""
    with reopen(store) as vault:
        registers = gdpr.Registers(vault, controller=ACME)
        vault.backup([lb.Item("a", data=b"a", subject=USER)], name="n")

        hold = registers.holds.place(
            USER, matter="case 17", review_on=date(2027, 2, 1), custodian="anna"
        )

        assert list(vault.holds) == [hold]
        with pytest.raises(lb.HoldActive):
            vault.erase_subjects([USER], reason="request 118")
        record = registers.holds.get(hold.id)
        assert (record.matter, record.review_on) == ("case 17", date(2027, 2, 1))

        moved = registers.holds.change(record, review_on=date(2028, 2, 1))
        released = registers.holds.release(hold, reason="case closed")

        assert list(vault.holds) == []
        assert moved.review_on == released.review_on == date(2028, 2, 1)
        assert released.release_reason == "case closed"
        assert [change.op for change in registers.holds.history(hold.id)] == [
            "place",
            "change",
            "release",
        ]
        with pytest.raises(lb.NotFoundError):
            registers.holds.release(hold, reason="again")
        with pytest.raises(lb.InputError, match="verb of its own"):
            registers.holds.change(released, released_on=date(2029, 1, 1))


def test_a_hold_that_the_register_does_not_know_is_shown_as_such() -> None:
    """It was placed on the vault, or the process died before it could say why."""
    with new_vault() as vault:
        registers = gdpr.Registers(vault)
        known = registers.holds.place(USER, matter="case 17", review_on=date(2027, 2, 1))
        other = vault.hold(OTHER, reason="case 18", review_at=datetime(2027, 1, 1, tzinfo=UTC))

        assert registers.holds.unregistered == (other,)
        vault.release(known, reason="by hand")
        assert registers.holds.release(known, reason="case closed").released_on is not None


def test_a_bad_field_places_no_hold() -> None:
    """The mark is set after everything else was checked."""
    bad: Any = "king"
    with new_vault() as vault:
        registers = gdpr.Registers(vault)

        with pytest.raises(lb.InputError):
            registers.holds.place(USER, matter="case 17", review_on=date(2027, 2, 1), authority=bad)

        assert list(vault.holds) == []


def test_a_restriction_is_lifted_after_the_person_was_told() -> None:
    """Art. 18(3)."""
    clock = Clock()
    with new_vault(clock=clock) as vault:
        registers = gdpr.Registers(vault, controller=ACME, clock=clock)
        snapshot = vault.backup([lb.Item("a", data=b"a", subject=USER)], name="n")
        record = registers.restrictions.place(USER, ground="A18-1-a", reason="accuracy contested")
        with pytest.raises(lb.PolicyError):
            snapshot.open("a", subject=USER)

        with pytest.raises(lb.InputError, match="told"):
            registers.restrictions.lift(record, told_on=date(2026, 3, 2), reason="verified")
        lifted = registers.restrictions.lift(record, told_on=date(2026, 3, 1), reason="verified")

        assert snapshot.open("a", subject=USER).read() == b"a"
        assert (lifted.told_on, lifted.lifted_on) == (date(2026, 3, 1), date(2026, 3, 1))
        with pytest.raises(lb.NotFoundError):
            registers.restrictions.lift(lifted, told_on=date(2026, 3, 1), reason="again")


# ---- cursors


def test_a_cursor_goes_on_where_it_stopped(store: MemoryStore) -> None:
    """Each record comes once, also when the reader stopped in the middle."""
    cursor = lb.Cursor()
    with reopen(store) as vault:
        vault.ledger.append("register.visitors", b"1")
        entries = vault.ledger.entries(cursor=cursor)
        begun = [next(entries)]
        begun += vault.ledger.entries(cursor=cursor)
        vault.ledger.append("register.visitors", b"2")
        rest = list(vault.ledger.entries(cursor=cursor))

        assert [entry.payload for entry in rest] == [b"2"]
        assert [*begun, *rest] == list(vault.ledger.entries())
        assert list(vault.ledger.entries(cursor=cursor)) == []


def test_two_iterators_of_one_cursor_do_not_take_each_other_for_damage(store: MemoryStore) -> None:
    """The one that was overtaken says so."""
    cursor = lb.Cursor()
    with reopen(store) as vault:
        vault.ledger.append("register.visitors", b"1")
        overtaken = vault.ledger.entries(cursor=cursor)
        next(overtaken)
        rest = list(vault.ledger.entries(cursor=cursor))

        with pytest.raises(lb.InputError, match="moved meanwhile"):
            next(overtaken)
        assert rest[-1].payload == b"1"
        assert list(vault.ledger.entries(cursor=cursor)) == []


def test_a_cursor_of_another_vault_or_history_is_refused(store: MemoryStore) -> None:
    """What it has read is no word on any other ledger."""
    old = load(dump(store))
    cursor = lb.Cursor()
    with new_vault() as other:
        list(other.ledger.entries(cursor=cursor))
        with reopen(store) as vault, pytest.raises(lb.InputError, match="another vault"):
            vault.ledger.entries(cursor=cursor)

    cursor = lb.Cursor()
    with reopen(store) as vault:
        vault.ledger.append("register.visitors", b"1")
        list(vault.ledger.entries(cursor=cursor))
    with reopen(old) as vault:
        with pytest.raises(lb.InputError, match="behind"):
            vault.ledger.entries(cursor=cursor)
        vault.ledger.append("register.visitors", b"x")
        with pytest.raises(lb.DamagedData):
            list(vault.ledger.entries(cursor=cursor))
