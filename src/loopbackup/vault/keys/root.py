"""The keyring root of an epoch: the one object that a credential unlocks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Protocol

from attrs import field, frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Meta, Struct

from ...errors import CredentialError, DamagedData, NotFoundError
from ..format import codec, names, seal
from ..format.bounds import MAX_ROOT_BYTES
from ..format.header import Bytes16, Bytes32
from ..store.seam import StoreSeam
from .credentials import Credential
from .shards import SHARDS
from .slots import (
    MAX_SLOT_BYTES,
    MAX_SLOTS,
    Slot,
    SlotContext,
    decode_slot,
    may_open,
    open_slot,
)

__all__ = [
    "KeyState",
    "Root",
    "Signer",
    "Unlocked",
    "decode_root",
    "encode_root",
    "new_root",
    "read_root",
    "read_slot",
    "unlock",
]


class KeyState(Protocol):
    """What the keyring has to know of the ledger's fold."""

    @property
    def vault_id(self) -> bytes:
        """Sixteen bytes."""
        ...

    @property
    def authority(self) -> bytes:
        """Ed25519 public key that certifies writers."""
        ...

    @property
    def epoch(self) -> bytes:
        """Name of the current epoch."""
        ...

    @property
    def salt(self) -> bytes:
        """Salt of the epoch's slots."""
        ...

    @property
    def root(self) -> bytes:
        """Hash of the epoch's keyring root."""
        ...

    @property
    def none_domain(self) -> bytes:
        """Domain of what is about nobody."""
        ...

    @property
    def slots(self) -> Sequence[tuple[bytes, str, bytes]]:
        """(id, kind, hash of the object) of every slot."""
        ...

    @property
    def fenced(self) -> Mapping[bytes, int]:
        """Ids of the domains that were erased, and by which record."""
        ...

    @property
    def shards(self) -> Mapping[int, bytes]:
        """Number -> hash of the current shard objects."""
        ...


@frozen
class Signer:
    """Who signs ledger records: a writer id, its Ed25519 key, its roles."""

    writer: bytes
    key: Ed25519PrivateKey
    roles: frozenset[str]


