"""Numbers for inodes with several names: the same in every run in which nothing changed."""

from __future__ import annotations

import os
import struct
from typing import Final

from blake3 import blake3

__all__ = ["LinkNumbers"]

_INODE: Final = struct.Struct("<IQ")
_BELOW: Final = (1 << 63) - 1


class LinkNumbers:
    """
    Number inodes by device and inode.

    A device counts by the order in which the scan met it: the numbers that the
    system gives to devices change with every mount, and an entry that changed
    would be stored again.
    """

    def __init__(self) -> None:
        self._devices: dict[int, int] = {}

    def meet(self, device: int) -> int:
        """Give the ordinal of a device, from 0."""
        return self._devices.setdefault(device, len(self._devices))

    def number(self, status: os.stat_result) -> int:
        """Give the number of an inode: from 1 to 2^63 - 1."""
        packed = _INODE.pack(self.meet(status.st_dev), status.st_ino)
        digest = blake3(packed).digest(8)
        return (int.from_bytes(digest, "little") & _BELOW) or 1
