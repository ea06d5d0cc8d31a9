"""
Read vaults of format 1, written from docs/reference/format.md (sections in brackets) alone.

    python tests/compat/reader.py VAULT SECRET [FOLDER]
"""

import functools
import hashlib
import hmac
import itertools
import json
import os
import struct
import sys
import unicodedata
from collections import defaultdict, namedtuple
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from backports.zstd import ZstdDecompressor, ZstdError
from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric import ed25519, mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf import argon2, hkdf
from msgspec.msgpack import decode, encode

PLACES = {b"p": "packs/{0:.2}/{0}", b"i": "index/{0}", b"l": "lists/{0}", b"s": "keys/shard/{0}"}
KINDS = {"reader": "restore read refused override", "writer": "domains snapshot claim run-failed",
         "maintainer": "forget prune swept summary check claim-lapsed located replica replicated",
         "admin": "created writer epoch hold release restriction lift overlay register receipt "
         "replica-lost policy"}  # fmt: skip
ROLES = {kind: role for role, kinds in KINDS.items() for kind in kinds.split()}
LISTS = {"domains": (2,), "snapshot": (5, 7), "prune": (1, 3, 6), "check": (3,), "overlay": (4,)}
ENTRY_KINDS = ("file", "folder", "symlink", "fifo", "char", "block", "socket", "item", "problem")
Domain = namedtuple("Domain", "id secret generations label status", defaults=(0,))
Frame = namedtuple("Frame", "version index commit tree epoch root writer at_us kind bodies facts")
Entry = namedtuple("Entry", "path kind mode uid gid user group mtime_ns ctime_ns inode size "
                   "chunks extra", defaults=(0, 0, 0, "", "", 0, 0, 0, 0, b"", None))  # fmt: skip
DAMAGE = (InvalidSignature, InvalidTag, ZstdError, struct.error, LookupError, OSError, TypeError,
          ArithmeticError, AttributeError, RecursionError, ValueError)  # fmt: skip


class FoldError(Exception):
    """The ledger stops here: what follows must not be believed."""


def need(condition: object, text: str, error: type[Exception] = ValueError) -> None:
    """Raise where a condition does not hold."""
    if not condition:
        raise error(text)


def u32(data: bytes, at: int = 0) -> int:
    """Read a little-endian number."""
    return int.from_bytes(data[at : at + 4], "little")


def cut(data: bytes, length: int) -> list[bytes]:
    """Take concatenated values of one length apart."""
    need(len(data) % length == 0, f"no multiple of {length} bytes")
    return [data[at : at + length] for at in range(0, len(data), length)]


def place(folder: Path, name: bytes) -> Path:
    """Give the file of the object that a short name means (2)."""
    return folder / PLACES[name[:1]].format(name[1:].hex())


def fetch(path: Path, expected: bytes | None = None, start: int = 0, length: int = -1) -> bytes:
    """Read an object or a piece of it, and compare its hash."""
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(length)
    need(expected in (None, blake3(data).digest()), f"{path} has another hash")
    return data


def derive(key: bytes, label: str, context: bytes, length: int = 32) -> bytes:
    """Compute D(key, label, context, length) (1)."""
    info = b"loopbackup/v1/" + label.encode() + b"\0" + context
    return hkdf.HKDFExpand(hashes.SHA512(), length, info).derive(key)


def unseal(data: bytes, kind: int, key: bytes, vid: bytes, generation: int = 0) -> bytes:
    """Open a sealed object (4.1)."""
    need(data[:8] == b"LBK1" + bytes([kind, 1, 0, 0]), "not sealed, of another kind or newer")
    need((u32(data, 8), data[16:32]) == (generation, vid), "of another vault or generation")
    keys = derive(key, "seal", data[:64], 76)
    need(hmac.compare_digest(keys[44:], data[64:96]), "another key, or altered")
    plain = AESGCM(keys[:32]).decrypt(keys[32:44], data[96:], data[:64])
    return plain[4 : 4 + u32(plain)]


