"""
Tombstones: what stands on a replica in the place of an old keyring root.

An erasure reaches the keys of a replica before the records that tell of it. The
name of the old root is not deleted but overwritten, so that whoever copies slowly
cannot create it again; and what stands there says which keys count now, so that
whoever opens the replica at its old head can go on.
"""

from __future__ import annotations

import struct
from typing import Annotated, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from msgspec import Meta, Struct

from ...errors import DamagedData
from . import codec
from .facts import ShardNumber
from .header import Bytes16, Bytes32, Count
from .record import Bytes8, Certificate, SlotKind, verify_certificate
from .seal import expect_magic

__all__ = ["Tombstone", "decode_tombstone", "encode_tombstone", "is_tombstone"]

MAGIC: Final = b"LBKTMB1"
_LENGTH: Final = struct.Struct("<I")
_SIGNATURE: Final = 64


class Tombstone(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The keys that count after *size* records, for whoever looks for those of an old epoch."""

    vault_id: Bytes16
    buried: Bytes16
    """The epoch whose root stood here, or was about to."""
    size: Count
    epoch: Bytes16
    root: Bytes32
    salt: Bytes32
    slots: Annotated[list[tuple[Bytes8, SlotKind, Bytes32]], Meta(min_length=1, max_length=64)]
    shards: Annotated[list[tuple[ShardNumber, Bytes32]], Meta(max_length=1024)]
    fenced: list[tuple[Bytes16, Count]]
    """(domain, record that erased it) of all that were erased since the buried epoch ended."""
    house: Certificate
    """Of the house key that signs this."""


def is_tombstone(data: bytes) -> bool:
    """Tell whether an object in the place of a root is none, by its first bytes."""
    return data[: len(MAGIC)] == MAGIC


def _signed(raw: bytes) -> bytes:
    return b"loopbackup/v1/tombstone\0" + raw


def encode_tombstone(tombstone: Tombstone, key: Ed25519PrivateKey) -> bytes:
    """Encode and sign with the house key that it names."""
    raw = codec.encode(tombstone)
    return b"".join((MAGIC, _LENGTH.pack(len(raw)), raw, key.sign(_signed(raw))))


def decode_tombstone(data: bytes, *, vault_id: bytes, authority: bytes, buried: bytes) -> Tombstone:
    """
    Read a tombstone, and verify that a house key of the vault signed it for this place.

    Raises:
        DamagedData: It is none, altered, of another place, or signed by somebody else.
        NewerFormat: It is of a newer library.
    """
    expect_magic(data, MAGIC, "tombstone")
    start = len(MAGIC) + _LENGTH.size
    size = _LENGTH.unpack_from(data, len(MAGIC))[0] if len(data) >= start else len(data)
    if start + size + _SIGNATURE != len(data):
        raise DamagedData("a tombstone is cut short or over-long")
    raw, signature = data[start : start + size], data[start + size :]
    tombstone = codec.decode(raw, Tombstone)
    house = tombstone.house
    if (tombstone.vault_id, tombstone.buried) != (vault_id, buried) or "admin" not in house.roles:
        raise DamagedData("a tombstone is of another place")
    try:
        Ed25519PublicKey.from_public_bytes(house.key).verify(signature, _signed(raw))
    except (InvalidSignature, ValueError):
        raise DamagedData("a tombstone was altered") from None
    if not verify_certificate(house, vault_id=vault_id, authority=authority):
        raise DamagedData("a tombstone is signed by nobody of this vault")
    return tombstone
