"""
The one seam for progress: counts go in, and a line, a function or a bar shows them.

Bars of tqdm, rich and fsspec are known by their methods; none of them is
imported. The same seam stops a verb that is to be cancelled.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeAlias

from attrs import frozen

from .errors import Cancelled, InputError

__all__ = ["Cancel", "CancelLike", "Progress", "ProgressLike", "Reporter"]

INTERVAL_S: Final = 0.1


@frozen
class Progress:
    """
    How far a verb is.

    Totals are None where nobody knows them. A backup takes those of the last
    snapshot of its series, which is a guess: ``estimated``.
    """

    verb: str
    files: int
    """Entries done."""
    bytes_done: int
    """Bytes read by a backup, of what is not known already; or restored."""
    seconds: float
    """Since the verb began."""
    done: bool = False
    stage: str = ""
    """What it is doing: ``reading``, ``restoring``, ``done``."""
    files_total: int | None = None
    bytes_total: int | None = None
    estimated: bool = False

    @property
    def bytes_per_s(self) -> float:
        """Mean rate since the beginning."""
        return self.bytes_done / self.seconds if self.seconds > 0 else 0.0

    @property
    def share(self) -> float | None:
        """How much is done, from 0 to 1; None without a total."""
        for part, total in (
            (self.bytes_done, self.bytes_total),
            (self.files, self.files_total),
        ):
            if total:
                return min(part / total, 1.0)
        return None

    @property
    def seconds_left(self) -> float | None:
        """How long it will take at this rate; None without a total."""
        share = self.share
        return None if not share else self.seconds * (1 - share) / share

    def __str__(self) -> str:
        files = f"{self.files:,}"
        if self.files_total is not None:
            files += f" of {'about ' if self.estimated else ''}{self.files_total:,}"
        text = f"{self.verb}: {files} entries, {self.bytes_done / 1e6:,.1f} MB"
        text += f", {self.bytes_per_s / 1e6:,.0f} MB/s"
        left = self.seconds_left
        return text if left is None or self.done else f"{text}, {_duration(left)} left"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Bar(Protocol):
    def update(self, n: int, /) -> Any: ...
    def refresh(self) -> Any: ...


class _Bars(Protocol):
    def add_task(self, description: str) -> Any: ...


class _Callback(Protocol):
    def absolute_update(self, value: int) -> Any: ...


ProgressLike: TypeAlias = bool | Callable[[Progress], Any] | _Bar | _Bars | _Callback | None
"""True, a function, a tqdm bar or class, a rich ``Progress``, an fsspec ``Callback``; False or
None shows nothing."""


class CancelLike(Protocol):
    """Whatever says that it is time to stop: :class:`Cancel`, ``threading.Event``."""

    def is_set(self) -> bool:
        """Tell whether to stop; asked often, from several threads."""
        ...


class Cancel:
    """Stops the verbs that it is given to, from any thread: they raise ``Cancelled`` soon."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask for the stop; for good, a new run needs a new one."""
        self._event.set()

    def is_set(self) -> bool:
        """Tell whether somebody asked."""
        return self._event.is_set()


class _Stop(BaseException):
    """
    Carries an exception out of a verb.

    No Exception: a verb takes errors of a file's reading for that file's, and
    one of the caller's callback must not be mistaken for one.
    """

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause


class Reporter:
    """
    Counts, and shows them at most ten times a second; silent unless asked.

    A context manager around the verb: what the caller's callback raises, and
    ``Cancelled``, leave the block as they were raised. Used by one thread but
    for :meth:`check`.
    """

    def __init__(
        self, verb: str, show: ProgressLike = None, cancel: CancelLike | None = None
    ) -> None:
        given: object = cancel
        fits = not isinstance(given, type) and callable(getattr(given, "is_set", None))
        if cancel is not None and not fits:
            raise InputError("cancel is a loopbackup.Cancel or a threading.Event")
        self._verb = verb
        self._view = _view_of(show)
        self._cancel = cancel
        self._start = time.monotonic()
        self._next = self._start
        self._files_total: int | None = None
        self._bytes_total: int | None = None
        self._estimated = False
        self._stage = "restoring" if verb == "restore" else "reading"
        self.files = 0
        self.bytes_done = 0

    def __enter__(self) -> Self:
        if self._cancel is not None and self._cancel.is_set():
            raise _cancelled(self._verb)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._view is not None:
            # Never hides why the verb ended; alone, an error here is the caller's own.
            try:
                self._view.close()
            except Exception:
                if error is None:
                    raise
        if isinstance(error, _Stop):
            raise error.cause from error.cause.__cause__

    @property
    def wants_totals(self) -> bool:
        """Whether anybody looks, so that totals are worth looking up."""
        return self._view is not None

    def expect(
        self, *, files: int | None, size_bytes: int | None = None, estimated: bool = False
    ) -> None:
        """Say what there is to do in all, where that is known or can be guessed."""
        self._files_total, self._bytes_total, self._estimated = files, size_bytes, estimated

    def advance(self, *, files: int = 0, size_bytes: int = 0) -> None:
        """Add to the counts; stops the verb when it is cancelled or the callback raises."""
        self.files += files
        self.bytes_done += size_bytes
        self.check()
        if self._view is not None and time.monotonic() >= self._next:
            try:
                self._emit(done=False)
            except Exception as exc:
                raise _Stop(exc) from exc
            self._next = time.monotonic() + INTERVAL_S

    def check(self) -> None:
        """Stop the verb if it is cancelled. Thread-safe, cheap."""
        if self._cancel is not None and self._cancel.is_set():
            raise _Stop(_cancelled(self._verb))

    def finish(self) -> None:
        """Show the end."""
        if self._view is not None:
            self._stage = "done"
            self._emit(done=True)

    @property
    def seconds(self) -> float:
        """Seconds since the verb began."""
        return time.monotonic() - self._start

    def _emit(self, *, done: bool) -> None:
        assert self._view is not None
        self._view.show(
            Progress(
                self._verb,
                self.files,
                self.bytes_done,
                self.seconds,
                done,
                self._stage,
                self._files_total,
                self._bytes_total,
                self._estimated,
            )
        )