class Ledger:
    """The fold of all records, as far as reading needs it (3, 6 to 8); void ones get an alarm."""

    def __init__(self, folder: Path) -> None:
        data = fetch(folder / "vault")
        need(data[:7] == b"LBKVLT1", "no vault of format 1")
        header, rest = data[11 : 11 + u32(data, 7)], data[11 + u32(data, 7) :]
        self.store, signature, record_0 = rest[:16], rest[16:80], rest[80:]
        found = decode(header)
        need(found["format"] == found["suite"] == 1, "a vault of a newer format")
        self.folder, self.vid, self.authority = folder, found["vault_id"], found["authority"]
        self._verify(signature, b"loopbackup/v1/store\0" + self.vid + self.store)
        first = Frame(*decode(record_0[11 : 11 + u32(record_0, 7)]))
        header_hash, self.salt, house, self.slots, shards, *_ = first.facts
        self.epoch, self.root, self.house = first.epoch, first.root, house[0]
        self.header_hash, self.fenced = blake3(header).digest(), set[bytes]()
        self.writers: dict[bytes, tuple[bytes, list[str]]] = {}  # Key and roles.
        self._enrol(house)
        need(header_hash == self.header_hash and first.writer in self.writers, "another record 0")
        self.shards, self.alarms = dict[int, bytes](shards), list[tuple[int, str]]()
        self.snapshots, self.marks = dict[bytes, Frame](), dict[bytes, tuple[str, bytes, Any]]()
        self.policy: tuple[int, list[Any]] = -1, []  # The record that set it, and its bodies.
        self.segments, self.condemned = dict[bytes, bytes](), set[bytes]()  # Name to front.
        self.size, self.tree, self._peaks = 0, hashlib.sha256().digest(), list[bytes]()
        self._append(record_0)
        need(not self.alarms, f"no vault: {self.alarms}")
        records = {int(path.name): path for path in folder.glob("ledger/" + "[0-9]" * 20)}
        need(0 not in records or records[0].read_bytes() == record_0, "two records 0")
        while self.size in records:
            self._append(records[self.size].read_bytes())
        beyond = sorted(records.keys() - range(self.size)) if self.store == self.vid else []
        self.alarms += [(n, "stands above a gap") for n in beyond]  # Replicas are being filled.

    def _append(self, raw: bytes) -> None:
        index, leaf = self.size, raw
        try:
            frame = self._authenticate(raw)
            leaf = raw[11 : 75 + u32(raw, 7)]
            self._apply(frame)
        except DAMAGE as problem:
            self.alarms.append((index, repr(problem)))
        peak = hashlib.sha256(b"\0" + leaf).digest()
        while index & 1:
            peak, index = _node(peak, self._peaks.pop()), index >> 1
        self._peaks.append(peak)
        self.size, self.tree = self.size + 1, functools.reduce(_node, self._peaks[::-1])

    def _authenticate(self, raw: bytes) -> Frame:
        """Take steps 1 and 2 of the page; put the bodies where their hashes stood."""
        end = 11 + u32(raw, 7)
        encoded, signature, rest = raw[11:end], raw[end : end + 64], raw[end + 64 :]
        need(raw[:7] == b"LBKREC1" and end <= 11 + 65_536, "no record")
        version, index, *_, writer = decode(encoded)[:7]
        need(index == self.size and writer in self.writers, "another index or unknown writer")
        key = ed25519.Ed25519PublicKey.from_public_bytes(self.writers[writer][0])
        key.verify(signature, b"loopbackup/v1/record\0" + self.vid + encoded)
        need(version == 1, f"record {self.size} is of a newer format", FoldError)
        frame, bodies = Frame(*decode(encoded)), []
        for use, ref, expected in frame.bodies:
            body, rest = rest[4 : 4 + u32(rest)], rest[4 + u32(rest) :]
            bodies += [(use, ref, body)] if blake3(body).digest() == expected else []
        if rest or len(bodies) < len(frame.bodies):
            self.alarms.append((index, "holds, but a body of it is lost"))
        return frame._replace(bodies=bodies)

    def _apply(self, frame: Frame) -> None:
        """Take steps 3 to 8, and only then bring about what the record says."""
        _, roles = self.writers[frame.writer]
        need(
            frame.tree == self.tree,
            "another history",
            FoldError if "admin" in roles else ValueError,
        )
        need(frame.kind in ROLES, f"record {self.size} is of a newer kind", FoldError)
        need(ROLES[frame.kind] in ("reader", *roles), "the writer has not the role")
        need((frame.kind == "created") == (self.size == 0), "not the beginning")
        need((frame.epoch, frame.root) == (self.epoch, self.root), "another epoch or root")
        lists = [frame.facts[at] for at in LISTS.get(frame.kind, ()) if at < len(frame.facts)]
        need(self.condemned.isdisjoint(b"l" + name for name in lists), "a condemned list")
        changes = frame.facts[{"domains": 0, "epoch": 5}.get(frame.kind, slice(0))]
        for number, old, new in changes:
            need(self.shards.get(number, b"") == old and b"s" + new not in self.condemned, "shard")
        if frame.kind == "epoch":
            epoch, root, salt, house, slots, _, *erasure = frame.facts
            once = len({slot for slot, *_ in slots}), len({number for number, *_ in changes})
            need(once == (len(slots), len(changes)) and 0 < len(slots) <= 64, "a slot or shard")
            used = self.condemned | {b"k" + self.epoch + bytes(16)}
            need(house[0] not in self.writers and b"k" + epoch + bytes(16) not in used, "used")
            self._enrol(house)
            del self.writers[self.house]
            self.condemned, self.house, self.slots = used, house[0], slots
            self.epoch, self.root, self.salt = epoch, root, salt
            self.fenced |= {*self._names(*[*[*erasure, b"", b"", b""][1:3], 16])}
            self.marks = {m: f for m, f in self.marks.items() if f[1] not in self.fenced}
            ids = {s: {*cut([*f.facts, b"", b"", b""][6], 16)} for s, f in self.snapshots.items()}
            live = {s for s, named in ids.items() if named - self.fenced or not named}
            self.snapshots = {s: f for s, f in self.snapshots.items() if s in live}
        self.condemned |= {b"s" + old for _, old, _ in changes if old}
        self.shards |= {number: new for number, _, new in changes}
        if frame.kind == "snapshot":
            need(frame.facts[0] not in self.snapshots, "the snapshot exists")
            named = self._names(*[*[*frame.facts, b"", b""][6:8], 16]) if self.fenced else ()
            need(self.fenced.isdisjoint(named), "it names somebody who was erased")
            self._add_segments(*frame.facts[3:6])
            self.snapshots[frame.facts[0]] = frame
        elif frame.kind == "forget":
            gone, marks = self.snapshots.keys() & frame.facts[0], self.marks.values()
            kept = {d for _, d, until in marks if until is None or frame.at_us < until} - {b""}
            for snapshot in gone if kept else ():
                inline, listed = self.snapshots[snapshot].facts[6:8]
                need(kept.isdisjoint(self._names(inline, listed, 16)), "it is held or restricted")
            self.snapshots = {s: f for s, f in self.snapshots.items() if s not in gone}
        elif frame.kind in ("hold", "restriction"):
            mark, domain, until = [*frame.facts, None][:3]
            need(mark not in self.marks and domain not in self.fenced, "it stands, or erased")
            self.marks[mark] = frame.kind, domain, until
        elif frame.kind == "overlay":
            self._add_segments(*frame.facts[2:5])
        elif frame.kind in ("release", "lift"):
            ends = frame.facts[0], {"release": "hold", "lift": "restriction"}[frame.kind]
            self.marks = {m: found for m, found in self.marks.items() if (m, found[0]) != ends}
        elif frame.kind == "prune":
            gone, old = (set(self._names(*frame.facts[at : at + 2])) for at in (0, 2))
            keys = {b"s" + shard for shard in self.shards.values()}
            need(gone.isdisjoint({*keys, b"k" + self.epoch + bytes(16)}), "keys that are current")
            dead, new = self.condemned | gone, self._fronts(frame.facts[4])
            need(old <= {*self.segments} and dead.isdisjoint(new), "no segments to replace so")
            self.condemned = dead
            self.segments = {n: f for n, f in self.segments.items() if n not in dead | old} | new
        elif frame.kind == "writer":
            self._enrol(frame.facts[0])
        sets = {"created": any(frame.facts[8:]), "policy": True}.get(frame.kind, False)
        need(frame.kind != "policy" or frame.facts[0] == self.policy[0], "it replaces another")
        self.policy = (self.size, frame.bodies) if sets else self.policy

    def _add_segments(self, names: bytes, packs: bytes = b"", packs_list: bytes = b"") -> None:
        segments = self._fronts(names)
        needed = self._fronts(packs, packs_list) if self.condemned else {}
        need(self.condemned.isdisjoint(segments | needed), "it needs what is condemned")
        self.segments |= segments

    def _names(self, names: bytes, list_hash: bytes = b"", width: Any = 33) -> list[bytes]:
        if list_hash and not names:
            try:
                data = fetch(place(self.folder, b"l" + list_hash), list_hash)
                need(data[:7] == b"LBKLST1", "no list")
            except DAMAGE as problem:
                raise FoldError(f"a list of the ledger: {problem!r}") from problem
            names = data[23:]
        found = cut(names, width)
        need(width == 16 or all(name[:1] in b"pilsk" for name in found), "no short name")
        return found

    def _fronts(self, fronts: bytes, list_hash: bytes = b"") -> dict[bytes, bytes]:
        return {front[:33]: front[33:] for front in self._names(fronts, list_hash, width=65)}

    def _enrol(self, certificate: list[Any]) -> None:
        writer, key, roles, signature = certificate
        signed = b"loopbackup/v1/certificate\0" + self.vid + encode([writer, key, roles, b""])
        self._verify(signature, signed)
        self.writers[writer] = key, roles

    def _verify(self, signature: bytes, signed: bytes) -> None:
        ed25519.Ed25519PublicKey.from_public_bytes(self.authority).verify(signature, signed)


