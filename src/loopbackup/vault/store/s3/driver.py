"""A store in a bucket of S3, or of any server that speaks like it."""

from __future__ import annotations

import errno
import functools
import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final

from ....errors import InputError
from ....terms import Location
from ..protocol import (
    Data,
    Remains,
    StoredObject,
    StoreInfo,
    check_key,
    check_prefix,
    check_range,
    is_key,
)
from .bucket import ask_bucket, ask_lock, ask_version_days, ask_versioned
from .client import Client
from .versions import delete_versions

__all__ = ["S3Store"]

_URL: Final = re.compile(r"s3a?://([^/?#@]+)(?:/([^?#]*))?", re.IGNORECASE)
_PREFIX: Final = re.compile(r"[A-Za-z0-9!_.'()-]+(?:/[A-Za-z0-9!_.'()-]+)*")
_KEYS: Final = ("keys/", "probe/")
"""Below these lies what an erasure has to delete at once: kept out of a default lock."""
_UNLOCKED_FOR: Final = timedelta(seconds=30)
_NO_S3: Final = "what answered is no S3"
_NOT_TAKEN: Final = (errno.EPROTO, errno.EOPNOTSUPP)


class S3Store:
    """
    Keep objects in a bucket, below a prefix.

    Thread-safe, picklable, usable after a fork. One request for a put, a get
    of a range, a page of a listing; no HEAD before a GET. A delete is one
    request, and one more for each version where the bucket keeps versions.

    Args:
        url: ``s3://bucket/prefix``.
        allow_insecure_loopback: Let plain HTTP and unverified TLS go to this machine.
        storage_options: Of ``s3fs.S3FileSystem``: ``key``, ``secret``, ``token``,
            ``profile``, ``endpoint_url``, ``client_kwargs``, ``config_kwargs``,
            ``s3_additional_kwargs`` (``ServerSideEncryption``, ``StorageClass``, ...).
            Without credentials the usual chain of AWS applies.

    Raises:
        InputError: There can be no such URL.
        InsecureTransport: The options ask for an unprotected connection.
    """

    attempts: ClassVar[int] = 20
    """A busy service asks for half a minute of patience now and then."""
    concurrency: ClassVar[int] = 16

    def __init__(
        self, url: str, *, allow_insecure_loopback: bool = False, **storage_options: Any
    ) -> None:
        self.bucket, self._prefix = _parse(url)
        self._url, self._options = url, storage_options
        self._loopback = allow_insecure_loopback
        self._client = Client(storage_options, allow_insecure_loopback=allow_insecure_loopback)
        self._lock_days: int | None = None
        self._asked_lock = False
        self._takes_locks = False
        self._versioned: bool | None = None
        """Whether the bucket keeps versions; None where nobody may ask."""
        self._asked_versions = False
        # Found out by the first refusal: a bucket with a default lock wants a digest.
        self._digest = False

    def __repr__(self) -> str:
        return f"S3Store('s3://{self.bucket}/{self._prefix}')"

    def __reduce__(self) -> tuple[Any, ...]:
        options = self._options | {"allow_insecure_loopback": self._loopback}
        return functools.partial(S3Store, self._url, **options), ()

    def put(self, key: str, data: Data, *, if_absent: bool) -> None:
        """Store an object by one conditional PUT; see :class:`Store`."""
        parameters: dict[str, Any] = {"Key": self._prefix + check_key(key), "Body": data}
        if if_absent:
            parameters["IfNoneMatch"] = "*"
        if key.startswith(_KEYS) and self._may_lock():
            lock = {
                "ObjectLockMode": "GOVERNANCE",
                "ObjectLockRetainUntilDate": datetime.now(UTC) + _UNLOCKED_FOR,
            }
            try:
                self._put_once({**parameters, **lock})
            except OSError as exc:
                is_refused = isinstance(exc, PermissionError) or exc.errno in _NOT_TAKEN
                if self._lock_days or not is_refused:
                    raise
                # Nobody could ask whether the bucket locks; it takes no locks.
                self._takes_locks = False
            else:
                return
        self._put_once(parameters)

    def _put_once(self, parameters: dict[str, Any]) -> None:
        """Put; once more with a digest where the server asks for one, which stores nothing."""
        digested = self._digest or bool(self._lock_days)
        try:
            self._put(parameters, digested=digested)
        except OSError as exc:
            # The server says no more than that something is missing from the request.
            if digested or exc.errno != errno.EPROTO:
                raise
            self._put(parameters, digested=True)
            self._digest = True

    def _may_lock(self) -> bool:
        """Tell whether new objects are, or may be, locked by default; asked once."""
        if not self._asked_lock:
            known = ask_lock(self._client, self.bucket)
            self._takes_locks = known is None or bool(known[1])
            self._lock_days = None if known is None else known[1]
            self._asked_lock = True
        return self._takes_locks

    def _put(self, parameters: dict[str, Any], *, digested: bool) -> None:
        if digested:
            digest = hashlib.md5(parameters["Body"], usedforsecurity=False).digest()
            parameters["ContentMD5"] = b64encode(digest).decode()
        reply = self._client.call("put_object", Bucket=self.bucket, **parameters)
        _demand(reply, "ETag")

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Return a range by one GET; see :class:`Store`."""
        check_range(start, length)
        parameters: dict[str, Any] = {"Key": self._prefix + check_key(key)}
        if start or length is not None:
            # No range of HTTP is empty: one byte is asked for, and thrown away.
            last = "" if length is None else start + max(length, 1) - 1
            parameters["Range"] = f"bytes={start}-{last}"
        try:
            reply = self._client.call(
                "get_object",
                body_bytes=length,
                skipped_bytes=start,
                Bucket=self.bucket,
                **parameters,
            )
        except OSError as exc:
            if exc.errno == errno.ERANGE:
                return b""  # It begins at or beyond the end.
            raise
        _demand(reply, "ETag")
        data: bytes = reply["Body"]
        # A server may ignore the range, and would seem to give other bytes.
        if start and not str(reply.get("ContentRange", "")).startswith(f"bytes {start}-"):
            data = data[start:]
        return data if length is None else data[:length]

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield objects by one request for each 1,000; see :class:`Store`."""
        return self._list(self._prefix + check_prefix(prefix))

    def _list(self, prefix: str) -> Iterator[StoredObject]:
        token: dict[str, str] = {}
        while True:
            reply = self._page(prefix, token)
            _demand(reply, "IsTruncated")
            for found in reply.get("Contents", ()):
                _demand(found, "Key", "Size")
                name = found["Key"]
                key = name[len(self._prefix) :]
                if name.startswith(prefix) and is_key(key) and found["Size"] >= 0:
                    yield StoredObject(key, found["Size"], _utc(found.get("LastModified")))
            if not reply.get("IsTruncated"):
                return
            following = reply.get("NextContinuationToken")
            if not following or following == token.get("ContinuationToken"):
                raise ConnectionError("the listing goes on, and the server does not say where")
            token = {"ContinuationToken": following}

    def _page(self, prefix: str, token: dict[str, str]) -> dict[str, Any]:
        """Ask for a page, and for all but the first again: the seam could only begin anew."""

        def ask() -> dict[str, Any]:
            given: dict[str, Any] = {"Bucket": self.bucket, "Prefix": prefix, **token}
            return self._client.call("list_objects_v2", **given)

        if not token:
            return ask()
        import tenacity

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((ConnectionError, TimeoutError)),
            stop=tenacity.stop_after_attempt(self.attempts) | tenacity.stop_after_delay(60.0),
            wait=tenacity.wait_exponential(multiplier=0.1, max=5.0) + tenacity.wait_random(0, 0.1),
            reraise=True,
        )
        reply: dict[str, Any] = retrying(ask)
        return reply

    def delete(self, key: str) -> Remains:
        """
        Delete an object with every version of it that may be deleted; see :class:`Store`.

        What is locked stays: it is counted, with the day on which the last lock ends.
        """
        name = self._prefix + check_key(key)
        if not self._keeps_versions():
            reply = self._client.call("delete_object", Bucket=self.bucket, Key=name)
            if reply["ResponseMetadata"].get("HTTPStatusCode") != 204:
                raise ConnectionError(_NO_S3)
            if not reply.get("DeleteMarker") and not reply.get("VersionId"):
                return Remains()
            self._versioned = True  # Since lately, or nobody was allowed to ask.
        days = functools.partial(ask_version_days, self._client, self.bucket, name)
        remains = delete_versions(self._client, self.bucket, name, version_days=days)
        if remains.versions and key.startswith(_KEYS):
            self._asked_lock = False  # Somebody may have set one since.
        return remains

    def _keeps_versions(self) -> bool:
        """Tell whether the bucket keeps versions, as far as it says so; asked once."""
        if not self._asked_versions and not self._versioned:
            self._versioned = ask_versioned(self._client, self.bucket)
            self._asked_versions = True
        return bool(self._versioned)

    def describe(self) -> StoreInfo:
        """
        Ask the bucket what it is; see :class:`Store`.

        Raises:
            OSError: There is no such bucket, or the store failed.

        Cost: five requests.
        """
        known = ask_bucket(self._client, self.bucket, self._prefix)
        self._asked_lock = self._asked_versions = False
        transport = self._client.transport()
        region = known.region
        return StoreInfo(
            exclusive_create=True,
            durable_put=True,
            tls=transport.tls_minimum is not None,
            location=None if region is None else Location(None, region=region, provider="aws"),
            locks=known.locks,
            transport=transport,
            versioning=known.versioning,
            # Without versions what is deleted is gone, with them `delete` says what stays.
            keeps_deleted=None if known.versioning is None else False,
            findings=known.findings,
            tells_location=self._client.is_aws(),
        )

    def close(self) -> None:
        """Close the connections; the next call makes new ones."""
        self._client.close()


def _parse(url: object) -> tuple[str, str]:
    match = _URL.fullmatch(url) if isinstance(url, str) else None
    prefix = (match[2] or "").strip("/") if match else ""
    if match is None or (prefix and _PREFIX.fullmatch(prefix) is None) or ".." in prefix:
        raise InputError(
            "an S3 URL is s3://bucket/prefix, without user, query or unusual signs; credentials "
            "stand in storage_options or where AWS's own tools look for them",
            kind="url",
        )
    return match[1], f"{prefix}/" if prefix else ""


def _demand(reply: Mapping[str, Any], *fields: str) -> None:
    """
    Refuse a reply that lacks what S3 always says.

    A proxy's page, with status 200, would pass for an empty listing or a finished write.
    """
    if any(field not in reply for field in fields):
        raise ConnectionError(_NO_S3)


def _utc(moment: object) -> datetime | None:
    return moment.astimezone(UTC) if isinstance(moment, datetime) else None
