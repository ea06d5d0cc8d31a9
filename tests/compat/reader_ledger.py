"""Sections 3, 6, 7 and 8 of the format for the reader: the header and the ledger."""

from __future__ import annotations

import hashlib
import itertools
from types import SimpleNamespace
from typing import Any

import msgspec
from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tests.compat.reader_sealed import (
    Folder,
    VaultError,
    array,
    decode,
    mapping,
    need,
    short_names,
    u32,
)

HEADER = """format:i suite:i vault_id:16 created_us:i authority:32 chunk_min:i* chunk_max:i*
    chunk_jump:i* chunk_t_cut:i* chunk_t_jump:i* pack_size:i* bundle_size:i* grace_s:i*
    single_writer:t*"""
FRAME_START = "version:i index:i commit:16 tree:32 epoch:16 root:32 writer:16"
FRAME = FRAME_START + " at_us:i kind:s bodies:l facts:l"
BODY = "key:s ref:b hash:32"
CERTIFICATE = "writer:16 key:32 roles:l signature:64"
CREATED = "header_hash:32 salt:32 house:l slots:l shards:l none_domain:16 location:s?"
DOMAINS = "changes:l added:b* added_list:b*"
CHANGE = "number:i old:b new:32"
SNAPSHOT = """snapshot:16 root:32 base:i segments:b packs:b* packs_list:b* domains:b*
    domains_list:b* runs:b*"""
PRUNE = """condemned:b* condemned_list:b* old_segments:b* old_segments_list:b* new_segments:b*
    packs:b* packs_list:b*"""
KINDS_OF_ROLE = {
    "reader": ("restore", "read", "refused"),
    "writer": ("domains", "snapshot", "claim", "run-failed"),
    "maintainer": ("forget", "prune", "swept", "summary", "check", "claim-lapsed"),
    "admin": ("created", "writer"),
}
ROLES = {kind: role for role, kinds in KINDS_OF_ROLE.items() for kind in kinds}


class FoldError(Exception):
    """The ledger stops here: what follows must not be believed."""


