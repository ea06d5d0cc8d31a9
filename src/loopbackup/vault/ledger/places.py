"""
Which vault this host has met where.

A head is remembered by the id of its vault, so it says nothing about a place
where quite another vault stands suddenly: one that whoever stole a credential
has made anew, say.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from attrs import frozen

from ...errors import RollbackDetected
from ...logs import get_logger
from ..format.names import content_hash
from .statefolder import StateFolder

__all__ = ["Pin", "Places"]

_PIN: Final = re.compile(rb"([0-9a-f]{32}) ([0-9a-f]{64})\n")


@frozen
class Pin:
    """What a vault is recognised by: its id and the public key of its authority."""

    vault_id: bytes
    authority: bytes


class Places:
    """
    One file for each place, named by the hash of its address; or nothing without *folder*.

    Args:
        folder: The state directory.

    Raises:
        InputError: It cannot be made.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = None if folder is None else StateFolder(folder / "places")

    def hold_against(self, place: str | None, pin: Pin) -> None:
        """
        Compare the vault at *place* with the one that was there before.

        Raises:
            RollbackDetected: Kind "another_vault": it is another.
            InputError: What was kept may not be read.
        """
        known = self._known(place)
        if known is not None and known != pin:
            raise RollbackDetected(
                f"another vault ({pin.vault_id.hex()[:8]}) stands where this host has opened "
                f"vault {known.vault_id.hex()[:8]}. Nothing was read with the credential. If it "
                "was put there on purpose, open it once with public_key= as its creator gives it",
                kind="another_vault",
                seen=known.vault_id.hex(),
                found=pin.vault_id.hex(),
            )

    def knows(self, place: str | None, pin: Pin) -> bool:
        """Tell whether this host has opened the vault at *place* before."""
        return self._known(place) == pin

    def keep(self, place: str | None, pin: Pin) -> None:
        """Remember the vault at *place*, instead of any other."""
        if self._folder is None or place is None or self._known(place) == pin:
            return
        line = f"{pin.vault_id.hex()} {pin.authority.hex()}\n"
        self._folder.write(_name(place), line.encode())

    def _known(self, place: str | None) -> Pin | None:
        if self._folder is None or place is None:
            return None
        data = self._folder.read(_name(place))
        if data is None:
            return None
        match = _PIN.fullmatch(data)
        if match is None:
            get_logger().error(
                "what this host remembered of a place is damaged: it cannot be told "
                "whether another vault stands there"
            )
            return None
        return Pin(bytes.fromhex(match[1].decode()), bytes.fromhex(match[2].decode()))


def _name(place: str) -> str:
    return content_hash(place.encode("utf-8", "surrogateescape")).hex()
