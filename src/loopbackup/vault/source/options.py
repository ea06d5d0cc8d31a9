"""What a host may ask of a walk over a local tree beyond patterns."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any, Final, Self

from attrs import frozen

from ...errors import InputError
from .folders import open_quietly

__all__ = ["TreeOptions"]

_KNOWN: Final = ("one_file_system", "exclude_if_present", "exclude_caches")
_TAG: Final = b"CACHEDIR.TAG"
# https://bford.info/cachedir/
_SIGNATURE: Final = b"Signature: 8a477f597d28d172789f06886806bc55"
_TAG_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@frozen
class TreeOptions:
    """
    Options of a local path; all are off by default, as in restic and borg.

    ``one_file_system`` keeps the mount points of other file systems as folders
    and does not enter them. ``exclude_if_present`` names files: of a folder
    that holds one of them only the folder and that file are kept.
    ``exclude_caches`` does the same for folders with a ``CACHEDIR.TAG`` that
    begins with the signature of https://bford.info/cachedir/.
    """

    one_file_system: bool = False
    exclude_if_present: frozenset[bytes] = frozenset()
    exclude_caches: bool = False

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> Self:
        """
        Take what a host gave as ``source_options``.

        Raises:
            InputError: An unknown option, or a value of the wrong type.
        """
        unknown = sorted(map(str, options.keys() - set(_KNOWN)))
        if unknown:
            raise InputError(
                f"{', '.join(unknown)}: no such option of a local path; there are "
                f"{', '.join(_KNOWN)}"
            )
        for name in ("one_file_system", "exclude_caches"):
            if not isinstance(options.get(name, False), bool):
                raise InputError(f"{name} is True or False")
        return cls(
            options.get("one_file_system", False),
            frozenset(map(_file_name, _names(options.get("exclude_if_present", ())))),
            options.get("exclude_caches", False),
        )

    def describe(self) -> dict[str, str]:
        """Give what differs from the default, as text for a snapshot's description."""
        found = {
            name: "true" for name in ("one_file_system", "exclude_caches") if getattr(self, name)
        }
        if self.exclude_if_present:
            # No name holds a slash.
            joined = b"/".join(sorted(self.exclude_if_present))
            found["exclude_if_present"] = joined.decode("utf-8", "backslashreplace")
        return found

    def keep(self, fd: int, names: list[bytes]) -> list[bytes]:
        """Give what is backed up of *names*, all that lies in an open folder."""
        markers = {
            name for name in self.exclude_if_present.intersection(names) if _is_no_folder(fd, name)
        }
        if self.exclude_caches and _TAG in names and _is_cache(fd):
            markers.add(_TAG)
        return [name for name in names if name in markers] if markers else names


def _names(given: Any) -> list[Any]:
    if isinstance(given, (str, bytes)) or not isinstance(given, (list, tuple, set, frozenset)):
        raise InputError('exclude_if_present is a list of file names: [".nobackup"]')
    return list(given)


def _file_name(name: Any) -> bytes:
    if not isinstance(name, (str, bytes)):
        raise InputError(f"exclude_if_present holds names, not {type(name).__name__}")
    try:
        raw = os.fsencode(name)
    except UnicodeEncodeError:
        raise InputError("a name in exclude_if_present is no text") from None
    if raw in (b"", b".", b"..") or b"/" in raw or b"\0" in raw:
        raise InputError("exclude_if_present holds names of files, without a folder")
    return raw


def _is_no_folder(fd: int, name: bytes) -> bool:
    try:
        return not stat.S_ISDIR(os.lstat(name, dir_fd=fd).st_mode)
    except OSError:
        return False


def _is_cache(fd: int) -> bool:
    """Tell whether a folder's tag is a regular file with the signature."""
    try:
        tag = open_quietly(_TAG, _TAG_FLAGS, fd)
    except OSError:
        return False
    try:
        is_file = stat.S_ISREG(os.fstat(tag).st_mode)
        return is_file and os.read(tag, len(_SIGNATURE)) == _SIGNATURE
    except OSError:
        return False
    finally:
        os.close(tag)
