"""
Show a run: as JSON, as Markdown tables, and as a plot where matplotlib is installed.

    python -m benchmarks.report bench-results/results.json

shows one again that was written before.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import attrs
from attrs import field, frozen

from .budgets import RESTIC, Sample, judge
from .drivers import STEPS

__all__ = ["Run", "machine", "markdown", "plot", "read", "write"]


@frozen(kw_only=True)
class Run:
    """Everything that one run of the benchmark has found."""

    machine: Mapping[str, str]
    scale: float
    rounds: int
    tools: Mapping[str, str]
    """Name -> version."""
    missing: Mapping[str, str]
    """Name -> why it could not be had."""
    corpora: Mapping[str, str]
    """Name -> what it is."""
    samples: Sequence[Sample] = field(factory=list)


def machine() -> dict[str, str]:
    """Say what the figures were measured on."""
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "CPU": cpu,
        "memory": f"{memory / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def markdown(run: Run) -> str:
    """Give the run as Markdown: machine, a table for each corpus, budgets."""
    lines = [" · ".join(f"{name} {value}" for name, value in run.machine.items()), ""]
    lines.append(f"Scale {run.scale:g}, medians of {run.rounds} interleaved rounds.")
    lines += ["", *(f"- {name}: {version}" for name, version in run.tools.items())]
    lines += [f"- {name}: not measured ({reason})" for name, reason in run.missing.items()]
    for corpus, facts in run.corpora.items():
        lines += ["", f"### {corpus}: {facts}", "", *_table(run, corpus)]
    for restic in [tool for tool in run.tools if tool.startswith("restic")] or [RESTIC]:
        lines += ["", f"### Budgets beside {restic}", "", *_budgets(run.samples, restic)]
    return "\n".join(lines) + "\n"


def _table(run: Run, corpus: str) -> list[str]:
    heads = "| step | tool | wall s | CPU s | peak MB | repository MB | grew by MB | objects |"
    lines = [heads, "|---|---|---|---|---|---|---|---|"]
    for step in STEPS:
        for tool in run.tools:
            chosen = [s for s in run.samples if (s.corpus, s.step, s.tool) == (corpus, step, tool)]
            if chosen:
                lines.append(_row(chosen))
    return lines


def _row(chosen: Sequence[Sample]) -> str:
    step, tool = chosen[0].step, chosen[0].tool
    wall, cpu = _middle(chosen, "wall_s"), _middle(chosen, "cpu_s")
    call, call_cpu = _middle(chosen, "call_wall_s"), _middle(chosen, "call_cpu_s")
    cells = [
        step,
        tool,
        _number(wall) + (f" (call {call:.2f})" if call is not None else ""),
        _number(cpu) + (f" (call {call_cpu:.2f})" if call_cpu is not None else ""),
        _number(_middle(chosen, "peak_bytes"), 1e6, 0),
        _number(_middle(chosen, "repo_bytes"), 1e6, 1),
        _number(_middle(chosen, "grown_bytes"), 1e6, 1),
        _number(_middle(chosen, "repo_objects"), 1, 0),
    ]
    return "| " + " | ".join(cells) + " |"


def _middle(chosen: Iterable[Sample], name: str) -> float | None:
    values = [getattr(sample, name) for sample in chosen]
    return median(values) if None not in values else None


def _number(value: float | None, unit: float = 1.0, digits: int = 2) -> str:
    return "" if value is None else f"{value / unit:,.{digits}f}"


def _budgets(samples: Sequence[Sample], restic: str) -> list[str]:
    lines = ["| corpus | step | budget | ours | allowed | reached |", "|---|---|---|---|---|---|"]
    for verdict in judge(samples, restic=restic):
        unit = 1.0 if verdict.limit < 1e4 else 1e6
        reached = "yes" if verdict.used <= 1 else "**no**"
        cells = [
            *(verdict.corpus, verdict.step, verdict.text),
            *(_number(verdict.ours, unit), _number(verdict.limit, unit)),
            f"{reached}, {verdict.used:.2f} of it",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def write(run: Run, folder: Path) -> None:
    """Write ``results.json``, ``results.md`` and, if it can be made, ``results.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(attrs.asdict(run), indent=1))
    (folder / "results.md").write_text(markdown(run))
    plot(run, folder / "results.png")


def read(path: Path) -> Run:
    """Read a run back from its JSON."""
    facts: dict[str, Any] = json.loads(path.read_text())
    samples = [Sample(**sample) for sample in facts.pop("samples")]
    return Run(samples=samples, **facts)


def plot(run: Run, path: Path) -> bool:
    """Draw wall seconds of every step and tool; False where there is no matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(5 * len(run.corpora), 5), layout="constrained")
    axes = figure.subplots(1, len(run.corpora), squeeze=False)[0]
    colours = dict(zip(run.tools, _colours(len(run.tools)), strict=True))
    for axis, corpus in zip(axes, run.corpora, strict=True):
        _bars(axis, run, corpus, colours.__getitem__)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=8)
    figure.savefig(path, dpi=120)
    return True


def _colours(count: int) -> list[str]:
    return ["#c0392b", *(f"C{number}" for number in (0, 9, 2, 4, 1, 7))][:count]


def _bars(axis: Any, run: Run, corpus: str, colour: Callable[[str], str]) -> None:
    """Draw one corpus: a group of bars for each step."""
    width = 0.8 / max(1, len(run.tools))
    for place, tool in enumerate(run.tools):
        points = []
        for number, step in enumerate(STEPS):
            walls = [
                s.wall_s for s in run.samples if (s.corpus, s.step, s.tool) == (corpus, step, tool)
            ]
            if walls:
                points.append((number + place * width - 0.4, median(walls)))
        axis.bar(
            [x for x, _ in points], [y for _, y in points], width, label=tool, color=colour(tool)
        )
    axis.set_xticks(range(len(STEPS)), STEPS)
    axis.set_title(corpus)
    axis.set_ylabel("wall seconds")


def main() -> None:
    """Print a run that was written before, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    path = parser.parse_args().results
    run = read(path)
    print(markdown(run))
    plot(run, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
