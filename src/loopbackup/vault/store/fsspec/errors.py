"""From what file systems of fsspec raise to the builtin errors of the store's contract."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import Final

from ....errors import InputError, InsecureTransport, LoopbackupError

__all__ = ["status_of", "translate"]

_PLAIN: Final = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    ConnectionError,
    TimeoutError,
)
# Under which numbers back ends hide a busy or broken service.
_BUSY: Final = frozenset(
    getattr(errno, name, errno.ECONNRESET)
    for name in ("EBUSY", "EREMOTEIO", "EAGAIN", "ENETUNREACH", "EHOSTUNREACH", "ENOTCONN")
)
# Their libraries are not imported to be asked: none of them may be there.
_TRANSFER: Final = frozenset({"aiohttp", "paramiko", "requests", "urllib3", "socket"})
_TRANSFER_OF_CLOUDS: Final = frozenset(
    {"ServiceRequestError", "ServiceResponseError", "IncompleteReadError", "TransportError"}
)
_REJECTED: Final = frozenset(
    {
        "AuthenticationException",
        "BadAuthenticationType",
        "ClientAuthenticationError",
        "CredentialUnavailableError",
        "DefaultCredentialsError",
        "PasswordRequiredException",
        "RefreshError",
    }
)
_KEY_REJECTED: Final = getattr(errno, "EKEYREJECTED", errno.EACCES)


def status_of(error: BaseException) -> int:
    """Give the HTTP status that *error* carries; 0 where it is none."""
    for name in ("status_code", "status", "code"):
        found = getattr(error, name, None)
        if isinstance(found, int) and 400 <= found < 600:
            return found
    return 0


def translate(error: BaseException, *, alive: bool) -> BaseException:
    """
    Give the error of the contract that *error* is; its text holds nothing of the original's.

    Args:
        error: What a call raised.
        alive: Whether the connection still stands, as far as the file system shows it.
    """
    name = type(error).__name__
    if isinstance(error, LoopbackupError):
        return error
    if isinstance(error, ImportError):
        return InputError("a package that this storage needs is missing", kind="missing_extra")
    if "BadHostKey" in name:
        return InsecureTransport(
            "the server shows another key than host_key names. Nothing was sent"
        )
    if name in _REJECTED:
        return PermissionError(_KEY_REJECTED, f"not let in: {name}")
    if status := status_of(error):
        return _of_status(status)
    if isinstance(error, OSError):
        return _of_os(error, alive=alive)
    module = _library(error)
    of_transfer = module in _TRANSFER or name in _TRANSFER_OF_CLOUDS
    if of_transfer or isinstance(error, EOFError | asyncio.CancelledError):
        return ConnectionError(name)
    if isinstance(error, NotImplementedError):
        return OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    if module == "builtins" and not isinstance(error, ValueError | RuntimeError):
        return error  # A mistake in the code of a file system, or in ours.
    return OSError(errno.EPROTO, name)


def _library(error: BaseException) -> str:
    return type(error).__module__.partition(".")[0]


def _of_os(error: OSError, *, alive: bool) -> OSError:
    number = error.errno or 0
    busy = isinstance(error, ConnectionError | TimeoutError) or number in _BUSY
    if busy or not alive or _library(error) in _TRANSFER:
        return ConnectionError(type(error).__name__)
    for plain in _PLAIN:
        if isinstance(error, plain):
            return plain(number, os.strerror(number)) if number else plain(type(error).__name__)
    # SSH's "Failure" has no number; that of a damaged object would be a guess.
    return OSError(number or errno.EPROTO, os.strerror(number or errno.EPROTO))


def _of_status(status: int) -> OSError:
    told = f"HTTP status {status}"
    if status == 404:
        return FileNotFoundError(errno.ENOENT, told)
    if status in (401, 403):
        return PermissionError(errno.EACCES, told)
    if status in (409, 412):
        return FileExistsError(errno.EEXIST, told)
    if status == 416:
        return OSError(errno.ERANGE, told)
    if status in (408, 429) or status >= 500:
        return ConnectionError(told)
    return OSError(errno.EPROTO, told)
