"""What holds for every test: bounded Hypothesis runs, and nothing left running or open."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tests.plugins import Install, installer

# Wall time on shared machines says nothing, so examples are bounded by number
# and whole tests by pytest-timeout.
settings.register_profile("default", deadline=None, max_examples=100)
settings.register_profile("thorough", deadline=None, max_examples=2_000)
settings.load_profile("default")

# Threads that a library starts once for the whole process and never ends:
# fsspec's event loop and its resolver pool, tqdm's monitor.
PROCESS_WIDE_THREADS = ("fsspecIO", "asyncio_", "TMonitor")
PATIENCE_S = 2.0

_OPEN_FILES = Path("/proc/self/fd")


def _running_threads() -> set[threading.Thread]:
    return {
        thread
        for thread in threading.enumerate()
        if not thread.name.startswith(PROCESS_WIDE_THREADS)
        and type(thread).__name__ not in PROCESS_WIDE_THREADS
    }


def _open_files() -> set[tuple[str, str]]:
    """Return number and target of each open descriptor; nothing where /proc is missing."""
    found = set()
    for number in os.listdir(_OPEN_FILES) if _OPEN_FILES.is_dir() else ():
        try:
            found.add((number, os.readlink(_OPEN_FILES / number)))
        except FileNotFoundError:  # the listing's own descriptor
            continue
    return found


def pytest_report_header() -> str:
    """Say which real servers the tests of stores run against, and which are not there."""
    from tests.servers.processes import MINIO, SSHD

    there = ["moto", "rclone (S3 and SFTP)"]
    missing = []
    for name, found, get in (
        ("MinIO", MINIO.exists(), "make servers"),
        ("OpenSSH", SSHD is not None, "the system's package openssh-server"),
    ):
        there += [name] if found else []
        missing += [] if found else [f"{name} ({get} brings it)"]
    line = f"servers: {', '.join(there)}"
    return f"{line}; without {', '.join(missing)}" if missing else line


@pytest.fixture(scope="session", autouse=True)
def home_of_nobody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep caches and state of the tests out of the home of whoever runs them."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
            patch.delenv(name, raising=False)
        yield home


@pytest.fixture(scope="session", autouse=True)
def process_wide_loop() -> None:
    """Start fsspec's event loop, so that its descriptors are no test's leak."""
    from fsspec.asyn import get_loop

    get_loop()


@pytest.fixture(autouse=True)
def no_leaks(process_wide_loop: None) -> Iterator[None]:
    """Fail a test that leaves a thread running or a file descriptor open."""
    threads, files = _running_threads(), _open_files()

    yield

    deadline = time.monotonic() + PATIENCE_S
    while leaked := (_running_threads() - threads) | (_open_files() - files):
        if time.monotonic() > deadline:
            pytest.fail(f"left behind: {sorted(map(str, leaked))}")
        # Garbage that holds a descriptor warns when collected, which fails the
        # right test; threads that were told to end get a moment to do so.
        gc.collect()
        time.sleep(0.01)


@pytest.fixture
def install(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Install]:
    """Give a function that installs a plug-in for the time of the test."""
    with installer(tmp_path_factory.mktemp("plugins")) as found:
        yield found


@pytest.fixture
def step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at, read and write one file after the other, as where no C part was built."""
    from loopbackup.vault import disk
    from loopbackup.vault.source import folders

    monkeypatch.setattr(disk, "_c", None)
    monkeypatch.setattr(disk, "read", None)
    monkeypatch.setattr(disk, "write", None)
    monkeypatch.setattr(folders, "LOOK_AHEAD", 1)
