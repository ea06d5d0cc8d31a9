"""The cutter in C, where it was built and the processor has AES instructions."""

from __future__ import annotations

from typing import Final

from .params import ChunkerParams

__all__ = ["KERNELS", "cut"]

try:
    from . import _jpc
except ImportError:
    _kernels: tuple[str, ...] = ()
else:
    _kernels = _jpc.KERNELS

KERNELS: Final = _kernels


def cut(
    key: bytes,
    data: memoryview,
    params: ChunkerParams,
    *,
    final: bool,
    kernel: str | None = None,
) -> list[int]:
    """
    Return the ends of all chunks that *data* decides.

    Same contract as :meth:`Chunker.cut`; *data* is a view of bytes. *kernel*
    is one of ``KERNELS``, which lists what this processor can do, fastest
    first; all of them cut alike. To be called only where there is one.

    Cost: 0.25 to 0.45 ns per byte; the GIL is released.
    """
    return _jpc.cut(
        kernel or KERNELS[0],
        key,
        data,
        params.min_size,
        params.max_size,
        params.jump,
        params.t_cut,
        params.t_jump,
        final,
    )
