"""The commands: each looks through an open vault, says what it found, and gives the exit code."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Final

import loopbackup as lb

from . import documents, tables
from .failures import Exit
from .opening import read_options
from .output import Output

__all__ = ["COMMANDS", "Stopped"]

PIECE_BYTES: Final = 1 << 20
_STOPS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """A restore has ended as a signal asked, leaving nothing half done."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def snapshots(vault: lb.Vault, args: argparse.Namespace, output: Output) -> Exit:
    """List snapshots."""
    found = vault.snapshots(name=args.name, since=args.since, until=args.until)
    if output.as_json:
        listed = [documents.snapshot(snapshot) for snapshot in found]
        output.document({"vault": documents.vault(vault), "snapshots": listed})
    else:
        output.lines(tables.snapshots(found))
        if not found:
            output.note("there is no such snapshot" if _asks(args) else "there is no snapshot")
    return Exit.OK


def _asks(args: argparse.Namespace) -> bool:
    return any(value is not None for value in (args.name, args.since, args.until))


def ls(vault: lb.Vault, args: argparse.Namespace, output: Output) -> Exit:
    """List a folder."""
    found = _chosen(vault, args).ls(args.path, recursive=args.recursive, subject=_subject(args))
    _list(found, args, output)
    return Exit.OK


def find(vault: lb.Vault, args: argparse.Namespace, output: Output) -> Exit:
    """Find entries by a pattern; as with grep, to find none is no success."""
    found = _chosen(vault, args).find(args.pattern, subject=_subject(args))
    if _list(found, args, output):
        return Exit.OK
    output.warn("nothing in the snapshot matches")
    return Exit.INCOMPLETE


def _list(entries: Iterable[lb.Entry], args: argparse.Namespace, output: Output) -> int:
    number = 0
    for entry in entries if output.as_json else tables.in_order(entries):
        number += 1
        if output.as_json:
            output.document(documents.entry(entry))
        else:
            output.line(tables.entry(entry, long=args.long))
    return number


def cat(vault: lb.Vault, args: argparse.Namespace, output: Output) -> Exit:
    """Write the content of a file to standard output."""
    with _chosen(vault, args).open(args.path, subject=_subject(args)) as content:
        while piece := content.read(PIECE_BYTES):
            output.raw(piece)
    return Exit.OK


def restore(vault: lb.Vault, args: argparse.Namespace, output: Output) -> Exit:
    """Restore a snapshot, or a part of it; what cannot be restored keeps nothing else back."""
    snapshot = _chosen(vault, args)
    target_options = read_options(args.target_options_file, args.target_options)
    if output.shows_progress:
        output.note(f"snapshot {tables.snapshot(snapshot)}")
    failed: lb.LoopbackupError | None = None
    with _stoppable() as cancel:
        try:
            report = vault.restore(
                snapshot,
                args.target,
                include=args.include,
                exclude=args.exclude,
                subject=_subject(args),
                target_options=target_options,
                overwrite=args.overwrite,
                dry_run=args.dry_run,
                progress=output.shows_progress,
                cancel=cancel,
            )
        except (lb.DamagedData, lb.IncompleteRestore) as exc:
            found = exc.context.get("report")
            if found is None:
                raise
            report, failed = found, exc
        except lb.Cancelled:
            output.warn(
                "stopped; what was restored by now stays in the target, each file whole or not at",
                "  all. The same command with --overwrite changed goes on",
            )
            raise
    return _tell_restored(report, snapshot, args, output, failed)


def _tell_restored(
    report: lb.Restored,
    snapshot: lb.Snapshot,
    args: argparse.Namespace,
    output: Output,
    failed: lb.LoopbackupError | None,
) -> Exit:
    # A pattern with a slip in it selects nothing, and that must not look like success.
    selected = bool(args.include or args.exclude or args.subject or args.tenant)
    counts = (report.files, report.skipped, report.repaired, report.restricted)
    is_nothing = selected and not any(counts) and not report.problems
    ok = failed is None and not is_nothing
    if output.as_json:
        shown = documents.restored(report, snapshot, args.target, ok=ok, dry_run=args.dry_run)
        output.document(shown)
    else:
        output.line(tables.restored(report, args.target, dry_run=args.dry_run))
    if is_nothing:
        output.warn("nothing in the snapshot matches; 'loopbackup find' tries a pattern")
    elif report.problems:
        told = "not everything could be restored" if failed else "all content is restored, but"
        output.warn(f"{told}: {_count(report)}", *tables.problems(report.problems))
    if report.skipped and args.overwrite == "never":
        output.note("what stood there already was not touched; see --overwrite")
    return Exit.OK if ok else Exit.INCOMPLETE


def _count(report: lb.Restored) -> str:
    number = len(report.problems)
    return "1 problem" if number == 1 else f"{number:,} problems"


def check(vault: lb.Vault, args: argparse.Namespace, output: Output) -> Exit:
    """Verify the vault."""
    share = float(args.data)
    if output.shows_progress and share:
        output.note("reading the data; this takes as long as that does")
    report = vault.check(data=args.data)
    if output.as_json:
        output.document(documents.check(report, vault, data=share))
    else:
        output.lines(str(report).split("\n")[:1])
        output.lines(tables.problems(report.problems))
        if report.ok and not share:
            output.note("no data was read; --data reads and verifies every byte")
    if not report.ok:
        output.note(
            "what is not named here can be restored; docs/how-to/damage.md goes on from here"
        )
    return Exit.OK if report.ok else Exit.INCOMPLETE


def keys(vault: lb.Vault, args: argparse.Namespace, output: Output) -> Exit:
    """List what opens the vault."""
    if output.as_json:
        output.document(documents.keys(vault))
    else:
        output.lines(tables.keys(vault))
    return Exit.OK


COMMANDS: Final[Mapping[str, Callable[[lb.Vault, argparse.Namespace, Output], Exit]]] = {
    "snapshots": snapshots,
    "ls": ls,
    "find": find,
    "cat": cat,
    "restore": restore,
    "check": check,
    "keys": keys,
}


def _chosen(vault: lb.Vault, args: argparse.Namespace) -> lb.Snapshot:
    return vault.snapshot(args.snapshot, name=args.name, at=args.at)


def _subject(args: argparse.Namespace) -> lb.Subject | None:
    """Give the subject; what it holds is never split, so its two parts have two options."""
    if args.tenant is None:
        subject: str | None = args.subject
        return subject
    return args.tenant if args.subject is None else (args.tenant, args.subject)


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """
    Give what the first signal sets, so that nothing half done is left; the second one breaks off.

    Raises:
        Stopped: A signal came, and the block ended for it.
    """
    event = threading.Event()
    came: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    before = {number: signal.getsignal(number) for number in _STOPS}
    # What is ignored stays so: that is how nohup keeps a restore alive.
    before = {
        number: handler for number, handler in before.items() if handler is not signal.SIG_IGN
    }
    for number in before:
        signal.signal(number, stop)
    try:
        yield event
    except (lb.Cancelled, KeyboardInterrupt) as exc:
        if not came:
            raise
        raise Stopped(came[0]) from exc
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
