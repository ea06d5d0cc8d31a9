"""The connection of an S3 store: its options, one client a process, calls from any thread."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Coroutine, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from ....errors import InputError, InsecureTransport, LoopbackupError
from ..transport import Transport, refuse_options
from .errors import status_of, translate

__all__ = ["Client"]

_T = TypeVar("_T")

_POOL: Final = 32
"""Connections at once; botocore's own bound of 10 makes latency the bound."""
_CONNECT_S: Final = 10.0
_READ_S: Final = 60.0
"""Without a byte; not of a whole transfer."""
_AWS_DOMAINS: Final = (".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu")
_OWN: Final = ("use_listings_cache", "skip_instance_cache", "asynchronous", "loop")
_CHECKSUMS: Final = ("request_checksum_calculation", "response_checksum_validation")


class Client:
    """
    Call the S3 API from any thread, through a client that s3fs sets up.

    One client a process, made at the first call; after a fork a new one.
    Nothing is cached and nothing retried: that is the seam's.

    Args:
        options: Of ``s3fs.S3FileSystem``.
        allow_insecure_loopback: Let plain HTTP and unverified TLS go to this machine.

    Raises:
        InsecureTransport: The options ask for an unprotected connection.
    """

    def __init__(self, options: Mapping[str, Any], *, allow_insecure_loopback: bool) -> None:
        refuse_options(options, loopback=allow_insecure_loopback)
        self._options = {k: v for k, v in options.items() if k not in _OWN}
        self._loopback = allow_insecure_loopback
        self._lock = threading.Lock()
        self._fs: Any = None
        self._pid = 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """
        Call *method* of the API and give its reply, with its body as ``bytes``.

        Args:
            method: As botocore names it: ``get_object``.
            parameters: As botocore names them.

        Raises:
            OSError, ValueError: As the contract of stores says.
            InsecureTransport: The connection would not be protected.
        """
        fs = self._connected()
        kept = self._kept(fs.s3, method)
        return self._run(fs, _call(fs.s3, method, {**kept, **parameters}))

    def region(self, bucket: str) -> str | None:
        """
        Ask AWS for the region of a bucket; None of any other server, whose word is nobody's.

        AWS names it also to whom it refuses the bucket.

        Raises:
            OSError: There is no such bucket, or the store failed.
        """
        fs = self._connected()
        found = self._run(fs, _region(fs.s3, bucket))
        return found if self.is_aws() else None

    def transport(self) -> Transport:
        """Say how the connection is protected; asked of the client, not of the options."""
        client = self._connected().s3
        found: Transport = client._endpoint.http_session.transport(client.meta.endpoint_url)
        return found

    def is_aws(self) -> bool:
        """Tell whether it speaks to AWS, whose word about a region counts."""
        host = urlsplit(self._connected().s3.meta.endpoint_url).hostname or ""
        return host.endswith(_AWS_DOMAINS)

    def close(self) -> None:
        """Close the connections; the next call makes new ones."""
        with self._lock:
            fs, self._fs = self._fs, None
        if fs is not None and self._pid == os.getpid():
            fs.close_session(fs.loop, fs._s3creator)

    def _connected(self) -> Any:
        with self._lock:
            if self._fs is None or self._pid != os.getpid():
                self._fs, self._pid = self._connect(), os.getpid()
            return self._fs

    def _connect(self) -> Any:
        try:
            import s3fs
        except ImportError as exc:
            raise InputError(
                "s3:// needs s3fs: pip install 'loopbackup[s3]'", kind="missing_extra"
            ) from exc
        from .session import LoopbackSession, ProtectedSession

        asked = dict(self._options.get("config_kwargs") or {})
        config = {
            "max_pool_connections": _POOL,
            "connect_timeout": _CONNECT_S,
            "read_timeout": _READ_S,
            **asked,
            "http_session_cls": LoopbackSession if self._loopback else ProtectedSession,
            # A retry that is not seen here makes one's own write look like another's.
            "retries": {"total_max_attempts": 1, "mode": "standard"},
        }
        fs = s3fs.S3FileSystem(
            **self._options | {"config_kwargs": config},
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        client: Any = self._run(fs, fs.set_session())
        try:
            client._endpoint.http_session.refuse_unprotected(client.meta.endpoint_url)
        except InsecureTransport:
            fs.close_session(fs.loop, fs._s3creator)
            raise
        if not (urlsplit(client.meta.endpoint_url).hostname or "").endswith(_AWS_DOMAINS):
            # Checksums that botocore adds unasked are refused by many other servers.
            for name in _CHECKSUMS:
                if name not in asked:
                    setattr(client.meta.config, name, "when_required")
        return fs

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

    def _run(self, fs: Any, coroutine: Coroutine[Any, Any, _T]) -> _T:
        future = asyncio.run_coroutine_threadsafe(coroutine, fs.loop)
        try:
            return future.result()
        except LoopbackupError:
            raise
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001  # of whatever library
            # Not chained: what botocore keeps of a request shows an access key.
            raise translate(exc, self._host()) from None
        finally:
            future.cancel()

    def _host(self) -> str:
        endpoint = self._options.get("endpoint_url")
        return (urlsplit(endpoint).hostname if isinstance(endpoint, str) else None) or "S3"


async def _region(client: Any, bucket: str) -> str | None:
    from botocore.exceptions import ClientError

    try:
        reply = await client.head_bucket(Bucket=bucket)
    except ClientError as exc:
        headers = exc.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        if "x-amz-bucket-region" in headers and status_of(exc) in (301, 400, 403):
            return str(headers["x-amz-bucket-region"])
        if status_of(exc) == 404:
            # A HEAD has no body that would say what is missing.
            raise OSError(errno.ENODEV, "NoSuchBucket") from None
        raise
    region: str | None = reply.get("BucketRegion")
    return region


async def _call(client: Any, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
    reply: dict[str, Any] = await getattr(client, method)(**parameters)
    if "Body" in reply:
        async with reply["Body"] as body:
            data = await body.read()
        if len(data) != reply.get("ContentLength", len(data)):
            raise ConnectionError("the reply was cut short")
        reply["Body"] = data
    return reply
