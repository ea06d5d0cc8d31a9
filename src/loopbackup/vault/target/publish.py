"""Giving what is finished its name, in one step, and never in the place of something."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from functools import cache
from typing import Final

__all__ = ["NO_LINKS", "rename_new"]

_NOREPLACE: Final = 1
_NO_SUCH_CALL: Final = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
NO_LINKS: Final = frozenset(
    {errno.EPERM, errno.ENOSYS, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP}
)


@cache
def _renameat2() -> Callable[..., int] | None:
    """Find the call in the C library: glibc has it since 2.28, others may not."""
    try:
        found = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    found.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    call: Callable[..., int] = found
    return call


def rename_new(old: bytes, new: bytes, dir_fd: int) -> None:
    """
    Rename an entry of a folder to a name that nothing has.

    Raises:
        FileExistsError: Something has it; nothing was changed.
        OSError: As of the system.

    Cost: one call where the system knows ``RENAME_NOREPLACE`` (Linux 3.15),
    else a hard link and an unlink.
    """
    call = _renameat2()
    if call is not None:
        if call(dir_fd, old, dir_fd, new, _NOREPLACE) == 0:
            return
        code = ctypes.get_errno()
        # Some file systems do not know the flag.
        if code not in _NO_SUCH_CALL:
            raise OSError(code, os.strerror(code))
    try:
        os.link(old, new, src_dir_fd=dir_fd, dst_dir_fd=dir_fd, follow_symlinks=False)
    except OSError as exc:
        if exc.errno not in NO_LINKS:
            raise
        # Neither is there: all that is left is to look first.
        _refuse_taken(new, dir_fd)
        os.rename(old, new, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    else:
        os.unlink(old, dir_fd=dir_fd)


def _refuse_taken(name: bytes, dir_fd: int) -> None:
    try:
        os.lstat(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
