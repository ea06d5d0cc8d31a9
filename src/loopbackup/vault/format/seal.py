"""
Sealed objects, key derivation and blobs: every use of AES-GCM in the format.

No key is ever used for two messages: each is derived from a fresh random salt
that stands in front of the ciphertext, so the nonce may be constant. A sealed
object also carries a 32-byte commitment that is checked first, because GCM
alone opens one ciphertext under many keys (Len, Grubbs, Ristenpart 2021,
"Partitioning Oracle Attacks").

Sources: NIST SP 800-38D (GCM), RFC 5869 (HKDF), C2SP chunked-encryption (the
shape of the derivation).
"""

from __future__ import annotations

import hmac
import os
import struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from ...errors import DamagedData, FormatError, NewerFormat

__all__ = [
    "BLOB_OVERHEAD",
    "SEAL_OVERHEAD",
    "Kind",
    "decrypt_blob",
    "derive",
    "encrypt_blob_into",
    "open_block",
    "open_sealed",
    "seal",
    "seal_block",
]

Buffer = bytes | bytearray | memoryview

FORMAT: Final = 1
SUITE: Final = 1
"""AES-256-GCM, BLAKE3, HKDF-SHA-512, Ed25519, X25519+ML-KEM-768."""

_MAGIC: Final = b"LBK1"
_HEADER: Final = struct.Struct("<4sBBHII16s32s")
_LENGTH: Final = struct.Struct("<I")
_NONCE: Final = bytes(12)
_TAG: Final = 16
SEAL_OVERHEAD: Final = _HEADER.size + 32 + _TAG
MAX_SEALED_BYTES: Final = 1 << 30

SALT: Final = 24
BLOB_OVERHEAD: Final = SALT + _TAG
_BLOB_LABEL: Final = b"loopbackup/v1/blob\0"
_BLOB_FIELDS: Final = struct.Struct("<32sBII")
_BLOB_AAD: Final = struct.Struct("<BB16s16sI32sBII")
_BLOCK_LABEL: Final = b"loopbackup/v1/block\0"
_BLOCK_AAD: Final = struct.Struct("<BB16s16sI16s")


class Kind:
    """What a sealed object is; one byte of its header."""

    SLOT: Final = 1
    ROOT: Final = 2
    SHARD: Final = 3
    PACK_HEAD: Final = 4
    PACK_DIRECTORY: Final = 5
    INDEX_HEAD: Final = 6
    INDEX_DIRECTORY: Final = 7
    BODY: Final = 8
    CACHE: Final = 9


def derive(secret: bytes, label: str, context: bytes = b"", length: int = 32) -> bytes:
    """
    Derive *length* bytes for one purpose from a uniformly random *secret*.

    HKDF-Expand with SHA-512; info is ``loopbackup/v1/<label>``, a zero byte
    and *context*.
    """
    info = b"loopbackup/v1/" + label.encode() + b"\0" + context
    return HKDFExpand(hashes.SHA512(), length, info).derive(secret)


def _expand(key: bytes, header: bytes) -> tuple[bytes, bytes, bytes]:
    okm = derive(key, "seal", header, 76)
    return okm[:32], okm[32:44], okm[44:]


def seal_raw(key: bytes, header: bytes, plaintext: Buffer) -> bytes:
    """Seal *plaintext* behind a finished 64-byte *header* (the test vector's shape)."""
    aead_key, nonce, commitment = _expand(key, header)
    return header + commitment + AESGCM(aead_key).encrypt(nonce, plaintext, header)


def seal(
    key: bytes, kind: int, vault_id: bytes, payload: Buffer, *, generation: int = 0, pad: int = 256
) -> bytes:
    """
    Seal *payload*: u32 length, payload, zeros up to a multiple of *pad* bytes.

    Cost: 6 us and one copy.
    """
    header = _HEADER.pack(_MAGIC, kind, SUITE, 0, generation, 0, vault_id, os.urandom(32))
    plain = bytearray(_LENGTH.size + len(payload) + -(_LENGTH.size + len(payload)) % pad)
    _LENGTH.pack_into(plain, 0, len(payload))
    plain[_LENGTH.size : _LENGTH.size + len(payload)] = payload
    return seal_raw(key, header, plain)


def open_raw(key: bytes, data: Buffer) -> bytes:
    """Open what :func:`seal_raw` made; the caller has looked at the header."""
    view = memoryview(data)
    header = bytes(view[: _HEADER.size])
    aead_key, nonce, commitment = _expand(key, header)
    body = _HEADER.size + 32
    if not hmac.compare_digest(commitment, bytes(view[_HEADER.size : body])):
        raise DamagedData("the commitment does not fit: another key, or altered", kind="commitment")
    try:
        return AESGCM(aead_key).decrypt(nonce, view[body:], header)
    except InvalidTag:
        raise DamagedData("authentication failed: the bytes were altered") from None


