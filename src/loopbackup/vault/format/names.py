"""
Names of stored objects.

They hold ``[0-9a-z/-]`` only and say nothing about anyone. Numbers have
twenty digits so that byte order is number order.
"""

from __future__ import annotations

import re
from typing import Final

from blake3 import blake3

__all__ = [
    "HEADER",
    "content_hash",
    "epoch_of",
    "epoch_prefix",
    "index_name",
    "list_name",
    "pack_name",
    "record_index",
    "record_name",
    "root_name",
    "shard_name",
    "slot_name",
    "summary_name",
    "summary_size",
]

HEADER: Final = "vault"
LEDGER: Final = "ledger/"
PACKS: Final = "packs/"
INDEX: Final = "index/"
LISTS: Final = "lists/"
KEYS: Final = "keys/"
SHARDS: Final = "keys/shard/"
SUMMARY: Final = "summary/"
_RECORD: Final = re.compile(r"ledger/([01][0-9]{19})")
"""No ledger has 2 * 10^19 records: every number fits 64 bits."""
_EPOCH: Final = re.compile(r"keys/([0-9a-f]{32})/.+")
_SUMMARY: Final = re.compile(r"summary/([0-9]{20})-[0-9a-f]{64}")


def content_hash(data: bytes | bytearray | memoryview) -> bytes:
    """Give the 32-byte BLAKE3 hash that content-named objects are named by."""
    return blake3(data).digest()


def record_name(index: int) -> str:
    """Name ledger record *index*, the first being 0."""
    return f"{LEDGER}{index:020d}"


def record_index(name: str) -> int | None:
    """Give the number of a ledger record, by its name; None if it is no such name."""
    match = _RECORD.fullmatch(name)
    return None if match is None else int(match[1])


def summary_name(size: int, digest: bytes) -> str:
    """Name the summary of the first *size* records."""
    return f"{SUMMARY}{size:020d}-{digest.hex()}"


def summary_size(name: str) -> int | None:
    """Give how many records a summary is of, by its name; None if it is no such name."""
    match = _SUMMARY.fullmatch(name)
    return None if match is None else int(match[1])


def pack_name(digest: bytes) -> str:
    """Name the pack whose bytes hash to *digest*."""
    text = digest.hex()
    return f"{PACKS}{text[:2]}/{text}"


def index_name(digest: bytes) -> str:
    """Name the index object whose bytes hash to *digest*."""
    return INDEX + digest.hex()


def list_name(digest: bytes) -> str:
    """Name the list object whose bytes hash to *digest*."""
    return LISTS + digest.hex()


def shard_name(digest: bytes) -> str:
    """Name the keyring shard whose bytes hash to *digest*."""
    return SHARDS + digest.hex()


def epoch_prefix(epoch: bytes) -> str:
    """Give what the names of all key objects of *epoch* but its shards begin with."""
    return f"{KEYS}{epoch.hex()}/"


def epoch_of(name: str) -> bytes | None:
    """Give the epoch that a key object belongs to, by its name; None if it is no such name."""
    match = _EPOCH.fullmatch(name)
    return None if match is None else bytes.fromhex(match[1])


def root_name(epoch: bytes) -> str:
    """Name the keyring root of *epoch*."""
    return f"keys/{epoch.hex()}/root"


def slot_name(epoch: bytes, slot: bytes) -> str:
    """Name a key slot of *epoch*."""
    return f"keys/{epoch.hex()}/slot-{slot.hex()}"
