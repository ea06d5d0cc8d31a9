from typing import Final

KERNELS: Final[tuple[str, ...]]

def cut(
    kernel: str,
    key: bytes,
    data: memoryview,
    min_size: int,
    max_size: int,
    jump: int,
    t_cut: int,
    t_jump: int,
    final: bool,
    /,
) -> list[int]: ...
