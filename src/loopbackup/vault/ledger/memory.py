"""What this host remembers of a vault: the last verified head, and the fold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec
from attrs import frozen

from ...errors import DamagedData, InputError, RollbackDetected
from ...logs import get_logger
from ..format.names import content_hash
from .core import decode_state, encode_state
from .state import State
from .statefolder import StateFolder

__all__ = ["Head", "LocalMemory", "rolled_back"]

STATE_MAGIC: Final = b"LBKMEM1"
SAVE_EVERY: Final = 32
_EPOCH: Final = re.compile(rb"[0-9a-f]{32}")
_HEAD: Final = re.compile(r"([1-9][0-9]{0,18}):([0-9a-f]{64})", re.IGNORECASE | re.ASCII)


@frozen
class Head:
    """The size of a ledger and its Merkle tree head, as ``<size>:<64 hex>``."""

    size: int
    root: bytes

    @classmethod
    def parse(cls, text: object) -> Head:
        """
        Read the text form.

        Raises:
            InputError: It is none.
        """
        match = _HEAD.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise InputError("a head is written <size>:<64 hex digits>, as vault.head gives it")
        return cls(int(match[1]), bytes.fromhex(match[2]))

    def __str__(self) -> str:
        return f"{self.size}:{self.root.hex()}"


def rolled_back(found: int, seen: int) -> RollbackDetected:
    """Give the error of a store that has *found* records, where *seen* were seen before."""
    return RollbackDetected(
        f"the store ends at ledger record {found - 1}, and {seen} records "
        "were seen before: it is an old copy, or its end was cut off. Nothing was "
        "changed. Restore the newer state, or open elsewhere",
        seen=seen,
        found=found,
    )


class LocalMemory:
    """
    A folder per vault, or nothing but memory when *folder* is None.

    Nothing in it is secret or about a person. It is a cache but for the head,
    whose loss costs the detection of rollbacks once. The folder is trusted:
    whoever can write to it can also replace the program that reads it.
    """

    def __init__(self, folder: Path | None, vault_id: bytes) -> None:
        self._folder = None if folder is None else StateFolder(folder / vault_id.hex())
        self._saved = 0
        self._head: Head | None = None
        self._epoch: bytes | None = None

    def head(self) -> Head | None:
        """
        Give the largest head that was verified on this host.

        A file that holds none counts as no memory, and is logged: it is no
        rollback, and to refuse the vault for it would help nobody.

        Raises:
            InputError: There is one, and it may not be read.
        """
        return self._head if self._folder is None else self._on_disk(self._folder)

    def epoch(self) -> bytes | None:
        """Give the name of the epoch at :meth:`head`; None where that was not kept."""
        if self._folder is None:
            return self._epoch
        data = self._folder.read("head") or b""
        match = _EPOCH.fullmatch(data.partition(b"\n")[2].strip())
        return None if match is None else bytes.fromhex(match[0].decode())

    def remember(self, state: State) -> None:
        """Keep the head of *state* if it is further than what is kept."""
        head = Head(state.size, state.tree.head())
        known = self._head
        if known is not None and known.size >= head.size:
            return
        self._head, self._epoch = head, state.epoch
        if self._folder is None:
            return
        with self._folder.locked():
            try:
                on_disk = self._on_disk(self._folder)
            except InputError as exc:
                # The commit is made; the next opening refuses to go without the file.
                get_logger().warning("local state cannot be read", kind=exc.kind)
                return
            if on_disk is None or on_disk.size < head.size:
                self._folder.write("head", f"{head}\n{state.epoch.hex()}\n".encode())

    @staticmethod
    def _on_disk(folder: StateFolder) -> Head | None:
        data = folder.read("head")
        if data is None:
            return None
        try:
            return Head.parse(data.partition(b"\n")[0].decode("ascii").strip())
        except (InputError, UnicodeDecodeError):
            get_logger().error(
                "the head that this host remembered is damaged: it cannot be told "
                "whether the vault was rolled back since"
            )
            return None

    def state(self, authority: bytes) -> tuple[State, bytes] | None:
        """Load the fold kept by an earlier process, if it is whole, and its last record's hash."""
        data = None if self._folder is None else self._folder.read("state")
        start = len(STATE_MAGIC) + 32
        if data is None or data[: len(STATE_MAGIC)] != STATE_MAGIC or len(data) < start + 32:
            return None
        body = data[start:]
        if content_hash(body) != data[len(STATE_MAGIC) : start]:
            return None
        try:
            state = decode_state(body[32:], authority=authority)
        except (DamagedData, msgspec.DecodeError):
            return None
        self._saved = state.size
        return state, body[:32]

    def save(self, state: State, last_record: bytes, *, always: bool) -> None:
        """
        Keep the fold when it has grown enough to be worth the write.

        Args:
            always: Each record that has to be read again costs more than that.
        """
        every = 1 if always else SAVE_EVERY
        if self._folder is None or state.size - self._saved < every:
            return
        body = last_record + encode_state(state)
        if self._folder.write("state", STATE_MAGIC + content_hash(body) + body):
            self._saved = state.size