def open_sealed(
    key: bytes, kind: int, vault_id: bytes, data: Buffer, *, generation: int | None = None
) -> bytes:
    """
    Open a sealed object and give its payload.

    Raises:
        DamagedData: Short, of another kind or vault, or not sealed with *key*
            (``kind == "commitment"``).
        NewerFormat: A suite or magic that this library does not know.
    """
    if len(data) < SEAL_OVERHEAD or len(data) > MAX_SEALED_BYTES:
        raise DamagedData(f"a sealed object of {len(data)} bytes cannot be whole")
    view = memoryview(data)
    magic, got_kind, suite, flags, gen, zero, vault, _salt = _HEADER.unpack_from(view)
    if magic != _MAGIC:
        if magic[:3] == _MAGIC[:3] and magic[3:].isdigit():
            raise NewerFormat("a sealed object is of a newer format; update loopbackup")
        raise DamagedData("these bytes are no sealed object")
    if suite != SUITE or flags or zero:
        raise NewerFormat("a sealed object uses a newer suite; update loopbackup")
    if got_kind != kind or vault != vault_id:
        raise DamagedData("a sealed object stands where another one belongs", kind="swapped")
    if generation is not None and gen != generation:
        raise DamagedData("a sealed object is of another generation", kind="swapped")
    plain = open_raw(key, view)
    if len(plain) < _LENGTH.size:
        raise DamagedData("a sealed object has no length")
    (size,) = _LENGTH.unpack_from(plain)
    if size > len(plain) - _LENGTH.size:
        raise DamagedData("a sealed object's length is beyond its end")
    return plain[_LENGTH.size : _LENGTH.size + size]


def _blob_parts(
    data_key: bytes,
    vault_id: bytes,
    domain: bytes,
    generation: int,
    salt: Buffer,
    chunk_id: bytes,
    codec: int,
    plain: int,
    stored: int,
) -> tuple[AESGCM, bytes]:
    fields = _BLOB_FIELDS.pack(chunk_id, codec, plain, stored)
    key = hmac.digest(data_key, b"".join((_BLOB_LABEL, salt, fields)), "sha256")
    aad = _BLOB_AAD.pack(
        FORMAT, SUITE, vault_id, domain, generation, chunk_id, codec, plain, stored
    )
    return AESGCM(key), aad


def encrypt_blob_into(
    target: memoryview,
    payload: Buffer,
    *,
    data_key: bytes,
    vault_id: bytes,
    domain: bytes,
    generation: int,
    chunk_id: bytes,
    codec: int,
    plain: int,
) -> None:
    """
    Write salt, ciphertext and tag of *payload* into *target*.

    Args:
        target: Exactly ``len(payload) + BLOB_OVERHEAD`` bytes.
        payload: The chunk, compressed as *codec* says.
        plain: Length of the chunk before compression.
    """
    salt = os.urandom(SALT)
    target[:SALT] = salt
    aead, aad = _blob_parts(
        data_key, vault_id, domain, generation, salt, chunk_id, codec, plain, len(payload)
    )
    aead.encrypt_into(_NONCE, payload, aad, target[SALT:])


def decrypt_blob(
    blob: Buffer,
    *,
    data_key: bytes,
    vault_id: bytes,
    domain: bytes,
    generation: int,
    chunk_id: bytes,
    codec: int,
    plain: int,
) -> bytes:
    """Give the payload of a blob, still compressed; DamagedData when it does not fit."""
    view = memoryview(blob)
    if len(view) < BLOB_OVERHEAD:
        raise DamagedData("a blob is cut short")
    aead, aad = _blob_parts(
        data_key,
        vault_id,
        domain,
        generation,
        view[:SALT],
        chunk_id,
        codec,
        plain,
        len(view) - BLOB_OVERHEAD,
    )
    try:
        return aead.decrypt(_NONCE, view[SALT:], aad)
    except InvalidTag:
        raise DamagedData("a blob does not authenticate: altered, moved or of other keys") from None


def seal_block(
    index_key: bytes, vault_id: bytes, domain: bytes, generation: int, segment: bytes, plain: Buffer
) -> bytes:
    """
    Seal one domain's index block: salt, ciphertext, tag; a fresh key each time.

    *segment* is the salt of the pack or index object that it will stand in.
    """
    salt = os.urandom(SALT)
    key = hmac.digest(index_key, _BLOCK_LABEL + salt, "sha256")
    aad = _BLOCK_AAD.pack(FORMAT, SUITE, vault_id, domain, generation, segment)
    return salt + AESGCM(key).encrypt(_NONCE, plain, aad)


def open_block(
    index_key: bytes, vault_id: bytes, domain: bytes, generation: int, segment: bytes, block: Buffer
) -> bytes:
    """Open what :func:`seal_block` made."""
    view = memoryview(block)
    if len(view) < BLOB_OVERHEAD:
        raise DamagedData("an index block is cut short")
    key = hmac.digest(index_key, _BLOCK_LABEL + bytes(view[:SALT]), "sha256")
    aad = _BLOCK_AAD.pack(FORMAT, SUITE, vault_id, domain, generation, segment)
    try:
        return AESGCM(key).decrypt(_NONCE, view[SALT:], aad)
    except InvalidTag:
        raise DamagedData("an index block does not authenticate") from None


def expect_magic(data: Buffer, magic: bytes, what: str) -> None:
    """Refuse bytes that are not *what*; a digit one higher is a newer format."""
    got = bytes(memoryview(data)[: len(magic)])
    if got == magic:
        return
    if got[:-1] == magic[:-1] and got[-1:].isdigit():
        raise NewerFormat(f"this {what} is of a newer format; update loopbackup")
    raise FormatError(f"these bytes are no {what} of loopbackup")
