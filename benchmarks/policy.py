"""
What rules cost: a plan for 100,000 snapshots, and one decision.

    python -m benchmarks.policy

Each is run five times in a process of its own, and the best is printed: time on the wall, and the
memory that the process has at its highest beyond what it has with the snapshots alone.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import loopbackup as lb
from loopbackup import policy

NOW = datetime(2026, 11, 23, 16, tzinfo=UTC)
COUNT = 100_000
ROUNDS = 5
RULES = policy.Policy(
    policy.Residency(allow="EEA"),
    policy.Access({"restore": {"support"}, "erase": {"dpo"}}, others={"job", "admin"}),
    policy.Retention(
        keep_last=10,
        keep_hourly=48,
        keep_daily=30,
        keep_weekly=52,
        keep_monthly=60,
        keep_yearly="all",
        keep_at_least="P30D",
        erase_after="P10Y",
        timezone="Europe/Stockholm",
    ),
)


def snapshots(kind: str) -> list[policy.SnapshotInfo]:
    """Make up snapshots: one series by the hour, or a hundred by turns with a lie in each tenth."""
    found = []
    for number in range(COUNT):
        made = NOW - timedelta(minutes=50 * (COUNT - number))
        if kind == "hostile" and number % 10 == 0:
            made -= timedelta(days=number % 900)
        name = "n" if kind == "one series" else f"series {number % 100}"
        found.append(policy.SnapshotInfo(f"{number:032x}", name, made, number))
    return found


def peak_mb() -> float:
    """Give the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def plan(kind: str) -> dict[str, Any]:
    """Plan once."""
    found = snapshots(kind)
    before = peak_mb()
    start, start_cpu = time.perf_counter(), time.process_time()
    made = RULES.plan_retention(found, at=NOW)
    took, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    memory = {"mb": peak_mb() - before, "total_mb": peak_mb()}
    return {"wall_s": took, "cpu_s": cpu, **memory, "go": len(made.expire)}


def decide() -> dict[str, Any]:
    """Decide ten thousand times."""
    place = policy.Place("vault", "eu-north-1", lb.Location(None, region="eu-north-1"), NOW)
    facts = policy.Facts(actor=lb.Actor("a", roles={"job"}), name="n", places=(place,))
    start = time.perf_counter()
    for _ in range(10_000):
        RULES.decide("backup", facts, at=NOW)
    return {"microseconds": (time.perf_counter() - start) * 100}


def main() -> None:
    """Run one case, or all of them."""
    if sys.argv[1:]:
        print(json.dumps(decide() if sys.argv[1] == "decide" else plan(sys.argv[1])))
        return
    for case in ("one series", "hundred series", "hostile", "decide"):
        command = [sys.executable, "-m", "benchmarks.policy", case]
        runs = [
            json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
            for _ in range(ROUNDS)
        ]
        best = {name: round(min(run[name] for run in runs), 2) for name in runs[0]}
        print(f"{case:<15} {best}")


if __name__ == "__main__":
    main()
