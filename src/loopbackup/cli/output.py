"""Where things are said: results on standard output, all else on standard error."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from ..show.text import plain

__all__ = ["Output", "Unwritable"]

_PLAIN_RECORD: Final = frozenset(vars(logging.makeLogRecord({})))


class Unwritable(Exception):
    """Standard output takes no more, as on a full disk."""


class Output:
    """
    Says things, to people or to programs.

    Standard output holds the result and nothing else: lines for people, or
    JSON, which is ASCII, so that no locale changes it and no name in it can
    drive a terminal.
    """

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self.as_json = as_json
        self._quiet = quiet
        self.has_damage = False
        """Whether the library met something damaged and went on around it."""

    @property
    def shows_progress(self) -> bool:
        """Whether somebody watches: standard error is a terminal, and not to be quiet."""
        return not self._quiet and sys.stderr.isatty()

    # ---- results

    def line(self, text: str) -> None:
        """Write a line of the result, made safe to print."""
        with _told():
            sys.stdout.write(plain(text) + "\n")

    def lines(self, texts: Iterable[str]) -> None:
        """Write lines of the result."""
        for text in texts:
            self.line(text)

    def document(self, found: Mapping[str, Any]) -> None:
        """Write a result as JSON, on one line."""
        self.line(json.dumps(found, separators=(",", ":")))

    def raw(self, data: bytes) -> None:
        """Write bytes as they are."""
        with _told():
            sys.stdout.buffer.write(data)

    def flush(self) -> None:
        """Hand over what was written; what cannot be is an error of this command."""
        with _told():
            sys.stdout.flush()

    # ---- everything else

    def note(self, text: str) -> None:
        """Tell people something that changes nothing; never when quiet."""
        if not self._quiet:
            self.warn(text)

    def warn(self, *texts: str) -> None:
        """Tell people something that they have to know: a line, and lines that belong to it."""
        self._settle()
        first, *rest = map(plain, texts)
        sys.stderr.write(f"loopbackup: {first}\n" + "".join(f"{text}\n" for text in rest))

    @staticmethod
    def _settle() -> None:
        # What was found before an error stands above it, also where both go to one terminal.
        with suppress(OSError):
            sys.stdout.flush()
        sys.stderr.flush()

    @contextmanager
    def showing_logs(self) -> Iterator[None]:
        """Let people see what the library warns of."""
        logger = logging.getLogger("loopbackup")
        handler, before = _Handler(self), (logger.level, logger.propagate)
        logger.addHandler(handler)
        logger.setLevel(logging.ERROR if self._quiet else logging.WARNING)
        logger.propagate = False
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.propagate = before[1]
            logger.setLevel(before[0])


class _Handler(logging.Handler):
    """Shows the library's warnings as lines of this program's."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        more = {k: v for k, v in vars(record).items() if k not in _PLAIN_RECORD}
        shown = ", ".join(f"{key} {value}" for key, value in more.items() if value is not None)
        text = f"{record.levelname.lower()}: {record.getMessage()}"
        self._output.warn(f"{text} ({shown})" if shown else text)
        self._output.has_damage |= record.levelno >= logging.ERROR


@contextmanager
def _told() -> Iterator[None]:
    """Tell an error of writing the result from one of reading the vault."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise Unwritable(exc.strerror or type(exc).__name__) from exc
