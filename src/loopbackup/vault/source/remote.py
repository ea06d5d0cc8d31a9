"""Anything that fsspec can list and read, as a source."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from attrs import define

from ...errors import InputError
from ...terms import SubjectKey
from ..format.entries import (
    DIRECTORY,
    ITEM,
    MAX_LABELS_BYTES,
    TIMES_NS,
    Extra,
    Node,
    clamp_ns,
    is_safe_path,
)
from ..store.registry import redact_url
from .base import Found, Reader, ScanProblem
from .items import time_ns
from .patterns import Patterns
from .streams import StreamReader, foreign_errors, reason_of
from .subjects import SubjectRule, as_subjects
from .urls import open_file_system

__all__ = ["RemoteSource"]

_TIMES: Final = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")
_VERSIONS: Final = ("ETag", "etag", "generation", "md5Hash", "content_md5", "checksum", "sha256")
_ONE_REQUEST_BYTES: Final = 4 * 1024 * 1024
"""Up to here a file is taken to come in one piece, of one state."""

_Info = dict[str, Any]


@define
class _Level:
    """A folder that the walk is in."""

    path: bytes
    """Relative to the root and ending with a slash; empty for the root."""
    entries: list[tuple[bytes, _Info]]
    """What is still to be looked at, the next one last."""
    subject: SubjectKey | None = None
    pending: Found | None = None
    """Its own entry, held back until something in it is selected."""


class RemoteSource:
    """
    Back up what lies below an fsspec URL, or the one file there.

    Files become items: their content, with the time of change where the back
    end tells one. A file is passed over in a later run only if the back end
    gives an ETag, a generation or a checksum and it is the same. Links are not
    followed.

    Args:
        url: Any URL that fsspec opens; ending in "/" it is a folder for sure.
        options: For the file system, as for :func:`open_file_system`.
        subject: Whom entries are about, as for :func:`as_subjects`.
        include: Select only these; the folders that they lie in come along.
        exclude: Leave these out.

    Raises:
        InputError: The file system cannot be opened, or there is nothing.

    Cost: one listing a folder; memory for the entries of the folders from the
    root to the current one.
    """

    in_order = True
    opens_later = True

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any] | None = None,
        *,
        subject: SubjectRule = None,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
    ) -> None:
        self.name = redact_url(url)
        self.description = {"kind": "remote", "url": self.name}
        self._subjects = as_subjects(subject)
        self._patterns = Patterns(include, exclude)
        try:
            with foreign_errors():
                self._fs, self._root = open_file_system(url, options or {})
            self._info = self._look(self._root)
        except (OSError, ImportError) as exc:
            raise InputError(f"the source cannot be opened: {reason_of(exc)}") from exc
        self._closed = False
        self._is_folder = url.endswith("/") or self._info["type"] == "directory"

    def scan(self) -> Iterator[Found | ScanProblem]:
        """
        Yield every entry, in tree order.

        Raises:
            InputError: The root cannot be listed.
        """
        try:
            stack = [self._open_root()]
        except OSError as exc:
            raise InputError(f"the source cannot be listed: {reason_of(exc)}") from exc
        while stack:
            level = stack[-1]
            if not level.entries:
                stack.pop()
                continue
            name, info = level.entries.pop()
            found = self._found(level, level.path + name, info)
            if isinstance(found, ScanProblem):
                yield found
            elif found.node.kind == DIRECTORY:
                yield from self._enter(stack, found)
            elif self._patterns.matches(found.node.path, is_dir=False):
                yield from _release(stack)
                yield found

    def _open_root(self) -> _Level:
        if self._is_folder:
            return _Level(b"", self._list(self._root))
        name = self._root.rstrip("/").rpartition("/")[2]
        return _Level(b"", [(_encode(name), self._info)])

    def _list(self, place: str) -> list[tuple[bytes, _Info]]:
        with foreign_errors():
            infos: list[_Info] = self._fs.ls(place, detail=True)
        entries = []
        for info in infos:
            full = str(info["name"]).strip("/")
            # Object stores list the object that marks a folder within it.
            if full != place.strip("/"):
                entries.append((_encode(full.rpartition("/")[2]), info))
        # Object stores have files and folders of one name: the file first.
        entries.sort(key=lambda entry: (entry[0], entry[1]["type"] == "directory"), reverse=True)
        return entries

    def _found(self, level: _Level, path: bytes, info: _Info) -> Found | ScanProblem:
        is_dir = info["type"] == "directory"
        subject, missing = self._subjects.resolve(path, level.subject, is_dir=is_dir)
        if not is_safe_path(path):
            return ScanProblem(path, "unsafe_path", "a name that no path can have", subject)
        if not is_dir and info["type"] != "file":
            return ScanProblem(path, "unknown_kind", "neither file nor folder", subject)
        version = None if is_dir else _version(info)
        mtime_ns = _mtime_ns(info)
        node = Node(
            path=path,
            kind=DIRECTORY if is_dir else ITEM,
            mode=0o700 if is_dir else 0,
            mtime_ns=clamp_ns(mtime_ns),
            size=0 if is_dir else info.get("size") or 0,
            extra=Extra(version=version) if version else None,
        )
        found = Found(node, subject, "version" if version else None, info, missing)
        if mtime_ns not in TIMES_NS:
            node.extra = node.extra or Extra()
            node.extra.problem = "time"
            message = "its time lies outside 1677 to 2554, and the nearest of these is stored"
            found.problem = ScanProblem(path, "time", message, subject, in_tree=True)
        return found

    def _enter(self, stack: list[_Level], found: Found) -> Iterator[Found | ScanProblem]:
        """Enter a folder and yield it, unless something in it has to be selected first."""
        node, problem = found.node, None
        if self._patterns.prune(node.path):
            return
        selected = self._patterns.matches(node.path, is_dir=True)
        if selected:
            yield from _release(stack)
        try:
            entries = self._list(found.ref["name"])
        except OSError as exc:
            problem = ScanProblem(
                node.path, "unreadable", reason_of(exc), found.subject, in_tree=selected
            )
            node.extra = Extra(problem=problem.kind)
        else:
            pending = None if selected else found
            stack.append(_Level(node.path + b"/", entries, found.subject, pending))
        if selected:
            yield found
        if problem is not None:
            yield problem

    def open(self, found: Found) -> Reader:
        """
        Open the content of a file.

        Raises:
            OSError: It is gone, or the back end failed.
        """
        place, size = found.ref["name"], found.ref.get("size")
        large = size is None or size > _ONE_REQUEST_BYTES
        before = _stamp(self._look(place)) if large else None
        with foreign_errors():
            stream = self._fs.open(place, "rb")

        def changed(count: int) -> bool:
            if size is not None and count != size:
                return True
            return large and _stamp(self._look(place)) != before

        return StreamReader(stream, changed)

    def read(self, found: Found) -> bytes | None:
        """Give None: there is no quicker way than ``open``."""
        return None

    def refresh(self, found: Found) -> Found:
        """
        Look at *found* once more, for a second reading after a change.

        Raises:
            OSError: It is gone, or the back end failed.
        """
        above = _Level(b"", [], found.subject)
        again = self._found(above, found.node.path, self._look(found.ref["name"]))
        if isinstance(again, ScanProblem) or again.node.kind != found.node.kind:
            raise OSError("something else stands in its place")
        return again

    def _look(self, place: str) -> _Info:
        with foreign_errors():
            return dict(self._fs.info(place))

    def close(self) -> None:
        """Close archives, once; connections end with the file system."""
        close, self._closed = None if self._closed else getattr(self._fs, "close", None), True
        if callable(close):
            close()


def _release(stack: list[_Level]) -> Iterator[Found]:
    for level in stack:
        if level.pending is not None:
            yield level.pending
            level.pending = None


def _encode(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _version(info: _Info) -> str | None:
    for key in _VERSIONS:
        if info.get(key):
            raw = f"{key} {info[key]}".encode("utf-8", "backslashreplace")
            # One that is too long to be kept proves nothing: the file is read each time.
            return raw.decode() if len(raw) <= MAX_LABELS_BYTES else None
    return None


def _stamp(info: _Info) -> tuple[Any, ...]:
    return info.get("size"), _version(info), _mtime_ns(info)


def _mtime_ns(info: _Info) -> int:
    """Give the time of change in nanoseconds; 0 where none is told."""
    for key in _TIMES:
        value = info.get(key)
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                continue
        if isinstance(value, datetime):
            return time_ns(value if value.tzinfo else value.replace(tzinfo=UTC))
        if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
            return round(value * 1_000_000) * 1000
    return 0
