"""
Ledger records: a signed frame in clear, then sealed bodies.

A frame names nobody: people, names and reasons stand in the bodies. Frame and
signature together are one leaf of an RFC 6962 Merkle tree, so a record whose
bodies can no longer be opened still verifies.
"""

from __future__ import annotations

import struct
from typing import Annotated, Any, Final

import msgspec
from attrs import frozen
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from msgspec import Meta, Struct

from ...errors import DamagedData, InputError, NewerFormat
from . import codec
from .facts import MAX_FRAME_BYTES, Domains, Facts, Fronts, ListHash, Names, ShardNumber
from .header import Bytes16, Bytes32, Count
from .markfacts import Held, Lifted, Overlaid, Registered, Released, Restricted
from .names import content_hash
from .placefacts import Located, Observed
from .policyfacts import Overridden, PolicySet
from .replicafacts import ReplicaAdded, ReplicaLost, Replicated

__all__ = [
    "FACTS",
    "MAX_FRAME_BYTES",
    "ROLES",
    "BodyRef",
    "Certificate",
    "Envelope",
    "Facts",
    "Frame",
    "Held",
    "Lifted",
    "Located",
    "Observed",
    "Overlaid",
    "Overridden",
    "PolicySet",
    "Record",
    "Registered",
    "Released",
    "ReplicaAdded",
    "ReplicaLost",
    "Replicated",
    "Restricted",
    "Signed",
    "encode_record",
    "is_record",
    "parse_record",
    "sign_certificate",
    "take_apart",
    "verify_certificate",
    "verify_record",
]

MAGIC: Final = b"LBKREC1"
VERSION: Final = 1
MAX_BODIES: Final = 16
MAX_BODY_BYTES: Final = 16 << 20
_LENGTH: Final = struct.Struct("<I")
_SIGNATURE: Final = 64

Bytes8 = Annotated[bytes, Meta(min_length=8, max_length=8)]
SlotKind = Annotated[str, Meta(max_length=16)]


