"""The connection of an S3 store: its options, one client a process, calls from any thread."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final
from urllib.parse import urlsplit

from ....errors import InputError, LoopbackupError
from ..transport import Transport, refuse_options
from .errors import status_of, translate

__all__ = ["Client"]

_POOL: Final = 32
"""Connections at once; botocore's own bound of 10 makes latency the bound."""
_CONNECT_S: Final = 10.0
_READ_S: Final = 60.0
"""Without a byte; not of a whole transfer."""
_AWS_DOMAINS: Final = (".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu")
_CREDENTIALS: Final = {
    "key": "aws_access_key_id",
    "username": "aws_access_key_id",
    "secret": "aws_secret_access_key",
    "password": "aws_secret_access_key",
    "token": "aws_session_token",
}
_TAKEN: Final = frozenset(
    {
        *_CREDENTIALS,
        *("anon", "profile", "endpoint_url", "use_ssl", "client_kwargs", "config_kwargs"),
        *("requester_pays", "s3_additional_kwargs"),
    }
)
_NO_MATTER: Final = frozenset(
    {
        *("use_listings_cache", "listings_expiry_time", "max_paths", "skip_instance_cache"),
        *("asynchronous", "loop", "default_block_size", "default_fill_cache"),
        *("default_cache_type", "version_aware", "cache_regions", "max_concurrency"),
        "fixed_upload_size",
    }
)
"""How s3fs caches, cuts and schedules; nothing of it is done here."""


