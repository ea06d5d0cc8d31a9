"""Key slots: X-Wing and HPKE as published, one credential each, nothing else opens."""

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from attrs import evolve
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from hypothesis import given, settings
from hypothesis import strategies as st

from loopbackup.errors import CredentialError, DamagedData, FormatError, NewerFormat
from loopbackup.vault.format import seal
from loopbackup.vault.keys.credentials import Seed, SlotParams
from loopbackup.vault.keys.keypair import public_key_of
from loopbackup.vault.keys.slots import (
    Slot,
    SlotContext,
    decode_slot,
    encode_slot,
    make_slot,
    open_slot,
    reseal_slot,
)

VECTORS = json.loads(
    (Path(__file__).parents[2] / "vectors" / "hpke-xwing.json").read_text("utf-8")
)["vectors"]
# Its cipher is another than ours; all before the cipher is the same.
PUBLISHED = next(vector for vector in VECTORS if vector["kdf_id"] == 1)

SEED = bytes(range(32))
ROOT_KEY = b"r" * 32
CONTEXT = SlotContext(b"v" * 16, b"a" * 32, b"e" * 16, b"s" * 32)
SLOT = make_slot(Seed(SEED), ROOT_KEY, CONTEXT)


# ---- HPKE written down a second time, from RFC 9180 and the X-Wing draft

_SUITE_ID = bytes.fromhex("48504b45647a00010002")


def _extract(salt: bytes, label: bytes, ikm: bytes, suite: bytes) -> bytes:
    return HKDF.extract(hashes.SHA256(), salt, b"HPKE-v1" + suite + label + ikm)


def _expand(secret: bytes, label: bytes, info: bytes, length: int, suite: bytes) -> bytes:
    labelled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return HKDFExpand(hashes.SHA256(), length, labelled).derive(secret)


def shared_secret(seed: bytes, enc: bytes) -> bytes:
    """Decapsulate as X-Wing says: both secrets, both X25519 halves, the label."""
    expanded = hashlib.shake_256(seed).digest(96)
    kem = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
    dh = x25519.X25519PrivateKey.from_private_bytes(expanded[64:])
    theirs = enc[1088:]
    return hashlib.sha3_256(
        kem.decapsulate(enc[:1088])
        + dh.exchange(x25519.X25519PublicKey.from_public_bytes(theirs))
        + theirs
        + dh.public_key().public_bytes_raw()
        + b"\\.//^\\"
    ).digest()


def key_and_nonce(secret: bytes, info: bytes, suite: bytes) -> tuple[bytes, bytes]:
    """Run the key schedule of RFC 9180 in base mode."""
    context = b"\0" + _extract(b"", b"psk_id_hash", b"", suite)
    context += _extract(b"", b"info_hash", info, suite)
    exchanged = _extract(secret, b"secret", b"", suite)
    return (
        _expand(exchanged, b"key", context, 32, suite),
        _expand(exchanged, b"base_nonce", context, 12, suite),
    )


def test_seed_expands_to_the_published_public_key() -> None:
    """A 32-byte seed gives the X-Wing public key of the draft's vector."""
    for vector in VECTORS:
        assert public_key_of(bytes.fromhex(vector["skRm"])).hex() == vector["pkRm"]


def test_published_ciphertext_opens_with_hpke_written_a_second_time() -> None:
    """The verifier below the next test agrees with the draft's vector."""
    enc, seed = bytes.fromhex(PUBLISHED["enc"]), bytes.fromhex(PUBLISHED["skRm"])
    message = PUBLISHED["encryptions"][0]
    suite, info = bytes.fromhex(PUBLISHED["suite_id"]), bytes.fromhex(PUBLISHED["info"])

    secret = shared_secret(seed, enc)
    key, nonce = key_and_nonce(secret, info, suite)
    plain = ChaCha20Poly1305(key).decrypt(
        nonce, bytes.fromhex(message["ct"]), bytes.fromhex(message["aad"])
    )

    assert secret.hex() == PUBLISHED["shared_secret"]
    assert (key.hex(), nonce.hex()) == (PUBLISHED["key"], PUBLISHED["base_nonce"])
    assert plain == bytes.fromhex(message["pt"])


def test_slot_opens_with_hpke_written_a_second_time() -> None:
    """What stands in a slot is RFC 9180 single-shot output: enc, then ciphertext."""
    info = CONTEXT.info(SLOT.id, SLOT.public_key)
    enc, sealed = SLOT.wrapped[:1120], SLOT.wrapped[1120:]

    key, nonce = key_and_nonce(shared_secret(SEED, enc), info, _SUITE_ID)
    k1 = AESGCM(key).decrypt(nonce, sealed, b"")
    kek = HKDF(hashes.SHA512(), 32, CONTEXT.salt, info).derive(k1)

    assert seal.open_sealed(kek, seal.Kind.SLOT, CONTEXT.vault_id, SLOT.box) == ROOT_KEY


# ---- opening


def test_slot_survives_its_encoding_and_opens() -> None:
    """What was encoded is decoded the same and gives the root key."""
    again = decode_slot(encode_slot(SLOT))

    assert again == SLOT
    assert open_slot(again, Seed(SEED), CONTEXT) == ROOT_KEY


