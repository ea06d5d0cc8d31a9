"""
Key slots: each gives the epoch's root key to one credential.

A slot is sealed to a public key (HPKE, RFC 9180, X25519+ML-KEM-768), and its
key also takes in the epoch's salt, which stands in a ledger record: key
objects of an epoch that was never committed open nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import Annotated, Final

from attrs import frozen
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Meta, Struct

from ...errors import CredentialError, DamagedData
from ..format import codec, seal
from ..format.seal import expect_magic
from .credentials import Credential, SlotParams
from .keypair import load_public_key, private_key, public_key_of

__all__ = [
    "Slot",
    "SlotContext",
    "SlotOwner",
    "decode_slot",
    "encode_slot",
    "make_owner",
    "make_slot",
    "may_open",
    "open_slot",
    "reseal_slot",
]

MAGIC: Final = b"LBKSLT1"
MAX_SLOTS: Final = 64
MAX_SLOT_BYTES: Final = 65_536
_SUITE: Final = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


@frozen
class SlotOwner:
    """What is public of a slot, and stays the same when it moves to another epoch."""

    id: bytes
    kind: str
    params: SlotParams
    public_key: bytes
    vouch: bytes


class Slot(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A slot on disk."""

    id: Annotated[bytes, Meta(min_length=8, max_length=8)]
    kind: Annotated[str, Meta(max_length=16)]
    params: SlotParams
    public_key: Annotated[bytes, Meta(max_length=2048)]
    wrapped: Annotated[bytes, Meta(max_length=4096)]
    """HPKE of 32 random bytes, k1."""
    box: Annotated[bytes, Meta(max_length=4096)]
    """The epoch's root key, sealed under a key made of k1 and the epoch's salt."""
    vouch: Annotated[bytes, Meta(max_length=32)]
    """
    Keyed hash of vault id and authority under a key that only the credential has.

    HPKE says nothing about who sealed: without this, whoever knows the public
    key could put a vault of his own in the place of the true one. Empty where
    the slot was made for a public key alone.
    """

    @property
    def owner(self) -> SlotOwner:
        """What moves to another epoch."""
        return SlotOwner(self.id, self.kind, self.params, self.public_key, self.vouch)


@frozen
class SlotContext:
    """What a slot is bound to."""

    vault_id: bytes
    authority: bytes
    epoch: bytes
    salt: bytes

    def vouch(self, seed: bytes) -> bytes:
        """Say, as the owner of *seed*, that this is the vault that was meant."""
        key = seal.derive(seed, "vouch")
        return blake3(self.vault_id + self.authority, key=key).digest()

    def bound(self, slot_id: bytes) -> dict[str, str]:
        """Name vault and slot for a key service, which binds to them what it wraps."""
        return {"vault": self.vault_id.hex(), "slot": slot_id.hex()}

    def info(self, slot_id: bytes, public_key: bytes) -> bytes:
        """Give the context string of HPKE and HKDF."""
        digest = hashlib.sha256(public_key).digest()
        return b"loopbackup/v1/slot\0" + self.vault_id + self.epoch + slot_id + digest

    def kek(self, k1: bytes, info: bytes) -> bytes:
        """Derive the key that seals the root key."""
        return HKDF(hashes.SHA512(), 32, self.salt, info).derive(k1)


def make_owner(credential: Credential, context: SlotContext) -> SlotOwner:
    """Choose what a new slot for *credential* keeps for life. Cost: one key stretching."""
    slot_id = os.urandom(8)
    bound = context.bound(slot_id)
    params = credential.new_params(bound)
    seed = credential.seed(params, bound)
    return SlotOwner(slot_id, credential.kind, params, public_key_of(seed), context.vouch(seed))


def make_slot(credential: Credential, root_key: bytes, context: SlotContext) -> Slot:
    """Make a slot of *context*'s epoch for *credential*. Cost: one key stretching."""
    return reseal_slot(make_owner(credential, context), root_key, context)


def reseal_slot(owner: SlotOwner, root_key: bytes, context: SlotContext) -> Slot:
    """Make a slot of *context*'s epoch from what is public of it; DamagedData if that is no key."""
    info = context.info(owner.id, owner.public_key)
    k1 = os.urandom(32)
    try:
        wrapped = _SUITE.encrypt(k1, load_public_key(owner.public_key), info)
    except ValueError as exc:
        raise DamagedData("a key slot's public key is none") from exc
    box = seal.seal(context.kek(k1, info), seal.Kind.SLOT, context.vault_id, root_key, pad=64)
    return Slot(owner.id, owner.kind, owner.params, owner.public_key, wrapped, box, owner.vouch)


def may_open(credential: str, slot: str) -> bool:
    """Tell whether a credential of one kind may open slots of a kind."""
    return credential == slot or (credential, slot) == ("keyfile", "recipient")


def _refuse_unmeant(slot: Slot, expected: bytes, *, trusted: bool) -> None:
    """Raise where nothing shows that the slot's vault is the one that its owner means."""
    if not slot.vouch and trusted:
        return
    if not slot.vouch:
        raise CredentialError(
            "the slot was made for your public key by somebody else, so it cannot show that this "
            "is the vault you mean. Open it once with public_key= as the vault's owner gives it "
            "(vault.public_key)",
            kind="unvouched",
        )
    if not hmac.compare_digest(slot.vouch, expected):
        raise CredentialError(
            "the slot is for this credential, but was not made with it: another vault stands "
            "where yours should be. Do not write to it; ask who changed the store",
            kind="forged_vault",
        )


def open_slot(
    slot: Slot, credential: Credential, context: SlotContext, *, trusted: bool = False
) -> bytes | None:
    """
    Give the epoch's root key, or None when *credential* is not this slot's.

    Args:
        trusted: The vault's authority is known from elsewhere than the store.

    Raises:
        CredentialError: Kind "forged_vault" or "unvouched": it is, and nothing
            shows that this is the vault that was meant; "stale_slot": slot or
            ledger was replaced.
    """
    info = context.info(slot.id, slot.public_key)
    seed = credential.seed(slot.params, context.bound(slot.id))
    if not hmac.compare_digest(slot.public_key, public_key_of(seed)):
        return None
    _refuse_unmeant(slot, context.vouch(seed), trusted=trusted)
    try:
        k1 = _SUITE.decrypt(slot.wrapped, private_key(seed), info)
    except InvalidTag:
        return None
    except ValueError as exc:
        raise DamagedData("a key slot is damaged") from exc
    try:
        root_key = seal.open_sealed(
            context.kek(k1, info), seal.Kind.SLOT, context.vault_id, slot.box
        )
    except DamagedData as exc:
        if exc.kind == "commitment":
            raise CredentialError(
                "the credential fits a key slot of another state of this vault; "
                "the slot or the ledger was replaced",
                kind="stale_slot",
            ) from exc
        raise
    if len(root_key) != 32:
        raise DamagedData("a key slot holds no root key")
    return root_key


def encode_slot(slot: Slot) -> bytes:
    """Encode a slot object."""
    return MAGIC + codec.encode(slot)


def decode_slot(data: bytes) -> Slot:
    """Decode a slot object; DamagedData or NewerFormat when it is none."""
    expect_magic(data, MAGIC, "key slot")
    if len(data) > MAX_SLOT_BYTES:
        raise DamagedData("a key slot is over-long")
    return codec.decode(data[len(MAGIC) :], Slot)
