"""Sections 5 and 10 to 13 of the format for the reader: keyring, chunks and snapshots."""

from __future__ import annotations

import hmac
import itertools
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import msgspec
from backports.zstd import ZstdDecompressor, ZstdError
from blake3 import blake3
from tests.compat.reader_ledger import Ledger
from tests.compat.reader_sealed import (
    SLOT,
    Credential,
    Folder,
    VaultError,
    array,
    cut,
    decode,
    decrypt,
    derive,
    mapping,
    need,
    place_of,
    u32,
    unseal,
)

KEYRING_ROOT = """vault_id:16 epoch:16 header_hash:32 shard_keys:8704 slots:l house_writer:16
    house_key:32 authority_key:32 secrets:l"""
DOMAIN = "secret:32 generations:l label:l status:i*"
INDEX = "packs:b domains:b generations:b ends:b"
SNAPSHOT_BODY = "name:s created_us:i tags:m category:s? source:m report:l entries:i size:i"
AUDIT_BODY = "actor:s roles:l* purpose:s? ip:s? device:s? action:s reason:s? policy:s? details:m*"
SNAPSHOT_ROOT = "version:i snapshot:16 table:b firsts:b entries:i size:i nonce:32"
TABLE_ROW = "domain:16 chunks:b listed:t entries:i size:i"
ENTRY = """path:b kind:i mode:i* uid:i* gid:i* user:s* group:s* mtime_ns:i* ctime_ns:i* inode:i*
    size:i* chunks:b* extra:m?"""
EXTRA = "target:b? link:i* extents:l? xattrs:m? rdev:i* version:s? meta:m? listed:t* problem:s?"

CHUNK_KINDS = ("data", "bundle", "stream", "list", "table", "root", "ids")
ENTRY_KINDS = ("file", "folder", "symlink", "fifo", "char", "block", "socket", "item", "problem")
ROW = struct.Struct("<I32s4I2B")


@dataclass(frozen=True, eq=False)
class Domain:
    """The keys of one subject."""

    id: bytes
    secret: bytes
    generations: dict[int, bytes]
    label: list[str]


class Blob(NamedTuple):
    """A row of an index block, and where it leads."""

    domain: Domain
    generation: int
    pack: bytes
    at: int
    id: bytes
    codec: int
    plain: int
    stored: int