def root_key_of(slot: bytes, secret: str, ledger: Ledger) -> bytes:
    """Get the root key out of a slot with a passphrase or the text of a key file (5.1, 5.2)."""
    need(slot[:7] == b"LBKSLT1", "no slot of format 1")
    slot_id, kind, (salt, *costs, _), expected, wrapped, box, vouch = decode(slot[7:])
    if kind == "passphrase":
        (kib, passes, lanes), text = costs, unicodedata.normalize("NFC", secret)
        need(len(salt) >= 16 and kib >= 19_456, "weak Argon2id")
        kdf = argon2.Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=kib)
        seed = kdf.derive(text.encode("utf-8", "surrogateescape"))
    else:
        magic, digits, checksum = secret.split()
        digest = hashlib.sha256(f"loopbackup-key-1 {digits}".encode()).hexdigest()
        need((magic, checksum) == ("loopbackup-key-1", digest[:8]), "no key file")
        seed = bytes.fromhex(digits)
    keys = hashlib.shake_256(seed).digest(96)
    pq = mlkem.MLKEM768PrivateKey.from_seed_bytes(keys[:64])
    curve = x25519.X25519PrivateKey.from_private_bytes(keys[64:])
    public_key = b"".join(key.public_key().public_bytes_raw() for key in (pq, curve))
    need(public_key == expected, "another credential")
    voucher = blake3(ledger.vid + ledger.authority, key=derive(seed, "vouch", b""))
    need(hmac.compare_digest(vouch, voucher.digest()), "the slot was made for another vault")
    info = b"loopbackup/v1/slot\0" + ledger.vid + ledger.epoch + slot_id
    info += hashlib.sha256(public_key).digest()
    suite = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    k1 = suite.decrypt(wrapped, hpke.MLKEM768X25519PrivateKey(pq, curve), info)
    return unseal(box, 1, hkdf.HKDF(hashes.SHA512(), 32, ledger.salt, info).derive(k1), ledger.vid)


