"""The cutter in Python: the same cuts as the C core, some fifty times slower."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from struct import Struct

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB

from .params import ChunkerParams

__all__ = ["cut"]

_WINDOW = 32
_BLOCK = 16

# Windows valued in one go. One window in 32 jumps, so larger batches are thrown
# away and smaller ones pay for the calls; 24 to 48 measure alike.
_LANES = 32

# The second half of window k is the first half of window k + 16.
_halves = itemgetter(*(slice(k, k + _BLOCK) for k in range(_LANES + _BLOCK)))
_low_words = Struct("<" + "Q8x" * _LANES).unpack
_SEGMENT = _LANES + _WINDOW - 1

# Runs are followed by pieces of this size: most are short.
_PIECE = 4096


def cut(key: bytes, data: memoryview, params: ChunkerParams, *, final: bool) -> list[int]:
    """
    Return the ends of all chunks that *data* decides.

    Same contract as :meth:`Chunker.cut`; *data* is a view of bytes.

    Cost: 14 to 20 ns per byte, where nothing is one long run.
    """
    # A cipher context is not to be shared by threads, so each call makes its own.
    # ECB because each block is one evaluation of the permutation, nothing more.
    encrypt = Cipher(AES256(key), ECB()).encryptor().update  # noqa: S305
    length = len(data)
    ends: list[int] = []
    start = 0
    while start < length:
        limit = start + params.max_size
        end = min(limit, length)
        found = _next_cut(encrypt, data, start, end, params)
        if found == end and limit > length and not final:
            break
        ends.append(found)
        start = found
    return ends


def _next_cut(
    encrypt: Callable[[bytes], bytes],
    data: memoryview,
    start: int,
    end: int,
    params: ChunkerParams,
) -> int:
    """Return the first cut after *start*, or *end* if there is none before it."""
    jumped: dict[int, int] = {}
    t_cut, t_jump = params.t_cut, params.t_jump
    i = start + params.min_size
    while i < end:
        lanes = min(_LANES, end - i)
        segment = bytes(data[i - _WINDOW : i + lanes - 1])
        values = _window_values(encrypt, segment)[:lanes]
        for lane, y in enumerate(values):
            if y < t_jump:
                if y < t_cut:
                    return i + lane
                if jumped.get(y & 255) != y:
                    jumped[y & 255] = y
                    i += lane + params.jump
                    break
        else:
            i = _after_run(data, i + lanes, end)
    return end


def _window_values(encrypt: Callable[[bytes], bytes], segment: bytes) -> tuple[int, ...]:
    """Return F of each window of *segment*: LE64 of a two-block AES-256 CBC-MAC."""
    halves = _halves(segment.ljust(_SEGMENT, b"\0"))
    chained = encrypt(b"".join(halves[:_LANES]))
    mixed = int.from_bytes(chained, "little") ^ int.from_bytes(b"".join(halves[_BLOCK:]), "little")
    return _low_words(encrypt(mixed.to_bytes(_LANES * _BLOCK, "little")))


def _after_run(data: memoryview, i: int, end: int) -> int:
    """
    Return the next place to look at when place *i* - 1 said "one byte on".

    If the window there is one byte repeated, every further window inside the
    run has the same value and therefore says the same, so the run is skipped.
    """
    window = bytes(data[i - 1 - _WINDOW : i - 1])
    if window != window[:1] * _WINDOW:
        return i
    while True:
        piece = bytes(data[i - 1 : min(i - 1 + _PIECE, end)])
        run = len(piece) - len(piece.lstrip(window[:1]))
        i += run
        if run < _PIECE:
            return i
