"""
Domains: the unit of erasure, of deduplication and of cut points.

A domain belongs to a subject, to a tenant, or to what is about nobody. All of
its keys come from one record in the keyring; without that record nothing of
the domain can be read, found or compared.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from typing import Annotated, Final

from attrs import define, field
from blake3 import blake3
from msgspec import Meta, Struct

from ...errors import DamagedData
from ...terms import SubjectKey
from ..format import codec, seal
from ..format.header import Bytes32

__all__ = [
    "DATA",
    "ERASED",
    "RECORDS",
    "Domain",
    "DomainRecord",
    "encode_label",
    "meta_domain",
    "new_record",
    "place",
]

DATA: Final = 0
"""Status of a domain of what is backed up."""
ERASED: Final = 1
"""Status of a row that stands in the place of a domain whose keys were erased."""
RECORDS: Final = 2
"""Status of a subject's second domain: what registers say of it, kept as long as they say."""


class DomainRecord(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A domain in a keyring shard, behind its 16-byte id."""

    secret: Bytes32
    """Ids, cut points and bodies come from it; it lasts for the domain's life."""
    generations: Annotated[list[tuple[int, bytes]], Meta(min_length=1, max_length=4096)]
    """(number, 32-byte key), ascending; what is written is under the last."""
    label: Annotated[list[str], Meta(max_length=2)]
    """The subject; empty for what is about nobody."""
    status: int = DATA


@define(eq=False)
class Domain:
    """
    A domain with its keys at hand. Keys are derived when first used.

    Two handles of one domain may differ in their generations; compare ``id``.
    """

    id: bytes
    subject: SubjectKey | None
    _vault_id: bytes
    _record: DomainRecord = field(repr=False)
    _newest: Callable[[bytes], Domain] | None = field(default=None, repr=False)
    """Gives the handle that the keyring has today, which may know later generations."""
    _keys: dict[tuple[str, int], bytes] = field(factory=dict, repr=False)

    @property
    def is_records(self) -> bool:
        """Whether it is a subject's second one, of what registers say."""
        return self._record.status == RECORDS

    @property
    def generation(self) -> int:
        """The generation that new data is encrypted under."""
        return self._record.generations[-1][0]

    def _derived(self, label: str, generation: int = -1) -> bytes:
        key = self._keys.get((label, generation))
        if key is None:
            secret = self._record.secret
            if generation >= 0:
                secret = self._generation_key(generation)
            key = seal.derive(secret, label, self._vault_id + self.id)
            self._keys[label, generation] = key
        return key

    def _generation_key(self, generation: int) -> bytes:
        key = self._own_key(generation)
        if key is None and self._newest is not None:
            # Others may write under keys that were made after this handle was.
            key = self._newest(self.id)._own_key(generation)
        if key is not None:
            return key
        raise DamagedData(f"the keyring holds no generation {generation} of a domain")

    def _own_key(self, generation: int) -> bytes | None:
        return dict(self._record.generations).get(generation)

    def chunk_id(self, data: bytes | bytearray | memoryview, kind: str = "data") -> bytes:
        """Name a chunk: keyed BLAKE3, 32 bytes, with a key per kind of content."""
        return blake3(data, key=self._derived(f"id/{kind}")).digest()

    @property
    def chunker_key(self) -> bytes:
        """Key of the cut points of files."""
        return self._derived("chunker")

    @property
    def stream_key(self) -> bytes:
        """Key of the cut points of entry streams."""
        return self._derived("stream")

    @property
    def body_key(self) -> bytes:
        """Key of what the ledger says about this domain."""
        return self._derived("body")

    def data_key(self, generation: int) -> bytes:
        """Key of the blobs of a generation."""
        return self._derived("data", generation)

    def index_key(self, generation: int) -> bytes:
        """Key of the index blocks of a generation."""
        return self._derived("index", generation)

    def encrypt_into(
        self,
        target: memoryview,
        payload: bytes | bytearray | memoryview,
        *,
        chunk_id: bytes,
        codec: int,
        plain: int,
    ) -> None:
        """Write a blob of the current generation into *target*."""
        generation = self.generation
        seal.encrypt_blob_into(
            target,
            payload,
            data_key=self.data_key(generation),
            vault_id=self._vault_id,
            domain=self.id,
            generation=generation,
            chunk_id=chunk_id,
            codec=codec,
            plain=plain,
        )

    def decrypt(
        self, blob: bytes | memoryview, *, generation: int, chunk_id: bytes, codec: int, plain: int
    ) -> bytes:
        """Give the payload of a blob, still compressed."""
        return seal.decrypt_blob(
            blob,
            data_key=self.data_key(generation),
            vault_id=self._vault_id,
            domain=self.id,
            generation=generation,
            chunk_id=chunk_id,
            codec=codec,
            plain=plain,
        )

    def seal_block(self, plain: bytes, generation: int, segment: bytes) -> bytes:
        """Seal an index block of a generation for the object with the salt *segment*."""
        return seal.seal_block(
            self.index_key(generation), self._vault_id, self.id, generation, segment, plain
        )

    def open_block(self, block: bytes | memoryview, generation: int, segment: bytes) -> bytes:
        """Open an index block."""
        return seal.open_block(
            self.index_key(generation), self._vault_id, self.id, generation, segment, block
        )


_TAG: Final = struct.Struct("<Q")


def encode_label(subject: SubjectKey | None) -> bytes:
    """Encode a subject for hashing; nobody is the empty list."""
    return codec.encode(list(subject or ()))


def place(home_key: bytes, subject: SubjectKey | None) -> tuple[int, int]:
    """Give the home shard (0 to 255) and the 64-bit search tag of a subject."""
    digest = blake3(encode_label(subject), key=home_key).digest()
    return digest[0], _TAG.unpack_from(digest, 1)[0]


def new_record(
    subject: SubjectKey | None, home: int, generation: int = 1, status: int = DATA
) -> tuple[bytes, DomainRecord]:
    """
    Make a domain with fresh keys, the first of which has the number *generation*.

    The first byte of the id is the home shard, so that a domain is found by
    its id as well; the other fifteen are random.
    """
    keys = [(generation, os.urandom(32))]
    record = DomainRecord(os.urandom(32), keys, list(subject or ()), status)
    return bytes([home]) + os.urandom(15), record


def open_domain(
    vault_id: bytes,
    domain_id: bytes,
    record: DomainRecord,
    newest: Callable[[bytes], Domain] | None = None,
) -> Domain:
    """
    Give the handle of a keyring record.

    Args:
        newest: Gives the handle of an id as the keyring has it now, for what
            is read with this one when others have later keys.
    """
    subject: SubjectKey | None = tuple(record.label) or None  # type: ignore[assignment]
    return Domain(domain_id, subject, vault_id, record, newest)


def meta_domain(
    vault_id: bytes,
    meta_secret: bytes,
    generations: Sequence[tuple[int, bytes]],
    newest: Callable[[bytes], Domain] | None = None,
) -> Domain:
    """
    Give the vault's own domain: snapshot roots and tables, which name nobody.

    Its keys come from the keyring root; id and secret are carried over every epoch.
    """
    secret = seal.derive(meta_secret, "meta/secret", vault_id)
    domain_id = seal.derive(meta_secret, "meta/id", vault_id, 16)
    record = DomainRecord(secret, list(generations), [])
    return Domain(domain_id, None, vault_id, record, newest)
