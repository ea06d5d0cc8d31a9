"""
SFTP that talks to one server only: the one whose key was named.

Imported by :mod:`.opening` alone, once an SFTP store is opened: it needs paramiko.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import paramiko
from fsspec.implementations.sftp import SFTPFileSystem

from ....errors import InputError, InsecureTransport

__all__ = ["PinnedSFTPFileSystem", "accepts_any_host"]

_CONNECT_S = 10.0
_REPLY_S = 60.0


class PinnedSFTPFileSystem(SFTPFileSystem):  # type: ignore[misc]  # fsspec has no types
    """
    fsspec's SFTP, which takes any server's key, with a server's key instead.

    Args:
        host: Name or address.
        host_key: Kind and base64 of the server's public key, as a line of
            ``ssh-keyscan`` has them after the name; None where the server is this
            machine, and may be unprotected.
        options: Of ``paramiko.SSHClient.connect``.
    """

    cachable = False

    def __init__(self, host: str, *, host_key: str | None, **options: Any) -> None:
        self._host_key = None if host_key is None else _parse(host_key)
        limits = {"timeout": _CONNECT_S, "banner_timeout": _REPLY_S, "auth_timeout": _REPLY_S}
        super().__init__(host, **{**limits, **options})

    def _connect(self) -> None:
        self.client = paramiko.SSHClient()
        if self._host_key is None:
            self.client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        else:
            port = int(self.ssh_kwargs.get("port", 22))
            name = self.host if port == 22 else f"[{self.host}]:{port}"
            key = self._host_key
            # Known keys also decide which kind of key the server is asked for.
            self.client.get_host_keys().add(name, key.get_name(), key)
            self.client.set_missing_host_key_policy(_Refuse())
        try:
            self.client.connect(self.host, **self.ssh_kwargs)
            self.ftp = self.client.open_sftp()
            self.ftp.get_channel().settimeout(_REPLY_S)
        except BaseException:
            self.client.close()
            raise

    def close(self) -> None:
        """End the connection, and its thread."""
        self.client.close()


class _Refuse(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]  # paramiko has no types
    def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
        raise InsecureTransport(
            "the server shows a key of another kind than host_key names. Nothing was sent"
        )


def accepts_any_host(fs: Any) -> bool:
    """Tell whether *fs*, an SFTP file system of fsspec, takes whatever server answers."""
    policy = getattr(fs, "host_key_policy", None)
    return policy is None or isinstance(policy, paramiko.AutoAddPolicy | paramiko.WarningPolicy)


def _parse(text: str) -> Any:
    kind, _, rest = text.strip().partition(" ")
    try:
        raw = base64.b64decode(rest.split()[0], validate=True)
        return paramiko.PKey.from_type_string(kind, raw)
    except (
        IndexError,
        binascii.Error,
        ValueError,
        paramiko.SSHException,
        paramiko.UnknownKeyType,
    ) as exc:
        raise InputError(
            "host_key is a kind and a key, as ssh-keyscan prints them after the name: "
            "ssh-ed25519 AAAA...",
            kind="options",
        ) from exc
