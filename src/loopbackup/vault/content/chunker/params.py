"""The numbers that decide where files are cut; they stand in a vault's header."""

from __future__ import annotations

from attrs import frozen

from ....errors import InputError

__all__ = ["ChunkerParams"]

_LARGEST_CHUNK = 16 * 1024 * 1024


@frozen(kw_only=True)
class ChunkerParams:
    """
    Say how long chunks are and how often the cutter looks.

    With the defaults a window is looked at in about 6 % of all places and
    chunks of random data are 512 KiB long on average.

    Args:
        min_size: No chunk but the last is shorter; bytes, 64 or more.
        max_size: No chunk is longer; bytes, *min_size* to 16 MiB.
        jump: How far one jump goes; bytes, 16 to *min_size*.
        t_cut: A window value below it is a cut; above 0.
        t_jump: A window value from *t_cut* up to below it is a jump; below 2**64.

    Raises:
        InputError: A number is outside its bounds.
    """

    min_size: int = 131_072
    max_size: int = 4_194_304
    jump: int = 480
    t_cut: int = 749_133_922_391_381
    t_jump: int = 577_209_886_225_814_869

    def __attrs_post_init__(self) -> None:
        if not 64 <= self.min_size <= self.max_size <= _LARGEST_CHUNK:
            raise InputError(
                f"Chunk sizes must satisfy 64 <= min <= max <= {_LARGEST_CHUNK},"
                f" not min {self.min_size} and max {self.max_size}.",
                kind="chunker_params",
            )
        if not 16 <= self.jump <= self.min_size:
            raise InputError(
                f"The jump must lie between 16 and min ({self.min_size}), not at {self.jump}.",
                kind="chunker_params",
            )
        if not 0 < self.t_cut < self.t_jump < 2**64:
            raise InputError(
                f"Thresholds must satisfy 0 < t_cut < t_jump < 2**64,"
                f" not t_cut {self.t_cut} and t_jump {self.t_jump}.",
                kind="chunker_params",
            )
