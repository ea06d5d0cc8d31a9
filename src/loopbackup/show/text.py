"""Texts of other people made safe to print, and sizes and times as people write them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

__all__ = ["count", "lines", "moment", "plain", "size"]

_UNITS: Final = ("kB", "MB", "GB", "TB", "PB", "EB")


def plain(text: str) -> str:
    r"""
    Give *text* with everything that is not printable as an escape.

    Names come from whoever made the files: control characters could drive a
    terminal, marks of direction could show a name as another one, and bytes
    that are no text cannot be encoded.

    >>> plain("cv\x1b[2J.pdf")
    'cv\\x1b[2J.pdf'
    >>> plain("caf\udce9")
    'caf\\xe9'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # os.fsdecode keeps an undecodable byte like this.
        code -= 0xDC00
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def size(size_bytes: int) -> str:
    """
    Give a size in decimal units.

    >>> size(999), size(1_500_000)
    ('999 B', '1.5 MB')
    """
    if abs(size_bytes) < 1000:
        return f"{size_bytes} B"
    exponent = 0
    value = float(size_bytes)
    while abs(value) >= 999.95 and exponent < len(_UNITS):
        value /= 1000
        exponent += 1
    return f"{value:,.1f} {_UNITS[exponent - 1]}"


def count(number: int, word: str) -> str:
    """
    Give a number of things.

    >>> count(1, "snapshot"), count(1200, "snapshot")
    ('1 snapshot', '1,200 snapshots')
    """
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def moment(at: datetime | None) -> str:
    """Give an instant to the minute, in the zone it has; nothing for None."""
    return "" if at is None else f"{at:%Y-%m-%d %H:%M} {at.tzname() or ''}".rstrip()


def lines(parts: Iterable[str]) -> str:
    """Join lines, each made safe to print, so that no name can begin a line of its own."""
    return "\n".join(map(plain, parts))
