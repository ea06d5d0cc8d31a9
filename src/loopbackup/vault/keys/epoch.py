"""What the next epoch is made of: a root with other keys, shards, and slots sealed anew."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Final

from attrs import field, frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import structs

from ...errors import DamagedData, InputError
from ..format import codec, names
from ..format import record as rec
from .domains import ERASED, DomainRecord
from .root import MAX_GENERATIONS, Root, decode_root, encode_root
from .shards import SHARDS, Shard
from .slots import MAX_SLOTS, Slot, SlotContext, SlotOwner, encode_slot, reseal_slot

__all__ = ["NextEpoch", "certify_house", "next_epoch", "renew_shard"]

_KEY: Final = 32


@frozen
class NextEpoch:
    """An epoch that nothing names yet: it opens nothing before its salt stands in the ledger."""

    root: Root = field(repr=False)
    root_key: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    slots: tuple[Slot, ...]
    sealed_root: bytes
    sealed_slots: tuple[bytes, ...]

    @property
    def objects(self) -> dict[str, bytes]:
        """Name -> bytes of the root and the slots."""
        epoch = self.root.epoch
        found = {
            names.slot_name(epoch, slot.id): data
            for slot, data in zip(self.slots, self.sealed_slots, strict=True)
        }
        return {**found, names.root_name(epoch): self.sealed_root}

    def facts(self, changes: Sequence[tuple[int, bytes, bytes]]) -> rec.EpochChanged:
        """Give what the ledger says of it; *changes* are (shard, hash replaced, new hash)."""
        slots = [
            (slot.id, slot.kind, names.content_hash(data))
            for slot, data in zip(self.slots, self.sealed_slots, strict=True)
        ]
        return rec.EpochChanged(
            self.root.epoch,
            names.content_hash(self.sealed_root),
            self.salt,
            certify_house(self.root),
            slots,
            list(changes),
        )

    def prove(self, root_data: bytes, opened: bytes | None) -> Root:
        """
        Open the root as somebody would who has just opened a slot.

        Args:
            root_data: The root as it was read back from the store.
            opened: The root key that a slot gave, if one could be opened here.

        Raises:
            DamagedData: It is not what was meant: nothing may name this epoch.
        """
        key = self.root_key if opened is None else opened
        root = decode_root(root_data, key, self.root.vault_id, self.root.epoch)
        if root != self.root:
            raise DamagedData("a new epoch does not open to what was sealed; nothing was changed")
        return root


def certify_house(root: Root) -> rec.Certificate:
    """Let the authority certify the root's house key, with all roles."""
    key = Ed25519PrivateKey.from_private_bytes(root.house_key)
    plain = rec.Certificate(root.house_writer, key.public_key().public_bytes_raw(), rec.ALL_ROLES)
    authority = Ed25519PrivateKey.from_private_bytes(root.authority_key)
    return rec.sign_certificate(plain, vault_id=root.vault_id, authority=authority)


def next_epoch(
    root: Root, owners: Sequence[SlotOwner], rewritten: Iterable[int], *, renew: bool
) -> NextEpoch:
    """
    Make the epoch after *root*'s; nothing is stored.

    Args:
        owners: Whose the slots are.
        rewritten: Numbers of the shards that get another key.
        renew: Begin a generation: what is written from then on is under keys
            that nobody has who knows this epoch's only.

    Raises:
        InputError: No slot would be left, or there are too many of them.
    """
    if not owners:
        raise InputError("the last slot cannot be removed: nothing would open the vault any more")
    if len(owners) > MAX_SLOTS:
        raise InputError(f"a vault has at most {MAX_SLOTS} slots")
    keys = [root.shard_key(number) for number in range(SHARDS)]
    for number in rewritten:
        keys[number] = os.urandom(_KEY)
    following = structs.replace(
        root,
        epoch=os.urandom(16),
        shard_keys=b"".join(keys),
        slots=[(owner.id, owner.kind, owner.public_key) for owner in owners],
        house_writer=os.urandom(16),
        house_key=os.urandom(_KEY),
        generations=_with_one_more(root) if renew else root.generations,
    )
    root_key, salt = os.urandom(_KEY), os.urandom(32)
    authority = Ed25519PrivateKey.from_private_bytes(root.authority_key).public_key()
    context = SlotContext(root.vault_id, authority.public_bytes_raw(), following.epoch, salt)
    slots = tuple(reseal_slot(owner, root_key, context) for owner in owners)
    return NextEpoch(
        following,
        root_key,
        salt,
        slots,
        encode_root(following, root_key),
        tuple(map(encode_slot, slots)),
    )


def _with_one_more(root: Root) -> list[tuple[int, bytes]]:
    if len(root.generations) >= MAX_GENERATIONS:
        raise InputError(f"the keys of a vault can be changed {MAX_GENERATIONS:,} times at most")
    return [*root.generations, (root.generation + 1, os.urandom(_KEY))]


def renew_shard(shard: Shard, generation: int) -> Shard:
    """Give a shard with keys of *generation* for all its domains."""
    return Shard.build(
        [(tag, found, _renewed(record, generation)) for tag, found, record in shard.rows()]
    )


def _renewed(encoded: bytes, generation: int) -> bytes:
    record = codec.decode(encoded, DomainRecord)
    if record.status == ERASED:
        return encoded
    keys = [*record.generations, (generation, os.urandom(_KEY))]
    if keys[-2][0] >= generation or len(keys) > MAX_GENERATIONS:
        raise DamagedData("a domain has keys of generations that the vault has not begun")
    return codec.encode(structs.replace(record, generations=keys))
