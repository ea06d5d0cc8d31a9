"""The object ``vault``: header fields in clear, which store it stands in, then record 0."""

from __future__ import annotations

import struct
from typing import Annotated, Final, NamedTuple

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from msgspec import Meta, Struct

from ...errors import FormatError, NewerFormat
from . import codec
from .names import content_hash
from .seal import FORMAT, SUITE, expect_magic

__all__ = [
    "MAX_STREAM_CHUNK",
    "Header",
    "StoreMark",
    "VaultObject",
    "check_sizes",
    "header_hash",
    "join_header",
    "sign_store",
    "split_header",
    "verify_store",
]

MAGIC: Final = b"LBKVLT1"
MAX_HEADER_BYTES: Final = 65_536
MAX_STREAM_CHUNK: Final = 256 << 10
"""Entries are cut into chunks of about this size at most; one entry may be longer."""
MAX_GRACE_S: Final = 10 * 365 * 86_400
_LENGTH: Final = struct.Struct("<I")
_SIGNATURE: Final = 64
MARK_BYTES: Final = 16 + _SIGNATURE

Bytes16 = Annotated[bytes, Meta(min_length=16, max_length=16)]
Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Header(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    What must be known before any key; a msgpack map with these names as keys.

    Its hash stands in record 0 and in every keyring root, so a store that
    alters it is found out as soon as a credential opens.
    """

    format: Count
    suite: Count
    vault_id: Bytes16
    created_us: Count
    """Microseconds since 1970-01-01 UTC, by the creator's clock."""
    authority: Bytes32
    """Ed25519 public key that certifies writers."""
    chunk_min: Annotated[int, Meta(ge=64, le=16 << 20)] = 131_072
    chunk_max: Annotated[int, Meta(ge=64, le=16 << 20)] = 4_194_304
    chunk_jump: Annotated[int, Meta(ge=16, le=16 << 20)] = 480
    chunk_t_cut: Annotated[int, Meta(ge=1)] = 749_133_922_391_381
    chunk_t_jump: Annotated[int, Meta(ge=2)] = 577_209_886_225_814_869
    pack_size: Annotated[int, Meta(ge=65_536, le=1 << 28)] = 32 << 20
    bundle_size: Annotated[int, Meta(ge=4096, le=16 << 20)] = 1 << 20
    grace_s: Annotated[int, Meta(ge=0, le=MAX_GRACE_S)] = 86_400
    single_writer: bool = False


class StoreMark(NamedTuple):
    """
    Which of a vault's stores this is, signed by the vault's authority.

    The primary's id is the vault's own. Whoever opens compares it with the
    primary of the ledger, and commits nowhere else.
    """

    store: bytes
    signature: bytes


class VaultObject(NamedTuple):
    """The object ``vault`` taken apart."""

    header: Header
    raw: bytes
    """The encoded header fields."""
    mark: StoreMark
    record: bytes
    """Record 0."""


class _Version(Struct):
    format: Count
    suite: Count


def check_sizes(header: Header) -> None:
    """Refuse packs that could not take the largest blob; FormatError."""
    largest = max(header.chunk_max, header.bundle_size, MAX_STREAM_CHUNK)
    if header.pack_size < 2 * largest or header.format < 1 or header.suite < 1:
        raise FormatError(f"packs of {header.pack_size} bytes are too small for this vault")


def header_hash(raw: bytes) -> bytes:
    """Give the hash of the encoded header fields, without record 0."""
    return content_hash(raw)


def _marked(vault_id: bytes, store: bytes) -> bytes:
    return b"loopbackup/v1/store\0" + vault_id + store


def sign_store(store: bytes, vault_id: bytes, authority: Ed25519PrivateKey) -> StoreMark:
    """Let the authority say which store of the vault the one of id *store* is."""
    return StoreMark(store, authority.sign(_marked(vault_id, store)))


def verify_store(mark: StoreMark, header: Header) -> bool:
    """Tell whether the vault's authority signed *mark*."""
    try:
        Ed25519PublicKey.from_public_bytes(header.authority).verify(
            mark.signature, _marked(header.vault_id, mark.store)
        )
    except (InvalidSignature, ValueError):
        return False
    return True


def join_header(header: Header, mark: StoreMark, record: bytes) -> bytes:
    """Encode the object ``vault``."""
    raw = codec.encode(header)
    return b"".join((MAGIC, _LENGTH.pack(len(raw)), raw, *mark, record))


def split_header(data: bytes) -> VaultObject:
    """
    Parse the object ``vault``; the mark's signature is not verified.

    Raises:
        FormatError: Not a vault, or its header is damaged.
        NewerFormat: Written by a newer library.
    """
    expect_magic(data, MAGIC, "vault")
    start = len(MAGIC) + _LENGTH.size
    if len(data) < start:
        raise FormatError("the vault's header is cut short")
    (size,) = _LENGTH.unpack_from(data, len(MAGIC))
    if size > MAX_HEADER_BYTES or start + size > len(data):
        raise FormatError("the vault's header is cut short")
    raw = bytes(data[start : start + size])
    try:
        version = msgspec.msgpack.decode(raw, type=_Version)
        if version.format > FORMAT or version.suite > SUITE:
            raise NewerFormat(
                f"this vault has format {version.format}, suite {version.suite}; "
                f"this library knows {FORMAT} and {SUITE}. Update loopbackup"
            )
        header = msgspec.msgpack.decode(raw, type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise FormatError(f"the vault's header is damaged: {exc}") from exc
    check_sizes(header)
    end = start + size + MARK_BYTES
    if end > len(data):
        raise FormatError("the vault's header is cut short")
    mark = StoreMark(
        bytes(data[start + size : end - _SIGNATURE]), bytes(data[end - _SIGNATURE : end])
    )
    return VaultObject(header, raw, mark, bytes(data[end:]))