def _node(right: bytes, left: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


class Vault:
    """Keys, index and contents of a vault, verified as they are read (4, 5, 10 to 13)."""

    def __init__(self, folder: Path, kind: str, secret: str) -> None:
        self.folder, self.ledger, self.problems = folder, Ledger(folder), list[str]()
        self.vid: bytes = self.ledger.vid
        shard_keys, (_, index, meta, _, _), numbered = self._keyring(kind, secret)
        self.vault_keys = [(number, derive(meta, "generation", key)) for number, key in numbered]
        meta_id = derive(meta, "meta/id", self.vid, 16)
        self.meta = Domain(meta_id, derive(meta, "meta/secret", self.vid), self.vault_keys, [])
        self.domains = {meta_id: self.meta}
        for number, expected in self.ledger.shards.items():
            data = fetch(place(folder, b"s" + expected), expected)
            shard = unseal(data, 3, cut(shard_keys, 32)[number], self.vid, number)
            ends = cut(shard[4 + 8 * (count := u32(shard)) : 4 + 12 * count], 4)
            rows = shard[4 + 12 * count :]
            for start, end in itertools.pairwise([0, *map(u32, ends)]):
                domain = Domain(rows[start : start + 16], *decode(rows[start + 16 : end])[:4])
                self.domains |= {} if domain.status == 1 else {domain.id: domain}  # 1: erased.
        self.places: dict[tuple[bytes, bytes], list[tuple[Any, int, int]]] = defaultdict(list)
        for segment, expected in self.ledger.segments.items():
            with self.told(f"segment {segment.hex()}"):
                self._read_segment(segment, expected, derive(index, "index", self.vid))
        self._open = functools.lru_cache(maxsize=8)(self._open_blob)

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        try:
            yield
        except DAMAGE as problem:
            self.problems.append(f"{what}: {problem!r}")

    def _keyring(self, kind: str, secret: str) -> tuple[bytes, list[bytes], list[Any]]:
        ledger, keys, root_key = self.ledger, self.folder / "keys" / self.ledger.epoch.hex(), b""
        for slot, _, expected in (slot for slot in ledger.slots if slot[1] == kind):
            with suppress(*DAMAGE):
                root_key = root_key_of(fetch(keys / f"slot-{slot.hex()}", expected), secret, ledger)
        need(root_key, "no slot is this credential's, or it is altered")
        key = derive(root_key, "root", self.vid + ledger.epoch)
        payload = unseal(fetch(keys / "root", ledger.root), 2, key, self.vid)
        *found, shard_keys, _, _, _, _, secrets, numbered = decode(payload)
        need(found == [self.vid, ledger.epoch, ledger.header_hash], "another vault's root")
        return shard_keys, secrets, numbered

    def _read_segment(self, segment: bytes, expected: bytes, secret: bytes) -> None:
        is_pack, path = segment[:1] == b"p", place(self.folder, segment)
        front = 176 + u32(unseal(fetch(path, length=176), 4 if is_pack else 6, secret, self.vid))
        fetch(path, expected, length=front)
        # Of a pack blobs may be whole where its hash is not: they are verified one by one.
        data = fetch(path, *((None, 0, front) if is_pack else (segment[1:],)))
        directory = decode(unseal(data[176:front], 5 if is_pack else 7, secret, self.vid))
        if is_pack:
            packs, (salt, blocks) = [(segment, front)], directory
        else:
            salt, pack_fronts, domains, numbers, ends = directory
            packs = [(b"p" + pack[:32], u32(pack, 32)) for pack in cut(pack_fronts, 68)]
            ends = [front + int.from_bytes(end, "little") for end in cut(ends, 8)]
            encrypted = [data[start:end] for start, end in itertools.pairwise([front, *ends])]
            blocks = [*zip(cut(domains, 16), map(u32, cut(numbers, 4)), encrypted, strict=True)]
        for owner, same in itertools.groupby(blocks, lambda block: tuple(block[:2])):
            for number, (*_, block) in enumerate(same if owner[0] in self.domains else ()):
                bound = (int.from_bytes(salt, "little") + number) % 2**128
                self._read_block(owner, block, bound.to_bytes(16, "little"), packs)

    def _decrypt(self, use: str, owner: tuple[bytes, int], data: bytes, described: bytes) -> bytes:
        domain_id, generation = owner
        purpose = {"data": b"loopbackup/v1/blob\0", "index": b"loopbackup/v1/block\0"}[use]
        generations = dict(self.domains[domain_id].generations)
        key = derive(generations[generation], use, self.vid + domain_id)
        purpose += data[:24] + (described if use == "data" else b"")
        key = hmac.digest(key, purpose, "sha256")
        tied = b"\1\1" + self.vid + domain_id + struct.pack("<I", generation) + described
        return AESGCM(key).decrypt(bytes(12), data[24:], tied)

    def _read_block(self, owner: Any, block: bytes, salt: bytes, packs: list[Any]) -> None:
        plain = self._decrypt("index", owner, block, salt)
        members = 4 + 54 * u32(plain)
        for row in struct.iter_unpack("<I32s4I2B", plain[4:members]):
            number, chunk_id, at, stored, length, more, codec, _ = row
            pack, front = packs[number]
            blob = owner, pack, front + at, chunk_id, codec, length, stored
            chunks, start = [(chunk_id, 0, length)], 0
            for member in cut(plain[members : members + 36 * more], 36):
                chunks.append((member[:32], start, u32(member, 32)))
                start += u32(member, 32)
            members += 36 * more
            if pack not in self.ledger.condemned:
                for chunk_id, start, length in chunks:
                    self.places[owner[0], chunk_id].append((blob, start, length))

    def _open_blob(self, blob: tuple[Any, ...]) -> bytes:
        owner, pack, at, chunk_id, codec, length, stored = blob
        described = chunk_id + struct.pack("<BII", codec, length, stored)
        data = fetch(place(self.folder, pack), start=at, length=stored + 40)
        plain = self._decrypt("data", owner, data, described)
        return ZstdDecompressor().decompress(plain, length + 1) if codec else plain

    def chunk(self, domain: Domain, chunk_id: bytes, kind: str) -> bytes:
        """Read one chunk from wherever it is whole, and verify its id (11)."""
        id_key = derive(domain.secret, f"id/{kind}", self.vid + domain.id)
        for blob, start, length in self.places.get((domain.id, chunk_id), []):
            with suppress(*DAMAGE):
                content = self._open(blob)[start : start + length]
                if blake3(content, key=id_key).digest() == chunk_id:
                    return content
        raise ValueError(f"{kind} chunk {chunk_id.hex()} is nowhere whole")

    def body(self, bodies: list[Any]) -> dict[str, Any]:
        """Read the body of a live snapshot, its name, tags and so on, or of the policy (6.4)."""
        for use, ref, body in (found for found in bodies if found[0] in ("meta", "domain")):
            key = (
                self.domains[ref].secret
                if use == "domain"
                else dict(self.vault_keys)[u32(ref[-4:])]
            )
            key = derive(key, "body" if use == "domain" else "body/meta", self.vid + ref)
            return dict(decode(unseal(body, 8, key, self.vid)))
        return {"name": ""}  # The body that says it is lost.

    def entries(self, snapshot_id: bytes) -> Iterator[tuple[Domain, Entry]]:
        """Read a snapshot's entries without subjects that are erased or damaged (13)."""
        root_id = self.ledger.snapshots[snapshot_id].facts[1]
        version, snapshot, table, *_ = decode(self.chunk(self.meta, root_id, "root"))
        need((version, snapshot) == (1, snapshot_id), "newer, or of another snapshot")
        tables = [decode(self.chunk(self.meta, part, "table")) for part in cut(table, 32)]
        for domain_id, chunks, listed, number, _ in itertools.chain(*tables):
            if domain_id in self.domains:  # Else it is erased.
                with self.told(f"{snapshot_id.hex()}: {number} entries"):
                    yield from [*self._entries_of(self.domains[domain_id], chunks, listed)]

    def _entries_of(self, domain: Domain, chunks: bytes, listed: bool) -> Iterator[Any]:
        chunks = decode(self.chunk(domain, chunks, "list"))[0] if listed else chunks
        streams = [decode(self.chunk(domain, chunk_id, "stream")) for chunk_id in cut(chunks, 32)]
        for entry in (Entry(*values) for values in itertools.chain(*streams)):
            parts = entry.path.split(b"/")
            need(b"\0" not in entry.path and not {b"", b".", b".."} & {*parts}, "an unsafe path")
            yield domain, entry._replace(kind=ENTRY_KINDS[entry.kind], extra=entry.extra or {})

    def content(self, domain: Domain, entry: Entry) -> Iterator[bytes]:
        """Read the content of a file or item piece by piece, holes as zeros."""
        chunks, data, at = cut(entry.chunks, 32), b"", 0
        if entry.extra.get("listed"):
            chunks = cut(b"".join(self.chunk(domain, ids, "ids") for ids in chunks), 32)
        for start, length in [*entry.extra.get("extents", [(0, entry.size)]), (entry.size, 0)]:
            need(at <= start <= start + length <= entry.size, "extents out of order or bounds")
            yield from (bytes(min(start - hole, 1 << 20)) for hole in range(at, start, 1 << 20))
            at, end = start, start + length
            while at < end:
                data = data or self.chunk(domain, chunks.pop(0), "data")
                yield data[: end - at]
                at, data = min(end, at + len(data)), data[end - at :]
        need(not chunks and not data, "chunks of another length")


def finish(path: bytes, first: bytes, entry: Entry) -> None:
    """Make a link or pipe, and set attributes, mode and time of what stands there."""
    if first != path:
        os.link(first, path, follow_symlinks=False)
    elif entry.kind == "symlink":
        os.symlink(entry.extra["target"], path)
    elif entry.kind == "fifo":
        os.mkfifo(path)
    if entry.kind not in ("symlink", "item"):
        os.chmod(path, entry.mode)
    if entry.kind != "item" or entry.mtime_ns:
        os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)
    for name, value in entry.extra.get("xattrs", {}).items():
        os.setxattr(path, name, value, follow_symlinks=False)


