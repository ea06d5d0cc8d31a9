"""From what botocore raises to the builtin errors of the store's contract."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from ....errors import InputError, InsecureTransport

__all__ = ["code_of", "status_of", "translate"]

# Some systems lack some of the names; the seam asks for the same ones.
_KEY_EXPIRED: Final = getattr(errno, "EKEYEXPIRED", errno.EACCES)
_KEY_REJECTED: Final = getattr(errno, "EKEYREJECTED", errno.EACCES)
_NO_MEDIUM: Final = getattr(errno, "ENOMEDIUM", errno.EPROTO)

_Kind: TypeAlias = tuple[type[OSError], int]
_BUSY: Final[_Kind] = (ConnectionError, 0)
_MISSING: Final[_Kind] = (FileNotFoundError, errno.ENOENT)
_REJECTED: Final[_Kind] = (PermissionError, _KEY_REJECTED)
_EXPIRED: Final[_Kind] = (PermissionError, _KEY_EXPIRED)
_SKEWED: Final[_Kind] = (PermissionError, errno.ETIME)
_DENIED: Final[_Kind] = (PermissionError, errno.EACCES)
_FULL: Final[_Kind] = (OSError, errno.ENOSPC)
_TAKEN: Final[_Kind] = (FileExistsError, errno.EEXIST)
_OUT_OF_RANGE: Final[_Kind] = (OSError, errno.ERANGE)
_UNSUPPORTED: Final[_Kind] = (OSError, errno.EOPNOTSUPP)
_OTHER: Final[_Kind] = (OSError, errno.EPROTO)

_BY_CODE: Final[dict[str, _Kind]] = {
    # "Error responses" of the REST API reference, and what servers that speak like it send.
    "NoSuchBucket": (OSError, errno.ENODEV),
    "NoSuchKey": _MISSING,
    "NoSuchVersion": _MISSING,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidAccessKeyId": _REJECTED,
    "InvalidToken": _REJECTED,
    "SignatureDoesNotMatch": _REJECTED,
    "RequestTimeTooSkewed": _SKEWED,
    "RequestExpired": _SKEWED,
    "InvalidObjectState": (OSError, _NO_MEDIUM),
    "QuotaExceeded": _FULL,
    "StorageQuotaExceeded": _FULL,
    "XMinioStorageFull": _FULL,
    "NotImplemented": _UNSUPPORTED,
    "PreconditionFailed": _TAKEN,
    "InvalidRange": _OUT_OF_RANGE,
    "ConditionalRequestConflict": _BUSY,
    "OperationAborted": _BUSY,
    "RequestTimeout": _BUSY,
    # A body that was changed or cut on the way.
    "BadDigest": _BUSY,
    "IncompleteBody": _BUSY,
    "XAmzContentChecksumMismatch": _BUSY,
    "XAmzContentSHA256Mismatch": _BUSY,
    "SlowDown": _BUSY,
    "SlowDownRead": _BUSY,
    "SlowDownWrite": _BUSY,
    "Throttling": _BUSY,
    "ThrottlingException": _BUSY,
}
_BY_STATUS: Final[dict[int, _Kind]] = {
    401: _DENIED,
    403: _DENIED,
    404: _MISSING,
    408: _BUSY,
    409: _BUSY,
    412: _TAKEN,
    416: _OUT_OF_RANGE,
    429: _BUSY,
    501: _UNSUPPORTED,
    507: _FULL,
}

# Why a handshake failed for good; what is cut off in its midst may work later.
_TLS_FOR_GOOD: Final = ("CERTIFICATE", "PROTOCOL", "VERSION", "CIPHER", "HANDSHAKE_FAILURE")


def code_of(error: BaseException) -> str:
    """Give the error code of a reply; empty where *error* is none."""
    response = getattr(error, "response", None)
    return str(response["Error"].get("Code", "")) if response and "Error" in response else ""


def status_of(error: BaseException) -> int:
    """Give the HTTP status of the reply that *error* is; 0 where it is none."""
    response: Any = getattr(error, "response", None) or {}
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status if isinstance(status, int) else 0


def translate(error: BaseException, host: str) -> BaseException:
    """
    Give the error of the contract that *error* is.

    Its text holds the code and the id of the request, which a provider's
    support asks for, and nothing that was sent.

    Args:
        error: What a call raised.
        host: Where it was sent, without credentials.
    """
    import botocore.exceptions as botocore

    if isinstance(error, botocore.ClientError):
        return _of_reply(error)
    if isinstance(error, botocore.SSLError):
        return _of_handshake(error, host)
    if isinstance(error, _no_credentials(botocore)):
        return PermissionError(_KEY_REJECTED, f"no credentials: {type(error).__name__}")
    if isinstance(
        error,
        botocore.HTTPClientError
        | botocore.ConnectionError
        | botocore.IncompleteReadError
        | ConnectionError
        | TimeoutError,
    ):
        return ConnectionError(f"{host}: {type(error).__name__}")
    if isinstance(error, botocore.ParamValidationError):
        return InputError("a request was refused before it was sent: check the bucket's name")
    if isinstance(error, botocore.BotoCoreError):
        # Of a configuration: no such region, profile, endpoint. Its text may name a URL.
        return InputError(f"the S3 client cannot be set up: {type(error).__name__}", kind="options")
    if isinstance(error, ValueError | KeyError | TypeError | MemoryError):
        # What botocore makes of a reply that is none: a length that is no number, say.
        return ConnectionError(f"{host}: {type(error).__name__} in a reply")
    return error


def _of_reply(error: Exception) -> OSError:
    code, status = code_of(error), status_of(error)
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status) or (_BUSY if status >= 500 else _OTHER)
    told = f"{code or status}{_request_id(error)}"
    error_class, number = kind
    made = error_class(number, told) if number else error_class(told)
    made.code = told  # type: ignore[attr-defined]  # what the seam may show
    return made


def _of_handshake(error: BaseException, host: str) -> Exception:
    from urllib3.util.ssl_match_hostname import CertificateError

    for cause in _causes(error):
        reason = getattr(cause, "reason", None) if isinstance(cause, ssl.SSLError) else None
        if isinstance(cause, CertificateError):
            reason = "CERTIFICATE_OF_ANOTHER_HOST"
        if isinstance(reason, str) and any(word in reason.upper() for word in _TLS_FOR_GOOD):
            return InsecureTransport(
                f"{host} was refused: {reason.lower().replace('_', ' ')}. Nothing was sent. "
                "A certificate of your own authority: storage_options="
                '{"client_kwargs": {"verify": "/path/ca.pem"}}',
                reason=reason,
            )
    return ConnectionError(f"{host}: {type(error).__name__}")


def _no_credentials(botocore: Any) -> tuple[type[Exception], ...]:
    names = (
        "NoCredentialsError",
        "PartialCredentialsError",
        "CredentialRetrievalError",
        "NoAuthTokenError",
        "TokenRetrievalError",
        "SSOTokenLoadError",
        "UnauthorizedSSOTokenError",
    )
    return tuple(getattr(botocore, name) for name in names if hasattr(botocore, name))


def _request_id(error: Exception) -> str:
    response: Any = getattr(error, "response", None) or {}
    found = response.get("ResponseMetadata", {}).get("RequestId")
    return f" (request {found})" if isinstance(found, str) and found.isalnum() else ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Give *error* and all that it came from; botocore and urllib3 keep that in attributes."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        found = waiting.pop()
        if not isinstance(found, BaseException) or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        kept = getattr(found, "kwargs", None)
        waiting += [
            found.__cause__,
            found.__context__,
            getattr(found, "reason", None),
            kept.get("error") if isinstance(kept, dict) else None,
            *found.args,
        ]
