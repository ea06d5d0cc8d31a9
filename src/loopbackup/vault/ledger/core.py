"""A fold on disk: the body of a summary, and what a host keeps of a vault."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from ..format.header import Bytes16, Bytes32
from ..format.record import BodyRef, Certificate

__all__ = ["Core"]


class Core(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A state on disk: the body of a summary."""

    vault_id: Bytes16
    size: int
    peaks: list[Bytes32]
    epoch: Bytes16
    root: Bytes32
    salt: Bytes32
    none_domain: Bytes16
    location: str | None
    at_us: int
    slots: list[tuple[bytes, str, bytes]]
    writers: list[Certificate]
    shards: list[tuple[int, bytes]]
    snapshots: list[tuple[bytes, int, int, bytes, bytes, bytes, list[tuple[BodyRef, bytes]]]]
    segments: list[tuple[bytes, bytes, int]]
    condemned: list[tuple[bytes, int, int]]
    swept: list[tuple[bytes, int, bytes]]
    claims: list[tuple[bytes, bytes, bytes, bytes, int]]
    lists: list[bytes]
    distrusted: bytes
    last_summary: int
    alarms: Annotated[list[tuple[int, str]], Meta(max_length=1 << 20)]