class Vault:
    """A vault whose ledger holds and whose keys fit; contents are verified as they are read."""

    def __init__(self, folder: Path, credential: Credential) -> None:
        self.folder = Folder(folder)
        self.ledger = Ledger(self.folder)
        self.vid: bytes = self.ledger.vid
        root = self._keyring_root(credential)
        self.audit_secret, index, meta, _, choice = root.secrets
        index_secret = derive(index, "index", self.vid)
        self.meta_body_key = derive(meta, "body/meta", self.vid)
        self.meta = Domain(
            derive(meta, "meta/id", self.vid, 16),
            derive(meta, "meta/secret", self.vid),
            {1: derive(meta, "meta/data", self.vid)},
            [],
        )
        self.domains = {self.meta.id: self.meta}
        home_key = derive(choice, "home", self.vid)
        for number, expected in self.ledger.shards.items():
            key = root.shard_keys[32 * number : 32 * number + 32]
            data = self.folder.named(b"s" + expected)
            self._read_shard(unseal(data, 3, key, self.vid, number), home_key)
        self.problems: list[str] = []
        self.blobs: dict[tuple[bytes, bytes], list[tuple[Blob, int, int]]] = defaultdict(list)
        for segment in self.ledger.segments:
            try:
                self._read_segment(segment, index_secret)
            except VaultError as problem:
                self.problems.append(f"segment {segment.hex()}: {problem}")
        self._open = lru_cache(maxsize=8)(self._open_blob)

    def _keyring_root(self, credential: Credential) -> SimpleNamespace:
        created, epoch, vid = self.ledger.created, self.ledger.epoch, self.vid
        problem = "no slot of this kind"
        for slot_id, kind, expected in created.slots:
            if kind != credential.kind:
                continue
            data = self.folder.read(f"keys/{epoch.hex()}/slot-{slot_id.hex()}", expected)
            need(data[:7] == b"LBKSLT1", "no slot of format 1")
            slot = array(decode(data[7:]), SLOT)
            need((slot.id, slot.kind) == (slot_id, kind), "another slot")
            try:
                root_key = credential.open_slot(
                    slot, vid, self.ledger.authority, epoch, created.salt
                )
            except VaultError as error:
                problem = str(error)
                continue
            sealed = self.folder.read(f"keys/{epoch.hex()}/root", self.ledger.root)
            payload = unseal(sealed, 2, derive(root_key, "root", vid + epoch), vid)
            root = array(decode(payload), KEYRING_ROOT)
            is_ours = (root.vault_id, root.epoch) == (vid, epoch)
            need(is_ours and root.header_hash == self.ledger.header_hash, "another vault's root")
            return root
        raise VaultError(problem)

    def _read_shard(self, data: bytes, home_key: bytes) -> None:
        count = u32(data)
        tags, ends = cut(data[4 : 4 + 8 * count], 8), cut(data[4 + 8 * count : 4 + 12 * count], 4)
        rows, start = data[4 + 12 * count :], 0
        for tag, end in zip(tags, map(u32, ends), strict=True):
            domain_id = rows[start : start + 16]
            found = array(decode(rows[start + 16 : end]), DOMAIN)
            place = blake3(msgspec.msgpack.encode(found.label), key=home_key).digest()
            need(place[:9] == domain_id[:1] + tag, "a domain under another subject's tag")
            generations = dict(found.generations)
            self.domains[domain_id] = Domain(domain_id, found.secret, generations, found.label)
            start = end
        need(start == len(rows), "surplus bytes in a shard")

    def _read_segment(self, segment: bytes, secret: bytes) -> None:
        is_pack, name = segment[:1] == b"p", place_of(segment)
        kind, expected = (4, None) if is_pack else (6, segment[1:])
        head = unseal(self.folder.read(name, length=176), kind, secret, self.vid)
        front = 176 + u32(head)
        # A pack is believed for its tags: its blobs may be whole where its hash is not.
        data = self.folder.read(name, expected, length=front if is_pack else -1)
        directory = decode(unseal(data[176:front], kind + 1, secret, self.vid))
        if is_pack:
            packs, blocks = [(segment, front)], array(directory, "blocks:l").blocks
        else:
            found = array(directory, INDEX)
            packs = [(b"p" + pack[:32], u32(pack, 32)) for pack in cut(found.packs, 36)]
            ends = [front + int.from_bytes(end, "little") for end in cut(found.ends, 8)]
            spans = itertools.pairwise([front, *ends])
            generations = map(u32, cut(found.generations, 4))
            encrypted = (data[start:end] for start, end in spans)
            blocks = zip(cut(found.domains, 16), generations, encrypted, strict=True)
        for domain_id, generation, block in blocks:
            if domain_id in self.domains:  # All else is erased.
                self._read_block(self.domains[domain_id], generation, block, packs)

    def _read_block(
        self, domain: Domain, generation: int, block: bytes, packs: list[tuple[bytes, int]]
    ) -> None:
        key = derive(domain.generations[generation], "index", self.vid + domain.id)
        key = hmac.digest(key, b"loopbackup/v1/block\0" + block[:24], "sha256")
        plain = decrypt(key, bytes(12), block[24:], self._owner(domain, generation))
        members = 4 + 54 * u32(plain)
        for found in cut(plain[4:members], 54):
            number, chunk_id, at, stored, length, more, codec, kind = ROW.unpack(found)
            need(number < len(packs), "a pack that the directory does not name")
            need(codec in (0, 1) and kind < len(CHUNK_KINDS), "an unknown codec or kind")
            pack, front = packs[number]
            blob = Blob(domain, generation, pack, front + at, chunk_id, codec, length, stored)
            chunks, start = [(chunk_id, 0, length)], 0
            for member in cut(plain[members : members + 36 * more], 36):
                chunks.append((member[:32], start, u32(member, 32)))
                start += u32(member, 32)
            need(start == blob.plain or len(chunks) == 1, "members of another length")
            members += 36 * (len(chunks) - 1)
            if pack not in self.ledger.condemned:
                for chunk_id, start, length in chunks:
                    self.blobs[domain.id, chunk_id].append((blob, start, length))
        need(members == len(plain), "surplus bytes in an index block")

    def _owner(self, domain: Domain, generation: int) -> bytes:
        return b"\1\1" + self.vid + domain.id + struct.pack("<I", generation)

    def _open_blob(self, blob: Blob) -> bytes:
        described = blob.id + struct.pack("<BII", blob.codec, blob.plain, blob.stored)
        data = self.folder.read(place_of(blob.pack), start=blob.at, length=blob.stored + 40)
        key = derive(blob.domain.generations[blob.generation], "data", self.vid + blob.domain.id)
        key = hmac.digest(key, b"loopbackup/v1/blob\0" + data[:24] + described, "sha256")
        plain = decrypt(
            key, bytes(12), data[24:], self._owner(blob.domain, blob.generation) + described
        )
        if blob.codec == 1:
            zstd = ZstdDecompressor()
            try:
                plain = bytes(zstd.decompress(plain, blob.plain + 1))
            except ZstdError as problem:
                raise VaultError(f"no zstd: {problem}") from problem
            need(zstd.eof and not zstd.unused_data, "not one zstd frame")
        need(len(plain) == blob.plain <= 33_554_432, "content of another length")
        return plain

    def chunk(self, domain: Domain, chunk_id: bytes, kind: str) -> bytes:
        """Read one chunk from wherever it is whole, and verify its id."""
        id_key = derive(domain.secret, f"id/{kind}", self.vid + domain.id)
        problem = "in no segment"
        for blob, start, length in self.blobs.get((domain.id, chunk_id), []):
            try:
                content = self._open(blob)[start : start + length]
                need(blake3(content, key=id_key).digest() == chunk_id, "another id")
            except VaultError as error:
                problem = str(error)
            else:
                return content
        raise VaultError(f"{kind} chunk {chunk_id.hex()}: {problem}")

    def snapshot(self, snapshot_id: bytes) -> SimpleNamespace:
        """Read the body of a live snapshot: its name, tags and so on."""
        _, refs, bodies = self.ledger.snapshots[snapshot_id]
        for (key, ref, _), body in zip(refs, bodies, strict=True):
            if key == "meta":
                body_key = self.meta_body_key
            elif key == "domain":
                need(ref in self.domains, "the snapshot is erased")
                body_key = derive(self.domains[ref].secret, "body", self.vid + ref)
            else:
                continue
            return mapping(decode(unseal(body, 8, body_key, self.vid)), SNAPSHOT_BODY)
        raise VaultError("no body")

    def entries(self, snapshot_id: bytes) -> Iterator[tuple[Domain, SimpleNamespace]]:
        """Read table and streams of a snapshot, without subjects that are erased or damaged."""
        facts, body = self.ledger.snapshots[snapshot_id][0], self.snapshot(snapshot_id)
        root = array(decode(self.chunk(self.meta, facts.root, "root")), SNAPSHOT_ROOT)
        need(root.version == 1, "a snapshot of a newer format")
        need(root.snapshot == snapshot_id, "the root of another snapshot")
        tables = [decode(self.chunk(self.meta, table, "table")) for table in cut(root.table, 32)]
        rows = [array(values, TABLE_ROW) for table in tables for values in table]
        firsts = [table[0][0] for table in tables]
        need(firsts == cut(root.firsts, 16), "other first domains")
        sums = sum(row.entries for row in rows), sum(row.size for row in rows)
        need(sums == (root.entries, root.size) == (body.entries, body.size), "other sums")
        order = [row.domain for row in rows]
        need(order == sorted(set(order)), "domains out of order")
        for row in rows:
            if row.domain not in self.domains:  # Erased.
                continue
            try:
                yield from self._entries_of(self.domains[row.domain], row)
            except VaultError as problem:
                self.problems.append(f"{snapshot_id.hex()}: {row.entries} entries: {problem}")

    def _entries_of(
        self, domain: Domain, row: SimpleNamespace
    ) -> Iterator[tuple[Domain, SimpleNamespace]]:
        chunks, firsts = cut(row.chunks, 32), None
        if row.listed:
            (chunk_id,) = chunks
            encoded, firsts = decode(self.chunk(domain, chunk_id, "list"))
            chunks = cut(encoded, 32)
        streams = [decode(self.chunk(domain, chunk_id, "stream")) for chunk_id in chunks]
        need(firsts in (None, [stream[0][0] for stream in streams]), "other first paths")
        found = [array(entry, ENTRY) for stream in streams for entry in stream]
        order = [entry.path.replace(b"/", b"\0") for entry in found]
        need(order == sorted(set(order)), "paths out of order")
        need(sum(entry.size for entry in found) == row.size, "another size")
        need(len(found) == row.entries, "another number of entries")
        for entry in found:
            parts = entry.path.split(b"/")
            need(b"\0" not in entry.path and not {b"", b".", b".."} & {*parts}, "an unsafe path")
            need(0 <= entry.kind < len(ENTRY_KINDS), "an entry of no known kind")
            entry.extra = mapping(entry.extra or {}, EXTRA)
            yield domain, entry

    def content(self, domain: Domain, entry: SimpleNamespace) -> Iterator[bytes]:
        """Read the content of a file or item, chunk by chunk."""
        chunks, size = cut(entry.chunks, 32), 0
        if entry.extra.listed:
            chunks = cut(b"".join(self.chunk(domain, ids, "ids") for ids in chunks), 32)
        for chunk_id in chunks:
            data = self.chunk(domain, chunk_id, "data")
            size += len(data)
            yield data
        need(size == entry.size, "chunks of another length")

    def audit(self) -> Iterator[tuple[SimpleNamespace, SimpleNamespace]]:
        """Open the audit bodies: frame and who did what, why."""
        for frame, month, body in self.ledger.audit:
            key = derive(self.audit_secret, "body/audit", self.vid + month)
            yield frame, mapping(decode(unseal(body, 8, key, self.vid)), AUDIT_BODY)

    def verify_packs(self) -> None:
        """Compare the hash of every live pack, and note those that differ."""
        for pack in sorted({blob.pack for places in self.blobs.values() for blob, _, _ in places}):
            try:
                self.folder.named(pack)
            except VaultError as problem:
                self.problems.append(str(problem))
