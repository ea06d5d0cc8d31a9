"""
Scratch files: what does not fit into memory, sealed under a key that is nowhere else.

The file has no name and its key lives in this process only, so neither a
thief of the disk nor whoever finds it later learns more than its length.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ...errors import DamagedData, StoreError

__all__ = ["TAG_BYTES", "ScratchFile"]

TAG_BYTES: Final = 16
"""What each piece costs in the file beside its bytes."""
_NONCE: Final = 12


class ScratchFile:
    """
    An unlinked temporary file of sealed pieces. May be read by many threads; one may write.

    It is made in the folder that :func:`tempfile.gettempdir` names, and goes
    when it is closed, when nothing refers to it any more, when the process
    ends however it ends, and in a forked child at once.
    """

    def __init__(self) -> None:
        try:
            file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by close()
        except OSError as exc:
            raise _no_room(exc) from exc
        self._fd = file.fileno()
        self._aead = AESGCM(AESGCM.generate_key(bit_length=256))
        self._end = 0
        self.close = weakref.finalize(self, file.close)
        """Free the room; nothing can be read afterwards."""
        _open_files.add(self)

    def __len__(self) -> int:
        """Give the bytes written so far."""
        return self._end

    def put(self, pieces: Iterable[bytes]) -> int:
        """
        Append pieces; give where the first begins.

        The next one begins *length + TAG_BYTES* further on, and so forth.

        Raises:
            StoreError: The temporary folder has no room left.
        """
        start = at = self._end
        sealed = []
        for piece in pieces:
            # No place is written twice, so its number never seals two pieces.
            sealed.append(self._aead.encrypt(at.to_bytes(_NONCE, "big"), piece, None))
            at += len(piece) + TAG_BYTES
        self._end = at
        view = memoryview(b"".join(sealed))
        try:
            while view:
                written = os.pwrite(self._fd, view, at - len(view))
                view = view[written:]
        except OSError as exc:
            raise _no_room(exc) from exc
        return start

    def get(self, start: int, length: int) -> bytes:
        """
        Give the piece of *length* bytes that begins at *start*.

        Raises:
            DamagedData: Somebody has altered the file.
        """
        if not self.close.alive:
            raise DamagedData("a temporary file was closed, by a fork or with its vault")
        data = os.pread(self._fd, length + TAG_BYTES, start)
        try:
            plain = self._aead.decrypt(start.to_bytes(_NONCE, "big"), data, None)
        except InvalidTag:
            plain = None
        if plain is None or len(plain) != length:
            raise DamagedData("a temporary file of this process was altered")
        return plain


_open_files: weakref.WeakSet[ScratchFile] = weakref.WeakSet()


def _close_all() -> None:
    for file in list(_open_files):
        file.close()


# The room must not stay taken as long as some child lives.
os.register_at_fork(after_in_child=_close_all)


def _no_room(exc: OSError) -> StoreError:
    return StoreError(
        f"the temporary folder cannot take a scratch file ({exc.strerror}); "
        "make room there, or let TMPDIR name another folder"
    )
