"""How an object is put whole: each kind of file system of fsspec has a way of its own, or none."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeAlias

from attrs import frozen

from ..protocol import Data

__all__ = ["ONE_BY_ONE", "TMP", "Way", "way_of"]

TMP: Final = ".tmp"
"""The folder of unfinished writes; no key holds a dot."""

ONE_BY_ONE: Final = ("file", "local", "memory", "sftp", "ssh")
"""Where a second request at the same time gains nothing."""

_Put: TypeAlias = Callable[..., None]
_MEMORY: Final = threading.Lock()


@frozen
class Way:
    """
    How objects are put on a kind of file system.

    Args:
        put: Called as ``put(fs, root, path, data, if_absent=...)``.
        exclusive: Of many creates one wins. The probe has the last word.
        whole: Nobody sees a part, whatever happens.
        flat: One listing shows all that lies below a name.
        durable: What was put survives a loss of power.
        serial: One call at a time: replies to two would be mixed up.
    """

    put: _Put
    exclusive: bool = True
    whole: bool = True
    flat: bool = False
    durable: bool = False
    serial: bool = False


def way_of(fs: Any, protocol: str) -> Way:
    """Give the way for *fs*; one that is not known is written to with care, and not trusted."""
    if protocol in ("gs", "gcs", "abfs", "abfss", "az"):
        return Way(_in_one_request, flat=True, durable=True)
    if protocol == "memory":
        return Way(_in_memory, flat=True)
    if protocol in ("file", "local"):
        return Way(_by_link)
    if protocol in ("sftp", "ssh") and hasattr(fs, "ftp"):
        # paramiko's client hands one thread's reply to another.
        return Way(_by_sftp, serial=True)
    return Way(_by_move, exclusive=False, whole=False)


def _in_one_request(fs: Any, root: str, path: str, data: Data, *, if_absent: bool) -> None:
    fs.pipe_file(path, bytes(data), mode="create" if if_absent else "overwrite")


def _in_memory(fs: Any, root: str, path: str, data: Data, *, if_absent: bool) -> None:
    # It looks first and writes then, or does not look at all; the lock makes one step of it.
    with _MEMORY:
        if if_absent and fs.exists(path):
            raise FileExistsError
        fs.pipe_file(path, bytes(data))


def _by_link(fs: Any, root: str, path: str, data: Data, *, if_absent: bool) -> None:
    if not if_absent:
        _by_rename(fs, root, path, data, fs.mv)
        return
    with _written(fs, root, data) as written:
        _with_folder(fs, path, lambda: fs.link(written, path))
        fs.rm_file(written)


def _by_sftp(fs: Any, root: str, path: str, data: Data, *, if_absent: bool) -> None:
    # SFTP 3: a rename fails where the name is taken; posix-rename, which mv is, replaces.
    try:
        _by_rename(fs, root, path, data, fs.ftp.rename if if_absent else fs.mv)
    except OSError as exc:
        # A taken name is a "Failure" like any other.
        if if_absent and exc.errno is None and fs.exists(path):
            raise FileExistsError from exc
        raise


def _by_move(fs: Any, root: str, path: str, data: Data, *, if_absent: bool) -> None:
    if if_absent and fs.exists(path):
        raise FileExistsError
    _by_rename(fs, root, path, data, fs.mv)


def _by_rename(
    fs: Any, root: str, path: str, data: Data, rename: Callable[[str, str], object]
) -> None:
    with _written(fs, root, data) as written:
        _with_folder(fs, path, lambda: rename(written, path))


@contextmanager
def _written(fs: Any, root: str, data: Data) -> Iterator[str]:
    """Write under a name that is no key, and remove it if it does not become one."""
    written = f"{root}/{TMP}/{secrets.token_hex(16)}"
    try:
        _with_folder(fs, written, lambda: _write(fs, written, data))
        yield written
    except BaseException:
        with suppress(OSError):
            fs.rm_file(written)
        raise


def _write(fs: Any, path: str, data: Data) -> None:
    with fs.open(path, "wb") as file:
        if hasattr(file, "set_pipelined"):
            file.set_pipelined(True)  # Over SSH each 32 KiB would wait for its receipt.
        file.write(data)


def _with_folder(fs: Any, path: str, act: Callable[[], object]) -> None:
    """Act; where the folder of *path* is missing make it, and act again."""
    try:
        act()
    except FileNotFoundError:
        # Another one may make it at the same moment, and some file systems mind.
        with suppress(OSError):
            fs.makedirs(fs._parent(path), exist_ok=True)
        act()
