"""Sealed objects, blobs and blocks: the published primitives, and nothing else opens."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from loopbackup.errors import DamagedData, FormatError, NewerFormat
from loopbackup.vault.format import seal
from loopbackup.vault.format.names import content_hash
from loopbackup.vault.format.seal import Kind

VECTOR_DIR = Path(__file__).parents[2] / "vectors"
KEY = b"k" * 32
VAULT = b"v" * 16
DOMAIN = b"d" * 16
PLAIN = b"the only copy of somebody's data"
ID = b"i" * 32


def vectors(name: str) -> Any:
    """Load a file of vectors."""
    return json.loads((VECTOR_DIR / f"{name}.json").read_text("utf-8"))


def altered(data: st.DataObject, whole: bytes) -> bytes:
    """Cut, flip or extend *whole*."""
    raw = bytearray(whole)
    match data.draw(st.sampled_from(["cut", "flip", "extend"])):
        case "cut":
            del raw[data.draw(st.integers(0, len(raw) - 1)) :]
        case "flip":
            bit = data.draw(st.integers(0, len(raw) * 8 - 1))
            raw[bit // 8] ^= 1 << bit % 8
        case _:
            raw += data.draw(st.binary(min_size=1, max_size=40))
    return bytes(raw)


# ---- the primitives, as published


@pytest.mark.parametrize("number", range(50))
def test_aes_256_gcm_is_the_published_one(number: int) -> None:
    """NIST's ciphertexts come out, and a changed tag is refused."""
    case = {k: bytes.fromhex(v) for k, v in vectors("aes-256-gcm")["vectors"][number].items()}
    sealed = case["ct"] + case["tag"]

    encrypted = AESGCM(case["key"]).encrypt(case["iv"], case["pt"], case["aad"])

    assert encrypted == sealed
    assert AESGCM(case["key"]).decrypt(case["iv"], sealed, case["aad"]) == case["pt"]


def test_hkdf_is_the_published_one() -> None:
    """RFC 5869 A.1 to A.3, through the calls that the library uses."""
    for case in vectors("hkdf-sha256")["vectors"]:
        ikm, salt, info = (bytes.fromhex(case[k]) for k in ("ikm", "salt", "info"))

        prk = HKDF.extract(hashes.SHA256(), salt or None, ikm)
        okm = HKDFExpand(hashes.SHA256(), case["L"], info).derive(prk)

        assert (prk.hex(), okm.hex()) == (case["prk"], case["okm"])
        whole = HKDF(hashes.SHA256(), case["L"], salt or None, info).derive(ikm)
        assert whole.hex() == case["okm"]


def test_blake3_is_the_published_one() -> None:
    """Plain and keyed hashes of every length of the official vectors."""
    published = vectors("blake3")
    key = published["key_ascii"].encode()
    for case in published["cases"]:
        data = bytes(number % 251 for number in range(case["input_len"]))

        assert content_hash(data).hex() == case["hash"]
        assert blake3(data, key=key).hexdigest() == case["keyed_hash"]


def test_sealed_object_is_byte_for_byte_the_one_of_the_vector() -> None:
    """Header, commitment and ciphertext follow from key and header alone."""
    vector = {k: bytes.fromhex(v) for k, v in vectors("seal-v1").items() if k != "source"}

    sealed = seal.seal_raw(vector["kind_key"], vector["header"], vector["plaintext"])

    assert seal.derive(vector["kind_key"], "seal", vector["header"], 76) == vector["okm"]
    assert sealed == vector["object"]
    assert seal.open_raw(vector["kind_key"], sealed) == vector["plaintext"]


def test_derivation_is_hkdf_expand_of_sha_512() -> None:
    """Written down a second time: one block of HMAC-SHA-512 over info and a counter."""
    import hmac

    info = b"loopbackup/v1/data\0" + VAULT

    derived = seal.derive(KEY, "data", VAULT)

    assert derived == hmac.digest(KEY, info + b"\1", hashlib.sha512)[:32]


# ---- sealed objects


@given(st.binary(max_size=2000), st.sampled_from([64, 256, 4096]), st.integers(0, 2**32 - 1))
def test_what_is_sealed_opens_and_is_padded(payload: bytes, pad: int, generation: int) -> None:
    """The payload comes back; the length shows the next multiple only."""
    sealed = seal.seal(KEY, Kind.BODY, VAULT, payload, generation=generation, pad=pad)

    assert seal.open_sealed(KEY, Kind.BODY, VAULT, sealed, generation=generation) == payload
    assert (len(sealed) - seal.SEAL_OVERHEAD) % pad == 0


def test_two_seals_of_one_payload_share_no_key() -> None:
    """A fresh salt makes a fresh key, so equal payloads look unrelated."""
    first, second = (seal.seal(KEY, Kind.BODY, VAULT, PLAIN) for _ in range(2))

    assert first[32:64] != second[32:64]
    assert first[64:96] != second[64:96]


@pytest.mark.parametrize(
    ("open_it", "kind"),
    [
        (lambda s: seal.open_sealed(b"o" * 32, Kind.BODY, VAULT, s), "commitment"),
        (lambda s: seal.open_sealed(KEY, Kind.ROOT, VAULT, s), "swapped"),
        (lambda s: seal.open_sealed(KEY, Kind.BODY, b"w" * 16, s), "swapped"),
        (lambda s: seal.open_sealed(KEY, Kind.BODY, VAULT, s, generation=1), "swapped"),
    ],
    ids=["key", "kind", "vault", "generation"],
)
def test_sealed_object_opens_in_its_place_only(
    open_it: Callable[[bytes], bytes], kind: str
) -> None:
    """Another key, kind, vault or generation is refused, and the error says which."""
    sealed = seal.seal(KEY, Kind.BODY, VAULT, PLAIN)

    with pytest.raises(DamagedData) as caught:
        open_it(sealed)

    assert caught.value.kind == kind


