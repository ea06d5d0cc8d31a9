"""
Measure how fast each implementation of the chunker cuts; prints GB/s.

    python benchmarks/chunker.py [--agree 1000000000]

With ``--agree`` all of them cut so many random bytes, and have to agree.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from random import Random

from loopbackup.vault.content.chunker import ChunkerParams, native, twin

MIB = 1024 * 1024
RECORD_SIZE = 120


def make_random(size: int, random: Random) -> bytes:
    """Return noise, which is also what compressed files look like."""
    # randbytes of the whole would overflow above 256 MiB.
    return b"".join(random.randbytes(MIB) for _ in range(size // MIB))


def make_text(size: int, random: Random) -> bytes:
    """Return JSON lines."""
    line = '{{"id": {}, "name": "user-42", "firm": "Acme AB", "amount": {}}}\n'
    lines: list[bytes] = []
    total = 0
    while total < size:
        lines.append(line.format(len(lines), random.randrange(10**6)).encode())
        total += len(lines[-1])
    return b"".join(lines)[:size]


def make_zeros(size: int, random: Random) -> bytes:
    """Return one long run."""
    return bytes(size)


def make_records(size: int, random: Random) -> bytes:
    """Return records of 120 bytes of which 80 are the same in all."""
    same = random.randbytes(80)
    return b"".join(
        random.randbytes(RECORD_SIZE - len(same)) + same for _ in range(size // RECORD_SIZE)
    )


DATA: dict[str, Callable[[int, Random], bytes]] = {
    "random": make_random,
    "text": make_text,
    "zeros": make_zeros,
    "records": make_records,
}


def measure_gb_s(cut: Callable[[], list[int]], size: int, rounds: int) -> float:
    """Return the best of *rounds* runs in GB/s."""
    best_s = float("inf")
    for _ in range(rounds):
        begin = time.perf_counter()
        cut()
        best_s = min(best_s, time.perf_counter() - begin)
    return size / best_s / 1e9


def agree(size: int) -> None:
    """Cut random bytes with every implementation, and end with an error if they differ."""
    params, random = ChunkerParams(), Random()
    cuts = done = 0
    while done < size:
        data = memoryview(make_random(min(64 * MIB, -(-(size - done) // MIB) * MIB), random))
        key = random.randbytes(32)
        expected = twin.cut(key, data, params, final=True)
        for kernel in native.KERNELS:
            if native.cut(key, data, params, final=True, kernel=kernel) != expected:
                raise SystemExit(f"{kernel} cuts otherwise than the twin, key {key.hex()}")
        done, cuts = done + len(data), cuts + len(expected)
    print(f"python, {', '.join(native.KERNELS)} agree on {cuts:,} cuts in {done:,} random bytes")


def main() -> None:
    """Measure all data with all implementations and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=256, help="size for C; Python gets 1/16")
    parser.add_argument("--rounds", type=int, default=5, help="the best one counts")
    parser.add_argument("--agree", type=int, default=0, metavar="BYTES")
    args = parser.parse_args()
    if args.agree:
        agree(args.agree)
        return
    params = ChunkerParams()
    key = bytes(range(32))
    print("GB/s     " + "".join(f"{name:>10}" for name in (*native.KERNELS, "python")))
    for name, make in DATA.items():
        data = memoryview(make(args.mib * MIB, Random(1)))
        short = data[: len(data) // 16]
        figures = [
            measure_gb_s(
                partial(native.cut, key, data, params, final=True, kernel=kernel),
                len(data),
                args.rounds,
            )
            for kernel in native.KERNELS
        ]
        figures.append(
            measure_gb_s(partial(twin.cut, key, short, params, final=True), len(short), args.rounds)
        )
        print(f"{name:<9}" + "".join(f"{figure:>10.3f}" for figure in figures))


if __name__ == "__main__":
    main()
