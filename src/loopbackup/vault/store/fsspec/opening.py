"""From a URL to a file system of fsspec that may be sent something, or a refusal before that."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import SplitResult, urlsplit

from attrs import frozen

from ....errors import InputError, InsecureTransport
from ..transport import is_loopback, refuse_options, refuse_plain

__all__ = ["Opened", "Protection", "check_url", "open_file_system", "refuse_unprotected"]

Protection: TypeAlias = bool | Literal["unknown"] | None
"""As :attr:`.StoreInfo.tls`."""

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^?#*\[\]{}\\\s]*")
_OPEN_TO_ALL: Final = frozenset({"ftp", "http", "hdfs", "arrow_hdfs", "webhdfs"})
_OF_THIS_MACHINE: Final = frozenset({"file", "local", "memory"})
_SSH: Final = frozenset({"sftp", "ssh"})
# Copies elsewhere, archives that cannot delete, and what only reads.
_NO_STORES: Final = frozenset(
    {"blockcache", "cached", "filecache", "simplecache", "zip", "tar", "libarchive", "data"}
    | {"reference", "generic", "git", "github", "gist", "https"}
)
_OWN_DRIVER: Final = frozenset({"s3", "s3a"})
_KEEP_NO_LISTINGS: Final = _OF_THIS_MACHINE | _SSH
_OWN: Final = ("use_listings_cache", "skip_instance_cache", "asynchronous", "loop")


@frozen
class Opened:
    """
    A file system, and what is known about the way to it.

    Args:
        fs: An instance of ``fsspec.AbstractFileSystem``.
        protocol: The first of its names.
        root: The path in it below which the store lies; without a slash at its end.
        protection: Whether the way to it is protected.
        ours: It was made here, so it may be ended here.
    """

    fs: Any
    protocol: str
    root: str
    protection: Protection
    ours: bool

    def is_alive(self) -> bool:
        """Tell whether the connection stands, as far as the file system shows it."""
        if self.protocol not in _SSH or not hasattr(self.fs, "ftp"):
            return True
        transport = self.fs.client.get_transport()
        return transport is not None and bool(transport.is_active())

    def close(self) -> None:
        """End the connection if it was made here and can be ended."""
        close = getattr(self.fs, "close", None)
        if self.ours and close is not None:
            close()


def check_url(url: object) -> SplitResult:
    """
    Give the parts of a URL that names one place on one file system.

    Raises:
        InputError: It is none, or holds a password.
    """
    if not isinstance(url, str) or _URL.fullmatch(url) is None or "::" in url:
        raise InputError(
            "a store lies at protocol://place/path, without query, pattern or a second file system",
            kind="url",
        )
    parts = urlsplit(url)
    if parts.password is not None or ".." in parts.path.split("/"):
        raise InputError(
            "the URL of a store holds no password and no '..'; credentials stand in "
            "storage_options",
            kind="url",
        )
    return parts


def refuse_unprotected(parts: SplitResult, options: Mapping[str, Any], *, loopback: bool) -> None:
    """
    Refuse what cannot be protected, before any library is loaded.

    Raises:
        InputError: No store can be made of such a file system.
        InsecureTransport: Others could read or take what is sent.
    """
    if parts.scheme in _NO_STORES:
        raise InputError(f"{parts.scheme}:// cannot keep a store", kind="url")
    if parts.scheme in _OPEN_TO_ALL and not (loopback and is_loopback(parts.hostname)):
        refuse_plain(parts.hostname)
    if parts.scheme in _SSH and not options.get("host_key"):
        _refuse_any_host(parts.hostname, loopback=loopback)
    refuse_options(options, loopback=loopback)


def open_file_system(
    url: str, options: Mapping[str, Any], fs: Any = None, *, loopback: bool
) -> Opened:
    """
    Open the file system of *url*, or take *fs*, and look at where it would send things.

    Raises:
        InputError: There is no such file system, or none that can keep a store.
        InsecureTransport: Others could read or take what is sent.
        Exception: Whatever fsspec and its back ends raise.
    """
    parts = check_url(url)
    if fs is not None:
        return _given(fs, url, loopback=loopback)
    own = {name: value for name, value in options.items() if name not in _OWN}
    if parts.scheme in _SSH:
        return _over_ssh(parts, own)
    from fsspec.core import url_to_fs

    fs, root = url_to_fs(url, **own, use_listings_cache=False, skip_instance_cache=True)
    return _looked_at(fs, root, ours=True, loopback=loopback)


def _over_ssh(parts: SplitResult, options: Mapping[str, Any]) -> Opened:
    # By name: the package sshfs takes the place of this class wherever it is installed.
    from .ssh import PinnedSFTPFileSystem

    given = {"host_key": None, **options}
    if parts.username:
        given.setdefault("username", parts.username)
    if parts.port:
        given.setdefault("port", parts.port)
    pinned = given["host_key"] is not None
    fs = PinnedSFTPFileSystem(parts.hostname or "", **given)
    return Opened(fs, "sftp", parts.path.rstrip("/"), protection=pinned, ours=True)


def _given(fs: Any, url: str, *, loopback: bool) -> Opened:
    from fsspec import AbstractFileSystem

    if not isinstance(fs, AbstractFileSystem):
        raise InputError(f"fs is a file system of fsspec, not {type(fs).__name__}", kind="options")
    protocol = _protocol(fs)
    if protocol in _NO_STORES | _OWN_DRIVER:
        raise InputError(
            f"a store cannot be made of an open file system of kind {protocol}: give the URL and "
            "storage_options",
            kind="options",
        )
    if protocol not in _KEEP_NO_LISTINGS and fs.dircache.use_listings_cache:
        raise InputError(
            "fs keeps listings, and would show yesterday's: make it with "
            "use_listings_cache=False, skip_instance_cache=True",
            kind="options",
        )
    if protocol in _SSH:
        from .ssh import accepts_any_host

        if accepts_any_host(fs):
            _refuse_any_host(fs.host, loopback=loopback)
    return _looked_at(fs, fs._strip_protocol(url), ours=False, loopback=loopback)


def _looked_at(fs: Any, root: str, *, ours: bool, loopback: bool) -> Opened:
    """Refuse a file system whose endpoint is open to all; an environment may have changed it."""
    protocol = _protocol(fs)
    endpoint = urlsplit(_endpoint(fs))
    unprotected = protocol in _OPEN_TO_ALL or endpoint.scheme == "http"
    host = endpoint.hostname or getattr(fs, "host", None)
    if unprotected and not (loopback and is_loopback(host)):
        refuse_plain(host)
    protection: Protection = "unknown"
    if unprotected:
        protection = False
    elif protocol in _OF_THIS_MACHINE:
        protection = None
    return Opened(fs, protocol, root.rstrip("/"), protection, ours)


def _protocol(fs: Any) -> str:
    return str(fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0])


def _endpoint(fs: Any) -> str:
    """Give the URL to which requests go, where the file system shows one; else nothing."""
    of_azure = getattr(getattr(fs, "service_client", None), "url", None)
    for found in (getattr(fs, "_location", None), of_azure, getattr(fs, "url", None)):
        if isinstance(found, str) and "://" in found:
            return found
    return ""


def _refuse_any_host(host: str | None, *, loopback: bool) -> None:
    if loopback and is_loopback(host):
        return
    raise InsecureTransport(
        f"{host or 'the server'} refused: without its key anybody could answer in its place. "
        'Nothing was sent. Give it as host_key="ssh-ed25519 AAAA...", as ssh-keyscan prints it; '
        "for a server on this machine allow_insecure_loopback=True",
        host=host,
    )
