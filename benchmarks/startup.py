"""
Measure what stands before the first call: importing, and opening a local vault.

    python -m benchmarks.startup [--rounds 9] [--folder /dev/shm]

Prints medians of interleaved rounds, over bare Python.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from .measure import run

OPEN = """
import sys, time, json, loopbackup as lb
key = lb.Passphrase("not a secret")
lb.Vault
wall, cpu = time.perf_counter(), time.process_time()
vault = lb.Vault.open(sys.argv[1], key, state_dir=sys.argv[2])
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]))
vault.close()
"""
CREATE = """
import sys, loopbackup as lb
key = lb.Passphrase("not a secret")
lb.Vault.create(sys.argv[1], key, state_dir=sys.argv[2]).close()
"""
STEPS: Mapping[str, str] = {
    "bare Python": "pass",
    "import loopbackup": "import loopbackup",
    "import, and name Vault": "import loopbackup; loopbackup.Vault",
    "process that opens a vault": OPEN,
}


def main() -> None:
    """Run all steps in turn and print their medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        vault = [f"{place}/vault", f"{place}/state"]
        subprocess.run([sys.executable, "-c", CREATE, *vault], check=True)
        figures: dict[str, list[tuple[float, float]]] = {}
        for _ in range(options.rounds):
            for name, code in STEPS.items():
                log = Path(place, "log")
                done = run([sys.executable, "-c", code, *vault], env=None, cwd=None, log=log)
                figures.setdefault(name, []).append((done.wall_s, done.cpu_s))
                if code is OPEN:
                    wall_s, cpu_s = log.read_text().strip("[]\n").split(",")
                    call = (float(wall_s), float(cpu_s))
                    figures.setdefault("of which Vault.open", []).append(call)
    print("| step | wall s | CPU s |\n|---|---|---|")
    for name, pairs in figures.items():
        wall_s, cpu_s = (median(column) for column in zip(*pairs, strict=True))
        print(f"| {name} | {wall_s:.3f} | {cpu_s:.3f} |")


if __name__ == "__main__":
    main()
