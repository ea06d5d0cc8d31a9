"""Places as hosts write them: local paths, and URLs that fsspec opens."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ...errors import InputError

__all__ = [
    "check_options",
    "disk_path",
    "local_path",
    "open_file_system",
    "own_options",
    "place_text",
]

# Chained URLs count: zip://inner::s3://bucket/outer.zip
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(://|::)")

_UNCACHED: Final = {"use_listings_cache": False, "skip_instance_cache": True}


def place_text(place: object) -> str:
    """
    Give the text of a path or URL, whatever bytes it holds.

    Raises:
        InputError: It is neither, or no file can have such a name.
    """
    if not isinstance(place, (str, bytes, os.PathLike)):
        raise InputError(f"a place is a path or a URL, not {type(place).__name__}")
    text = os.fsdecode(place)
    try:
        raw = os.fsencode(text)
    except UnicodeEncodeError:
        raise InputError("a path contains surrogates, which are no text") from None
    if b"\0" in raw:
        raise InputError("a path contains a NUL")
    return text


def check_options(what: str, options: object) -> None:
    """Refuse options that are no mapping; InputError."""
    if options is not None and not isinstance(options, Mapping):
        raise InputError(f"{what} maps names to values, and is no {type(options).__name__}")


def local_path(place: str) -> str | None:
    """
    Give the path that *place* is, ``file:///`` or not; None for other URLs.

    Raises:
        InputError: A file URL without an absolute path.
    """
    if place[:5].lower() == "file:":
        if place[5:8] != "///":
            raise InputError("a file URL holds an absolute path: file:///srv/data", kind="url")
        return place[7:]
    return None if _URL.match(place) else place


def disk_path(place: str) -> str | None:
    """Give the path on this machine that *place* lies at, through whatever file systems."""
    path = local_path(place)
    if path is not None:
        return path
    last = place.rpartition("::")[2]
    protocol, colon, rest = last.partition("://")
    if colon and protocol.lower() in ("file", "local"):
        return rest
    return None if _URL.match(last) else last


def own_options(links: Sequence[str], options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Give of *options* those of the last file system of a chained URL, after *links*."""
    others = {link.partition("://")[0] for link in links}
    return {name: value for name, value in (options or {}).items() if name not in others}


def open_file_system(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """
    Open the file system of *url*, and give it with the path in it.

    The caches of fsspec are switched off: they would lend another caller's
    connection, an archive that is closed already, and listings of yesterday.
    *options* go to the last file system of a chained URL; those for another
    one stand under its protocol: ``{"zip": {"mode": "w"}}``.

    Raises:
        Exception: Whatever fsspec and its back ends raise.
    """
    from fsspec.core import url_to_fs

    given = {**_UNCACHED, **options}
    for link in url.split("::")[:-1]:
        protocol = link.partition("://")[0]
        given[protocol] = {**_UNCACHED, **options.get(protocol, {})}
    fs, path = url_to_fs(url, **given)
    return fs, path