class Certificate(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What the authority lets a writer do."""

    writer: Bytes16
    key: Bytes32
    roles: Annotated[list[str], Meta(max_length=8)]
    signature: bytes = b""


class BodyRef(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """
    Whose key opens a body, and the hash of its bytes.

    ``key`` is ``audit`` (``ref``: the month, ``2026-11``), ``meta`` (``ref``
    empty) or ``domain`` (``ref``: the domain id).
    """

    key: Annotated[str, Meta(max_length=16)]
    ref: Annotated[bytes, Meta(max_length=32)]
    hash: Bytes32


class Frame(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The part of a record that everybody can read; at most 64 KiB."""

    version: Count
    index: Count
    commit: Bytes16
    """Random; the same over all attempts at one logical commit."""
    tree: Bytes32
    """Merkle tree head over the records before this one."""
    epoch: Bytes16
    root: Bytes32
    """Hash of the keyring root of that epoch."""
    writer: Bytes16
    at_us: int
    kind: Annotated[str, Meta(max_length=32)]
    bodies: Annotated[list[BodyRef], Meta(max_length=MAX_BODIES)]
    facts: msgspec.Raw


# ---- facts, one struct a kind; all are arrays


class Created(Facts):
    """Record 0: the vault exists."""

    header_hash: Bytes32
    salt: Bytes32
    """Mixed into every slot of the first epoch."""
    house: Certificate
    slots: list[tuple[bytes, str, Bytes32]]
    """(id, kind, hash of the slot object)."""
    shards: list[tuple[ShardNumber, Bytes32]]
    none_domain: Bytes16
    """Domain of what is about nobody."""
    location: str | None = None
    """Where the bytes lie, as declared."""
    observed: Observed | None = None
    """Where the provider says that they lie, if he can be asked."""
    policy: bool = False
    """The record has a body under ``meta``: the policy that binds from the beginning."""


class DomainsAdded(Facts):
    """Keyring shards were replaced by ones with more domains."""

    changes: list[tuple[ShardNumber, ListHash, Bytes32]]
    """Shard number, hash it replaces (empty: none), new hash."""
    added: Domains = b""
    added_list: ListHash = b""


class SnapshotCommitted(Facts):
    """A snapshot exists from here on."""

    snapshot: Bytes16
    root: Bytes32
    """Chunk id of the snapshot root in the meta domain."""
    base: Count
    """Size of the ledger when the run began."""
    segments: Fronts
    packs: Fronts = b""
    packs_list: ListHash = b""
    domains: Domains = b""
    domains_list: ListHash = b""
    runs: Annotated[bytes, Meta(max_length=4096)] = b""
    """Concatenated 16-byte run ids whose claims end: this run's, and stale ones of its series."""


class Forgotten(Facts):
    """Snapshots are gone for every reader; their bytes go with the next prune."""

    snapshots: Annotated[list[Bytes16], Meta(max_length=2048)]


class Pruned(Facts):
    """Names are condemned for ever, and index segments replaced."""

    condemned: Names = b""
    condemned_list: ListHash = b""
    old_segments: Names = b""
    old_segments_list: ListHash = b""
    new_segments: Fronts = b""
    packs: Fronts = b""
    packs_list: ListHash = b""
    cleared: Annotated[bytes, Meta(max_length=16 << 10)] = b""
    """Names of erasures, 16 bytes each, of which nothing that counts has bytes from here on."""


class Swept(Facts):
    """What was condemned up to a record is deleted from one store, but for ``kept``."""

    store: Bytes16
    upto: Count
    kept: Names = b""


class Summarised(Facts):
    """A summary of the first ``size`` records counts from here on."""

    size: Count
    hash: Bytes32
    tree: Bytes32
    digest: Bytes32


class Checked(Facts):
    """A check ran."""

    problems: Count
    data: float
    """Share of the bytes that were read: 0 is structure only, 1 all."""
    distrusted: Names = b""
    """All packs that are missing or damaged, as far as is known now."""
    distrusted_list: ListHash = b""


class Claimed(Facts):
    """A run lives; which packs it has put and relies on since its last claim."""

    run: Bytes16
    series: Bytes16
    """A keyed hash of the series' name: the next run of that series takes the packs over."""
    packs: Fronts = b""
    relies: Names = b""


class RunEnded(Facts):
    """A claim ends without a snapshot: given up, or lapsed."""

    run: Bytes16


class Looked(Facts):
    """Somebody restored or read; who and what stands in the body."""

    snapshot: bytes = b""
    count: Count = 1


class Refused(Facts):
    """A gate refused; gathered, so ``count`` may be more than one."""

    count: Count = 1


class WriterEnrolled(Facts):
    """A writer may sign from here on."""

    certificate: Certificate


class EpochChanged(Facts):
    """
    Other keys count from here on, and the key objects that they replace are condemned.

    What it is built on are the epoch and the root that its frame names.
    """

    epoch: Bytes16
    """Random name of the new epoch."""
    root: Bytes32
    """Hash of its keyring root."""
    salt: Bytes32
    """Mixed into every slot, and nowhere else: an epoch that is not here opens nothing."""
    house: Certificate
    slots: Annotated[list[tuple[Bytes8, SlotKind, Bytes32]], Meta(min_length=1, max_length=64)]
    """(id, kind, hash of the slot object)."""
    changes: Annotated[list[tuple[ShardNumber, Bytes32, Bytes32]], Meta(max_length=1024)]
    """Shard number, hash it replaces, new hash; shards that are not here stay as they are."""
    erasure: Annotated[bytes, Meta(max_length=16)] = b""
    """Random name of the erasure that this is, or nothing."""
    erased: Domains = b""
    """The domains whose keys are not in the new shards; fenced for ever."""
    erased_list: ListHash = b""


class Receipted(Facts):
    """The signed receipt of an erasure; its body has it."""

    erasure: Bytes16
    stage: Annotated[str, Meta(max_length=16)]


FACTS: Final[dict[str, type[Facts]]] = {
    "created": Created,
    "domains": DomainsAdded,
    "snapshot": SnapshotCommitted,
    "forget": Forgotten,
    "prune": Pruned,
    "swept": Swept,
    "summary": Summarised,
    "check": Checked,
    "claim": Claimed,
    "run-failed": RunEnded,
    "claim-lapsed": RunEnded,
    "restore": Looked,
    "read": Looked,
    "refused": Refused,
    "writer": WriterEnrolled,
    "hold": Held,
    "release": Released,
    "restriction": Restricted,
    "lift": Lifted,
    "overlay": Overlaid,
    "register": Registered,
    "epoch": EpochChanged,
    "located": Located,
    "receipt": Receipted,
    "replica": ReplicaAdded,
    "replicated": Replicated,
    "replica-lost": ReplicaLost,
    "policy": PolicySet,
    "override": Overridden,
}

ROLES: Final[dict[str, str]] = {
    "created": "admin",
    "domains": "writer",
    "snapshot": "writer",
    "claim": "writer",
    "run-failed": "writer",
    "forget": "maintainer",
    "prune": "maintainer",
    "swept": "maintainer",
    "summary": "maintainer",
    "check": "maintainer",
    "claim-lapsed": "maintainer",
    "located": "maintainer",
    "restore": "reader",
    "read": "reader",
    "refused": "reader",
    "writer": "admin",
    "hold": "admin",
    "release": "admin",
    "restriction": "admin",
    "lift": "admin",
    "overlay": "admin",
    "register": "admin",
    "epoch": "admin",
    "receipt": "admin",
    "replica": "maintainer",
    "replicated": "maintainer",
    "replica-lost": "admin",
    "policy": "admin",
    "override": "reader",
}
"""The role that a kind needs; every enrolled writer is a reader."""

ALL_ROLES: Final = ["reader", "writer", "maintainer", "admin"]


@frozen
class Record:
    """A parsed record: nothing about it is believed before it is verified."""

    frame: Frame
    leaf: bytes
    """Frame and signature, the leaf of the Merkle tree."""
    bodies: tuple[bytes | None, ...]
    """None for one that is not there as it was signed for."""
    whole: bool
    """Every body is there, and nothing behind them."""

    def facts(self) -> Any:
        """Decode the clear facts; DamagedData when they are not of their kind."""
        if self.frame.kind not in FACTS:
            raise NewerFormat(
                f"ledger record {self.frame.index} is of a newer kind; update loopbackup"
            )
        return codec.decode(bytes(self.frame.facts), FACTS[self.frame.kind])


def _signed(vault_id: bytes, frame: bytes) -> bytes:
    return b"loopbackup/v1/record\0" + vault_id + frame


def encode_record(
    frame: Frame, bodies: tuple[bytes, ...], *, vault_id: bytes, key: Ed25519PrivateKey
) -> bytes:
    """
    Encode and sign a record.

    Raises:
        InputError: It would be longer than any reader takes.
    """
    raw = codec.encode(frame)
    if len(raw) > MAX_FRAME_BYTES or any(len(body) > MAX_BODY_BYTES for body in bodies):
        raise InputError("what the ledger should record is too long for one record")
    parts = [MAGIC, _LENGTH.pack(len(raw)), raw, key.sign(_signed(vault_id, raw))]
    for body in bodies:
        parts += [_LENGTH.pack(len(body)), body]
    return b"".join(parts)


class Envelope(Struct, array_like=True, frozen=True):
    """The beginning of a frame, which every later version keeps."""

    version: Count
    index: Count
    commit: Bytes16
    tree: Bytes32
    epoch: Bytes16
    root: Bytes32
    writer: Bytes16


@frozen
class Signed:
    """A record taken apart, nothing of it believed yet."""

    envelope: Envelope
    frame: bytes
    leaf: bytes
    """Frame and signature."""
    rest: bytes
    """The bodies."""

    def open(self) -> Record:
        """
        Decode the frame and its bodies.

        Raises:
            NewerFormat: The frame is of a later version.
            DamagedData: The frame is malformed.
        """
        if self.envelope.version > VERSION:
            raise NewerFormat(
                f"ledger record {self.envelope.index} is of a newer format; update loopbackup"
            )
        frame = codec.decode(self.frame, Frame)
        return Record(frame, self.leaf, *_split_bodies(frame, self.rest))


def is_record(data: bytes) -> bool:
    """Tell whether bytes are meant as a record, good or not."""
    return data[: len(MAGIC)] == MAGIC


def take_apart(data: bytes) -> Signed:
    """Find frame, signature and bodies; DamagedData when they are not all there."""
    start = len(MAGIC) + _LENGTH.size
    if len(data) < start or data[: len(MAGIC)] != MAGIC:
        raise DamagedData("these bytes are no ledger record")
    (size,) = _LENGTH.unpack_from(data, len(MAGIC))
    end = start + size
    if size > MAX_FRAME_BYTES or end + _SIGNATURE > len(data):
        raise DamagedData("a ledger record is cut short or over-long")
    raw = data[start:end]
    leaf = data[start : end + _SIGNATURE]
    return Signed(codec.decode(raw, Envelope), raw, leaf, data[end + _SIGNATURE :])


def _split_bodies(frame: Frame, rest: bytes) -> tuple[tuple[bytes | None, ...], bool]:
    """
    Find the bodies, and tell whether all are there and nothing else.

    The signature covers their hashes, so a record holds without them: what is
    lost with one is what it said, not what the record does.
    """
    bodies: list[bytes | None] = []
    at = 0
    for ref in frame.bodies:
        length = _LENGTH.unpack_from(rest, at)[0] if at + _LENGTH.size <= len(rest) else 0
        at += _LENGTH.size
        body = rest[at : at + length]
        at += length
        bodies.append(body if content_hash(body) == ref.hash else None)
    return tuple(bodies), at == len(rest) and None not in bodies


def parse_record(data: bytes, index: int) -> Record:
    """
    Parse a record by its bytes alone; no signature is checked.

    Raises:
        NewerFormat: Its version is beyond this library.
        DamagedData: Frame or number are off; such a record is void.
    """
    signed = take_apart(data)
    if signed.envelope.index != index:
        raise DamagedData("a ledger record stands at another number")
    return signed.open()


def verify_record(record: Signed | Record, *, vault_id: bytes, public_key: bytes) -> bool:
    """Tell whether the writer with *public_key* signed *record*."""
    raw, signature = record.leaf[:-_SIGNATURE], record.leaf[-_SIGNATURE:]
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, _signed(vault_id, raw))
    except (InvalidSignature, ValueError):
        return False
    return True


def _certified(vault_id: bytes, certificate: Certificate) -> bytes:
    plain = Certificate(certificate.writer, certificate.key, certificate.roles)
    return b"loopbackup/v1/certificate\0" + vault_id + codec.encode(plain)


def sign_certificate(
    certificate: Certificate, *, vault_id: bytes, authority: Ed25519PrivateKey
) -> Certificate:
    """Give *certificate* signed by the authority."""
    signature = authority.sign(_certified(vault_id, certificate))
    return Certificate(certificate.writer, certificate.key, certificate.roles, signature)


def verify_certificate(certificate: Certificate, *, vault_id: bytes, authority: bytes) -> bool:
    """Tell whether the authority signed *certificate*."""
    try:
        Ed25519PublicKey.from_public_bytes(authority).verify(
            certificate.signature, _certified(vault_id, certificate)
        )
    except (InvalidSignature, ValueError):
        return False
    return True
