"""Extended attributes, POSIX access control lists among them, as the system gives them."""

from __future__ import annotations

import errno
import os
from typing import Final

__all__ = ["MAX_XATTRS_BYTES", "read_xattrs"]

MAX_XATTRS_BYTES: Final = 1 << 20
"""Of names and values together, for one entry."""

_HAS_XATTRS: Final = hasattr(os, "listxattr")
# Without support there are none; what is gone meanwhile is told by whoever opens it.
_NONE: Final = frozenset({errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.ENOENT})


def read_xattrs(place: int | bytes) -> tuple[dict[bytes, bytes] | None, int]:
    """
    Read all extended attributes of *place*: a descriptor, or a path that is not followed.

    Returns:
        Names and values, ascending by name, or None where there are none; and
        how many could not be read or went beyond ``MAX_XATTRS_BYTES``.

    Cost: one system call, and one for each attribute. Python has these calls
    on Linux only; elsewhere nothing is found.
    """
    if not _HAS_XATTRS:
        return None, 0
    follow = isinstance(place, int)
    try:
        names = os.listxattr(place, follow_symlinks=follow)
    except OSError as exc:
        return None, 0 if exc.errno in _NONE else 1
    if not names:
        return None, 0
    found: dict[bytes, bytes] = {}
    failed, room = 0, MAX_XATTRS_BYTES
    for name in sorted(map(os.fsencode, names)):
        try:
            value = os.getxattr(place, name, follow_symlinks=follow)
        except OSError as exc:
            # One that was removed meanwhile moved the time of the last change.
            failed += exc.errno != errno.ENODATA
            continue
        room -= len(name) + len(value)
        if room < 0:
            failed += 1
            room += len(name) + len(value)
            continue
        found[name] = value
    return found or None, failed
