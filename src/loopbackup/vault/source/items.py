"""Items: content that a host hands over itself, one by one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO, Final, TypeAlias

from attrs import field, frozen

from ...errors import InputError
from ...terms import Subject, SubjectKey, subject_key
from ..format.entries import (
    ITEM,
    MAX_LABELS_BYTES,
    TIMES_NS,
    Extra,
    Node,
    is_safe_path,
    tree_order,
)
from .base import Found, Reader, ScanProblem
from .streams import BufferReader, StreamReader, foreign_errors
from .subjects import SubjectRule, as_subjects

__all__ = ["Bytes", "Item", "ItemSource", "time_ns"]

Bytes: TypeAlias = bytes | bytearray | memoryview
Content: TypeAlias = Bytes | BinaryIO | Callable[[], Bytes | BinaryIO]

OPEN_FILE_BYTES: Final = 256 << 10
"""An open file counts as so many bytes: descriptors run out before memory does."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def time_ns(moment: datetime) -> int:
    """Give nanoseconds since 1970-01-01 UTC of an aware *moment*, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def _raw_path(path: str | bytes) -> bytes:
    if not isinstance(path, (str, bytes)):
        raise InputError(f"the path of an item is text or bytes, not {type(path).__name__}")
    try:
        raw = path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path
    except UnicodeEncodeError as exc:
        raise InputError("the path of an item is no valid text") from exc
    if not is_safe_path(raw):
        raise InputError(
            "the path of an item is relative, without empty, '.' and '..' components", path=path
        )
    return raw


def _check_text(what: str, value: object) -> None:
    if not isinstance(value, str):
        raise InputError(f"{what} of an item is text, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError as exc:
        raise InputError(f"{what} of an item contains surrogates, which are no text") from exc


def _check_labels_size(version: str | None, meta: Mapping[str, str]) -> None:
    texts = [version or "", *meta, *meta.values()]
    size_bytes = sum(len(text.encode()) for text in texts)
    if size_bytes > MAX_LABELS_BYTES:
        raise InputError(
            f"version and meta of an item have {size_bytes:,} bytes, and "
            f"{MAX_LABELS_BYTES:,} at most; put what is longer into its data"
        )


def _copy_meta(meta: Mapping[str, str]) -> Mapping[str, str]:
    if not isinstance(meta, Mapping):
        raise InputError(f"meta of an item maps text to text, and is no {type(meta).__name__}")
    for key, value in meta.items():
        _check_text("a key in meta", key)
        _check_text("a value in meta", value)
    return dict(meta)


@frozen
class Item:
    """
    Describe one thing to back up that is no file.

    Args:
        path: Where it stands in the snapshot; text, or bytes of any encoding.
        data: Its content: bytes, a binary file (read to its end and closed),
            or a function that gives either and is called only if the content
            is needed.
        subject: Whom it is about; None leaves it to the backup's ``subject=``.
        version: Names this state of the content, such as an ETag. With the
            same ``path`` and ``version`` as in the last snapshot of that name
            ``data`` is not looked at.
        modified_at: Aware time of the last change, between the years 1678 and
            2554; None where it is not known.
        meta: Whatever belongs to it; small texts: with the version 65,536
            bytes of UTF-8 at most, keys included.

    Raises:
        InputError: An unsafe path, a naive time, an empty version, a value of
            the wrong type, or too much in version and meta.

    >>> Item("mail/7", data=b"Dear user-42", version="3", subject=("acme", "42")).raw_path
    b'mail/7'
    """

    path: str | bytes
    data: Content = field(kw_only=True, repr=False)
    subject: Subject | None = field(default=None, kw_only=True)
    version: str | None = field(default=None, kw_only=True)
    modified_at: datetime | None = field(default=None, kw_only=True)
    meta: Mapping[str, str] = field(factory=dict, kw_only=True, converter=_copy_meta)
    raw_path: bytes = field(init=False, repr=False, eq=False)
    """The path as bytes, as it is stored."""
    subject_key: SubjectKey | None = field(init=False, repr=False, eq=False)
    """The subject in its canonical form."""

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "raw_path", _raw_path(self.path))
        key = None if self.subject is None else subject_key(self.subject)
        object.__setattr__(self, "subject_key", key)
        if self.version is not None:
            _check_text("the version", self.version)
            if not self.version:
                raise InputError("an empty version would make every later content count as known")
        _check_labels_size(self.version, self.meta)
        moment: object = self.modified_at
        if moment is not None:
            if not isinstance(moment, datetime) or moment.utcoffset() is None:
                raise InputError("modified_at of an item is a datetime with a time zone")
            if time_ns(moment) not in TIMES_NS:
                raise InputError(
                    "modified_at of an item lies between 1678 and 2554; leave it out "
                    "where the time is not known"
                )
        data: object = self.data
        if not (
            isinstance(data, (bytes, bytearray, memoryview))
            or callable(data)
            or callable(getattr(data, "read", None))
        ):
            raise InputError(
                "data of an item is bytes, a binary file or a function that gives either, "
                f"not {type(data).__name__}"
            )


def _held_bytes(data: Content) -> int:
    if isinstance(data, (bytes, bytearray, memoryview)):
        return memoryview(data).nbytes
    return OPEN_FILE_BYTES if hasattr(data, "read") else 0


class ItemSource:
    """
    Back up items as *items* yields them; a run reads some thousands ahead.

    What those hold counts: no more than 16 MiB of content is held, and
    functions and files are opened one by one, after later items were asked for.

    What iterating raises goes through: a backup of half a generator would be
    taken for the whole. What ``data`` raises costs that item only.

    Args:
        items: Any iterable, read once.
        subject: For items that do not name theirs.
        in_order: The host yields them in tree order, which saves a sort;
            checked on the way.
    """

    name = ""
    opens_later = True

    def __init__(
        self, items: Iterable[Item], *, subject: SubjectRule = None, in_order: bool = False
    ) -> None:
        self.in_order = in_order
        self.description = {"kind": "items"}
        self._items = iter(items)
        self._subjects = as_subjects(subject)

    def scan(self) -> Iterator[Found | ScanProblem]:
        """
        Yield every item.

        Raises:
            InputError: Something is no item, or not in order; ``position``
                counts from 0.
        """
        last = b""
        for position, item in enumerate(self._items):
            if not isinstance(item, Item):
                raise InputError(
                    f"number {position} is no Item but {type(item).__name__}", position=position
                )
            if self.in_order:
                key = tree_order(item.raw_path)
                if key < last:
                    raise InputError(
                        f"item number {position} sorts before the one before it",
                        position=position,
                    )
                last = key
            yield self._found(item)

    def _found(self, item: Item) -> Found:
        extra = None
        if item.version is not None or item.meta:
            extra = Extra(version=item.version, meta=dict(item.meta) or None)
        node = Node(
            path=item.raw_path,
            kind=ITEM,
            mtime_ns=0 if item.modified_at is None else time_ns(item.modified_at),
            extra=extra,
        )
        subject, missing = item.subject_key, None
        if subject is None:
            subject, missing = self._subjects.resolve(item.raw_path, is_dir=False)
        return Found(
            node=node,
            subject=subject,
            unchanged_by=None if item.version is None else "version",
            ref=item,
            no_subject=missing,
            held_bytes=_held_bytes(item.data),
        )

    def open(self, found: Found) -> Reader:
        """Open the content, asking the host's function for it if there is one."""
        data: Any = found.ref.data
        if callable(data) and not hasattr(data, "read"):
            with foreign_errors():
                data = data()
        if isinstance(data, (bytes, bytearray, memoryview)):
            return BufferReader(data)
        return StreamReader(data)

    def read(self, found: Found) -> bytes | None:
        """Give None: there is no quicker way than ``open``."""
        return None

    def refresh(self, found: Found) -> Found:
        """Give *found* back; an item does not change while it is read."""
        return found

    def close(self) -> None:
        """Close the host's generator, so that its ``finally`` blocks run."""
        if isinstance(self._items, Generator):
            self._items.close()