def _cancelled(verb: str) -> Cancelled:
    after = {
        "backup": "nothing is committed, and the next run reuses what was uploaded",
        "restore": "what was written so far stays in the target",
    }
    return Cancelled(f"the {verb} was cancelled; {after.get(verb, 'it can be run again')}")


# ---- who looks


class _View(Protocol):
    def show(self, progress: Progress) -> None: ...
    def close(self) -> None: ...


def _view_of(show: ProgressLike) -> _View | None:
    if show is None or show is False:
        return None
    if show is True:
        return _Line()
    if isinstance(show, type):
        if _has(show, "update", "refresh", "close"):
            return _Tqdm(show, made_here=True)
    # The methods of its class: an fsspec Callback has every attribute that it is asked for.
    elif _has(type(show), "set_size", "absolute_update"):
        return _Fsspec(show)
    elif _has(type(show), "add_task", "update"):
        return _Rich(show)
    elif _has(type(show), "update", "refresh", "close") and _has(show, "n", "total"):
        return _Tqdm(show, made_here=False)
    elif callable(show):
        return _Function(show)
    raise InputError(
        "progress is True, a function, a tqdm bar or class, a rich Progress or an fsspec "
        f"Callback, not {type(show).__name__}"
    )


def _has(thing: object, *names: str) -> bool:
    return all(hasattr(thing, name) for name in names)


def _measure(progress: Progress) -> tuple[int, int | None]:
    """Give what a bar counts: bytes where their total is known, else entries."""
    if progress.bytes_total is not None:
        return progress.bytes_done, progress.bytes_total
    return progress.files, progress.files_total


@frozen
class _Function:
    _call: Callable[[Progress], Any]

    def show(self, progress: Progress) -> None:
        self._call(progress)

    def close(self) -> None: ...


class _Line:
    """One line on stderr, which ends when the verb does, however it does."""

    def __init__(self) -> None:
        self._open = False

    def show(self, progress: Progress) -> None:
        self._open = not progress.done
        sys.stderr.write(f"\r{progress}\x1b[K" + ("\n" if progress.done else ""))
        sys.stderr.flush()

    def close(self) -> None:
        if self._open:
            sys.stderr.write("\n")


class _Tqdm:
    """A bar of tqdm: one that the caller made, or a class to make one of."""

    def __init__(self, bar: Any, *, made_here: bool) -> None:
        self._bar = None if made_here else bar
        self._class = bar if made_here else None
        # The caller has said what his bar counts: its unit.
        self._bytes = None if made_here else getattr(bar, "unit", "it") == "B"
        self._shown = 0

    def show(self, progress: Progress) -> None:
        if self._class is not None and self._bar is None:
            self._bytes = progress.bytes_total is not None
            unit = {"unit": "B", "unit_scale": True} if self._bytes else {"unit": " entries"}
            self._bar = self._class(desc=progress.verb, **unit)
        bar: Any = self._bar
        now = progress.bytes_done if self._bytes else progress.files
        total = progress.bytes_total if self._bytes else progress.files_total
        if total is not None and bar.total is None:
            bar.total = total
        bar.update(now - self._shown)
        self._shown = now
        if progress.done:
            bar.refresh()

    def close(self) -> None:
        if self._class is not None and self._bar is not None:
            self._bar.close()


class _Rich:
    """A ``rich.progress.Progress`` of the caller's: one more task in it."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._task: Any = None

    def show(self, progress: Progress) -> None:
        now, total = _measure(progress)
        if self._task is None:
            self._task = self._bars.add_task(progress.verb, total=total)
        if progress.done and (total is None or progress.estimated):
            total = now
        self._bars.update(self._task, completed=now, total=total)

    def close(self) -> None: ...


class _Fsspec:
    """An ``fsspec.callbacks.Callback``."""

    def __init__(self, callback: Any) -> None:
        self._callback = callback
        self._size: int | None = None

    def show(self, progress: Progress) -> None:
        now, total = _measure(progress)
        if total is not None and total != self._size:
            self._callback.set_size(total)
            self._size = total
        self._callback.absolute_update(now)

    def close(self) -> None: ...
