"""Progress goes to whatever the caller has, and a bad caller stops a run without bending it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopbackup import progress as progress_module
from loopbackup.errors import Cancelled, InputError
from loopbackup.progress import Cancel, Progress, Reporter


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show every step, however fast they come."""
    monkeypatch.setattr(progress_module, "INTERVAL_S", 0.0)


class Broken(Exception):
    """Nothing that the library knows."""


def break_off(show: Any) -> None:
    """Do one file, and fail."""
    with Reporter("restore", show) as reporter:
        reporter.advance(files=1)
        raise Broken("first")


def run(show: Any, *, verb: str = "restore", known: bool = True) -> None:
    """Do three files of 1,000 bytes."""
    with Reporter(verb, show) as reporter:
        if known:
            reporter.expect(files=3, size_bytes=3000)
        for _ in range(3):
            reporter.advance(files=1, size_bytes=1000)
        reporter.finish()


class Bar:
    """What tqdm's bars have in common; remembers all of them."""

    made: list[Bar]

    def __init__(self, *, desc: str = "", total: int | None = None, unit: str = "it", **_: Any):
        self.desc, self.total, self.unit = desc, total, unit
        self.n = 0
        self.refreshed = self.closed = 0

    def update(self, n: int) -> None:
        """Go on."""
        self.n += n

    def refresh(self) -> None:
        """Draw."""
        self.refreshed += 1

    def close(self) -> None:
        """End."""
        self.closed += 1


@pytest.mark.usefixtures("at_once")
def test_a_bar_of_the_callers_counts_what_its_unit_says() -> None:
    """Bytes for the unit B, else entries; it is left open, for it is his."""
    by_bytes, by_entries, with_total = Bar(unit="B"), Bar(), Bar(total=99)

    for bar in (by_bytes, by_entries, with_total):
        run(bar)

    assert (by_bytes.n, by_bytes.total) == (3000, 3000)
    assert (by_entries.n, by_entries.total) == (3, 3)
    assert with_total.total == 99
    assert by_bytes.refreshed == 1
    assert by_bytes.closed == 0


@pytest.mark.usefixtures("at_once")
def test_a_real_tqdm_bar_and_class_are_taken(capsys: pytest.CaptureFixture[str]) -> None:
    """A class makes a bar of its own, which is closed."""
    from tqdm import tqdm

    with tqdm(unit="B", mininterval=0) as bar:
        run(bar)
        assert (bar.n, bar.total) == (3000, 3000)
    run(tqdm)

    shown = capsys.readouterr().err
    assert "restore" in shown
    assert "100%" in shown


@pytest.mark.usefixtures("at_once")
def test_a_rich_progress_gets_a_task() -> None:
    """Bytes where their total is known; a guess is put right at the end."""
    from rich.progress import Progress as Bars

    bars = Bars(disable=True)

    run(bars)
    run(bars, verb="backup", known=False)
    with Reporter("backup", bars) as reporter:
        reporter.expect(files=10, estimated=True)
        reporter.advance(files=4)
        reporter.finish()

    restored, first, again = bars.tasks
    assert (restored.description, restored.completed, restored.total) == ("restore", 3000, 3000)
    assert (first.description, first.completed, first.total) == ("backup", 3, 3)
    assert (again.completed, again.total, again.finished) == (4, 4, True)


@pytest.mark.usefixtures("at_once")
def test_an_fsspec_callback_is_told_size_and_value() -> None:
    """As file systems tell it."""
    from fsspec.callbacks import Callback

    hooked: list[tuple[int | None, int]] = []
    callback = Callback(hooks={"h": lambda size, value, **_: hooked.append((size, value))})

    run(callback)

    assert (callback.size, callback.value) == (3000, 3000)
    assert hooked[-1] == (3000, 3000)


