"""
The HTTP session of an S3 client that sends nothing unprotected.

Imported by :mod:`.client` alone, once an S3 store is opened: botocore is heavy.
"""

from __future__ import annotations

import ssl
from typing import Any, Self
from urllib.parse import urlsplit

from botocore.httpsession import URLLib3Session

from ..transport import Transport, is_loopback, refuse_plain, refuse_unverified

__all__ = ["LoopbackSession", "ProtectedSession"]


class ProtectedSession(URLLib3Session):  # type: ignore[misc]  # botocore has no types
    """
    Send by TLS 1.2 or newer with a checked certificate, or not at all.

    Every request is looked at, redirected ones included, in the session that
    would send it: no option, environment variable or configuration file can
    have changed what is seen here.
    """

    @classmethod
    def like(cls, other: URLLib3Session) -> Self:
        """Give a session with the settings that botocore has worked out for *other*."""
        timeout, proxies = other._timeout, other._proxy_config
        return cls(
            verify=other._verify,
            proxies=proxies._proxies,
            timeout=(timeout.connect_timeout, timeout.read_timeout),
            max_pool_connections=other._max_pool_connections,
            socket_options=other._socket_options,
            client_cert=(other._cert_file, other._key_file) if other._cert_file else None,
            proxies_config=proxies.settings,
        )

    def _get_ssl_context(self) -> ssl.SSLContext:
        context: ssl.SSLContext = super()._get_ssl_context()
        # Also where the system's OpenSSL is set up to speak older ones.
        context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
        return context

    def send(self, request: Any) -> Any:
        """Send *request*; InsecureTransport before its first byte if it would be unprotected."""
        self.refuse_unprotected(request.url)
        return super().send(request)

    def refuse_unprotected(self, url: str) -> None:
        """
        Refuse to send anything to *url* if others could read or take it.

        Raises:
            InsecureTransport: It is no https, or the certificate would not be checked.
        """
        parts = urlsplit(url)
        if parts.scheme != "https":
            refuse_plain(parts.hostname)
        if not self._verify:
            refuse_unverified(parts.hostname)

    def transport(self, endpoint: str) -> Transport:
        """Say how a connection to *endpoint* is protected."""
        url = urlsplit(endpoint)
        shown = f"{url.scheme}://{url.hostname}" + (f":{url.port}" if url.port else "")
        if url.scheme != "https":
            return Transport(shown, None, verified=False)
        minimum = self._get_ssl_context().minimum_version.name.replace("_", ".")
        return Transport(shown, minimum, verified=bool(self._verify))


class LoopbackSession(ProtectedSession):
    """Lets unprotected requests go to this machine itself, and nowhere else."""

    def refuse_unprotected(self, url: str) -> None:
        """Refuse as the base does, unless *url* is this machine."""
        if not is_loopback(urlsplit(url).hostname):
            super().refuse_unprotected(url)
