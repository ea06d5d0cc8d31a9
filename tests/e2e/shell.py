"""The command as its users run it: a process of its own, on a vault in a folder."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import field, frozen
from tests.e2e.support import noise

import loopbackup as lb

PASSPHRASE = "goat, staple, battery, horse"
COMMAND = (sys.executable, "-W", "error", "-m", "loopbackup")
LATIN = b"docs/caf\xe9.txt"
BIG = noise(300_000, "cv")
TIMEOUT_S = 100


def make_source(folder: Path) -> Path:
    """Make a small tree: two people, a link, and names that are hard to show."""
    for name in ("docs", "users/42", "users/43"):
        (folder / name).mkdir(parents=True)
    (folder / "docs/readme.txt").write_text("first\n")
    (folder / "docs/link").symlink_to("readme.txt")
    (folder / "users/42/cv.pdf").write_bytes(BIG)
    (folder / "users/43/cv.pdf").write_bytes(b"43")
    Path(os.fsdecode(os.path.join(os.fsencode(folder), LATIN))).write_bytes(b"latin")
    (folder / "docs/evil\x1b[2J\n.txt").write_bytes(b"")
    return folder


def make_vault(folder: Path, key: lb.Credential | None = None) -> lb.Vault:
    """Make a vault at *folder*, open for the test that goes on with it."""
    return lb.Vault.create(folder, key or lb.Passphrase(PASSPHRASE), state_dir=None)


def back_up(vault: lb.Vault, source: Path) -> lb.Snapshot:
    """Back up the tree of :func:`make_source`, each person's files as theirs."""
    subject = lb.subject_from_path("users/{subject}/**", unmatched="none")
    return vault.backup(source, name="app", subject=subject, tags={"env": "prod"})


@frozen
class Shell:
    """Somebody's session on a machine: his folder, his vault, his way in."""

    folder: Path
    vault: Path
    env: Mapping[str, str] = field(factory=dict)

    def run(
        self,
        *words: str | bytes,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        command: tuple[str, ...] = COMMAND,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run one command to its end, without a terminal."""
        return subprocess.run(
            [*command, *words],
            cwd=self.folder,
            env=self.environment(env or {}),
            input=stdin,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
            start_new_session=True,
        )

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """Give what the process sees: the session's own, and *more*; empty values are left out."""
        own = {
            **os.environ,
            "PYTHONUTF8": "1",
            "XDG_STATE_HOME": str(self.folder / "state"),
            "LOOPBACKUP_VAULT": str(self.vault),
            "LOOPBACKUP_PASSPHRASE_FILE": str(self.folder / "passphrase"),
            **self.env,
            **more,
        }
        return {name: value for name, value in own.items() if value}

    def told(self, *words: str | bytes, **more: Any) -> str:
        """Run a command that succeeds; give its standard output."""
        done = self.run(*words, **more)
        assert done.returncode == 0, done
        return done.stdout.decode()

    def json(self, *words: str | bytes, code: int = 0) -> Any:
        """Run a command with ``--json``; give its one document."""
        done = self.run(*words, "--json")
        assert done.returncode == code, done
        assert done.stdout.count(b"\n") == 1
        return json.loads(done.stdout)

    def json_lines(self, *words: str | bytes) -> list[dict[str, Any]]:
        """Run a command with ``--json``; give its documents, one a line."""
        return [json.loads(line) for line in self.told(*words, "--json").splitlines()]

    def fails(self, code: int, *words: str | bytes, **more: Any) -> str:
        """Run a command that fails; give what it says, which is no traceback."""
        done = self.run(*words, **more)
        assert done.returncode == code, done
        told = done.stderr.decode()
        assert "Traceback" not in told
        assert told.startswith("loopbackup: ")
        return told


def shell_of(folder: Path, vault: Path) -> Shell:
    """Sit somebody down in *folder* with the passphrase in a file."""
    (folder / "passphrase").write_text(PASSPHRASE + "\n")
    return Shell(folder, vault)


def fingerprint(folder: Path) -> dict[str, tuple[int, str]]:
    """Give time and hash of everything in a folder."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in [folder, *sorted(folder.rglob("*"))]
    }


# ---- a terminal

_TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@frozen
class Terminal:
    """A process that has a terminal of its own for everything but standard output."""

    process: subprocess.Popen[bytes]
    master: int
    seen: bytearray = field(factory=bytearray)

    def wait_for(self, text: bytes) -> None:
        """Read until *text* is on the screen, after what was waited for before."""
        while (at := self.seen.find(text)) < 0:
            piece = self._read()
            assert piece, f"the terminal closed after {bytes(self.seen)!r}"
            self.seen.extend(piece)
        del self.seen[: at + len(text)]

    def type(self, line: bytes) -> None:
        """Type."""
        os.write(self.master, line)

    def end(self) -> tuple[int, bytes, bytes]:
        """Wait for the end; give exit code, standard output, the rest of the screen."""
        assert self.process.stdout is not None
        result = self.process.stdout.read()
        while piece := self._read():
            self.seen.extend(piece)
        return self.process.wait(TIMEOUT_S), result, bytes(self.seen)

    def _read(self) -> bytes:
        try:
            return os.read(self.master, 65536)
        except OSError as exc:
            if exc.errno != errno.EIO:  # Nobody holds the other side any more.
                raise
            return b""


@contextmanager
def at_terminal(shell: Shell, *words: str, env: Mapping[str, str]) -> Iterator[Terminal]:
    """Run a command at a terminal."""
    master, slave = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _TAKE_TERMINAL, *COMMAND, *words],
        cwd=shell.folder,
        env=shell.environment(env),
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        with process:
            yield Terminal(process, master)
            process.kill()
    finally:
        os.close(master)
