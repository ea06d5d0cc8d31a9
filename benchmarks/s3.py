"""
Measure a vault in a bucket beside restic, both writing to one `rclone serve s3` over TLS.

    python -m benchmarks.s3 [--scale 0.25] [--rounds 3] [--corpora tree,random] [--folder /dev/shm]

Server, source, restores and the server's files share this machine, so the server's work counts in
the wall time of both. Each step is a process of its own, and the tools take turns; medians. That
server does not keep to conditions, so the vault has a single writer.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.servers.processes import KEY, REGION, SECRET, S3Server, make_certificates, rclone

from .corpora import make_corpus, open_corpus
from .measure import Figures, run
from .peers import DEFAULT_CACHE, find_peers

STEPS = ("first", "again", "restore", "check")
BUCKET = "acme-bench"
PASSPHRASE = "not a secret"


def step(name: str, url: str, options: Mapping[str, Any], source: Path, folder: Path) -> None:
    """Do one step with loopbackup in this process."""
    import loopbackup as lb

    given: dict[str, Any] = {"storage_options": options, "state_dir": folder / "state"}
    key = lb.Passphrase(PASSPHRASE)
    if name == "init":
        lb.Vault.create(url, key, location="this machine", single_writer=True, **given).close()
        return
    with lb.Vault.open(url, key, **given) as vault:
        if name in ("first", "again"):
            vault.backup(source, name="n")
        elif name == "restore":
            vault.restore("latest", folder / "target")
        elif not vault.check(data=True).ok:
            raise SystemExit("the vault is damaged")


class Loopbackup:
    """This library, in a process for each step."""

    name = "loopbackup"

    def __init__(self, server: S3Server, folder: Path) -> None:
        self.folder = folder
        self._given = json.dumps([f"s3://{BUCKET}/{folder.name}", server.options()])

    def argv(self, what: str, source: Path) -> list[str]:
        """Give the command of a step."""
        module = [sys.executable, "-m", "benchmarks.s3", "--step", what, self._given]
        return [*module, str(source), str(self.folder)]

    def env(self) -> dict[str, str]:
        """Give the environment of a step."""
        return dict(os.environ)


class Restic:
    """A restic."""

    def __init__(self, name: str, binary: str, server: S3Server, folder: Path) -> None:
        self.name, self.folder = name, folder
        self._binary, self._server = binary, server

    def argv(self, what: str, source: Path) -> list[str]:
        """Give the command of a step."""
        repository = f"s3:{self._server.endpoint}/{BUCKET}/{self.folder.name}"
        begin = [self._binary, "-r", repository, "--cacert", str(self._server.authority), "-q"]
        begin += ["--cache-dir", str(self.folder / "cache")]
        end = {
            "init": ["init"],
            "first": ["backup", str(source)],
            "again": ["backup", str(source)],
            "restore": ["restore", "latest", "--target", str(self.folder / "target")],
            "check": ["check", "--read-data"],
        }
        return [*begin, *end[what]]

    def env(self) -> dict[str, str]:
        """Give the environment of a step."""
        keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
        return {**os.environ, **keys, "AWS_DEFAULT_REGION": REGION, "RESTIC_PASSWORD": PASSPHRASE}


def measure_round(tools: list[Any], source: Path, log: Path) -> dict[tuple[str, str], Figures]:
    """Do every step with every tool, taking turns."""
    found = {}
    for tool in tools:
        tool.folder.mkdir()
    for what in ("init", *STEPS):
        for tool in tools:
            argv = tool.argv(what, source)
            found[tool.name, what] = run(argv, env=tool.env(), cwd=None, log=log)
    for tool in tools:
        shutil.rmtree(tool.folder)
    return found


def main() -> None:
    """Run, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--scale", type=float, default=0.25)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--corpora", default="tree,random")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--step", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        what, given, source, folder = arguments.step
        url, options = json.loads(given)
        step(what, url, options, Path(source), Path(folder))
        return
    peers, missing = find_peers(["restic-debian", "restic-newest"], DEFAULT_CACHE, ())
    for name, why in missing.items():
        print(f"- {name} is missing: {why}")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        base = Path(place)
        with rclone(base, make_certificates(base / "certificates")) as server:
            (base / "rclone" / BUCKET).mkdir()
            for name in arguments.corpora.split(","):
                make_corpus(name, base / "corpora", arguments.scale)
                corpus = open_corpus(name, base / "corpora")
                print(f"\n### {name}: {corpus.files:,} files, {corpus.size_bytes / 1e6:,.0f} MB\n")
                print("| step | tool | wall s | CPU s | peak MB |\n|---|---|---|---|---|")
                found = defaultdict(list)
                for number in range(arguments.rounds):
                    here = base / f"{name}-{number}"
                    here.mkdir()
                    tools: list[Any] = [Loopbackup(server, here / f"loopbackup-{name}-{number}")]
                    tools += [
                        Restic(p.name, p.binary, server, here / f"{p.name}-{name}-{number}")
                        for p in peers
                    ]
                    begin = number % len(tools)
                    tools = tools[begin:] + tools[:begin]
                    for key, figures in measure_round(tools, corpus.source, base / "log").items():
                        found[key].append(figures)
                    shutil.rmtree(base / "rclone" / BUCKET)
                    (base / "rclone" / BUCKET).mkdir()
                for what in STEPS:
                    for tool in ("loopbackup", *(p.name for p in peers)):
                        runs = found[tool, what]
                        wall, cpu = (
                            statistics.median(getattr(f, field) for f in runs)
                            for field in ("wall_s", "cpu_s")
                        )
                        peak = statistics.median(f.peak_bytes for f in runs) / 1e6
                        print(f"| {what} | {tool} | {wall:.2f} | {cpu:.2f} | {peak:.0f} |")


if __name__ == "__main__":
    main()
