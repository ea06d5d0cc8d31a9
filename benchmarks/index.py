"""
Measure the index in memory: bytes a chunk, filling and looking up.

    python -m benchmarks.index [--chunks 10000000]
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from pathlib import Path

from loopbackup.vault.content.places import PlaceTable
from loopbackup.vault.content.segment import Blob

PACK_CHUNKS = 64
BLOCK = 1 << 16
LOOKUPS = 100_000


def rss_bytes() -> int:
    """Give the memory that this process has in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Fill a table with chunks of random ids, and look some of them up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=10_000_000)
    count = parser.parse_args().chunks
    table, known = PlaceTable(), []
    gc.disable()
    before, begin = rss_bytes(), time.perf_counter()
    pack = b""
    for first in range(0, count, BLOCK):
        ids = os.urandom(32 * min(BLOCK, count - first))
        for number in range(len(ids) // 32):
            if number % PACK_CHUNKS == 0:
                pack = b"p" + os.urandom(32)
            chunk_id = ids[32 * number : 32 * number + 32]
            table.add(Blob(pack, 4096, 400_000, 524_288, 1, 0, 1, chunk_id), b"")
        known.append(ids[:32])
    filled = time.perf_counter() - begin
    used = rss_bytes() - before
    begin = time.perf_counter()
    found = sum(table.first_pack(known[n % len(known)]) is not None for n in range(LOOKUPS))
    hit = time.perf_counter() - begin
    strangers = [os.urandom(32) for _ in range(1000)]
    begin = time.perf_counter()
    found += sum(table.first_pack(strangers[n % 1000]) is not None for n in range(LOOKUPS))
    miss = time.perf_counter() - begin
    assert (found, len(table)) == (LOOKUPS, count)
    print(
        f"{count:,} chunks: {table.size_bytes / count:.1f} bytes of records a chunk, "
        f"{used / count:.1f} of memory; filled in {filled:.1f} s; "
        f"{hit / LOOKUPS * 1e6:.2f} microseconds a hit, {miss / LOOKUPS * 1e6:.2f} a miss"
    )


if __name__ == "__main__":
    main()