def restore(vault: Vault, snapshot: bytes, out: Path | None) -> list[dict[str, Any]]:
    """Read a snapshot, into a new folder if one is given, zeros as holes; give its entries."""
    found, later, links = [], [], dict[Any, bytes]()
    for domain, entry in vault.entries(snapshot):
        path, digest = os.path.join(os.fsencode(out or ""), entry.path), hashlib.sha256()
        first = links.get(group := entry.extra.get("link") or path, path)
        is_dir = entry.kind == "folder"
        with vault.told(f"{snapshot.hex()} {entry.path!r}"):
            if out:
                os.makedirs(path if is_dir else os.path.dirname(path), exist_ok=True)
            has_file = out and entry.kind in ("file", "item") and first == path
            with open(path if has_file else os.devnull, "xb" if has_file else "wb") as file:
                for data in vault.content(domain, entry):
                    digest.update(data)
                    file.write(data) if data.strip(b"\0") else file.seek(len(data), os.SEEK_CUR)
                file.truncate() if has_file else None
            shown = entry._asdict() | {"subject": domain.label, "sha256": digest.hexdigest()}
            found.append(shown | entry.extra | {"xattrs": [*entry.extra.get("xattrs", {}).items()]})
            if out and entry.kind not in ("char", "block", "socket", "problem"):
                later.append((is_dir, first != path, -len(path), path, first, entry))
                links[group] = first
    # Links last, so that nothing goes through one; folders after them, for their times.
    for *_, path, first, entry in sorted(later, key=lambda one: one[:3]):
        with vault.told(f"{snapshot.hex()} {entry.path!r}"):
            finish(path, first, entry)
    return found


