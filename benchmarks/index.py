"""
Measure the index in memory: opening, loading, bytes a chunk and looking up.

    python -m benchmarks.index [--chunks 1000000,10000000] [--folder /dev/shm] [--memory-mib 256]

For each number of chunks a vault is made whose ledger names index objects of a
million rows each, sealed as any others. Ids are made up (and can be made again
to look them up), and the packs that they name, 64 chunks each, are not there:
neither opening nor looking up reads one. A process of its own then opens the
vault, looks up one chunk, which loads the index, and then many.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3

MIB = 1 << 20
PACK_CHUNKS = 64
SEGMENT_CHUNKS = 1_000_000
LOOKUPS = 100_000
BATCH = 4096
EVERY_S = 0.1
HEADING = (
    "| chunks | limit MiB | open s | load s (CPU) | resident MiB (bytes a chunk) | peak MiB | "
    "file MiB | hit us | miss us | hit in batch us | miss in batch us |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)


def rss_bytes() -> int:
    """Give the memory that this process has in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def ids_of(segment: int, count: int, *, known: bool = True) -> list[bytes]:
    """Make the first ids of a segment, or others that no segment has."""
    joined = blake3(b"%d %d" % (segment, known)).digest(32 * count)
    return [joined[at : at + 32] for at in range(0, len(joined), 32)]


def make(folder: Path, count: int) -> None:
    """Make a vault with so many chunks."""
    import loopbackup as lb
    from loopbackup.vault.content.segment import build_index
    from loopbackup.vault.format import names
    from loopbackup.vault.format import record as rec
    from loopbackup.vault.format.pack import ROW, PackFront, join_block
    from loopbackup.vault.ledger.log import Draft
    from loopbackup.vault.ledger.state import join_fronts

    with lb.Vault.create(folder, lb.Passphrase("not a secret"), state_dir=None) as vault:
        session = vault._session
        domain, secret = session.keyring.none, session.keyring.index_secret
        for segment, first in enumerate(range(0, count, SEGMENT_CHUNKS)):
            ids = ids_of(segment, min(SEGMENT_CHUNKS, count - first))
            parts = []
            for at in range(0, len(ids), PACK_CHUNKS):
                rows = [
                    ROW.pack(0, chunk_id, number * 400_000, 400_000, 524_288, 0, 1, 0)
                    for number, chunk_id in enumerate(ids[at : at + PACK_CHUNKS])
                ]
                pack = PackFront(b"p" + os.urandom(32), 8192, os.urandom(32))
                parts.append((pack, domain.generation, join_block(b"".join(rows), b"")))
            front, data = build_index(secret, session.header.vault_id, {domain: parts})
            session.store.put(names.index_name(front.name[1:]), data)
            session.log.commit_draft(Draft("prune", rec.Pruned(new_segments=join_fronts([front]))))


class Watch:
    """Looks at the memory of this process again and again."""

    def __init__(self) -> None:
        self.points: list[tuple[float, int]] = []
        self._begin = time.perf_counter()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._done.wait(EVERY_S):
            self.points.append((time.perf_counter() - self._begin, rss_bytes()))

    def stop(self) -> None:
        """Look no more."""
        self._done.set()
        self._thread.join()


def each_us(work: Callable[[], object], count: int) -> float:
    """Give the microseconds of CPU that each of *count* look-ups takes."""
    begin = time.process_time()
    work()
    return (time.process_time() - begin) / count * 1e6


def measure(folder: Path, count: int, memory_mib: int) -> dict[str, object]:
    """Open the vault in this process, load its index and look chunks up."""
    import loopbackup as lb
    from loopbackup.vault.content import index as module

    module.MEMORY_BYTES = memory_mib * MIB  # type: ignore[attr-defined]
    key = lb.Passphrase("not a secret")
    lb.Vault  # noqa: B018 - imports what it needs, which is not a part of opening
    begin = time.perf_counter()
    vault = lb.Vault.open(folder, key, state_dir=None)
    opened_s = time.perf_counter() - begin
    session = vault._session
    index, domain, state = session.index, session.keyring.none, session.log.state
    before, watch = rss_bytes(), Watch()
    begin, begin_cpu = time.perf_counter(), time.process_time()
    assert index.find_pack(domain, ids_of(0, 1)[0], state) is not None
    loaded_s, loaded_cpu_s = time.perf_counter() - begin, time.process_time() - begin_cpu
    watch.stop()
    after = rss_bytes()
    result: dict[str, object] = {
        "chunks": count,
        "opened_s": opened_s,
        "loaded_s": loaded_s,
        "loaded_cpu_s": loaded_cpu_s,
        "rss_bytes": after - before,
        "peak_bytes": max([after, *(size for _, size in watch.points)]) - before,
        "file_bytes": index._tables[domain.id].places.file_bytes,
        "table_bytes": index._tables[domain.id].places.memory_bytes,
        "points": watch.points,
    }
    segments = -(-count // SEGMENT_CHUNKS)
    hits = [i for n in range(segments) for i in ids_of(n, min(LOOKUPS, count) // segments)]
    misses = ids_of(0, len(hits), known=False)
    for name, ids, expected in (("hit", hits, True), ("miss", misses, False)):
        alone = [index.find_pack(domain, i, state) for i in ids[:10]]
        assert all((pack is not None) is expected for pack in alone)
        result[f"{name}_us"] = each_us(
            lambda ids=ids: [index.find_pack(domain, i, state) for i in ids],  # type: ignore[misc]
            len(ids),
        )
        result[f"{name}_batch_us"] = each_us(
            lambda ids=ids: [  # type: ignore[misc]
                index.find_packs(domain, ids[at : at + BATCH], state)
                for at in range(0, len(ids), BATCH)
            ],
            len(ids),
        )
    session.index.close()
    vault.close()
    return result


def line(found: dict[str, object]) -> str:
    """Write a row of the table."""
    number = {key: value for key, value in found.items() if isinstance(value, int | float)}
    chunks = number["chunks"]
    return (
        f"| {chunks:,} | {number['memory_mib']} | {number['opened_s']:.2f} | "
        f"{number['loaded_s']:.1f} ({number['loaded_cpu_s']:.1f}) | "
        f"{number['rss_bytes'] / MIB:.0f} ({number['rss_bytes'] / chunks:.1f}) | "
        f"{number['peak_bytes'] / MIB:.0f} | {number['file_bytes'] / MIB:.0f} | "
        f"{number['hit_us']:.1f} | {number['miss_us']:.1f} | "
        f"{number['hit_batch_us']:.1f} | {number['miss_batch_us']:.1f} |"
    )


def main() -> None:
    """Make vaults, measure each in a process of its own, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", default="1000000,10000000")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--memory-mib", default="256", help="limits to try, separated by commas")
    parser.add_argument("--out", type=Path, help="write all figures there as JSON")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        found = measure(options.measure, int(options.chunks), int(options.memory_mib))
        print(json.dumps(found))
        return
    print(HEADING)
    results = []
    for chunks in map(int, options.chunks.split(",")):
        with tempfile.TemporaryDirectory(dir=options.folder) as place:
            vault = Path(place, "vault")
            make(vault, chunks)
            for memory_mib in options.memory_mib.split(","):
                command = [sys.executable, "-m", "benchmarks.index", "--measure", str(vault)]
                command += ["--chunks", str(chunks), "--memory-mib", memory_mib]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                results.append({**json.loads(done.stdout), "memory_mib": int(memory_mib)})
                print(line(results[-1]), flush=True)
    if options.out:
        options.out.write_text(json.dumps(results))


if __name__ == "__main__":
    main()
