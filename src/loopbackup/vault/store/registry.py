"""From a URL to its store: the drivers of this library, plugins by entry point, fsspec."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ...errors import InputError
from .protocol import Store

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["ENTRY_POINT_GROUP", "open_store", "redact_url"]

ENTRY_POINT_GROUP: Final = "loopbackup.stores"
_BUILT_IN: Final = ("file", "memory", "s3")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def open_store(
    url: str | os.PathLike[str],
    storage_options: Mapping[str, Any] | None = None,
    *,
    allow_insecure_loopback: bool = False,
) -> Store:
    """
    Build the store that *url* names.

    A path or ``file:///path`` is a folder, ``memory://name`` the memory of
    this process, ``s3://bucket/prefix`` a bucket; any other scheme is looked up
    among the entry points of the group ``loopbackup.stores`` and built as
    ``cls(url, **storage_options)``, and then among the file systems of fsspec.
    No driver is imported before its URL is asked for, and no plugin can take the
    place of a built-in scheme. An ``os.PathLike`` is always a path. With ``fs``
    among the options, an open file system of fsspec, that is what keeps the store.

    *allow_insecure_loopback* is passed on to a driver that knows it.

    Raises:
        InputError: No driver, or more than one, for the scheme; one that cannot be
            imported (kind "plugin"); no such URL; or the driver does not know one
            of *storage_options*.
    """
    _check_url(url)
    options = {} if storage_options is None else storage_options
    if not isinstance(options, Mapping):
        raise InputError(f"storage_options maps names to values; {type(options).__name__} does not")
    driver = _fsspec() if "fs" in options else _driver(_scheme(url))
    signature = inspect.signature(driver)
    if allow_insecure_loopback and "allow_insecure_loopback" in signature.parameters:
        options = {**options, "allow_insecure_loopback": True}
    try:
        signature.bind(url, **options)
    except TypeError as exc:
        # Of the signature, not of the call: a mistake inside a driver stays one.
        raise InputError(
            f"the driver for {_scheme(url)}:// takes no such storage_options: {exc}", kind="options"
        ) from exc
    return driver(url, **options)


def redact_url(url: str | os.PathLike[str]) -> str:
    """
    Return *url* without user, password and query, for messages and logs.

    Paths stay as they are. Where a secret may hold an unescaped delimiter,
    too much is taken away rather than too little.
    """
    _check_url(url)
    text = os.fspath(url)
    scheme = _scheme(url)
    if scheme == "file":
        return text
    head, *tail = re.split(r"[?#]", text[len(scheme) + len("://") :], maxsplit=1)
    if tail and "@" in tail[0]:
        # A query with an "@", or a password with a "?": nobody can tell.
        return f"{scheme}://..."
    return f"{scheme}://{head.rpartition('@')[2]}"


def _check_url(url: object) -> None:
    path = os.fspath(url) if isinstance(url, os.PathLike) else url
    if not isinstance(path, str):
        raise InputError(
            f"a vault lies at a path or a URL, which is text, not {type(path).__name__}", kind="url"
        )


def _driver(scheme: str) -> Callable[..., Store]:
    if scheme == "file":
        from .local import LocalStore

        return LocalStore
    if scheme == "memory":
        from .memory import MemoryStore

        return MemoryStore.at
    if scheme in ("s3", "s3a"):
        from .s3.driver import S3Store

        return S3Store
    plugin = _plugin(scheme)
    return _fsspec() if plugin is None else _loaded(plugin)


def _fsspec() -> Callable[..., Store]:
    from .fsspec.driver import FsspecStore

    return FsspecStore


def _loaded(plugin: EntryPoint) -> Callable[..., Store]:
    try:
        driver: object = plugin.load()
    except Exception as exc:
        package = plugin.dist.name if plugin.dist is not None else "a package"
        raise InputError(
            f"the driver for {plugin.name}://, {plugin.value} of {package}, cannot be imported: "
            f"{type(exc).__name__}. Mend or uninstall it.",
            kind="plugin",
        ) from exc
    if not callable(driver):
        raise InputError(
            f"the driver for {plugin.name}://, {plugin.value}, is no class of a store",
            kind="plugin",
        )
    return driver


def _scheme(url: str | os.PathLike[str]) -> str:
    match = _SCHEME.match(url) if isinstance(url, str) else None
    return match[1].lower() if match else "file"


def _plugin(scheme: str) -> EntryPoint | None:
    # Takes as long as opening a vault without a passphrase, and is for plugins only.
    from importlib.metadata import entry_points

    plugins = entry_points(group=ENTRY_POINT_GROUP)
    found = [plugin for plugin in plugins if plugin.name == scheme]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(sorted(plugin.value for plugin in found))
        raise InputError(
            f"more than one driver for {scheme}://: {names}. Uninstall all but one.",
            kind="url",
        )
    if _is_known_to_fsspec(scheme):
        return None
    known = sorted({*_BUILT_IN, *plugins.names})
    raise InputError(
        f"no driver for {scheme}://; known here: {', '.join(known)}, and what fsspec opens. "
        f"A package that brings one names it under the entry points {ENTRY_POINT_GROUP}.",
        kind="url",
    )


def _is_known_to_fsspec(scheme: str) -> bool:
    from fsspec.registry import known_implementations, registry

    return scheme in known_implementations or scheme in registry