class Client:
    """
    Call the S3 API from any thread, through botocore.

    One client a process, made at the first call; after a fork a new one.
    Nothing is cached and nothing retried: that is the seam's.

    Args:
        options: Named as those of ``s3fs.S3FileSystem``.
        allow_insecure_loopback: Let plain HTTP and unverified TLS go to this machine.

    Raises:
        InputError: There is no such option.
        InsecureTransport: The options ask for an unprotected connection.
    """

    def __init__(self, options: Mapping[str, Any], *, allow_insecure_loopback: bool) -> None:
        refuse_options(options, loopback=allow_insecure_loopback)
        unknown = sorted(options.keys() - _TAKEN - _NO_MATTER)
        if unknown:
            raise InputError(
                f"storage_options of S3 have no {', '.join(unknown)}; what botocore takes goes "
                "into client_kwargs and config_kwargs",
                kind="options",
            )
        self._options = {name: value for name, value in options.items() if name in _TAKEN}
        self._loopback = allow_insecure_loopback
        self._lock = threading.Lock()
        self._client: Any = None
        self._pid = 0

    def call(
        self,
        method: str,
        *,
        body_bytes: int | None = None,
        skipped_bytes: int = 0,
        **parameters: Any,
    ) -> dict[str, Any]:
        """
        Call *method* of the API and give its reply, with its body as ``bytes``.

        Args:
            method: As botocore names it: ``get_object``.
            parameters: As botocore names them; a body may be any buffer.
            body_bytes: How much of a partial body is wanted; no more is read.
            skipped_bytes: How much more of it if the server sends the whole object.

        Raises:
            OSError, ValueError: As the contract of stores says.
            InsecureTransport: The connection would not be protected.
        """
        client = self._connected()
        given = {**self._kept(client, method), **parameters}
        try:
            reply: dict[str, Any] = getattr(client, method)(**given)
            if "Body" in reply:
                is_part = reply["ResponseMetadata"].get("HTTPStatusCode") == 206
                more = 0 if is_part else skipped_bytes
                reply["Body"] = _read(reply, None if body_bytes is None else body_bytes + more)
        except LoopbackupError:
            raise
        except Exception as exc:  # noqa: BLE001  # of whatever library
            failed = self._translated(exc)
        else:
            return reply
        raise failed

    def region(self, bucket: str) -> str | None:
        """
        Ask AWS for the region of a bucket; None of any other server, whose word is nobody's.

        AWS names it also to whom it refuses the bucket.

        Raises:
            OSError: There is no such bucket, or the store failed.
        """
        client = self._connected()
        try:
            reply = client.head_bucket(Bucket=bucket, **self._kept(client, "head_bucket"))
            found = reply.get("BucketRegion")
        except LoopbackupError:
            raise
        except Exception as exc:  # noqa: BLE001  # of whatever library
            found = _region_told(exc)
            failed = None if found else self._translated(exc)
            if status_of(exc) == 404:
                # A HEAD has no body that would say what is missing.
                failed = OSError(errno.ENODEV, "NoSuchBucket")
        else:
            failed = None
        if failed is not None:
            raise failed
        return found if self.is_aws() else None

    def transport(self) -> Transport:
        """Say how the connection is protected; asked of the client, not of the options."""
        client = self._connected()
        found: Transport = client._endpoint.http_session.transport(client.meta.endpoint_url)
        return found

    def is_aws(self) -> bool:
        """Tell whether it speaks to AWS, whose word about a region counts."""
        return _is_aws(self._connected())

    def close(self) -> None:
        """Close the connections; the next call makes new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None and self._pid == os.getpid():
            client.close()

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None or self._pid != os.getpid():
                self._client, self._pid = self._connect(), os.getpid()
            return self._client

    def _connect(self) -> Any:
        try:
            import botocore.session
        except ImportError as exc:
            raise InputError(
                "s3:// needs botocore: pip install 'loopbackup[s3]'", kind="missing_extra"
            ) from exc
        from .session import LoopbackSession, ProtectedSession

        failed = None
        try:
            session = botocore.session.Session(profile=self._options.get("profile"))
            client = session.create_client("s3", **self._arguments())
        except Exception as exc:  # noqa: BLE001  # of whatever library
            failed = self._translated(exc)
        if failed is not None:
            raise failed
        kind = LoopbackSession if self._loopback else ProtectedSession
        found = client._endpoint.http_session
        client._endpoint.http_session = protected = kind.like(found)
        found.close()
        protected.refuse_unprotected(client.meta.endpoint_url)
        return client

    def _arguments(self) -> dict[str, Any]:
        """Give what botocore's client is made with."""
        from botocore import UNSIGNED
        from botocore.config import Config

        given = self._options
        asked = dict(given.get("config_kwargs") or {})
        config: dict[str, Any] = {
            "max_pool_connections": _POOL,
            "connect_timeout": _CONNECT_S,
            "read_timeout": _READ_S,
            # Names are hashes and every byte is verified: checksums beside that cost time, and
            # those that botocore adds unasked are refused by many servers that are not AWS.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            **asked,
            # A retry that is not seen here makes one's own write look like another's.
            "retries": {"total_max_attempts": 1, "mode": "standard"},
            # It takes no memoryview for a body, and would copy 32 MiB for the sake of its type.
            "parameter_validation": False,
        }
        if given.get("anon"):
            config["signature_version"] = UNSIGNED
        arguments = {_CREDENTIALS[n]: given[n] for n in _CREDENTIALS if given.get(n)}
        for name in ("endpoint_url", "use_ssl"):
            if given.get(name) is not None:
                arguments[name] = given[name]
        arguments |= given.get("client_kwargs") or {}
        if str(arguments.get("endpoint_url") or "https:").startswith("https:"):
            # TLS protects the body, so it need not be hashed a second time to be signed.
            config["s3"] = {"payload_signing_enabled": False, **(asked.get("s3") or {})}
        return {**arguments, "config": Config(**config)}

    def _kept(self, client: Any, method: str) -> dict[str, Any]:
        """Give those of the options for every request that this one knows."""
        wanted = dict(self._options.get("s3_additional_kwargs") or {})
        if self._options.get("requester_pays"):
            wanted["RequestPayer"] = "requester"
        if not wanted:
            return {}
        operation = client.meta.method_to_api_mapping[method]
        known = client.meta.service_model.operation_model(operation).input_shape.members
        return {name: value for name, value in wanted.items() if name in known}

    def _translated(self, error: Exception) -> BaseException:
        # Raised outside of "except", so that not even ``__context__`` leads to what botocore keeps
        # of a request: an access key, a token.
        endpoint = self._options.get("endpoint_url")
        host = urlsplit(endpoint).hostname if isinstance(endpoint, str) else None
        return translate(error, host or "S3")


def _read(reply: Mapping[str, Any], limit: int | None) -> bytes:
    """Read a body, or the first *limit* bytes of it."""
    with closing(reply["Body"]) as body:
        data: bytes = body.read(limit)
    told = reply.get("ContentLength")
    if limit is not None and isinstance(told, int) and len(data) < min(limit, told):
        raise ConnectionError("the reply was cut short")
    return data


def _is_aws(client: Any) -> bool:
    return (urlsplit(client.meta.endpoint_url).hostname or "").endswith(_AWS_DOMAINS)


def _region_told(error: Exception) -> str | None:
    """Give the region that a refusal names."""
    response: Any = getattr(error, "response", None) or {}
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    if status_of(error) in (301, 400, 403) and "x-amz-bucket-region" in headers:
        return str(headers["x-amz-bucket-region"])
    return None
