"""What registers say of somebody outlives the erasure of the data, until its own time is over."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from tests.e2e.support import create, new_vault, read_snapshot, reopen

import loopbackup as lb
from loopbackup.testing import find_canary
from loopbackup.vault.store.memory import MemoryStore

ACME = ("acme", "user-42")
OTHER = ("acme", "user-4")
DATA = "canary-in-data-of-user-42"
SAID = "canary-in-a-request-of-user-42"
REQUEST = "register.requests"


def items() -> list[lb.Item]:
    """Give entries of two people."""
    return [
        lb.Item("users/42", data=DATA.encode() * 3, subject=ACME),
        lb.Item("users/4", data=b"four", subject=OTHER),
    ]


def said_of(vault: lb.Vault, subject: lb.Subject = ACME) -> list[bytes | None]:
    """Read what registers say of somebody."""
    found = vault.ledger.entries(subject=subject)
    return [entry.payload for entry in found if entry.kind.startswith("register.")]


def test_register_entries_outlive_the_erasure_of_the_data() -> None:
    """The proof that a request was handled must not die of having been handled."""
    with new_vault() as vault:
        vault.backup(items(), name="n")
        vault.ledger.append(REQUEST, SAID.encode(), subject=ACME)

        receipt = vault.erase_subjects([ACME], reason="request 118")

        assert receipt.scope == "data"
        assert said_of(vault) == [SAID.encode()]
        assert find_canary(vault, DATA) == []
        assert find_canary(vault, SAID)
        vault.ledger.append(REQUEST, b"fulfilled", subject=ACME)
        assert said_of(vault) == [SAID.encode(), b"fulfilled"]
        holdings = vault.holdings(ACME)
        assert holdings
        assert (holdings.records, holdings.snapshots, holdings.stored_bytes) == (1, (), 0)
        assert "entries of registers about 1" in str(holdings)
        with pytest.raises(lb.ErasedSubject):
            vault.backup(items(), name="n")
        assert vault.check(data=True).ok


def test_records_are_erased_when_asked_and_the_data_stay() -> None:
    """Their own retention may end while somebody is still a customer."""
    with new_vault(grace_s=0) as vault:
        snapshot = vault.backup(items(), name="n")
        vault.ledger.append(REQUEST, SAID.encode(), subject=ACME)
        vault.ledger.append(REQUEST, b"of the other", subject=OTHER)

        receipt = vault.erase_subjects([ACME], reason="three years", scope="records")

        receipt.verify(vault.public_key)
        assert (receipt.scope, receipt.facts["suppressed"]) == ("records", False)
        assert find_canary(vault, SAID) == []
        assert find_canary(vault, DATA)
        assert len(read_snapshot(vault.snapshot(snapshot.id))) == 2
        assert said_of(vault) == []
        assert said_of(vault, OTHER) == [b"of the other"]
        assert vault.holdings(ACME).records == 0
        vault.backup(items(), name="n")
        vault.ledger.append(REQUEST, b"a new one", subject=ACME)
        assert said_of(vault) == [b"a new one"]
        assert vault.check(data=True).ok


def test_all_of_somebody_is_erased_at_once() -> None:
    """Both domains go with one record; what comes later of registers is new."""
    with new_vault() as vault:
        vault.backup(items(), name="n")
        vault.ledger.append(REQUEST, SAID.encode(), subject=ACME)

        receipt = vault.erase_subjects([ACME], reason="request 118", scope="all")

        assert len(receipt.facts["domains"]) == 2
        assert (receipt.scope, receipt.facts["suppressed"]) == ("all", True)
        assert find_canary(vault, SAID) == find_canary(vault, DATA) == []
        assert not vault.holdings(ACME)
        with pytest.raises(lb.NotFoundError) as caught:
            list(vault.ledger.entries(subject=ACME))
        assert caught.value.kind == "erased"
        with pytest.raises(lb.ErasedSubject):
            vault.backup(items(), name="n")


def test_records_go_later_and_the_receipt_of_everything_covers_both_erasures() -> None:
    """The mark that keeps the person out of backups stays that of the first."""
    with new_vault() as vault:
        vault.backup(items(), name="n")
        vault.ledger.append(REQUEST, SAID.encode(), subject=ACME)
        data = vault.erase_subjects([ACME], reason="request 118")
        records = vault.erase_subjects([ACME], reason="three years", scope="records")

        again = {
            scope: vault.erase_subjects([ACME], reason="once more", scope=scope)
            for scope in ("data", "records", "all")
        }

        assert again["data"].facts["erasure"] == data.facts["erasure"]
        assert again["records"].facts["erasure"] == records.facts["erasure"]
        assert again["records"].facts["suppressed"]
        everything = again["all"]
        everything.verify(vault.public_key)
        assert everything.facts["erasure"] == records.facts["erasure"]
        assert [e["erasure"] for e in everything.facts["earlier"]] == [data.facts["erasure"]]
        assert [e["scope"] for e in everything.facts["earlier"]] == ["data"]
        with pytest.raises(lb.ErasedSubject):
            vault.backup(items(), name="n")
        vault.readmit(ACME, reason="a customer again")
        assert len(read_snapshot(vault.backup(items(), name="n"))) == 2


def test_tenant_takes_its_people_with_their_records_or_without() -> None:
    """Nesting is the same for both kinds."""
    with new_vault() as vault:
        vault.backup(items(), name="n")
        for who in (ACME, OTHER, "acme", ("acme-2", "user-42")):
            vault.ledger.append(REQUEST, b"said", subject=who)
        assert vault.holdings("acme").records == 3

        vault.erase_subjects(["acme"], reason="end of contract")
        assert [said_of(vault, who) for who in (ACME, OTHER, "acme")] == [[b"said"]] * 3
        gone = vault.erase_subjects(["acme"], reason="three years", scope="records")

        assert len(gone.facts["domains"]) == 3
        assert vault.holdings("acme").records == 0
        assert said_of(vault, ("acme-2", "user-42")) == [b"said"]
        again = vault.erase_subjects(["acme"], reason="r", scope="records")
        assert again.facts["erasure"] == gone.facts["erasure"]


def test_somebody_known_from_registers_alone_is_erased_by_that_scope_only() -> None:
    """The error says which; a request may come from somebody who never was a customer."""
    with new_vault() as vault:
        vault.ledger.append(REQUEST, SAID.encode(), subject=ACME)

        with pytest.raises(lb.NotFoundError, match='scope="records"') as caught:
            vault.erase_subjects([ACME], reason="r")
        assert caught.value.subjects == (ACME,)
        with pytest.raises(lb.NotFoundError, match="no entries of registers"):
            vault.erase_subjects([OTHER], reason="r", scope="records")
        with pytest.raises(lb.InputError, match="scope"):
            vault.erase_subjects([ACME], reason="r", scope="everything")  # type: ignore[arg-type]

        vault.erase_subjects([ACME], reason="r", scope="all")
        assert find_canary(vault, SAID) == []


def test_hold_keeps_the_records_too() -> None:
    """A court that asks for a person's file asks for what was said of it as well."""
    with new_vault() as vault:
        vault.backup(items(), name="n")
        vault.ledger.append(REQUEST, SAID.encode(), subject=ACME)
        hold = vault.hold(ACME, reason="case 17", review_at=datetime(2027, 2, 1, tzinfo=UTC))

        for scope in ("data", "records", "all"):
            with pytest.raises(lb.HoldActive):
                vault.erase_subjects([ACME], reason="r", scope=scope)

        vault.release(hold, reason="closed")
        vault.erase_subjects([ACME], reason="r", scope="records")
        assert find_canary(vault, SAID) == []


def test_records_follow_changes_of_keys_and_the_spread_of_young_shards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They lie in the same shards as all domains, and get the same new keys."""
    from loopbackup.vault.keys import keyring

    monkeypatch.setattr(keyring, "YOUNG_LIMIT_BYTES", 1)
    store = MemoryStore()
    create(store)
    with reopen(store) as vault:
        for number in range(20):
            vault.ledger.append(REQUEST, b"%d" % number, subject=("acme", f"user-{number}"))
        vault.keys.rotate()
        vault.backup([lb.Item("a", data=b"a", subject=("acme", "user-7"))], name="n")
        vault.erase_subjects([("acme", "user-7")], reason="r")
    with reopen(store) as vault:
        for number in range(20):
            assert said_of(vault, ("acme", f"user-{number}")) == [b"%d" % number]
        assert vault.check(data=True).ok