class Ledger:
    """
    The fold of all records, as far as reading needs it.

    Any VaultError in a record makes it void: it gets an alarm and has no effect.
    """

    def __init__(self, folder: Folder) -> None:
        data = folder.read("vault")
        need(data[:7] == b"LBKVLT1", "no vault of format 1")
        header, record_0 = data[11 : 11 + u32(data, 7)], data[11 + u32(data, 7) :]
        found = mapping(decode(header), HEADER)
        need(found.format == found.suite == 1, "a vault of a newer format")
        self.folder, self.vid, self.authority = folder, found.vault_id, found.authority
        self.header_hash = blake3(header).digest()
        self.shards: dict[int, bytes] = {}
        self.snapshots: dict[bytes, tuple[SimpleNamespace, list[Any], list[bytes]]] = {}
        self.segments: list[bytes] = []
        self.condemned: set[bytes] = set()
        self.alarms: list[tuple[int, str]] = []
        self.audit: list[tuple[SimpleNamespace, bytes, bytes]] = []
        self._peaks: list[bytes] = []
        self._start(record_0)
        self._fold(record_0)

    @property
    def tree(self) -> bytes:
        """Give the head of the tree over the records so far (6.6)."""
        heads = self._peaks[::-1] or [hashlib.sha256().digest()]
        return [*itertools.accumulate(heads, lambda right, left: node(left, right))][-1]

    def _start(self, record_0: bytes) -> None:
        frame = array(decode(split(record_0)[0]), FRAME)
        self.created, self.epoch, self.root = array(frame.facts, CREATED), frame.epoch, frame.root
        house = self._certificate(self.created.house)
        need(frame.writer == house.writer, "record 0 is not by the house")
        need(self.created.header_hash == self.header_hash, "another header")
        self.writers = {house.writer: house}

    def _fold(self, record_0: bytes) -> None:
        records = self.folder.path / "ledger"
        for self.size in itertools.count():
            path = records / f"{self.size:020}"
            if self.size and not path.exists():
                break
            raw = path.read_bytes() if path.exists() else record_0
            need(self.size or raw == record_0, "two records 0")
            self._append(self.size, raw)
            need(self.size or not self.alarms, f"no vault: {self.alarms}")
        numbers = sorted(int(path.name) for path in records.glob("[0-9]" * 20))
        self.alarms += [(n, "stands above a gap") for n in numbers if n > self.size]

    def _append(self, index: int, raw: bytes) -> None:
        leaf = raw
        try:
            frame, bodies = self._authenticate(index, raw)
            leaf = b"".join(split(raw)[:2])
            self._verify_place(index, frame)
            self._apply(frame, bodies)
            pairs = [*zip(frame.bodies, bodies, strict=True)]
            self.audit += [(frame, ref, body) for (key, ref, _), body in pairs if key == "audit"]
        except VaultError as problem:
            self.alarms.append((index, str(problem)))
        peak = hashlib.sha256(b"\0" + leaf).digest()
        while index & 1:
            peak, index = node(self._peaks.pop(), peak), index >> 1
        self._peaks.append(peak)

    def _authenticate(self, index: int, raw: bytes) -> tuple[SimpleNamespace, list[bytes]]:
        """Take steps 1 and 2 of the page."""
        encoded, signature, rest = split(raw)
        values = decode(encoded)
        need(isinstance(values, list), "no frame")
        start = array(values[:7], FRAME_START)
        need(start.index == index, "another index")
        need(start.writer in self.writers, "a writer who is not enrolled")
        writer = self.writers[start.writer]
        verify(writer.key, signature, b"loopbackup/v1/record\0" + self.vid + encoded)
        need(start.version == 1, f"record {index} is of a newer format", FoldError)
        frame, bodies = array(values, FRAME), []
        for value in frame.bodies:
            expected, length = array(value, BODY).hash, u32(rest)
            body, rest = rest[4 : 4 + length], rest[4 + length :]
            need(len(body) == length, "a body is cut off")
            error = FoldError if "admin" in writer.roles else VaultError
            need(blake3(body).digest() == expected, f"record {index}: an altered body", error)
            bodies.append(body)
        need(not rest, "surplus bytes")
        return frame, bodies

    def _verify_place(self, index: int, frame: SimpleNamespace) -> None:
        """Take steps 3 to 6."""
        roles = self.writers[frame.writer].roles
        error = FoldError if "admin" in roles else VaultError
        need(frame.tree == self.tree, f"the history before record {index} differs", error)
        need(frame.kind in ROLES, f"record {index} is of a newer kind", FoldError)
        role = ROLES[frame.kind]
        need(role == "reader" or role in roles, "the writer has not the role")
        need((frame.kind == "created") == (index == 0), "not the beginning")
        is_current = (frame.epoch, frame.root) == (self.epoch, self.root)
        need(is_current, "another epoch or root")

    def _apply(self, frame: SimpleNamespace, bodies: list[bytes]) -> None:
        """Take steps 7 and 8, and bring about what the record says."""
        if frame.kind == "created":
            self.shards = dict(self.created.shards)
        elif frame.kind == "domains":
            changes = [array(change, CHANGE) for change in array(frame.facts, DOMAINS).changes]
            for change in changes:
                is_next = self.shards.get(change.number, b"") == change.old
                need(is_next, "the shard was replaced before")
                need(b"s" + change.new not in self.condemned, "a condemned shard")
            self.shards |= {change.number: change.new for change in changes}
        elif frame.kind == "snapshot":
            facts = array(frame.facts, SNAPSHOT)
            segments = short_names(facts.segments)
            need(facts.snapshot not in self.snapshots, "the snapshot exists")
            packs = self._names(facts.packs, facts.packs_list) if self.condemned else []
            need(self.condemned.isdisjoint(segments + packs), "it needs what is condemned")
            self.snapshots[facts.snapshot] = facts, frame.bodies, bodies
            self.segments += segments
        elif frame.kind == "forget":
            for snapshot in array(frame.facts, "snapshots:l").snapshots:
                self.snapshots.pop(snapshot, None)
        elif frame.kind == "prune":
            self._prune(array(frame.facts, PRUNE))
        elif frame.kind == "writer":
            certificate = self._certificate(array(frame.facts, "certificate:l").certificate)
            self.writers[certificate.writer] = certificate

    def _prune(self, facts: SimpleNamespace) -> None:
        gone = self.condemned.union(self._names(facts.condemned, facts.condemned_list))
        old = set(self._names(facts.old_segments, facts.old_segments_list))
        new = short_names(facts.new_segments)
        need(old <= set(self.segments), "an old segment is not live")
        need(gone.isdisjoint(new), "a new segment is condemned")
        self.condemned = gone
        self.segments = [name for name in self.segments if name not in gone | old] + new

    def _names(self, names: bytes, list_hash: bytes) -> list[bytes]:
        if names or not list_hash:
            return short_names(names)
        try:
            return self.folder.listed(list_hash)
        except VaultError as problem:
            raise FoldError(f"a list of the ledger: {problem}") from problem

    def _certificate(self, value: object) -> SimpleNamespace:
        """Verify a certificate (6.3)."""
        found = array(value, CERTIFICATE)
        signed = msgspec.msgpack.encode([found.writer, found.key, found.roles, b""])
        message = b"loopbackup/v1/certificate\0" + self.vid + signed
        verify(self.authority, found.signature, message)
        return found


def split(raw: bytes) -> tuple[bytes, bytes, bytes]:
    """Take a record apart into frame, signature and bodies (6.1)."""
    end = 11 + int.from_bytes(raw[7:11], "little")
    fits = raw[:7] == b"LBKREC1" and end <= 11 + 65_536 and end + 64 <= len(raw)
    need(fits, "no record")
    return raw[11:end], raw[end : end + 64], raw[end + 64 :]


def verify(key: bytes, signature: bytes, message: bytes) -> None:
    """Verify an Ed25519 signature."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature as problem:
        raise VaultError("the signature does not fit") from problem


def node(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees."""
    return hashlib.sha256(b"\1" + left + right).digest()
