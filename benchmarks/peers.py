"""
Find the tools to compare with, or install them into a cache folder of the user's.

    python -m benchmarks.peers [--cache ~/.cache/loopbackup-bench]

Nothing is installed into the system or the project. What cannot be had on this
machine is named with its reason. A first run takes a quarter of an hour, most
of it compiling; --fetch= (nothing) takes what is there already.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import frozen

from .drivers import KINDS, Driver

__all__ = ["DEFAULT_CACHE", "NAMES", "Missing", "Peer", "find_peers"]

DEFAULT_CACHE: Final = Path("~/.cache/loopbackup-bench").expanduser()
RESTIC: Final = ("github.com/restic/restic", "v0.18.1", "/cmd/restic")
KOPIA: Final = ("github.com/kopia/kopia", "v0.21.1", "")
"""Module, version, and the program within it."""
RUSTIC: Final = "rustic-rs@0.11.4"
BORG: Final = "borgbackup==1.4.5"
BORG_NEEDS: Final = (
    *("liblz4-dev", "libacl1-dev", "libxxhash-dev", "libzstd-dev"),
    *("liblz4-1", "libacl1", "libxxhash0", "libzstd1", "libattr1"),
)
"""Borg is built from source; these are its headers and the libraries that they point to."""


class Missing(Exception):
    """A tool that cannot be had here, and why."""


@frozen
class Peer:
    """A tool that is there."""

    name: str
    kind: str
    binary: str
    version: str

    def driver(self, folder: Path) -> Driver:
        """Give what drives it, with its repository below *folder*."""
        return KINDS[self.kind](self.name, self.binary, folder / self.name)


# ---- where each comes from


def _debian(cache: Path, packages: Sequence[str], into: str) -> Path:
    """Unpack packages of the distribution into the cache; needs no rights."""
    _need("apt-get")
    _need("dpkg-deb")
    folder, archives = cache / into, cache / f"{into}-archives"
    archives.mkdir(parents=True, exist_ok=True)
    _do(["apt-get", "download", *packages], cwd=archives)
    for archive in sorted(archives.glob("*.deb")):
        _do(["dpkg-deb", "-x", str(archive), str(folder)], cwd=archives)
    return folder


def _restic_of_debian(cache: Path) -> None:
    _debian(cache, ["restic"], "restic-debian")


def _with_go(program: tuple[str, str, str], into: str) -> Callable[[Path], None]:
    """Build a program as a requirement of an empty module: some proxies list no versions."""
    module, version, package = program

    def install(cache: Path) -> None:
        _need("go")
        folder = cache / into
        folder.mkdir(exist_ok=True)
        (folder / "go.mod").write_text(f"module bench\n\nrequire {module} {version}\n")
        env = {**os.environ, "GOFLAGS": "-mod=mod"}
        # One package at a time: whoever measures on this machine meanwhile is not drowned.
        build = ["nice", "-n", "19", "go", "build", "-p", "1", "-o", f"{folder}/"]
        _do([*build, module + package], cwd=folder, env=env)

    return install


def _rustic(cache: Path) -> None:
    _need("cargo")
    root = str(cache / "rustic")
    _do(
        ["nice", "-n", "19", "cargo", "install", "--root", root, "-j", "1", "--locked", RUSTIC],
        cache,
    )


def _borg(cache: Path) -> None:
    sysroot = _debian(cache, BORG_NEEDS, "debian")
    libraries = next((sysroot / "usr/lib").glob("*/pkgconfig")).parent
    env = {
        **os.environ,
        "PKG_CONFIG_PATH": str(libraries / "pkgconfig"),
        "PKG_CONFIG_SYSROOT_DIR": str(sysroot),
        "CFLAGS": f"-O2 -I{sysroot}/usr/include",
        "LDFLAGS": f"-L{libraries}",
    }
    _do([sys.executable, "-m", "venv", "borg"], cwd=cache)
    _do(["borg/bin/python", "-m", "pip", "install", "--quiet", BORG], cwd=cache, env=env)


def _need(program: str) -> None:
    if shutil.which(program) is None:
        raise Missing(f"{program} is not on this machine")


def _do(argv: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise Missing(f"{argv[0]} ended with status {done.returncode}: {' '.join(lines[-2:])}")


@frozen
class _Source:
    kind: str
    path: str
    """Of the program below the cache."""
    version: tuple[str, ...]
    install: Callable[[Path], None]


_SOURCES: Final = {
    "restic-debian": _Source(
        "restic", "restic-debian/usr/bin/restic", ("version",), _restic_of_debian
    ),
    "restic-newest": _Source(
        "restic", "restic-go/restic", ("version",), _with_go(RESTIC, "restic-go")
    ),
    "rustic": _Source("rustic", "rustic/bin/rustic", ("--version",), _rustic),
    "kopia": _Source("kopia", "kopia-go/kopia", ("--version",), _with_go(KOPIA, "kopia-go")),
    "borg": _Source("borg", "borg/bin/borg", ("--version",), _borg),
}
NAMES: Final = ("loopbackup", *_SOURCES, "pipe")


def find_peers(
    names: Sequence[str], cache: Path, fetch: Sequence[str]
) -> tuple[list[Peer], dict[str, str]]:
    """
    Give the tools of these names, installing those of *fetch* that are not there yet.

    Returns:
        The tools in the order of *names*, and why others are missing.
    """
    cache.mkdir(parents=True, exist_ok=True)
    found: list[Peer] = []
    missing: dict[str, str] = {}
    for name in names:
        try:
            found.append(_find(name, cache, install=name in fetch))
        except Missing as reason:
            missing[name] = str(reason)
    return found, missing


def _find(name: str, cache: Path, *, install: bool) -> Peer:
    if name == "loopbackup":
        code = "from importlib.metadata import version as v; print('loopbackup', v('loopbackup'))"
        return Peer(name, name, sys.executable, _first_line([sys.executable, "-c", code]))
    if name == "pipe":
        for program in ("bash", "tar", "zstd", "openssl"):
            _need(program)
        versions = [["tar", "--version"], ["zstd", "--version"], ["openssl", "version"]]
        return Peer(name, name, "bash", "; ".join(map(_first_line, versions)))
    source = _SOURCES[name]
    binary = cache / source.path
    if not binary.exists():
        if not install:
            raise Missing("not installed")
        source.install(cache)
    return Peer(name, source.kind, str(binary), _first_line([str(binary), *source.version]))


def _first_line(argv: Sequence[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[0].strip("* ")


def main() -> None:
    """Install what is missing and say what there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    parser.add_argument("--peers", default=",".join(NAMES))
    parser.add_argument("--fetch", default=",".join(NAMES), help="which to install if missing")
    options = parser.parse_args()
    found, missing = find_peers(options.peers.split(","), options.cache, options.fetch.split(","))
    for peer in found:
        print(f"{peer.name:<14} {peer.version}")
    for name, reason in missing.items():
        print(f"{name:<14} missing: {reason}")


if __name__ == "__main__":
    main()