@pytest.mark.usefixtures("at_once")
def test_a_line_on_stderr_ends_with_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    """Also when the verb fails; and without being asked for nothing is printed."""
    run(None)
    run(show=False)
    assert capsys.readouterr() == ("", "")

    run(show=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert "restore: 3 of 3 entries" in shown.err

    with pytest.raises(Broken):
        break_off(True)
    assert capsys.readouterr().err.endswith("\n")


def test_shows_are_far_apart() -> None:
    """A million files are not a million calls; the end is always told."""
    seen: list[Progress] = []

    with Reporter("backup", seen.append) as reporter:
        for _ in range(100_000):
            reporter.advance(files=1)
        reporter.finish()

    assert len(seen) <= 2 + reporter.seconds / progress_module.INTERVAL_S
    assert (seen[-1].files, seen[-1].done, seen[-1].stage) == (100_000, True, "done")


@pytest.mark.parametrize("show", ["yes", 1, 2.5, [], dict, object()])
def test_what_shows_nothing_is_refused(show: Any) -> None:
    """Before anything is done."""
    with pytest.raises(InputError):
        Reporter("backup", show)


@given(
    st.integers(0, 100),
    st.integers(0, 10**15),
    st.floats(0, 10**6),
    st.none() | st.integers(0, 100),
    st.none() | st.integers(0, 10**15),
    st.booleans(),
)
def test_progress_can_always_be_shown(
    files: int,
    done: int,
    seconds: float,
    files_total: int | None,
    bytes_total: int | None,
    estimated: bool,
) -> None:
    """Whatever the counts: guesses are exceeded, totals are zero, clocks stand still."""
    shown = Progress(
        "backup", files, done, seconds, False, "reading", files_total, bytes_total, estimated
    )

    assert str(shown).startswith("backup: ")
    assert shown.share is None or 0 <= shown.share <= 1
    assert shown.seconds_left is None or shown.seconds_left >= 0
    assert shown.bytes_per_s >= 0


def test_progress_says_what_is_left_and_what_is_a_guess() -> None:
    """Time left needs a total."""
    known = Progress("restore", 1, 250, 10.0, files_total=4, bytes_total=1000)
    guess = Progress("backup", 5, 0, 60.0, files_total=10, estimated=True)
    unknown = Progress("backup", 5, 0, 10.0)

    assert known.seconds_left == 30
    assert "0:30 left" in str(known)
    assert "about 10" in str(guess)
    assert "1:00 left" in str(guess)
    assert unknown.seconds_left is None
    assert "left" not in str(unknown)


# ---- stopping


def advance_as_a_verb_does(show: Any, cancel: Any = None) -> None:
    """Do one file, where its own errors are that file's."""
    with Reporter("backup", show, cancel) as reporter:
        try:
            reporter.advance(files=1)
        except (OSError, Broken, Cancelled):
            pytest.fail("taken for an error of a file")


def go_on_for_ever(show: Any, cancel: Any) -> None:
    """Do files until somebody stops it."""
    with Reporter("backup", show, cancel) as reporter:
        while reporter.files < 1000:
            reporter.advance(files=1)


@pytest.mark.parametrize("error", [Broken, OSError, Cancelled, KeyboardInterrupt, SystemExit])
def test_what_a_callback_raises_comes_out_as_it_is(error: type[BaseException]) -> None:
    """Also through code that takes errors of the operating system for a file's own."""
    raised = error("mine")

    def show(_: Progress) -> None:
        raise raised

    with pytest.raises(error) as caught:
        advance_as_a_verb_does(show)

    assert caught.value is raised


def test_a_cancel_stops_at_the_next_step() -> None:
    """It may be set from any thread, and before the verb begins."""
    cancel = Cancel()
    thread = threading.Thread(target=cancel.set)
    advance_as_a_verb_does(None, cancel)

    def show(_: Progress) -> None:
        thread.start()
        thread.join()

    with pytest.raises(Cancelled, match="backup was cancelled") as caught:
        go_on_for_ever(show, cancel)

    assert caught.value.kind == "cancelled"
    with pytest.raises(Cancelled), Reporter("restore", None, cancel):
        pytest.fail("it did not begin")


def test_a_threading_event_cancels_as_well() -> None:
    """Whatever has is_set."""
    event = threading.Event()
    with Reporter("backup", None, event) as reporter:
        reporter.check()
        event.set()
        with pytest.raises(BaseException, match="cancelled") as caught:
            reporter.check()

    assert not isinstance(caught.value, Exception)


@pytest.mark.parametrize("cancel", [True, "now", object()])
def test_what_cannot_be_set_is_no_cancel(cancel: Any) -> None:
    """Before anything is done."""
    with pytest.raises(InputError):
        Reporter("backup", None, cancel)


def test_a_finished_verb_is_not_cancelled() -> None:
    """After the commit it is too late to say that nothing was committed."""
    cancel = Cancel()

    with Reporter("backup", None, cancel) as reporter:
        reporter.advance(files=1)
        cancel.set()
        reporter.finish()


def test_closing_a_bar_never_hides_why_a_verb_failed() -> None:
    """The first error is the one that counts; a bar's own is one only alone."""

    class Bad(Bar):
        def close(self) -> None:
            raise Broken("last")

    with pytest.raises(Broken, match="first"):
        break_off(Bad)
    with pytest.raises(Broken, match="last"):
        run(Bad)
