"""The command at the end of its life: pipes that close, disks that are full, signals."""

from __future__ import annotations

import os
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.e2e.shell import (
    COMMAND,
    PASSPHRASE,
    TIMEOUT_S,
    Shell,
    at_terminal,
    back_up,
    make_source,
    make_vault,
    shell_of,
)
from tests.e2e.support import noise

import loopbackup as lb

MB = 1 << 20


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A small vault."""
    with make_vault(tmp_path / "vault") as vault:
        back_up(vault, make_source(tmp_path / "source"))
    return shell_of(tmp_path, tmp_path / "vault")


def test_a_reader_who_has_seen_enough_is_no_error(shell: Shell) -> None:
    """It ends as other programs in a pipe do, and says nothing."""
    letters = [lb.Item(f"letter-{number:05}", data=b"1") for number in range(5000)]
    with lb.Vault.open(shell.vault, lb.Passphrase(PASSPHRASE), state_dir=None) as vault:
        vault.backup(letters, name="letters")
    words = ("ls", "latest", "--name", "letters")

    with subprocess.Popen(
        [*COMMAND, *words],
        cwd=shell.folder,
        env=shell.environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        process.stdout.close()
        told = process.stderr.read()

    assert first.endswith(b"letter-00000\n")
    assert process.returncode == -signal.SIGPIPE
    assert b"Traceback" not in told
    assert b"Broken" not in told


@pytest.mark.parametrize("words", [["ls", "latest"], ["cat", "latest", "users/42/cv.pdf"]], ids=str)
def test_output_that_cannot_be_written_is_told(shell: Shell, words: list[str]) -> None:
    """A full disk is no success."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, *words],
            cwd=shell.folder,
            env=shell.environment({}),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT_S,
            check=False,
        )

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        b"loopbackup: the output cannot be written: No space left on device"
    )


GATED = '''
import itertools, os, time
from loopbackup.vault.store.local import LocalStore


class GatedStore(LocalStore):
    """Keeps the reader waiting at a pack, until a file says that he may go on."""

    def __init__(self, url, *, gate, at):
        super().__init__(url.removeprefix("gated://"), fsync=False)
        self._gate, self._at, self._count = gate, at, itertools.count(1)

    def get(self, key, *, start=0, length=None):
        if key.startswith("packs/") and next(self._count) >= self._at:
            open(self._gate + ".reached", "w").close()
            while not os.path.exists(self._gate):
                time.sleep(0.01)
        return super().get(key, start=start, length=length)
'''


@pytest.fixture
def gated(tmp_path: Path) -> Shell:
    """A vault with a small file and a big one, behind a store that a plugin brings."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.txt").write_text("small\n")
    (source / "big.bin").write_bytes(noise(24 * MB, "big"))
    with make_vault(tmp_path / "vault") as vault:
        vault.backup(source, name="app")
    site = tmp_path / "site"
    (site / "acme_gated-1.dist-info").mkdir(parents=True)
    (site / "acme_gated.py").write_text(GATED)
    info = site / "acme_gated-1.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-gated\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[loopbackup.stores]\ngated = acme_gated:GatedStore\n")
    shell = shell_of(tmp_path, tmp_path / "vault")
    return Shell(shell.folder, shell.vault, {"PYTHONPATH": str(site)})


@contextmanager
def _waiting(
    gated: Shell, words: list[str], *, at: int, before: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until it waits for its *at*-th look into a pack; what follows is the test's."""
    gate = gated.folder / "gate"
    options = ("--vault", f"gated://{gated.vault}", "--option", f"gate={gate}")
    with subprocess.Popen(
        [*before, *COMMAND, *words, *options, "--option", f"at={at}", "--quiet"],
        cwd=gated.folder,
        env=gated.environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        while not Path(f"{gate}.reached").exists():
            assert process.poll() is None
            time.sleep(0.01)
        yield process


def _end(gated: Shell, process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    (gated.folder / "gate").touch()
    result, told = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, result, told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=str)
def test_a_restore_that_is_stopped_leaves_no_half_file(gated: Shell, number: int) -> None:
    """Ctrl-C, the end of a service or of a connection; the same command goes on after it."""
    target = gated.folder / "out"
    with _waiting(gated, ["restore", "latest", "out"], at=8) as process:
        while not _begun(target):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        time.sleep(0.2)  # Python handles a signal soon, not at once; too early only tests less.
        code, result, told = _end(gated, process)
    left = sorted(path.name for path in target.iterdir())

    assert (code, result) == (-number, b"")
    assert b"The same command with --overwrite changed goes on" in told
    assert b"Traceback" not in told
    assert left in ([], ["a.txt"])
    gated.told("restore", "latest", "out", "--overwrite", "changed")
    for name in ("a.txt", "big.bin"):
        assert (target / name).read_bytes() == (gated.folder / "source" / name).read_bytes()


def test_a_restore_outlives_a_signal_that_is_ignored(gated: Shell) -> None:
    """As under nohup, when the connection ends."""
    before = ("sh", "-c", 'trap "" HUP; exec "$@"', "sh")
    with _waiting(gated, ["restore", "latest", "out"], at=8, before=before) as process:
        process.send_signal(signal.SIGHUP)
        code, result, told = _end(gated, process)

    assert (code, told) == (0, b"")
    assert result == b"2 entries, 25.2 MB, restored to out\n"


def test_a_look_that_is_stopped_says_nothing(gated: Shell) -> None:
    """It ends by the signal, as a shell expects."""
    with _waiting(gated, ["cat", "latest", "big.bin"], at=1) as process:
        process.send_signal(signal.SIGINT)
        code, _, told = _end(gated, process)

    assert (code, told) == (-signal.SIGINT, b"")


def test_who_gives_up_at_the_prompt_gets_his_terminal_back(shell: Shell) -> None:
    """Ctrl-C ends it, and what is typed next is shown again."""
    with at_terminal(shell, "snapshots", env={"LOOPBACKUP_PASSPHRASE_FILE": ""}) as terminal:
        terminal.wait_for(b"Passphrase of the vault: ")
        terminal.type(b"\x03")
        code, result, screen = terminal.end()
        shows = bool(termios.tcgetattr(terminal.master)[3] & termios.ECHO)

    assert (code, result) == (-signal.SIGINT, b"")
    assert b"Traceback" not in screen
    assert shows


def _begun(target: Path) -> bool:
    names = os.listdir(target) if target.is_dir() else []
    return any((target / n).stat().st_size for n in names if n.startswith(".loopbackup-"))
