"""What a connection must be before anything is sent over it; no driver's library is needed here."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from attrs import frozen

from ...errors import InsecureTransport

__all__ = ["Transport", "is_loopback", "refuse_options", "refuse_plain", "refuse_unverified"]

_SECTIONS: Final = ("client_kwargs", "config_kwargs")


@frozen
class Transport:
    """
    How a connection is protected, as read from the connected client.

    Args:
        endpoint: Scheme, host and port, without credentials.
        tls_minimum: The oldest version that it takes, as ``"TLSv1.2"``; None without TLS.
        verified: Whether the certificate is checked.
    """

    endpoint: str
    tls_minimum: str | None
    verified: bool

    def __str__(self) -> str:
        if self.tls_minimum is None:
            return f"{self.endpoint}, no TLS"
        checked = "certificate checked" if self.verified else "certificate not checked"
        return f"{self.endpoint}, {self.tls_minimum} or newer, {checked}"


def is_loopback(host: str | None) -> bool:
    """Tell whether *host* is this machine, by its address or as ``localhost``."""
    if not host:
        return False
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def refuse_plain(host: str | None) -> None:
    """Raise InsecureTransport: the connection would have no TLS."""
    _refuse(host, "a connection without TLS", "an https:// endpoint")


def refuse_unverified(host: str | None) -> None:
    """Raise InsecureTransport: the certificate would not be checked."""
    _refuse(
        host,
        "TLS without a check of the certificate",
        'verify=True, or the path of your authority\'s certificate as "verify"',
    )


def refuse_options(options: Mapping[str, Any], *, loopback: bool) -> None:
    """
    Refuse what asks for an open connection, before any library is loaded.

    A first look, that it may be told at once: what counts is what the
    connected client does, which its session looks at before each request.

    Args:
        options: Storage options; ``endpoint_url``, ``use_ssl`` and ``verify`` are
            looked at, also within ``client_kwargs`` and ``config_kwargs``.
        loopback: Whether this machine itself may be reached unprotected.

    Raises:
        InsecureTransport: They do.
    """
    sections = (options, *(options.get(name) or {} for name in _SECTIONS))
    given = [section for section in sections if isinstance(section, Mapping)]
    endpoints = [urlsplit(str(s["endpoint_url"])) for s in given if s.get("endpoint_url")]
    host = endpoints[0].hostname if endpoints else None
    if loopback and endpoints and all(is_loopback(url.hostname) for url in endpoints):
        return
    if any(url.scheme != "https" for url in endpoints):
        refuse_plain(host)
    if not endpoints and any(section.get("use_ssl") is False for section in given):
        refuse_plain(host)
    if any("verify" in section and section["verify"] in (False, "", 0) for section in given):
        refuse_unverified(host)


def _refuse(host: str | None, what: str, instead: str) -> None:
    raise InsecureTransport(
        f"{host or 'the endpoint'} refused: {what} would show or hand over your data. Nothing was "
        f"sent. Use {instead}; for a server on this machine allow_insecure_loopback=True",
        host=host,
    )
