"""
Compare loopbackup with other tools, side by side on one machine.

    python -m benchmarks.compare [--scale 1.0] [--rounds 3] [--only first,again]
                                 [--peers loopbackup,restic-debian] [--corpora tree]

Rounds are interleaved: each step is run by one tool after the other before the
next step, and all steps before the next round. Writes results.json, results.md
and, where matplotlib is installed, results.png.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from attrs import define, evolve, field

from .budgets import Sample
from .corpora import CORPORA, DEFAULT_FOLDER, Corpus, Edits, open_corpus
from .drivers import STEPS, Driver
from .measure import Figures, Footprint, footprint, run
from .peers import DEFAULT_CACHE, NAMES, Peer, find_peers
from .report import Run, machine, markdown, write

DEFAULT_CORPORA = ("tree", "random", "jsonl")


@define
class Comparison:
    """One run over some corpora, steps and tools."""

    work: Path
    peers: Sequence[Peer]
    steps: Sequence[str]
    samples: list[Sample] = field(factory=list)

    def corpus(self, corpus: Corpus, number: int) -> None:
        """Run all steps of one round on one corpus."""
        drivers = [peer.driver(self.work) for peer in self.peers]
        sizes = {driver.name: self._begin(driver, corpus) for driver in drivers}
        try:
            for step in self.steps:
                with Edits(corpus) if step == "edited" else nullcontext():
                    for driver in _turned(drivers, number):
                        if step in driver.steps(corpus):
                            self._step(driver, corpus, step, number, sizes)
        finally:
            shutil.rmtree(self.work, ignore_errors=True)

    def _begin(self, driver: Driver, corpus: Corpus) -> Footprint:
        driver.folder.mkdir(parents=True)
        for argv in driver.init(corpus):
            self._run(driver, corpus, "init", argv)
        return footprint(driver.repo)

    def _step(
        self, driver: Driver, corpus: Corpus, step: str, number: int, sizes: dict[str, Footprint]
    ) -> None:
        driver.target.mkdir()
        figures = self._run(driver, corpus, step, driver.steps(corpus)[step])
        if step == "restore" and number == 0:
            _compare_trees(corpus.source, driver.restored(corpus), driver.name)
        shutil.rmtree(driver.target)
        before, after = sizes[driver.name], footprint(driver.repo)
        sizes[driver.name] = after
        sample = Sample(
            round=number,
            corpus=corpus.name,
            step=step,
            tool=driver.name,
            wall_s=figures.wall_s,
            cpu_s=figures.cpu_s,
            peak_bytes=figures.peak_bytes,
            call_wall_s=figures.call_wall_s,
            call_cpu_s=figures.call_cpu_s,
            repo_bytes=after.size_bytes,
            repo_objects=after.objects,
            grown_bytes=after.size_bytes - before.size_bytes,
        )
        self.samples.append(sample)
        print(
            f"{number} {corpus.name:<8} {step:<8} {driver.name:<14} {sample.wall_s:7.2f} s "
            f"{sample.cpu_s:7.2f} CPU s {sample.peak_bytes / 1e6:6.0f} MB",
            flush=True,
        )

    def _run(self, driver: Driver, corpus: Corpus, step: str, argv: list[str]) -> Figures:
        driver.figures.unlink(missing_ok=True)
        figures = run(
            argv,
            env=driver.env(),
            cwd=driver.cwd(corpus, step),
            log=driver.folder / f"{step}.log",
        )
        if not driver.figures.exists():
            return figures
        call = json.loads(driver.figures.read_text())
        return evolve(figures, call_wall_s=call["wall_s"], call_cpu_s=call["cpu_s"])


def _turned(drivers: Sequence[Driver], number: int) -> Sequence[Driver]:
    """Let another tool begin in each round: whoever follows a heavy one finds a warm machine."""
    at = number % len(drivers)
    return [*drivers[at:], *drivers[:at]]


def _compare_trees(source: Path, restored: Path, tool: str) -> None:
    """End the run if a restore is not what was backed up: its figures would say nothing."""
    for parent, _, names in os.walk(source):
        folder = restored / Path(parent).relative_to(source)
        _, different, missing = filecmp.cmpfiles(parent, folder, names, shallow=False)
        if different or missing:
            raise SystemExit(f"{tool} restored {len(different + missing)} files wrongly")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="on a tmpfs")
    parser.add_argument("--out", type=Path, default=Path("bench-results"))
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="where tools are kept")
    parser.add_argument("--scale", type=float, default=1.0, help="1.0: the sizes of the budgets")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--corpora", default=",".join(DEFAULT_CORPORA), help=",".join(CORPORA))
    parser.add_argument("--peers", default=",".join(NAMES))
    parser.add_argument("--fetch", default=",".join(NAMES), help="which to install if missing")
    parser.add_argument("--only", default=",".join(STEPS), help="steps; first is always run")
    parser.add_argument("--drop", action="store_true", help="remove each corpus after its turn")
    return parser


def main() -> None:
    """Run what was asked for, print it and write it."""
    options = _parser().parse_args()
    peers, missing = find_peers(options.peers.split(","), options.cache, options.fetch.split(","))
    wanted = {"first", *options.only.split(",")}
    comparison = Comparison(
        options.folder / "work", peers, [step for step in STEPS if step in wanted]
    )
    facts = Run(
        machine=machine(),
        scale=options.scale,
        rounds=options.rounds,
        tools={peer.name: peer.version for peer in peers},
        missing=missing,
        corpora={},
        samples=comparison.samples,
    )
    shutil.rmtree(comparison.work, ignore_errors=True)
    for name in options.corpora.split(","):
        corpus = _made(name, options.folder, options.scale)
        text = f"{corpus.files:,} files, {corpus.size_bytes / 1e6:,.0f} MB"
        facts = evolve(facts, corpora={**facts.corpora, name: text})
        for number in range(options.rounds):
            comparison.corpus(corpus, number)
        write(facts, options.out)
        if options.drop:
            shutil.rmtree(corpus.folder)
    print(markdown(facts))


def _made(name: str, folder: Path, scale: float) -> Corpus:
    # In a process of its own: the peak of this one is a floor under what it measures.
    argv = ["-m", "benchmarks.corpora", "--folder", str(folder), "--scale", str(scale)]
    subprocess.run([sys.executable, *argv, "--only", name], check=True)
    return open_corpus(name, folder)


if __name__ == "__main__":
    main()
