"""
The key pair behind a slot (X25519+ML-KEM-768), and how its public half is written down.

A public key as text is what people send each other, so it says what it is and
has a checksum: ``lbkpub1`` and 1,627 characters of base64url without padding.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey

from ...errors import InputError

__all__ = [
    "PUBLIC_KEY_BYTES",
    "decode_public_key",
    "encode_public_key",
    "load_public_key",
    "private_key",
    "public_key_of",
]

PUBLIC_KEY_BYTES: Final = 1216
_MLKEM_PUBLIC: Final = 1184
_PREFIX: Final = "lbkpub1"
_CHECKSUM: Final = 4
_TEXT: Final = re.compile(r"lbkpub1([A-Za-z0-9_-]{1627})", re.ASCII)


def private_key(seed: bytes) -> MLKEM768X25519PrivateKey:
    """Expand a seed as X-Wing does: SHAKE-256 to an ML-KEM seed and an X25519 key."""
    expanded = hashlib.shake_256(seed).digest(96)
    return MLKEM768X25519PrivateKey(
        mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64]),
        x25519.X25519PrivateKey.from_private_bytes(expanded[64:]),
    )


def public_key_of(seed: bytes) -> bytes:
    """Give the 1,216-byte public key of a seed: ML-KEM-768, then X25519."""
    expanded = hashlib.shake_256(seed).digest(96)
    kem = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64]).public_key()
    dh = x25519.X25519PrivateKey.from_private_bytes(expanded[64:]).public_key()
    return kem.public_bytes_raw() + dh.public_bytes_raw()


def load_public_key(raw: bytes) -> MLKEM768X25519PublicKey:
    """Load a public key; ValueError when it is none."""
    return MLKEM768X25519PublicKey(
        mlkem.MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM_PUBLIC]),
        x25519.X25519PublicKey.from_public_bytes(raw[_MLKEM_PUBLIC:]),
    )


def _checksum(raw: bytes) -> bytes:
    return hashlib.sha256(_PREFIX.encode() + raw).digest()[:_CHECKSUM]


def encode_public_key(raw: bytes) -> str:
    """Write a public key as text."""
    text = base64.urlsafe_b64encode(raw + _checksum(raw)).decode("ascii")
    return _PREFIX + text.rstrip("=")


def decode_public_key(text: object) -> bytes:
    """
    Read what :func:`encode_public_key` wrote; white space around it is passed over.

    Raises:
        InputError: It is none, or was changed on its way.
    """
    found = _TEXT.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise InputError(
            "a recipient is named by his public key, lbkpub1 and 1,627 characters, as "
            "KeyFile(path).public_key gives it"
        )
    data = base64.urlsafe_b64decode(found[1] + "=")
    raw, checksum = data[:PUBLIC_KEY_BYTES], data[PUBLIC_KEY_BYTES:]
    # Bits that base64 leaves over would let one key be written in several ways.
    if checksum != _checksum(raw) or encode_public_key(raw) != found[0]:
        raise InputError("the public key was changed on its way: its checksum does not fit")
    try:
        load_public_key(raw)
    except ValueError as exc:
        raise InputError("the public key is none of X25519 and ML-KEM-768") from exc
    return raw
