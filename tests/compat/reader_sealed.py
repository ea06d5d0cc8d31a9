"""Sections 1, 2, 4 and 5 of the format for the reader: notation, objects, sealing, credentials."""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

# Tables of the page are written as "name:type" here. A number is bytes of that
# length; a type with "*" may be left out and is empty then; one with "?" may be
# left out or nil and is nil then.
TYPES = {"b": bytes, "i": int, "s": str, "l": list, "m": dict, "t": bool}
SLOT = "id:8 kind:s params:l public_key:1216 wrapped:1168 box:176 vouch:32"
PLACES = {b"p": "packs/{0:.2}/{0}", b"i": "index/{0}", b"l": "lists/{0}", b"s": "keys/shard/{0}"}


class VaultError(Exception):
    """Bytes are not what the page says, or the credential is not the vault's."""


def need(condition: object, text: str, error: type[Exception] = VaultError) -> None:
    """Raise where a condition does not hold."""
    if not condition:
        raise error(text)


def derive(key: bytes, label: str, context: bytes, length: int = 32) -> bytes:
    """Compute D(key, label, context, length)."""
    info = b"loopbackup/v1/" + label.encode() + b"\0" + context
    return HKDFExpand(SHA512(), length, info).derive(key)


def u32(data: bytes, at: int = 0) -> int:
    """Read a little-endian number."""
    need(len(data) >= at + 4, "too short")
    return int.from_bytes(data[at : at + 4], "little")


def cut(data: bytes, length: int) -> list[bytes]:
    """Take concatenated values of one length apart."""
    need(len(data) % length == 0, f"no multiple of {length} bytes")
    return [data[at : at + length] for at in range(0, len(data), length)]


def place_of(name: bytes) -> str:
    """Give the name of the object that a short name means (2)."""
    return PLACES[name[:1]].format(name[1:].hex())


def short_names(data: bytes) -> list[bytes]:
    """Take concatenated short names apart (2)."""
    names = cut(data, 33)
    need(all(name[:1] in PLACES for name in names), "no short name")
    return names


def decode(data: bytes) -> Any:
    """Decode msgpack."""
    try:
        return msgspec.msgpack.decode(data)
    except (ValueError, RecursionError) as problem:
        raise VaultError(f"no msgpack: {problem}") from problem


def array(value: object, table: str) -> SimpleNamespace:
    """Give the values of an array their names, and look at their types."""
    names = [field.split(":")[0] for field in table.split()]
    if not isinstance(value, list) or len(value) > len(names):
        raise VaultError("no array of the table's length")
    return mapping(dict(zip(names, value, strict=False)), table)


def mapping(value: object, table: str) -> SimpleNamespace:
    """Look at the names and types of a map's values."""
    types = dict(field.split(":") for field in table.split())
    if not isinstance(value, dict) or not value.keys() <= types.keys():
        raise VaultError("no map of the table's fields")
    found = SimpleNamespace()
    for name, code in types.items():
        sort = TYPES.get(code[0], bytes)
        default = None if code.endswith("?") else sort()
        need(name in value or code[-1] in "*?", f"{name} is missing")
        part = value.get(name, default)
        # A bool is an int to isinstance, and is none here.
        fits = type(part) is sort or (part is None and default is None)
        need(fits, f"{name} is of another type")
        need(not code.isdigit() or len(part or b"") == int(code), f"{name} is of another length")
        setattr(found, name, part)
    return found


def decrypt(key: bytes, nonce: bytes, data: bytes, associated: bytes) -> bytes:
    """Open AES-256-GCM."""
    try:
        return AESGCM(key).decrypt(nonce, data, associated)
    except (InvalidTag, ValueError) as problem:
        raise VaultError("the tag does not fit: altered, or another key") from problem


