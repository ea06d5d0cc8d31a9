"""The examples of docs/reference/format.md, computed anew without the library."""

from __future__ import annotations

import hashlib
import hmac
import re
import struct
from pathlib import Path

import msgspec
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

PAGE = Path(__file__).parents[2] / "docs/reference/format.md"
DATA = Path(__file__).parent / "data" / "v1"

VID = bytes(range(16))
DOMAIN = b"\xa1" + bytes(15)
SALT = b"\7" * 24
CONTENT = b"hello vault"
FILE_TIME_NS = 1_700_000_000 * 10**9


def examples() -> str:
    """Give the section of examples: repeats written out, without white space."""
    section = PAGE.read_text().split("## 20. Examples")[1]
    whole = re.sub(r"\b([0-9a-f]{2})\*(\d+)", lambda found: found[1] * int(found[2]), section)
    return re.sub(r"\s", "", whole)


def printed(data: bytes) -> bool:
    """Say whether the page shows these bytes; short ones would be found by chance."""
    assert len(data) >= 8
    return data.hex() in examples()


def pack(value: object) -> bytes:
    """Encode msgpack."""
    return msgspec.msgpack.encode(value)


def derive(key: bytes, label: str, context: bytes, length: int = 32) -> bytes:
    """Compute D(key, label, context, length) of the page."""
    info = b"loopbackup/v1/" + label.encode() + b"\0" + context
    return HKDFExpand(SHA512(), length, info).derive(key)


def chunk_id() -> bytes:
    """Compute the id of the example's chunk."""
    return blake3(CONTENT, key=derive(b"\1" * 32, "id/data", VID + DOMAIN)).digest()


def key_pair(seed: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey, bytes]:
    """Expand a seed to both private keys and the public key."""
    keys = hashlib.shake_256(seed).digest(96)
    mlkem = MLKEM768PrivateKey.from_seed_bytes(keys[:64])
    curve = X25519PrivateKey.from_private_bytes(keys[64:])
    public_key = mlkem.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()
    return mlkem, curve, public_key


def hpke_open(seed: bytes, wrapped: bytes, info: bytes) -> bytes:
    """Open a single message as RFC 9180 and the page describe it, step by step."""
    mlkem, curve, public_key = key_pair(seed)
    enc, ciphertext = wrapped[:1120], wrapped[1120:]
    point = X25519PublicKey.from_public_bytes(enc[1088:])
    secrets = mlkem.decapsulate(enc[:1088]) + curve.exchange(point)
    label = bytes.fromhex("5c2e2f2f5e5c")
    shared = hashlib.sha3_256(secrets + enc[1088:] + public_key[1184:] + label).digest()
    suite = b"HPKE-v1HPKE" + bytes.fromhex("647a00010002")

    def extract(salt: bytes, name: bytes, value: bytes) -> bytes:
        return hmac.digest(salt, suite + name + value, "sha256")

    context = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    secret = extract(shared, b"secret", b"")
    key, nonce = (
        HKDFExpand(SHA256(), length, struct.pack(">H", length) + suite + name + context).derive(
            secret
        )
        for name, length in ((b"key", 32), (b"base_nonce", 12))
    )
    return AESGCM(key).decrypt(nonce, ciphertext, None)


def test_derived_keys_are_as_printed() -> None:
    """The sealing key of the root and the id of the meta domain come out."""
    epoch = bytes(range(16, 32))

    assert printed(derive(b"\t" * 32, "root", VID + epoch))
    assert printed(derive(b"\t" * 32, "meta/id", VID, 16))


def test_key_pair_is_as_printed() -> None:
    """A seed gives the printed public key, and the printed line of a key file."""
    seed = b"\x0b" * 32

    public_key = key_pair(seed)[2]
    checksum = hashlib.sha256(b"loopbackup-key-1 " + seed.hex().encode()).hexdigest()[:8]

    assert printed(public_key[:8])
    assert printed(public_key[-8:])
    assert printed(hashlib.sha256(public_key).digest())
    assert f"loopbackup-key-10b0b…0b{checksum}" in examples()


def test_sealed_object_is_as_printed() -> None:
    """Header, keys, commitment, ciphertext and tag of the sealed object come out."""
    salt = bytes(range(0x20, 0x40))
    header = b"LBK1" + struct.pack("<BBHII", 3, 1, 0, 7, 0) + VID + salt

    keys = derive(b"\t" * 32, "seal", header, 76)
    sealed = AESGCM(keys[:32]).encrypt(keys[32:44], CONTENT, header)

    for part in (header, keys[:32], keys[32:44], keys[44:], sealed[:11], sealed[11:]):
        assert printed(part)


def test_homes_of_subjects_are_as_printed() -> None:
    """Home and tag of a subject and of nobody come out."""
    someone, nobody = (blake3(pack(label), key=b"\3" * 32).digest() for label in (["user-42"], []))

    tag = f"{int.from_bytes(someone[1:9], 'little'):#x}"
    assert f"homewouldbe{someone[0]}anditstag`{tag}`" in examples()
    tag = f"{int.from_bytes(nobody[1:9], 'little')}"
    assert f"nobody'shomeis{nobody[0]},tag{tag}" in examples()


