"""Delete all versions of an object, and say of those that stay how long they will."""

from __future__ import annotations

import errno
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from ..protocol import Remains
from .client import Client

__all__ = ["delete_versions"]


def delete_versions(
    client: Client, bucket: str, name: str, *, version_days: Callable[[], int | None]
) -> Remains:
    """
    Delete every version and marker of an object, as far as the account may.

    Oldest first and the current one last, without a marker: whoever is killed
    meanwhile leaves an object that listings show. One that may not be deleted is
    hidden by a marker.

    Args:
        client: The connection.
        bucket: The bucket.
        name: The object's whole name.
        version_days: Tells after how many days the bucket itself removes versions
            that are not current, or None; asked when one stays that is not locked.

    Raises:
        OSError: The store failed. What is deleted by then is.

    Cost: one request for each 1,000 versions, one a version, two more for each that stays.
    """
    try:
        versions, markers, is_hidden = _versions(client, bucket, name)
    except PermissionError:
        # It may hide the object, and see nothing of what is left: at least one version.
        client.call("delete_object", Bucket=bucket, Key=name)
        return Remains(1, None)
    left = [v for v in reversed(versions) if not _deleted(client, bucket, name, v)]
    until = [_stays_until(client, bucket, name, version, version_days) for version in left]
    if left and not is_hidden:
        client.call("delete_object", Bucket=bucket, Key=name)
    # The newest marker hides what stays.
    for marker in markers[1:] if left and is_hidden else markers:
        _deleted(client, bucket, name, marker)
    known = [end for end in until if end is not None]
    # Of one that nobody knows the end of, the whole has none.
    return Remains(len(left), max(known) if known and len(known) == len(left) else None)


def _deleted(client: Client, bucket: str, name: str, version: str) -> bool:
    """Delete a version; tell whether it was allowed."""
    try:
        client.call("delete_object", Bucket=bucket, Key=name, VersionId=version)
    except OSError as exc:
        # AWS denies what is locked; others say that the request is none.
        if isinstance(exc, PermissionError) or exc.errno == errno.EPROTO:
            return False
        raise
    return True


def _versions(client: Client, bucket: str, name: str) -> tuple[list[str], list[str], bool]:
    """
    Give the ids of all versions and of all markers of an object, newest first.

    And whether a marker hides them.
    """
    versions: list[str] = []
    markers: list[str] = []
    is_hidden = False
    at: dict[str, Any] = {}
    while True:
        reply = client.call("list_object_versions", Bucket=bucket, Prefix=name, **at)
        if "IsTruncated" not in reply:
            raise ConnectionError("what answered is no S3")
        versions += [v["VersionId"] for v in reply.get("Versions", ()) if v["Key"] == name]
        for marker in reply.get("DeleteMarkers", ()):
            if marker["Key"] == name:
                markers.append(marker["VersionId"])
                is_hidden |= bool(marker.get("IsLatest"))
        following = str(reply.get("NextKeyMarker") or "")
        # Names come in order: what follows has longer ones.
        if not reply.get("IsTruncated") or following > name:
            return versions, markers, is_hidden
        then = {"KeyMarker": following, "VersionIdMarker": reply.get("NextVersionIdMarker") or ""}
        if not following or then == at:
            raise ConnectionError("the listing goes on, and the server does not say where")
        at = then


def _stays_until(
    client: Client,
    bucket: str,
    name: str,
    version: str,
    version_days: Callable[[], int | None],
) -> datetime | None:
    """Give when a version goes: with its lock, or by a rule; None for a legal hold, or unknown."""
    try:
        found = client.call("head_object", Bucket=bucket, Key=name, VersionId=version)
    except OSError:
        return None
    until = found.get("ObjectLockRetainUntilDate")
    if found.get("ObjectLockLegalHoldStatus") == "ON":
        return None
    if isinstance(until, datetime):
        return until.astimezone(UTC)
    days = version_days()
    return None if days is None else datetime.now(UTC) + timedelta(days=days)