def unseal(data: bytes, kind: int, key: bytes, vid: bytes, generation: int = 0) -> bytes:
    """Open a sealed object (4.1)."""
    need(112 <= len(data) <= 2**30 and data[:3] == b"LBK", "no sealed object")
    is_known = data[3:4] == b"1" and data[5:8] == b"\1\0\0" and not any(data[12:16])
    need(is_known, "a sealed object of a newer format")
    need(data[4] == kind and data[16:32] == vid, "a sealed object of another kind or vault")
    need(u32(data, 8) == generation, "a sealed object of another generation")
    keys = derive(key, "seal", data[:64], 76)
    need(hmac.compare_digest(keys[44:], data[64:96]), "another key, or altered")
    plain = decrypt(keys[:32], keys[32:44], data[96:], data[:64])
    need(len(plain) - 4 >= u32(plain), "a payload longer than its plaintext")
    return plain[4 : 4 + u32(plain)]


class Folder(NamedTuple):
    """A vault's objects on a local disk."""

    path: Path

    def read(
        self, name: str, expected: bytes | None = None, *, start: int = 0, length: int = -1
    ) -> bytes:
        """Read an object or a piece of it, and compare its hash."""
        try:
            with (self.path / name).open("rb") as file:
                file.seek(start)
                data = file.read(length)
        except OSError as problem:
            raise VaultError(f"{name} cannot be read: {problem.strerror}") from problem
        need(length in (-1, len(data)), f"{name} is cut off")
        need(expected in (None, blake3(data).digest()), f"{name} has another hash")
        return data

    def named(self, name: bytes) -> bytes:
        """Read the object of a short name."""
        return self.read(place_of(name), name[1:])

    def listed(self, list_hash: bytes) -> list[bytes]:
        """Read a list of short names (8)."""
        data = self.named(b"l" + list_hash)
        need(data[:7] == b"LBKLST1", "no list")
        return short_names(data[23:])


class Credential(NamedTuple):
    """A passphrase, or the text of a key file."""

    kind: str
    text: str

    def seed(self, salt: bytes, memory_kib: int, passes: int, lanes: int) -> bytes:
        """Make the seed with the parameters of a slot (5.1)."""
        if self.kind == "passphrase":
            secret = unicodedata.normalize("NFC", self.text).encode("utf-8", "surrogateescape")
            need(len(salt) >= 16 and memory_kib >= 19_456 and passes and lanes, "weak Argon2id")
            return Argon2id(
                salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory_kib
            ).derive(secret)
        magic, _, rest = self.text.partition(" ")
        seed, _, checksum = rest.partition(" ")
        digest = hashlib.sha256(f"loopbackup-key-1 {seed}".encode()).hexdigest()
        need((magic, checksum.strip()) == ("loopbackup-key-1", digest[:8]), "no key file")
        return bytes.fromhex(seed)

    def open_slot(
        self, slot: SimpleNamespace, vid: bytes, authority: bytes, epoch: bytes, salt: bytes
    ) -> bytes:
        """Get the root key out of a slot (5.2)."""
        seed = self.seed(*slot.params)
        keys = hashlib.shake_256(seed).digest(96)
        mlkem = MLKEM768PrivateKey.from_seed_bytes(keys[:64])
        curve = X25519PrivateKey.from_private_bytes(keys[64:])
        public_key = mlkem.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()
        need(slot.public_key == public_key, "no slot is this credential's")
        vouch = blake3(vid + authority, key=derive(seed, "vouch", b"")).digest()
        need(slot.vouch == vouch, "the slot is of another vault than it should be")
        info = b"loopbackup/v1/slot\0" + vid + epoch + slot.id + hashlib.sha256(public_key).digest()
        suite = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
        try:
            k1 = suite.decrypt(slot.wrapped, hpke.MLKEM768X25519PrivateKey(mlkem, curve), info)
        except InvalidTag as problem:
            raise VaultError("the slot is altered") from problem
        return unseal(slot.box, 1, HKDF(SHA512(), 32, salt, info).derive(k1), vid)
