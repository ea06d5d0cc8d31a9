"""Domains: keys that separate people, kinds of content, generations and vaults."""

import pytest

from loopbackup.errors import DamagedData
from loopbackup.vault.keys.domains import (
    Domain,
    DomainRecord,
    encode_label,
    meta_domain,
    new_record,
    open_domain,
    place,
)

VAULT = b"v" * 16


def make(subject: tuple[str] | None = ("user-42",), home: int = 7) -> Domain:
    """Make a domain with fresh keys."""
    return open_domain(VAULT, *new_record(subject, home))


def test_ids_differ_between_domains_and_kinds_of_content() -> None:
    """Nobody can tell by its id that two people hold the same file."""
    first, second = make(), make()

    ids = {
        domain.chunk_id(b"same", kind)
        for domain in (first, second)
        for kind in ("data", "bundle", "stream", "list", "table", "root")
    }

    assert len(ids) == 12
    assert first.chunk_id(b"same") == first.chunk_id(bytearray(b"same"))


def test_every_purpose_has_its_own_key() -> None:
    """No key of a domain serves two purposes."""
    domain = make()

    keys = {
        domain.chunker_key,
        domain.stream_key,
        domain.body_key,
        domain.data_key(1),
        domain.index_key(1),
    }

    assert len(keys) == 5
    assert all(len(key) == 32 for key in keys)


def test_keys_follow_from_the_record_and_the_vault() -> None:
    """Two handles of one record agree; the same record elsewhere does not."""
    domain_id, record = new_record(("user-42",), 7)

    here, again = (open_domain(VAULT, domain_id, record) for _ in range(2))
    there = open_domain(b"w" * 16, domain_id, record)

    assert here.chunk_id(b"x") == again.chunk_id(b"x") != there.chunk_id(b"x")
    assert here.data_key(1) != there.data_key(1)


def test_new_data_goes_under_the_last_generation_and_old_data_still_opens() -> None:
    """A rotation leaves what was written readable."""
    domain_id, record = new_record(("user-42",), 7)
    later = DomainRecord(record.secret, [*record.generations, (2, b"g" * 32)], record.label)
    old, new = open_domain(VAULT, domain_id, record), open_domain(VAULT, domain_id, later)
    blob = bytearray(40 + 4)
    old.encrypt_into(memoryview(blob), b"data", chunk_id=b"i" * 32, codec=0, plain=4)

    plain = new.decrypt(bytes(blob), generation=1, chunk_id=b"i" * 32, codec=0, plain=4)

    assert (old.generation, new.generation) == (1, 2)
    assert plain == b"data"
    with pytest.raises(DamagedData):
        old.data_key(2)


def test_home_shard_stands_in_the_id() -> None:
    """The first byte of an id is its home; the rest is random."""
    first, second = make(home=7), make(home=7)

    assert first.id[0] == second.id[0] == 7
    assert first.id != second.id


def test_labels_never_collide() -> None:
    """Nobody, a person, and a tenant's person of the same letters are three subjects."""
    labels = {
        encode_label(subject)
        for subject in (None, ("ab",), ("a", "b"), ("a",), ("b", "a"), ("", "ab"))
    }

    assert len(labels) == 6
    assert place(b"h" * 32, ("a", "b")) != place(b"h" * 32, ("ab",))
    assert 0 <= place(b"h" * 32, None)[0] < 256


def test_meta_domain_is_fixed_by_its_secret() -> None:
    """It is the same for every opener and about nobody."""
    first, second, other = (
        meta_domain(VAULT, secret, [(1, b"g" * 32)]) for secret in (b"m" * 32, b"m" * 32, b"n" * 32)
    )

    assert first.id == second.id != other.id
    assert first.data_key(1) == second.data_key(1) != other.data_key(1)
    assert first.subject is None


def test_block_opens_under_its_own_generation() -> None:
    """Index blocks are sealed per domain and generation."""
    domain = make()
    block = domain.seal_block(b"rows", 1, b"s" * 16)

    assert domain.open_block(block, 1, b"s" * 16) == b"rows"
    with pytest.raises(DamagedData):
        make().open_block(block, 1, b"s" * 16)