def test_domain_is_as_printed() -> None:
    """The domain's record, its chunk id and its data key come out."""
    record = pack([b"\1" * 32, [[1, b"\2" * 32]], ["user-42"], 0])

    assert printed(record)
    assert printed(chunk_id())
    assert printed(derive(b"\2" * 32, "data", VID + DOMAIN))


def test_blob_is_as_printed() -> None:
    """The blob of the chunk comes out."""
    fields = chunk_id() + struct.pack("<BII", 0, len(CONTENT), len(CONTENT))
    data_key = derive(b"\2" * 32, "data", VID + DOMAIN)
    key = hmac.digest(data_key, b"loopbackup/v1/blob\0" + SALT + fields, "sha256")
    associated = b"\1\1" + VID + DOMAIN + struct.pack("<I", 1) + fields

    blob = SALT + AESGCM(key).encrypt(bytes(12), CONTENT, associated)

    assert printed(blob)


def test_index_block_is_as_printed() -> None:
    """The block with the chunk's row comes out, before and after it is sealed."""
    row = struct.pack("<I32s4I2B", 0, chunk_id(), 0, len(CONTENT), len(CONTENT), 0, 0, 0)
    plain = struct.pack("<I", 1) + row
    index_key = derive(b"\2" * 32, "index", VID + DOMAIN)
    key = hmac.digest(index_key, b"loopbackup/v1/block\0" + SALT, "sha256")
    associated = b"\1\1" + VID + DOMAIN + struct.pack("<I", 1) + b"\7" * 16

    block = SALT + AESGCM(key).encrypt(bytes(12), plain, associated)

    assert printed(plain)
    assert printed(block)


def test_entries_are_as_printed() -> None:
    """The file and the symbolic link come out."""
    times, owner = [FILE_TIME_NS, FILE_TIME_NS], [1000, 1000, "work", "staff"]

    file = pack([b"a.txt", 0, 0o644, *owner, *times, 42, 11, chunk_id(), None])
    link = pack([b"ln", 2, 0o777, 0, 0, "", "", 0, 0, 0, 0, b"", {"target": b"a.txt"}])

    assert printed(file)
    assert printed(link)


def test_record_is_as_printed() -> None:
    """Frame, signature, length and leaf hash of the record come out."""
    writer = Ed25519PrivateKey.from_private_bytes(b"\4" * 32)
    empty_tree = hashlib.sha256().digest()
    start = [1, 5, b"\5" * 16, empty_tree, b"\6" * 16, b"\7" * 32, b"\x08" * 16]

    frame = pack([*start, 1_700_000_000 * 10**6, "forget", [], [[b"\n" * 16]]])
    signature = writer.sign(b"loopbackup/v1/record\0" + VID + frame)
    record = b"LBKREC1" + struct.pack("<I", len(frame)) + frame + signature

    assert printed(writer.public_key().public_bytes_raw())
    assert printed(frame)
    assert printed(signature)
    assert printed(hashlib.sha256(b"\0" + frame + signature).digest())
    assert f"{len(record)}bytes" in examples()
    assert f"magic,length{record[:11].hex()}" in examples()


def test_header_is_as_printed() -> None:
    """The header with the defaults of the page's table has the printed length and hash."""
    rows = re.findall(
        r"^\| `(\w+)` \| (?:int|bool) \| [^|]*\| (\w+) \|",
        PAGE.read_text().split("## 3.")[1].split("## 4.")[0],
        re.MULTILINE,
    )
    defaults = {name: False if value == "false" else int(value) for name, value in rows}
    given = {"format": 1, "suite": 1, "vault_id": VID, "created_us": 1, "authority": bytes(32)}

    header = pack(given | defaults)

    assert len(defaults) == 9
    assert f"{len(header)}bytes,headerhash`{blake3(header).hexdigest()}`" in examples()


def test_slot_opens_as_the_page_describes_it() -> None:
    """HPKE by hand, then HKDF, opens the box in a slot of a golden vault."""
    golden = DATA / "long"
    raw = (golden / "vault/vault").read_bytes()
    at = 11 + struct.unpack_from("<I", raw, 7)[0]
    vid = msgspec.msgpack.decode(raw[11:at])["vault_id"]
    at += 80  # The mark of the store.
    end = at + 11 + struct.unpack_from("<I", raw, at + 7)[0]
    frame = msgspec.msgpack.decode(raw[at + 11 : end])
    (path,) = golden.glob("vault/keys/*/slot-*")
    slot_id, _, _, public_key, wrapped, box, _ = msgspec.msgpack.decode(path.read_bytes()[7:])
    seed = bytes.fromhex((golden / "key").read_text().split()[1])
    epoch, salt = frame[4], frame[10][1]
    info = b"loopbackup/v1/slot\0" + vid + epoch + slot_id + hashlib.sha256(public_key).digest()

    k1 = hpke_open(seed, wrapped, info)
    kek = HKDF(SHA512(), 32, salt, info).derive(k1)
    keys = derive(kek, "seal", box[:64], 76)
    plain = AESGCM(keys[:32]).decrypt(keys[32:44], box[96:], box[:64])

    assert public_key == key_pair(seed)[2]
    assert keys[44:] == box[64:96]
    assert plain[:4] == struct.pack("<I", 32)
    assert not any(plain[36:])
