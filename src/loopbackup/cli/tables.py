"""What people are shown: lines of a listing, each at most one entry, snapshot or key."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

import loopbackup as lb

from ..show.text import count, moment, size

__all__ = ["entry", "in_order", "keys", "problems", "restored", "snapshot", "snapshots"]

MAX_PROBLEMS: Final = 20
MAX_SORTED: Final = 10_000
_NO_TIME: Final = " " * len("2026-11-24 18:00")


def snapshots(found: Iterable[lb.Snapshot]) -> Iterator[str]:
    """Give a table of snapshots, with a head if there is any."""
    head = "ID        MADE (UTC)           ENTRIES        SIZE  NAME"
    for row in found:
        if head:
            yield head
            head = ""
        report = row.report
        more = [f"{key}={value}" for key, value in sorted(row.tags.items())]
        more += [f"({report.missing:,} missing)"] if report.missing else []
        yield (
            f"{row.id[:8]}  {row.created_at:%Y-%m-%d %H:%M}  {report.files:>10,}  "
            f"{size(row.size_bytes):>10}  {'  '.join([_name(row), *more])}"
        )


def snapshot(found: lb.Snapshot) -> str:
    """Name a snapshot in a sentence."""
    return f"{found.id[:8]} ({_name(found)}, made {moment(found.created_at)})"


def _name(found: lb.Snapshot) -> str:
    return found.name or "(its description is lost)"


def in_order(entries: Iterable[lb.Entry]) -> Iterator[lb.Entry]:
    """
    Give entries by path, as people look for them; more than they read, as they come.

    Snapshots give the entries of one subject after those of another.
    """
    coming = iter(entries)
    first = list(islice(coming, MAX_SORTED + 1))
    if len(first) <= MAX_SORTED:
        first.sort(key=lambda found: found.raw_path.split(b"/"))
    yield from first
    yield from coming


def entry(found: lb.Entry, *, long: bool) -> str:
    """Give the line of an entry: size in bytes, time in UTC, path."""
    when = f"{found.modified_at:%Y-%m-%d %H:%M}" if found.modified_at else _NO_TIME
    name = found.path + ("/" if found.type == "directory" else "")
    name += f" -> {found.target}" if found.target is not None else ""
    name += f"  (missing: {found.problem or 'unread'})" if found.type == "missing" else ""
    name += f"  ({found.problem})" if found.problem and found.type != "missing" else ""
    name += "  (rectified)" if found.overlay else ""
    amount = "" if found.type == "directory" else f"{found.size_bytes:,}"
    line = f"{amount:>15}  {when}  {name}"
    return f"{_mode(found)}  {_owner(found):<17}  {_subject(found):<20}  {line}" if long else line


def _mode(found: lb.Entry) -> str:
    if found.type == "item":
        return "item      "
    kind = {"directory": "d", "link": "l", "file": "-", "missing": "!"}.get(found.type, "s")
    return kind + stat.filemode(found.mode)[1:]


def _owner(found: lb.Entry) -> str:
    if found.type in ("item", "missing"):
        return ""
    return f"{found.user or found.uid}:{found.group or found.gid}"


def _subject(found: lb.Entry) -> str:
    if found.subject is None:
        return "-"
    return found.subject if isinstance(found.subject, str) else " / ".join(found.subject)


def restored(report: lb.Restored, target: str, *, dry_run: bool) -> str:
    """Say in a line what a restore did, or would do."""
    verb = "would be restored" if dry_run else "restored"
    amount = "1 entry" if report.files == 1 else f"{report.files:,} entries"
    line = f"{amount}, {size(report.bytes_written)}, {verb} to {target}"
    for number, told in (
        (report.skipped, "left as they were"),
        (report.repaired, "given the right metadata"),
        (report.restricted, "left out, for their subjects are restricted"),
    ):
        line += f"; {number:,} {told}" if number else ""
    return line


def problems(found: Iterable[lb.Problem]) -> Iterator[str]:
    """Give a line for each problem, the first of them."""
    listed = list(found)
    for problem in listed[:MAX_PROBLEMS]:
        line = f"  {problem.kind}: "
        line += f"{os.fsdecode(problem.path)}: " if problem.path is not None else ""
        line += problem.message
        if problem.snapshots:
            line += f" (snapshot {', '.join(s[:8] for s in problem.snapshots[:3])}"
            line += f" and {len(problem.snapshots) - 3:,} more" * (len(problem.snapshots) > 3) + ")"
        yield line
    if len(listed) > MAX_PROBLEMS:
        more = count(len(listed) - MAX_PROBLEMS, "problem")
        yield f"  and {more} more; --json gives all"


def keys(opened: lb.Vault) -> Iterator[str]:
    """Give a table of what opens a vault."""
    current = opened.keys.current
    yield "ID                KIND"
    for slot in opened.keys.list():
        yield f"{slot.id}  {slot.kind}" + ("  (opened this)" if slot.id == current else "")