def test_another_credential_opens_nothing() -> None:
    """A wrong seed is None, no error: the next slot is tried."""
    assert open_slot(SLOT, Seed(b"x" * 32), CONTEXT) is None


def test_slot_moves_to_another_epoch_by_its_public_key_alone() -> None:
    """Whoever has the vault open can move all slots without their secrets."""
    later = evolve(CONTEXT, epoch=b"f" * 16, salt=b"t" * 32)

    moved = reseal_slot(SLOT.owner, b"n" * 32, later)

    assert open_slot(moved, Seed(SEED), later) == b"n" * 32
    assert open_slot(moved, Seed(SEED), CONTEXT) is None


def test_slot_with_another_salt_says_that_the_state_is_another() -> None:
    """Key objects of an epoch that was never committed open nothing, and say why."""
    with pytest.raises(CredentialError) as caught:
        open_slot(SLOT, Seed(SEED), evolve(CONTEXT, salt=b"t" * 32))

    assert caught.value.kind == "stale_slot"


@pytest.mark.parametrize("field", ["id", "kind", "params", "public_key", "wrapped", "box"])
def test_slot_with_a_part_of_another_never_opens(field: str) -> None:
    """Parts of two slots of one credential cannot be mixed."""
    other = make_slot(Seed(b"o" * 32), b"q" * 32, CONTEXT)
    mixed: Slot = msgspec.structs.replace(SLOT, **{field: getattr(other, field)})

    try:
        opened = open_slot(mixed, Seed(SEED), CONTEXT)
    except (CredentialError, DamagedData):
        opened = None

    # Kind and parameters are not part of the seal: they only say how to begin.
    assert opened == (ROOT_KEY if field in ("kind", "params") else None)


# ---- hostile bytes


def test_slot_of_a_newer_format_is_named_so() -> None:
    """The digit of the magic is the version."""
    with pytest.raises(NewerFormat):
        decode_slot(b"LBKSLT2" + encode_slot(SLOT)[7:])


def test_over_long_slot_is_refused() -> None:
    """No slot is longer than 64 KiB."""
    with pytest.raises(DamagedData):
        decode_slot(encode_slot(SLOT) + bytes(65_536))


@pytest.mark.parametrize(
    "params",
    [
        SlotParams(b"s" * 16, 1024, 3, 4),
        SlotParams(b"s" * 8, 65_536, 3, 4),
        SlotParams(b"s" * 16, 65_536, 0, 4),
        SlotParams(b"s" * 16, 65_536, 3, 0),
    ],
    ids=["memory", "salt", "passes", "lanes"],
)
def test_slot_that_asks_for_weak_stretching_is_refused(params: SlotParams) -> None:
    """A hostile slot cannot make a passphrase cheap to guess, nor crash the opener."""
    from loopbackup.vault.keys.credentials import Passphrase

    with pytest.raises(DamagedData):
        Passphrase("secret").seed(params)


@pytest.mark.parametrize(
    "params",
    [[b"s" * 65, 0, 0, 0], [b"", (1 << 20) + 1, 0, 0], [b"", 0, 17, 0], [b"", 0, 0, 17]],
    ids=["salt", "memory", "passes", "lanes"],
)
def test_slot_that_asks_for_too_much_is_refused(params: list[Any]) -> None:
    """A hostile slot cannot ask for more than 1 GiB, 16 passes or 16 lanes."""
    fields = [SLOT.id, SLOT.kind, params, SLOT.public_key, SLOT.wrapped, SLOT.box]

    with pytest.raises(DamagedData):
        decode_slot(b"LBKSLT1" + msgspec.msgpack.encode(fields))


@settings(max_examples=60)
@given(data=st.data())
def test_altered_slot_opens_nothing(data: st.DataObject) -> None:
    """Any cut, flip or extension is an error or opens to nothing, never to a wrong key."""
    raw = bytearray(encode_slot(SLOT))
    match data.draw(st.sampled_from(["cut", "flip", "extend"])):
        case "cut":
            del raw[data.draw(st.integers(0, len(raw) - 1)) :]
        case "flip":
            bit = data.draw(st.integers(0, len(raw) * 8 - 1))
            raw[bit // 8] ^= 1 << bit % 8
        case _:
            raw += data.draw(st.binary(min_size=1, max_size=8))

    try:
        opened = open_slot(decode_slot(bytes(raw)), Seed(SEED), CONTEXT)
    except (DamagedData, FormatError, CredentialError):
        return
    assert opened in (None, ROOT_KEY)


def test_a_vault_made_by_somebody_else_is_refused() -> None:
    """Who knows only what is public of a slot cannot make one that its owner takes for true."""
    forged = SlotContext(b"v" * 16, b"f" * 32, b"e" * 16, b"s" * 32)
    slot = reseal_slot(SLOT.owner, b"p" * 32, forged)

    with pytest.raises(CredentialError) as caught:
        open_slot(slot, Seed(SEED), forged)

    assert caught.value.kind == "forged_vault"
