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

    Args:
        client: The connection.
        bucket: The bucket.
        name: The object's whole name.
        version_days: Tells after how many days the bucket itself removes versions
            that are not current, or None; asked when one stays that is not locked.

    Raises:
        OSError: The store failed. What is deleted by then is.

    Cost: one request for each 1,000 versions, one a version, one more for each that stays.
    """
    remaining, until = 0, []
    try:
        versions, markers = _versions(client, bucket, name)
    except PermissionError:
        # It may hide the object, and see nothing of what is left: at least one version.
        return Remains(1, _after(version_days()))
    for version in versions:
        if not _deleted(client, bucket, name, version):
            remaining += 1
            until.append(_locked_until(client, bucket, name, version) or _after(version_days()))
    # The newest marker hides what stays.
    for marker in markers[1:] if remaining else markers:
        _deleted(client, bucket, name, marker)
    known = [end for end in until if end is not None]
    # Of one that nobody knows the end of, the whole has none.
    return Remains(remaining, max(known) if known and len(known) == remaining else None)


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


def _versions(client: Client, bucket: str, name: str) -> tuple[list[str], list[str]]:
    """Give the ids of all versions and of all markers of an object, newest first."""
    versions: list[str] = []
    markers: list[str] = []
    at: dict[str, Any] = {}
    while True:
        reply = client.call("list_object_versions", Bucket=bucket, Prefix=name, **at)
        versions += [v["VersionId"] for v in reply.get("Versions", ()) if v["Key"] == name]
        markers += [m["VersionId"] for m in reply.get("DeleteMarkers", ()) if m["Key"] == name]
        following = str(reply.get("NextKeyMarker") or "")
        # Names come in order: what follows has longer ones.
        if not reply.get("IsTruncated") or not following or following > name:
            return versions, markers
        at = {"KeyMarker": following, "VersionIdMarker": reply.get("NextVersionIdMarker") or ""}


def _locked_until(client: Client, bucket: str, name: str, version: str) -> datetime | None:
    """Give when a lock ends; None for a legal hold, which has no end, and where it is not told."""
    try:
        found = client.call("head_object", Bucket=bucket, Key=name, VersionId=version)
    except OSError:
        return None
    until = found.get("ObjectLockRetainUntilDate")
    held = found.get("ObjectLockLegalHoldStatus") == "ON"
    return until.astimezone(UTC) if isinstance(until, datetime) and not held else None


def _after(days: int | None) -> datetime | None:
    return None if days is None else datetime.now(UTC) + timedelta(days=days)
