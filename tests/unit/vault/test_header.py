"""The header: round trip, every bound, every byte that can be altered."""

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from loopbackup.errors import FormatError, NewerFormat
from loopbackup.vault.format.header import (
    Header,
    StoreMark,
    header_hash,
    join_header,
    sign_store,
    split_header,
    verify_store,
)

HEADER = Header(
    format=1, suite=1, vault_id=b"v" * 16, created_us=1_700_000_000_000_000, authority=b"a" * 32
)
RECORD = b"record 0"
MARK = StoreMark(b"v" * 16, b"s" * 64)
WHOLE = join_header(HEADER, MARK, RECORD)


def encoded(**changed: object) -> bytes:
    """Encode a header with fields that no library would write."""
    fields = {**msgspec.structs.asdict(HEADER), **changed}
    raw = msgspec.msgpack.encode({k: v for k, v in fields.items() if v is not None})
    return b"LBKVLT1" + len(raw).to_bytes(4, "little") + raw + b"".join(MARK) + RECORD


def test_header_survives_its_encoding() -> None:
    """Fields, raw bytes, the store's mark and record 0 come back as they were."""
    header, raw, mark, record = split_header(WHOLE)

    assert (header, mark, record) == (HEADER, MARK, RECORD)
    assert header_hash(raw) == header_hash(msgspec.msgpack.encode(HEADER))


@pytest.mark.parametrize(
    "data",
    [
        encoded(format=2),
        encoded(suite=2),
        encoded(format=2, unknown="field"),
        encoded(format=2, chunk_min=None, vault_id="text"),
        b"LBKVLT2" + WHOLE[7:],
    ],
    ids=["format", "suite", "new field", "other fields", "magic"],
)
def test_newer_header_is_named_so(data: bytes) -> None:
    """Whatever else a newer header holds, its version is read first."""
    with pytest.raises(NewerFormat):
        split_header(data)


@pytest.mark.parametrize(
    "changed",
    [
        {"format": -1},
        {"vault_id": b"v" * 15},
        {"authority": b"a" * 33},
        {"chunk_min": 63},
        {"chunk_max": (16 << 20) + 1},
        {"chunk_jump": 15},
        {"chunk_t_cut": 0},
        {"pack_size": 65_535},
        {"pack_size": (1 << 28) + 1},
        {"bundle_size": 4095},
        {"grace_s": -1},
        {"created_us": -1},
        {"single_writer": 1},
        {"unknown": 1},
        {"authority": None},
    ],
    ids=str,
)
def test_header_beyond_its_bounds_is_refused(changed: dict[str, object]) -> None:
    """Every field has bounds, no field is unknown, none is missing."""
    with pytest.raises(FormatError):
        split_header(encoded(**changed))


@pytest.mark.parametrize("size", range(0, len(WHOLE) - len(RECORD), 7))
def test_header_that_is_cut_short_is_refused(size: int) -> None:
    """At any length."""
    with pytest.raises(FormatError):
        split_header(WHOLE[:size])


def test_header_that_claims_to_be_huge_is_refused() -> None:
    """A length near 2**32 allocates nothing."""
    with pytest.raises(FormatError):
        split_header(b"LBKVLT1" + b"\xff" * 4 + WHOLE[11:])


@given(st.integers(0, 8 * (len(WHOLE) - len(RECORD) - 80) - 1))
def test_flipped_bit_is_an_error_or_shows_in_the_hash(bit: int) -> None:
    """No header passes for another one: its hash stands in record 0 and in the root."""
    data = bytearray(WHOLE)
    data[bit // 8] ^= 1 << bit % 8

    try:
        raw = split_header(bytes(data)).raw
    except FormatError:
        return
    assert header_hash(raw) != header_hash(split_header(WHOLE).raw)


@given(st.integers(0, 8 * 80 - 1))
def test_altered_mark_of_a_store_does_not_verify(bit: int) -> None:
    """Nobody but the authority says which store of a vault this is."""
    authority = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    key = authority.public_key().public_bytes_raw()
    header = msgspec.structs.replace(HEADER, authority=key)
    mark = sign_store(b"r" * 16, header.vault_id, authority)
    data = bytearray(b"".join(mark))
    data[bit // 8] ^= 1 << bit % 8

    assert verify_store(mark, header)
    assert not verify_store(StoreMark(bytes(data[:16]), bytes(data[16:])), header)


@given(st.binary(max_size=200))
def test_any_bytes_are_no_header(data: bytes) -> None:
    """Garbage is an error of ours, behind the magic too."""
    for garbage in (data, b"LBKVLT1" + data):
        with pytest.raises(FormatError):
            split_header(garbage)
