"""What this host remembers of a vault: the last verified head, and the fold."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import msgspec
from attrs import frozen

from ...errors import DamagedData, InputError
from ...logs import get_logger
from ..format.names import content_hash
from .state import State

__all__ = ["Head", "LocalMemory"]

STATE_MAGIC = b"LBKMEM1"
SAVE_EVERY = 32


@frozen
class Head:
    """The size of a ledger and its Merkle tree head, as ``<size>:<64 hex>``."""

    size: int
    root: bytes

    @classmethod
    def parse(cls, text: str) -> Head:
        """Read the text form."""
        size, _, root = text.partition(":")
        try:
            head = cls(int(size), bytes.fromhex(root))
        except ValueError:
            head = cls(-1, b"")
        if head.size < 1 or len(head.root) != 32:
            raise InputError("a head is written <size>:<64 hex digits>, as vault.head gives it")
        return head

    def __str__(self) -> str:
        return f"{self.size}:{self.root.hex()}"


class LocalMemory:
    """
    A folder per vault, or nothing but memory when *folder* is None.

    Nothing in it is secret or about a person. It is a cache but for the head,
    whose loss costs the detection of rollbacks once.
    """

    def __init__(self, folder: Path | None, vault_id: bytes) -> None:
        self._folder = None if folder is None else folder / vault_id.hex()
        self._saved = 0
        self._head: Head | None = None
        if self._folder is not None:
            try:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as exc:
                raise InputError(
                    "the state directory cannot be made, so this host could not remember what "
                    "it has seen of the vault; give another state_dir=, or None to go without",
                    path=str(folder),
                ) from exc

    def head(self) -> Head | None:
        """Give the largest head that was verified on this host."""
        if self._folder is None:
            return self._head
        try:
            return Head.parse((self._folder / "head").read_text().strip())
        except (FileNotFoundError, InputError, UnicodeDecodeError):
            return None

    def remember(self, state: State) -> None:
        """Keep the head of *state* if it is further than what is kept."""
        head = Head(state.size, state.tree.head())
        known = self._head
        if known is not None and known.size >= head.size:
            return
        self._head = head
        if self._folder is not None:
            on_disk = self.head()
            if on_disk is None or on_disk.size < head.size:
                self._write("head", f"{head}\n".encode())

    def state(self, authority: bytes) -> tuple[State, bytes] | None:
        """Load the fold kept by an earlier process, if it is whole, and its last record's hash."""
        if self._folder is None:
            return None
        try:
            data = (self._folder / "state").read_bytes()
            start = len(STATE_MAGIC) + 32
            if data[: len(STATE_MAGIC)] != STATE_MAGIC or len(data) < start + 32:
                return None
            body = data[start:]
            if content_hash(body) != data[len(STATE_MAGIC) : start]:
                return None
            state = State.decode(body[32:], authority=authority)
        except (FileNotFoundError, DamagedData, msgspec.DecodeError):
            return None
        self._saved = state.size
        return state, body[:32]

    def save(self, state: State, last_record: bytes) -> None:
        """Keep the fold when it has grown enough to be worth the write."""
        if self._folder is None or state.size - self._saved < SAVE_EVERY:
            return
        body = last_record + state.encode()
        self._write("state", STATE_MAGIC + content_hash(body) + body)
        self._saved = state.size

    def _write(self, name: str, data: bytes) -> None:
        """Replace a file; what cannot be remembered costs no commit that is already made."""
        assert self._folder is not None
        try:
            fd, temp = tempfile.mkstemp(dir=self._folder, prefix=f".{name}-")
            try:
                with os.fdopen(fd, "wb") as file:
                    file.write(data)
                os.replace(temp, self._folder / name)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temp)
                raise
        except OSError as exc:
            get_logger().warning(
                "local state cannot be written", reason=os.strerror(exc.errno or 0)
            )
