"""
Ask the real restic which snapshots its ``forget`` keeps, and write it down or compare.

    python tests/unit/policy/restic.py RESTIC            # writes data/restic.json anew
    python tests/unit/policy/restic.py RESTIC --compare  # on new random histories, against us

RESTIC is the path of a binary. Repositories are made in a temporary folder; a history of 60
snapshots takes about a minute, for restic derives its key anew each time.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo

from loopbackup import policy

DATA: Final = Path(__file__).parent / "data" / "restic.json"
Case: TypeAlias = dict[str, Any]

# What restic calls each option; a duration of ours is a number and a letter to it.
CASES: Final[Sequence[Mapping[str, Any]]] = [
    {"keep_last": 1},
    {"keep_last": 7},
    {"keep_hourly": 5},
    {"keep_daily": 7},
    {"keep_daily": 1000},
    {"keep_weekly": 5},
    {"keep_monthly": 12},
    {"keep_yearly": 3},
    {"keep_daily": 7, "keep_weekly": 5, "keep_monthly": 12, "keep_yearly": 75},
    {"keep_last": 3, "keep_hourly": 24, "keep_daily": 7},
    {"keep_daily": "all"},
    {"keep_monthly": "all", "keep_last": 2},
    {"keep_within": "P10D"},
    {"keep_within": "P1M2DT3H"},
    {"keep_daily": "P14D"},
    {"keep_weekly": "P2M", "keep_monthly": "P1Y"},
    {"keep_hourly": "P2D", "keep_daily": "P14D", "keep_yearly": "P10Y"},
    {"keep_tags": {"kind": "audit"}},
    {"keep_tags": {"kind": "audit"}, "keep_daily": 3},
]


def options(rule: Mapping[str, Any]) -> list[str]:
    """Say a rule in restic's words."""
    found = []
    for name, value in rule.items():
        flag = "--" + name.replace("_", "-")
        if name == "keep_tags":
            found += ["--keep-tag", ",".join(f"{k}={v}" for k, v in value.items())]
        elif value == "all":
            found += [flag, "unlimited"]
        elif isinstance(value, str):
            within = flag if name == "keep_within" else flag.replace("--keep-", "--keep-within-")
            days = value.replace("P", "").replace("T", "").lower()
            found += [within, days]
        else:
            found += [flag, str(value)]
    return found


class Restic:
    """A repository of its own."""

    def __init__(self, binary: str, folder: Path, zone: str) -> None:
        self._binary = binary
        self._env = os.environ | {
            "RESTIC_PASSWORD": "x",
            "RESTIC_REPOSITORY": str(folder / "repo"),
            "TZ": zone,
        }
        self.run("init")

    def run(self, *arguments: str, data: str | None = None) -> str:
        """Run a command."""
        command = [self._binary, "--no-cache", "--quiet", *arguments]
        return subprocess.run(
            command, env=self._env, input=data, capture_output=True, text=True, check=True
        ).stdout

    def backup(self, snapshot: Case, zone: str) -> None:
        """Make a snapshot of a moment."""
        local = datetime.fromisoformat(snapshot["time"]).astimezone(ZoneInfo(zone))
        tags = [
            part for key, value in snapshot["tags"].items() for part in ("--tag", f"{key}={value}")
        ]
        at = f"{local:%Y-%m-%d %H:%M:%S}"
        self.run("backup", "--host", "h", "--time", at, "--stdin", *tags, data="x")

    def kept(self, rule: Mapping[str, Any]) -> list[str]:
        """Say which moments ``forget`` keeps, in UTC."""
        said = self.run("forget", "--dry-run", "--json", *options(rule))
        (group,) = json.loads(said)
        times = [datetime.fromisoformat(s["time"]).astimezone(UTC) for s in group["keep"]]
        return sorted(f"{time:%Y-%m-%dT%H:%M:%S}+00:00" for time in times)


def history(seed: int, zone: str, count: int) -> list[Case]:
    """Make up a history: nights with gaps, busy hours, days on which clocks are set."""
    chance = random.Random(seed)
    moment = datetime(2022, 10, 20, 3, 30, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    found = []
    for _ in range(count):
        step = chance.choice(["minutes", "hours", "hours", "day", "day", "days", "month"])
        moment += {
            "minutes": timedelta(minutes=chance.randint(5, 50)),
            "hours": timedelta(hours=chance.randint(1, 9), minutes=chance.randint(0, 59)),
            "day": timedelta(days=1),
            "days": timedelta(days=chance.randint(2, 9), seconds=chance.randint(0, 86_000)),
            "month": timedelta(days=chance.randint(20, 60)),
        }[step]
        tags = {"kind": "audit"} if chance.random() < 0.1 else {}
        local = moment.astimezone(ZoneInfo(zone))
        # restic is told the time on the clock, which is two moments in the hour that comes twice.
        if local.replace(fold=1).utcoffset() == local.replace(fold=0).utcoffset():
            found.append({"time": f"{moment:%Y-%m-%dT%H:%M:%S}+00:00", "tags": tags})
    return found


def ask(binary: str, seed: int, zone: str, count: int) -> Case:
    """Give what restic keeps of a history, by each of the cases."""
    snapshots = history(seed, zone, count)
    with tempfile.TemporaryDirectory() as folder:
        restic = Restic(binary, Path(folder), zone)
        for snapshot in snapshots:
            restic.backup(snapshot, zone)
        cases = [{"rule": dict(rule), "keep": restic.kept(rule)} for rule in CASES]
    return {"timezone": zone, "snapshots": snapshots, "cases": cases}


def ours(snapshots: Sequence[Case], rule: Mapping[str, Any], zone: str) -> list[str]:
    """Say which moments our rules keep, in UTC."""
    infos = [
        policy.SnapshotInfo(f"{n:032x}", "h", datetime.fromisoformat(s["time"]), n, s["tags"])
        for n, s in enumerate(snapshots)
    ]
    rules = policy.Policy(policy.Retention(timezone=zone, **rule))
    plan = rules.plan_retention(infos, at=datetime(2026, 11, 1, tzinfo=UTC))
    times = [fate.snapshot.created_at for fate in plan.keep]
    return sorted(f"{time:%Y-%m-%dT%H:%M:%S}+00:00" for time in times)


def main() -> None:
    """Write the fixture, or compare."""
    binary, compare = sys.argv[1], "--compare" in sys.argv
    version = subprocess.run([binary, "version"], capture_output=True, text=True, check=True).stdout
    plan = [(1, "UTC", 60), (2, "Europe/Stockholm", 60), (3, "America/New_York", 25)]
    if compare:
        plan = [(random.randrange(10, 10_000), zone, count) for _, zone, count in plan]
    histories = []
    for seed, zone, count in plan:
        found = ask(binary, seed, zone, count)
        histories.append(found)
        for case in found["cases"]:
            same = ours(found["snapshots"], case["rule"], zone) == case["keep"]
            print(seed, zone, case["rule"], "same" if same else "ANOTHER")
    if not compare:
        said = {"restic": version.split(" compiled")[0], "histories": histories}
        DATA.write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    main()
