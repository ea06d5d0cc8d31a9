"""Reading a binary stream of somebody else as the content of an entry."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from ...errors import InputError, LoopbackupError

__all__ = ["BufferReader", "StreamReader", "foreign_errors", "reason_of"]


def reason_of(exc: Exception) -> str:
    """Say what went wrong without the names that the text of *exc* may hold."""
    code = getattr(exc, "errno", None)
    return os.strerror(code).lower() if isinstance(code, int) else type(exc).__name__


@contextmanager
def foreign_errors() -> Iterator[None]:
    """
    Turn what somebody else's code raises into an OSError.

    One entry that cannot be read must not end the backup of all the others,
    whatever its library raises. Errors of this library pass.
    """
    try:
        yield
    except (OSError, LoopbackupError):
        raise
    except Exception as exc:
        raise OSError(f"its reader raised {type(exc).__name__}") from exc


class BufferReader:
    """Read bytes that lie in memory, without another copy of them."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        try:
            self._rest = memoryview(data).cast("B")
        except TypeError as exc:
            raise InputError("content is a memoryview that is not contiguous") from exc

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill *buffer* as far as possible; 0 means the end."""
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def changed(self) -> bool:
        """Tell that memory is not watched for changes."""
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._rest.release()


class StreamReader:
    """
    Read *stream* to its end and close it.

    ``changed`` is asked at the end with the number of bytes read.
    """

    def __init__(self, stream: Any, changed: Callable[[int], bool] | None = None) -> None:
        if not callable(getattr(stream, "read", None)):
            raise InputError(f"content is bytes or a binary file, not {type(stream).__name__}")
        self._stream = stream
        self._readinto: Callable[[memoryview], int | None] = getattr(
            stream, "readinto", self._read_into
        )
        self._changed = changed
        self._count = 0

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill *buffer* as far as possible; 0 means the end."""
        with foreign_errors():
            count = self._readinto(buffer)
        if count is None or not 0 <= count <= len(buffer):
            raise OSError("the stream does not block or gave more than it was asked for")
        self._count += count
        return count

    def _read_into(self, buffer: memoryview) -> int | None:
        data = self._stream.read(len(buffer))
        if data is None:
            return None
        if isinstance(data, str):
            raise InputError("content comes from a file in text mode; open it with 'rb'")
        buffer[: len(data)] = data
        return len(data)

    def changed(self) -> bool:
        """Tell whether the content changed while it was read."""
        if self._changed is None:
            return False
        with foreign_errors():
            return self._changed(self._count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        close = getattr(self._stream, "close", None)
        if close is not None:
            with foreign_errors():
                close()