def read(folder: Path, kind: str, secret: str, out: Path | None = None) -> dict[str, Any]:
    """Verify a vault and read all that lives in it; restore below *out* by snapshot id."""
    vault, snapshots = Vault(folder, kind, secret), []
    for snapshot_id in vault.ledger.snapshots:
        place = out and out / snapshot_id.hex()
        place.mkdir(parents=True) if place else None  # New: no link leads out of it.
        with vault.told(snapshot_id.hex()):
            bodies = vault.ledger.snapshots[snapshot_id].bodies
            found = {"id": snapshot_id} | vault.body(bodies)
            snapshots.append(found | {"entries": restore(vault, snapshot_id, place)})
    told = {"alarms": vault.ledger.alarms, "problems": vault.problems, "vault": vault.vid}
    told["policy"] = vault.body(vault.ledger.policy[1]).get("text")
    told["head"] = f"{vault.ledger.size}:{vault.ledger.tree.hex()}"
    return told | {"snapshots": snapshots}


if __name__ == "__main__":  # Status 1 if something is unreadable.
    folder, credential, *out = map(Path, sys.argv[1:])
    secret = credential.read_text("utf-8", "surrogateescape").splitlines()[0]
    kind = "keyfile" if secret.startswith("loopbackup-key-1 ") else "passphrase"
    found = read(folder, kind, secret, *out)
    print(json.dumps(found, indent=1, default=bytes.hex, skipkeys=True))
    sys.exit(bool(found["alarms"] or found["problems"]))
