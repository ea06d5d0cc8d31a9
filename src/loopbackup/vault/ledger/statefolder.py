"""A folder of small files on this host, which a power cut neither takes nor tears."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import InputError
from ...logs import get_logger

__all__ = ["StateFolder"]

_LOCK = "lock"
_ADVICE = (
    "so this host could not hold the vault against what it has seen of it; "
    "give another state_dir=, or None to go without"
)


class StateFolder:
    """
    Keep files that are replaced whole. Safe between processes of one host.

    What cannot be read raises, for to go on without it would switch off the
    detection of rollbacks in silence. What cannot be written is logged: the
    commit that it is about is made.

    Raises:
        InputError: There is no such folder, and it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            _make_durable(path)
        except OSError as exc:
            raise InputError(
                f"the state directory cannot be made, {_ADVICE}",
                kind="no_state_dir",
                path=str(path),
            ) from exc

    def read(self, name: str) -> bytes | None:
        """
        Give a file's bytes, or None when there is none.

        Raises:
            InputError: It is there and cannot be read, as in the folder of another user.
        """
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as exc:
            reason = os.strerror(exc.errno or 0)
            raise InputError(
                f"a file in the state directory cannot be read ({reason}), {_ADVICE}",
                kind="state_unreadable",
                path=str(self.path / name),
            ) from exc

    def write(self, name: str, data: bytes) -> bool:
        """Replace a file, durably; False when that failed, which is logged."""
        try:
            fd, temp = tempfile.mkstemp(dir=self.path, prefix=f".{name}-")
            try:
                with os.fdopen(fd, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temp, self.path / name)
                self._sync()
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temp)
                raise
        except OSError as exc:
            get_logger().warning(
                "local state cannot be written", reason=os.strerror(exc.errno or 0)
            )
            return False
        return True

    @contextmanager
    def locked(self) -> Iterator[None]:
        """
        Keep other processes and threads out of a look and the write that follows from it.

        Where the lock file cannot be made, nothing can be written either.
        """
        try:
            fd = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            yield
            return
        try:
            # The kernel drops the lock of a process that dies. A home on a network
            # may have no locks: a head that goes back there costs one detection.
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _sync(self) -> None:
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _make_durable(path: Path) -> None:
    """Make a folder and those above it, each entered in its parent for good."""
    if path.is_dir():
        return
    _make_durable(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    # A folder that may be entered and not read cannot be synced either.
    with contextlib.suppress(PermissionError):
        fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
