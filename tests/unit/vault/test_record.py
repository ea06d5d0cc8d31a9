"""Ledger records: signed, bounded, and nothing in them believed before that."""

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from loopbackup.errors import DamagedData, InputError, NewerFormat
from loopbackup.vault.format import codec
from loopbackup.vault.format import record as rec
from loopbackup.vault.format.names import content_hash

VAULT = b"v" * 16
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()
BODIES = (b"first body", b"second")


def frame(**changed: object) -> rec.Frame:
    """Make a frame of record 7."""
    made = rec.Frame(
        rec.VERSION,
        7,
        b"c" * 16,
        b"t" * 32,
        b"e" * 16,
        b"r" * 32,
        b"w" * 16,
        1_700_000_000_000_000,
        "forget",
        [rec.BodyRef("audit", b"2026-11", content_hash(body)) for body in BODIES],
        msgspec.Raw(codec.encode(rec.Forgotten([b"s" * 16]))),
    )
    return msgspec.structs.replace(made, **changed)


WHOLE = rec.encode_record(frame(), BODIES, vault_id=VAULT, key=KEY)


def framed(raw: bytes, rest: bytes = b"") -> bytes:
    """Put a magic, a length and a signature around any frame bytes."""
    return rec.MAGIC + len(raw).to_bytes(4, "little") + raw + bytes(64) + rest


def test_record_survives_its_encoding() -> None:
    """Frame, facts and bodies come back, and the signature verifies."""
    record = rec.parse_record(WHOLE, 7)

    assert record.frame == frame()
    assert record.bodies == BODIES
    assert record.facts() == rec.Forgotten([b"s" * 16])
    assert rec.verify_record(record, vault_id=VAULT, public_key=PUBLIC)


def test_leaf_is_frame_and_signature_without_the_bodies() -> None:
    """A record whose bodies can no longer be opened still verifies."""
    record = rec.parse_record(WHOLE, 7)

    assert record.leaf == codec.encode(frame()) + record.leaf[-64:]
    assert not any(body in record.leaf for body in BODIES)


def test_signature_holds_for_one_vault_and_one_writer() -> None:
    """The same bytes in another vault, or another writer's key, do not verify."""
    record = rec.parse_record(WHOLE, 7)
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()

    assert not rec.verify_record(record, vault_id=b"w" * 16, public_key=PUBLIC)
    assert not rec.verify_record(record, vault_id=VAULT, public_key=other)
    assert not rec.verify_record(record, vault_id=VAULT, public_key=b"short")


def test_record_at_another_number_is_damage() -> None:
    """A record cannot be moved."""
    with pytest.raises(DamagedData):
        rec.parse_record(WHOLE, 8)


def test_newer_record_is_named_so() -> None:
    """By the version in its frame, whatever stands behind the fields that every version keeps."""
    newer = rec.encode_record(frame(version=2), BODIES, vault_id=VAULT, key=KEY)
    grown = codec.encode([*msgspec.msgpack.decode(codec.encode(frame(version=2))), "more"])

    for data in (newer, framed(grown)):
        with pytest.raises(NewerFormat):
            rec.parse_record(data, 7)


def test_frame_over_64_kib_is_neither_written_nor_read() -> None:
    """Long lists are objects of their own."""
    long = msgspec.Raw(codec.encode([b"x" * rec.MAX_FRAME_BYTES]))

    with pytest.raises(InputError):
        rec.encode_record(frame(facts=long), BODIES, vault_id=VAULT, key=KEY)
    with pytest.raises(DamagedData):
        rec.parse_record(framed(codec.encode(frame(facts=long))), 7)


@pytest.mark.parametrize(
    "changed",
    [
        {"commit": b"c" * 15},
        {"tree": b"t" * 33},
        {"writer": b""},
        {"kind": "k" * 33},
        {"bodies": [rec.BodyRef("audit", b"", b"h" * 32)] * 17},
        {"bodies": [rec.BodyRef("audit", b"", b"h" * 31)]},
        {"index": -1},
    ],
    ids=["commit", "tree", "writer", "kind", "many bodies", "body hash", "index"],
)
def test_frame_beyond_its_bounds_is_damage(changed: dict[str, object]) -> None:
    """Each field of a frame has its length."""
    with pytest.raises(DamagedData):
        rec.parse_record(framed(codec.encode(frame(**changed))), 7)


