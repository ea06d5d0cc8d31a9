"""
How each tool is told to do each step, with settings that can be compared.

All encrypt and compress; zstd level 3 where the level can be chosen. Caches and
settings lie beside the repository, on the same tmpfs.
"""

from __future__ import annotations

import os
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

from .corpora import Corpus

__all__ = ["KINDS", "STEPS", "Driver"]

STEPS: Final = ("first", "again", "restore", "partial", "check", "edited", "prune")
"""In this order, on one repository."""
PASSPHRASE: Final = "not a secret"
RUNNER: Final = Path(__file__).with_name("runner.py")
Argv = list[str]


@frozen
class Driver(ABC):
    """One tool and the folder in which its repository, cache and restores lie."""

    name: str
    binary: str
    folder: Path

    @property
    def repo(self) -> Path:
        """Where the repository lies."""
        return self.folder / "repo"

    @property
    def target(self) -> Path:
        """Where restores go; empty before each."""
        return self.folder / "target"

    @property
    def figures(self) -> Path:
        """Where a process may say what the call alone cost."""
        return self.folder / "figures.json"

    def env(self) -> Mapping[str, str]:
        """Give the environment of every step."""
        return {**os.environ, "HOME": str(self.folder), "LC_ALL": "C.UTF-8"}

    def cwd(self, corpus: Corpus, step: str) -> Path:
        """Give the folder in which a step runs."""
        return corpus.folder

    def restored(self, corpus: Corpus) -> Path:
        """Say where below the target the source lies after a restore."""
        return self.target

    @abstractmethod
    def init(self, corpus: Corpus) -> list[Argv]:
        """Give the commands that make the repository; not measured."""

    def steps(self, corpus: Corpus) -> Mapping[str, Argv]:
        """Give the command of each step; a step that is missing is one the tool cannot do."""
        steps = self.all_steps(corpus)
        if corpus.part is None:
            steps.pop("partial", None)
        return steps

    @abstractmethod
    def all_steps(self, corpus: Corpus) -> dict[str, Argv]:
        """Give the command of each step, those too that this corpus has no use for."""


class _Loopbackup(Driver):
    """This library, in a process that imports it and does one step."""

    def env(self) -> Mapping[str, str]:
        return {**super().env(), "BENCH_PASSPHRASE": PASSPHRASE}

    def _step(self, step: str, *more: str) -> Argv:
        state = str(self.folder / "state")
        places = ["--vault", str(self.repo), "--state", state, "--figures", str(self.figures)]
        return [self.binary, str(RUNNER), step, *places, *more]

    def init(self, corpus: Corpus) -> list[Argv]:
        return [self._step("create")]

    def all_steps(self, corpus: Corpus) -> dict[str, Argv]:
        work = "items" if corpus.name == "subjects" else "backup"
        backup = self._step(work, "--source", str(corpus.source))
        to = ["--to", str(self.target)]
        return {
            "first": backup,
            "again": backup,
            "edited": backup,
            "restore": self._step("restore", *to),
            "partial": self._step("partial", *to, "--part", corpus.part or ""),
            "check": self._step("check"),
            "prune": self._step("prune"),
        }


class _Restic(Driver):
    """Any restic; all that compress choose zstd's level 3 by themselves."""

    def env(self) -> Mapping[str, str]:
        cache = str(self.folder / "cache")
        return {**super().env(), "RESTIC_PASSWORD": PASSPHRASE, "RESTIC_CACHE_DIR": cache}

    def restored(self, corpus: Corpus) -> Path:
        return self.target / corpus.source.relative_to("/")

    def _do(self, *words: str) -> Argv:
        return [self.binary, "--repo", str(self.repo), "--quiet", "--compression", "auto", *words]

    def init(self, corpus: Corpus) -> list[Argv]:
        return [self._do("init", "--repository-version", "2")]

    def all_steps(self, corpus: Corpus) -> dict[str, Argv]:
        backup = self._do("backup", str(corpus.source))
        restore = self._do("restore", "latest", "--target", str(self.target))
        return {
            "first": backup,
            "again": backup,
            "edited": backup,
            "restore": restore,
            "partial": [*restore, "--include", str(corpus.source / (corpus.part or ""))],
            "check": self._do("check", "--read-data"),
            "prune": self._do("forget", "--keep-last", "1", "--prune"),
        }


class _Rustic(Driver):
    """The same repository format as restic's, written in Rust."""

    def env(self) -> Mapping[str, str]:
        return {**super().env(), "RUSTIC_PASSWORD": PASSPHRASE}

    def _do(self, *words: str) -> Argv:
        places = ["--repository", str(self.repo), "--cache-dir", str(self.folder / "cache")]
        return [self.binary, "--no-progress", "--log-level", "warn", *places, *words]

    def init(self, corpus: Corpus) -> list[Argv]:
        return [self._do("init", "--set-compression", "3")]

    def all_steps(self, corpus: Corpus) -> dict[str, Argv]:
        backup = self._do("backup", str(corpus.source))
        latest = f"latest:{corpus.source}"
        part = corpus.part or ""
        return {
            "first": backup,
            "again": backup,
            "edited": backup,
            "restore": self._do("restore", latest, str(self.target)),
            "partial": self._do("restore", f"{latest}/{part}", str(self.target / part)),
            "check": self._do("check", "--read-data"),
            "prune": self._do("forget", "--keep-last", "1", "--prune", "--instant-delete"),
        }


