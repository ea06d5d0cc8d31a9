"""The command ``loopbackup``: parse, open, run, and end as a program of a shell should."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from .arguments import parse

if TYPE_CHECKING:
    import argparse


__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one command; give its exit code, or end by the signal that ended it.

    Args:
        argv: What follows the name of the program; default that of this process.
    """
    _fit_streams()
    try:
        try:
            # Help needs nothing of what a command does, and answers at once.
            return _main(parse(sys.argv[1:] if argv is None else argv))
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _end_by(signal.SIGPIPE)
    except KeyboardInterrupt:
        _end_by(signal.SIGINT)


def _main(args: argparse.Namespace) -> int:
    from ..errors import LoopbackupError
    from .commands import COMMANDS, Stopped
    from .failures import Exit, exit_of, explain
    from .opening import open_vault
    from .output import Output, Unwritable

    output = Output(as_json=args.json, quiet=args.quiet)
    try:
        with output.showing_logs(), open_vault(args, output) as vault:
            code = COMMANDS[args.command](vault, args, output)
        output.flush()
    except Stopped as stopped:
        _end_by(stopped.number)
    except LoopbackupError as exc:
        _trace(args)
        output.warn(*explain(exc))
        return exit_of(exc)
    except Unwritable as exc:
        _trace(args)
        output.warn(f"the output cannot be written: {exc}")
        _end_at_once(Exit.INCOMPLETE)
    except BrokenPipeError:
        raise
    except Exception as exc:  # noqa: BLE001 - nobody above could say it as a line
        _trace(args)
        # Without its text, which may be a driver's and hold an address with a password.
        told = f"a fault of this program ({type(exc).__name__})"
        output.warn(told, "  --debug shows where it comes from")
        return Exit.FAULT
    # What was shown may lack the very thing that is looked for.
    return Exit.INCOMPLETE if code is Exit.OK and output.has_damage else code


def _trace(args: argparse.Namespace) -> None:
    if args.debug:
        import traceback

        traceback.print_exc()


def _fit_streams() -> None:
    """Make every name printable, whatever the locale, and let nobody trip over closed streams."""
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _end_by(number: int) -> NoReturn:
    """
    End as the signal would have ended it, so that shells and supervisors see that it did.

    What is buffered for standard output goes nowhere: nobody waits for it any more.
    """
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    # A signal that is blocked comes later, or never.
    _end_at_once(128 + number)


def _end_at_once(code: int) -> NoReturn:
    """End without another try to write what could not be written."""
    os._exit(code)