def test_body_over_the_bound_is_not_written() -> None:
    """A record that nobody would read is refused before it is one."""
    with pytest.raises(InputError):
        rec.encode_record(frame(), (bytes(rec.MAX_BODY_BYTES + 1),), vault_id=VAULT, key=KEY)


def test_bodies_are_bound_by_hash_order_and_number() -> None:
    """Bodies that are swapped, missing, doubled or altered are lost; the record holds."""
    raw = codec.encode(frame())
    first, second = (len(b).to_bytes(4, "little") + b for b in BODIES)
    cases = {
        first + second: BODIES,
        second + first: (None, None),
        first: (BODIES[0], None),
        first + second + first: BODIES,
        first + b"\6\0\0\0SECOND": (BODIES[0], None),
        b"": (None, None),
        b"\1": (None, None),
    }

    for rest, bodies in cases.items():
        record = rec.parse_record(framed(raw, rest), 7)
        assert record.bodies == bodies
        assert record.whole == (rest == first + second)


def test_body_that_claims_to_be_huge_is_lost() -> None:
    """A length near 2**32 allocates nothing."""
    record = rec.parse_record(framed(codec.encode(frame()), b"\xff" * 4 + b"x"), 7)

    assert record.bodies == (None, None)


def test_facts_of_another_kind_are_damage() -> None:
    """A kind's facts have its shape."""
    record = rec.parse_record(
        rec.encode_record(frame(kind="snapshot"), BODIES, vault_id=VAULT, key=KEY), 7
    )

    with pytest.raises(DamagedData):
        record.facts()


@given(st.data())
def test_altered_record_is_found_out(data: st.DataObject) -> None:
    """Cut, flipped or extended anywhere: the frame does not verify, or a body is lost."""
    raw = bytearray(WHOLE)
    match data.draw(st.sampled_from(["cut", "flip", "extend"])):
        case "cut":
            del raw[data.draw(st.integers(0, len(raw) - 1)) :]
        case "flip":
            bit = data.draw(st.integers(0, len(raw) * 8 - 1))
            raw[bit // 8] ^= 1 << bit % 8
        case _:
            raw += data.draw(st.binary(min_size=1, max_size=8))

    try:
        record = rec.parse_record(bytes(raw), 7)
    except (DamagedData, NewerFormat):
        return
    verified = rec.verify_record(record, vault_id=VAULT, public_key=PUBLIC)
    assert not (verified and record.whole)


@given(st.binary(max_size=300))
def test_any_bytes_are_no_record(data: bytes) -> None:
    """Garbage is an error of ours, behind a magic and inside a frame too."""
    for garbage in (data, rec.MAGIC + data, framed(data)):
        with pytest.raises((DamagedData, NewerFormat)):
            rec.parse_record(garbage, 7)


# ---- certificates


def test_certificate_binds_writer_key_and_roles_to_one_vault() -> None:
    """Nothing in it can be changed without the authority."""
    plain = rec.Certificate(b"w" * 16, PUBLIC, ["reader"])
    signed = rec.sign_certificate(plain, vault_id=VAULT, authority=KEY)

    assert rec.verify_certificate(signed, vault_id=VAULT, authority=PUBLIC)
    for changed in (
        {"writer": b"x" * 16},
        {"key": b"o" * 32},
        {"roles": ["reader", "admin"]},
        {"signature": b""},
    ):
        forged = msgspec.structs.replace(signed, **changed)
        assert not rec.verify_certificate(forged, vault_id=VAULT, authority=PUBLIC)
    assert not rec.verify_certificate(signed, vault_id=b"x" * 16, authority=PUBLIC)


def test_every_kind_has_facts_and_a_role() -> None:
    """A kind that is known is known in full."""
    assert rec.FACTS.keys() == rec.ROLES.keys()
    assert set(rec.ROLES.values()) <= set(rec.ALL_ROLES)