@pytest.mark.parametrize(("at", "value"), [(3, ord("2")), (5, 2), (6, 1), (12, 1)])
def test_newer_seal_is_named_so(at: int, value: int) -> None:
    """Magic, suite, flags and reserved bytes of a newer library are no damage."""
    sealed = bytearray(seal.seal(KEY, Kind.BODY, VAULT, PLAIN))
    sealed[at] = value

    with pytest.raises(NewerFormat):
        seal.open_sealed(KEY, Kind.BODY, VAULT, sealed)


def test_claimed_length_beyond_the_end_is_damage() -> None:
    """An authenticated length is still held against what is there."""
    header = seal._HEADER.pack(b"LBK1", Kind.BODY, 1, 0, 0, 0, VAULT, os.urandom(32))
    sealed = seal.seal_raw(KEY, header, (2**32 - 1).to_bytes(4, "little") + PLAIN)
    no_length = seal.seal_raw(KEY, header, b"ab")

    for hostile in (sealed, no_length):
        with pytest.raises(DamagedData):
            seal.open_sealed(KEY, Kind.BODY, VAULT, hostile)


@given(st.data())
def test_altered_sealed_object_never_opens(data: st.DataObject) -> None:
    """Cut, flipped or extended anywhere: an error of ours, never data."""
    sealed = altered(data, seal.seal(KEY, Kind.BODY, VAULT, PLAIN, generation=3))

    with pytest.raises((DamagedData, NewerFormat)):
        seal.open_sealed(KEY, Kind.BODY, VAULT, sealed, generation=3)


@given(st.binary(max_size=300))
def test_any_bytes_are_no_sealed_object(data: bytes) -> None:
    """Garbage is an error of ours."""
    with pytest.raises((DamagedData, NewerFormat)):
        seal.open_sealed(KEY, Kind.BODY, VAULT, data)


@pytest.mark.parametrize("length", [0, 1, 3, 6])
def test_short_bytes_have_no_magic(length: int) -> None:
    """Something shorter than its magic is none of ours."""
    with pytest.raises(FormatError):
        seal.expect_magic(b"LBKVLT1"[:length], b"LBKVLT1", "vault")


# ---- blobs and blocks

BLOB: dict[str, Any] = {
    "data_key": KEY,
    "vault_id": VAULT,
    "domain": DOMAIN,
    "generation": 1,
    "chunk_id": ID,
    "codec": 1,
    "plain": 99,
}


def encrypted(payload: bytes = PLAIN, **changed: Any) -> bytes:
    """Encrypt a blob."""
    target = bytearray(len(payload) + seal.BLOB_OVERHEAD)
    seal.encrypt_blob_into(memoryview(target), payload, **{**BLOB, **changed})
    return bytes(target)


def test_blob_is_aes_gcm_under_a_key_of_its_salt() -> None:
    """Written down a second time, from the format's own words."""
    import hmac
    import struct

    blob = encrypted()
    fields = struct.pack("<32sBII", ID, 1, 99, len(PLAIN))
    key = hmac.digest(KEY, b"loopbackup/v1/blob\0" + blob[:24] + fields, "sha256")
    aad = struct.pack("<BB16s16sI32sBII", 1, 1, VAULT, DOMAIN, 1, ID, 1, 99, len(PLAIN))

    assert AESGCM(key).decrypt(bytes(12), blob[24:], aad) == PLAIN
    assert seal.decrypt_blob(blob, **BLOB) == PLAIN


@pytest.mark.parametrize(
    "changed",
    [
        {"data_key": b"o" * 32},
        {"vault_id": b"w" * 16},
        {"domain": b"e" * 16},
        {"generation": 2},
        {"chunk_id": b"j" * 32},
        {"codec": 0},
        {"plain": 98},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_blob_opens_as_what_it_was_made_only(changed: dict[str, Any]) -> None:
    """Every fact about a blob is authenticated with it."""
    with pytest.raises(DamagedData):
        seal.decrypt_blob(encrypted(), **{**BLOB, **changed})


@given(st.data())
def test_altered_blob_never_opens(data: st.DataObject) -> None:
    """Cut, flipped or extended anywhere: DamagedData."""
    with pytest.raises(DamagedData):
        seal.decrypt_blob(altered(data, encrypted()), **BLOB)


def test_equal_blobs_are_encrypted_under_fresh_salts() -> None:
    """No key ever comes from the plaintext alone."""
    first, second = encrypted(), encrypted()

    assert first[:24] != second[:24]
    assert first[24:] != second[24:]


@given(st.data())
def test_altered_block_never_opens(data: st.DataObject) -> None:
    """An index block is authenticated with its vault, domain, generation and object."""
    segment = b"s" * 16
    block = seal.seal_block(KEY, VAULT, DOMAIN, 1, segment, PLAIN)

    assert seal.open_block(KEY, VAULT, DOMAIN, 1, segment, block) == PLAIN
    for place in (
        (b"w" * 16, DOMAIN, 1, segment),
        (VAULT, b"e" * 16, 1, segment),
        (VAULT, DOMAIN, 2, segment),
        (VAULT, DOMAIN, 1, b"t" * 16),
    ):
        with pytest.raises(DamagedData):
            seal.open_block(KEY, *place, block)
    with pytest.raises(DamagedData):
        seal.open_block(KEY, VAULT, DOMAIN, 1, segment, altered(data, block))