class _Borg(Driver):
    """Borg 1.x with its fast cipher suite."""

    def env(self) -> Mapping[str, str]:
        return {
            **super().env(),
            "BORG_BASE_DIR": str(self.folder / "base"),
            "BORG_PASSPHRASE": PASSPHRASE,
        }

    def cwd(self, corpus: Corpus, step: str) -> Path:
        return self.target if step in ("restore", "partial") else corpus.source

    def init(self, corpus: Corpus) -> list[Argv]:
        return [[self.binary, "init", "--encryption", "repokey-blake2", str(self.repo)]]

    def all_steps(self, corpus: Corpus) -> dict[str, Argv]:
        def backup(step: str) -> Argv:
            create = [self.binary, "create", "--compression", "zstd,3"]
            return [*create, f"{self.repo}::{step}", "."]

        extract = [self.binary, "extract", f"{self.repo}::again"]
        prune = [self.binary, "prune", "--keep-last", "1", str(self.repo)]
        return {
            "first": backup("first"),
            "again": backup("again"),
            "edited": backup("edited"),
            "restore": extract,
            "partial": [*extract, corpus.part or ""],
            "check": [self.binary, "check", "--verify-data", str(self.repo)],
            "prune": _shell(f"{shlex.join(prune)} && {self.binary} compact {self.repo}"),
        }


class _Kopia(Driver):
    """Kopia with its default splitter and hash; its zstd is of the default level."""

    def env(self) -> Mapping[str, str]:
        return {
            **super().env(),
            "KOPIA_PASSWORD": PASSPHRASE,
            "KOPIA_CONFIG_PATH": str(self.folder / "kopia.config"),
            "KOPIA_LOG_DIR": str(self.folder / "logs"),
            "KOPIA_CHECK_FOR_UPDATES": "false",
            "KOPIA_CACHE_DIRECTORY": str(self.folder / "cache"),
        }

    def _do(self, *words: str) -> Argv:
        return [self.binary, "--no-progress", *words]

    def init(self, corpus: Corpus) -> list[Argv]:
        policy = self._do("policy", "set", "--global", "--compression=zstd", "--keep-latest=1")
        counts = [f"--keep-{unit}=0" for unit in ("hourly", "daily", "weekly", "monthly", "annual")]
        return [
            self._do("repository", "create", "filesystem", "--path", str(self.repo)),
            [*policy, *counts],
            self._do("maintenance", "set", "--enable-quick=false", "--enable-full=false"),
        ]

    def all_steps(self, corpus: Corpus) -> dict[str, Argv]:
        backup = self._do("snapshot", "create", str(corpus.source))
        expire = self._do("snapshot", "expire", "--delete", str(corpus.source))
        sweep = self._do("maintenance", "run", "--full", "--safety=none")
        part = corpus.part or ""
        return {
            "first": backup,
            "again": backup,
            "edited": backup,
            "restore": self._do("restore", str(corpus.source), str(self.target)),
            "partial": self._do("restore", str(corpus.source / part), str(self.target / part)),
            "check": self._do("snapshot", "verify", "--verify-files-percent=100"),
            "prune": _shell(f"{shlex.join(expire)} && {shlex.join(sweep)}"),
        }


class _Pipe(Driver):
    """What the same work costs without a backup program: tar, zstd and openssl."""

    def env(self) -> Mapping[str, str]:
        return {**super().env(), "BENCH_PASSPHRASE": PASSPHRASE}

    def init(self, corpus: Corpus) -> list[Argv]:
        return [["mkdir", "-p", str(self.repo)]]

    def all_steps(self, corpus: Corpus) -> dict[str, Argv]:
        cipher = "openssl enc -aes-256-ctr -pbkdf2 -pass env:BENCH_PASSPHRASE"
        file, source = shlex.quote(str(self.repo / "source.tar.zst.enc")), str(corpus.source)
        unpack = f"{cipher} -d -in {file} | zstd -q -d | tar -x -C {shlex.quote(str(self.target))}"
        return {
            "first": _shell(
                f"tar -c -C {shlex.quote(source)} . | zstd -q -3 -T2 | {cipher} -out {file}"
            ),
            "restore": _shell(unpack),
            "partial": _shell(f"{unpack} {shlex.quote('./' + (corpus.part or ''))}"),
        }


def _shell(line: str) -> Argv:
    """Let bash run a line and fail if any part of it does."""
    return ["bash", "-c", f"set -o pipefail; {line}"]


KINDS: Final[Mapping[str, Callable[[str, str, Path], Driver]]] = {
    "loopbackup": _Loopbackup,
    "restic": _Restic,
    "rustic": _Rustic,
    "borg": _Borg,
    "kopia": _Kopia,
    "pipe": _Pipe,
}