class Secrets(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Random secrets that are carried over every epoch."""

    audit: Bytes32
    index: Bytes32
    meta: Bytes32
    suppression: Bytes32
    shard_choice: Bytes32


MAX_GENERATIONS: Final = 4096
Generation = Annotated[int, Meta(ge=1, le=0xFFFF_FFFF)]


class Root(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What the epoch's root key opens."""

    vault_id: Bytes16
    epoch: Bytes16
    header_hash: Bytes32
    shard_keys: Annotated[bytes, Meta(min_length=32 * SHARDS, max_length=32 * SHARDS)]
    slots: Annotated[list[tuple[bytes, str, bytes]], Meta(max_length=MAX_SLOTS)]
    """(slot id, kind, public key)."""
    house_writer: Bytes16
    house_key: Bytes32
    """Ed25519 seed that this epoch's full credentials sign with."""
    authority_key: Bytes32
    """Ed25519 seed that certifies writers."""
    secrets: Secrets
    generations: Annotated[
        list[tuple[Generation, Bytes32]], Meta(min_length=1, max_length=MAX_GENERATIONS)
    ]
    """
    (number, key), ascending. The last number is the one that new keys of domains
    get; its key is mixed into what is sealed under the secrets.
    """

    @property
    def generation(self) -> int:
        """The generation that is written with."""
        return self.generations[-1][0]

    def vault_key(self, secret: bytes, generation: int) -> bytes:
        """
        Give the key of a generation under one of the secrets; DamagedData if there is none.

        Both are needed: whoever was removed knows the secret and no later generation.
        """
        for number, key in self.generations:
            if number == generation:
                return seal.derive(secret, "generation", key)
        raise DamagedData(f"the keyring root holds no generation {generation}")

    def shard_key(self, number: int) -> bytes:
        """Give the key that shard *number* is sealed under."""
        return self.shard_keys[32 * number : 32 * number + 32]

    def signer(self, roles: frozenset[str]) -> Signer:
        """Give the house key as a signer."""
        key = Ed25519PrivateKey.from_private_bytes(self.house_key)
        return Signer(self.house_writer, key, roles)


def new_root(vault_id: bytes, header_hash: bytes, authority_key: bytes) -> Root:
    """Make the root of a new vault's first epoch, without slots."""
    secrets = Secrets(*(os.urandom(32) for _ in range(5)))
    return Root(
        vault_id,
        os.urandom(16),
        header_hash,
        os.urandom(32 * SHARDS),
        [],
        os.urandom(16),
        os.urandom(32),
        authority_key,
        secrets,
        [(1, os.urandom(32))],
    )


def encode_root(root: Root, root_key: bytes) -> bytes:
    """Seal a root under its epoch's root key."""
    key = seal.derive(root_key, "root", root.vault_id + root.epoch)
    return seal.seal(key, seal.Kind.ROOT, root.vault_id, codec.encode(root), pad=4096)


@frozen
class Unlocked:
    """A root, and the slot that opened it."""

    root: Root = field(repr=False)
    slot: bytes


def unlock(
    store: StoreSeam,
    state: KeyState,
    header_hash: bytes,
    credential: Credential,
    *,
    trusted: bool,
) -> Unlocked:
    """
    Open the current epoch with *credential*.

    Args:
        trusted: The vault's authority is known from elsewhere than the store.

    Raises:
        CredentialError: It opens no slot, or as :func:`open_slot`. Nothing
            else was read.
        DamagedData: A slot or the root is missing, altered, or not the one
            that the ledger names.

    Cost: one key stretching for each passphrase slot that is tried.
    """
    context = SlotContext(state.vault_id, state.authority, state.epoch, state.salt)
    damaged: list[DamagedData] = []
    refused: list[CredentialError] = []
    for slot_id, kind, digest in state.slots:
        if not may_open(credential.kind, kind):
            continue
        try:
            slot = read_slot(store, state.epoch, slot_id, digest)
        except DamagedData as exc:
            # Another slot may still open.
            damaged.append(exc)
            continue
        try:
            root_key = open_slot(slot, credential, context, trusted=trusted)
        except CredentialError as exc:
            if credential.kind != "kms" or exc.transient:
                raise
            # Each slot may be another key's of the service.
            refused.append(exc)
            continue
        if root_key is not None:
            return Unlocked(_open_root(store, state, header_hash, root_key), slot_id)
    for problem in (*damaged, *refused):
        raise problem
    kinds = ", ".join(_count(state, kind) for kind in sorted({k for _, k, _ in state.slots}))
    what = {"passphrase": "passphrase", "kms": "key service"}.get(credential.kind, "key file")
    raise CredentialError(
        f"the {what} opens no slot of vault {state.vault_id.hex()[:8]} ({kinds}). "
        "No data was read.",
        vault=state.vault_id.hex(),
    )


def _count(state: KeyState, kind: str) -> str:
    number = sum(k == kind for _, k, _ in state.slots)
    return f"{number} {kind} slot" + ("s" if number != 1 else "")


def read_slot(store: StoreSeam, epoch: bytes, slot_id: bytes, digest: bytes) -> Slot:
    """Read a key slot; DamagedData when it is missing or not the one that the ledger names."""
    name = names.slot_name(epoch, slot_id)
    return decode_slot(_named(store, name, digest, "a key slot", MAX_SLOT_BYTES))


def read_root(store: StoreSeam, state: KeyState) -> bytes:
    """Read the sealed root; DamagedData when it is missing or not the one of the ledger."""
    name = names.root_name(state.epoch)
    return _named(store, name, state.root, "the keyring root", MAX_ROOT_BYTES)


def _named(store: StoreSeam, name: str, digest: bytes, what: str, max_bytes: int) -> bytes:
    try:
        data = store.get_whole(name, max_bytes)
    except NotFoundError:
        raise DamagedData(f"{what} is missing", object=name) from None
    if names.content_hash(data) != digest:
        raise DamagedData(f"{what} is not the one that the ledger names", object=name)
    return data


def decode_root(data: bytes, root_key: bytes, vault_id: bytes, epoch: bytes) -> Root:
    """Open a sealed root; DamagedData when it is not of that vault and epoch, or altered."""
    key = seal.derive(root_key, "root", vault_id + epoch)
    return codec.decode(seal.open_sealed(key, seal.Kind.ROOT, vault_id, data), Root)


def _open_root(store: StoreSeam, state: KeyState, header_hash: bytes, root_key: bytes) -> Root:
    root = decode_root(read_root(store, state), root_key, state.vault_id, state.epoch)
    if root.header_hash != header_hash or root.epoch != state.epoch:
        raise DamagedData("the vault's header was altered or replaced", object=names.HEADER)
    return root
