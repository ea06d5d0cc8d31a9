"""What a bucket says of itself: region, versions, locks, and rules that act behind our back."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from typing import Any, Final

from attrs import frozen

from .client import Client

__all__ = ["Bucket", "ask_bucket", "ask_lock", "ask_version_days", "ask_versioned"]

_LATE_DAYS: Final = 2
_UNKNOWN: Final = (errno.EACCES, errno.EOPNOTSUPP)
_ARCHIVES: Final = frozenset({"GLACIER", "DEEP_ARCHIVE"})


@frozen
class Bucket:
    """
    What a bucket says of itself; None means that it does not say.

    Args:
        region: Where AWS says that it lies; of other servers nobody's word, so None.
        versioning: ``"enabled"``, ``"suspended"`` or ``"off"``.
        lock_mode: Of the default retention: ``"GOVERNANCE"``, ``"COMPLIANCE"``,
            or ``"enabled"`` where objects can be locked and are not by default.
        lock_days: Of the default retention.
        findings: Sentences for people: what follows, what to mend.
    """

    region: str | None
    versioning: str | None
    lock_mode: str | None
    lock_days: int | None
    findings: tuple[str, ...]

    @property
    def locks(self) -> str | None:
        """The lock in a few words."""
        if self.lock_mode is None or self.lock_days is None:
            return self.lock_mode
        return f"{self.lock_mode} {self.lock_days} days"


def ask_bucket(client: Client, bucket: str, prefix: str) -> Bucket:
    """
    Ask a bucket for all that bears on what lies in it below *prefix*.

    What the account may not ask, or the server does not know, is unknown.

    Raises:
        OSError: There is no such bucket, or the store failed.

    Cost: five requests.
    """
    region = client.region(bucket)
    versions = _ask(client, "get_bucket_versioning", bucket)
    mode, days = ask_lock(client, bucket) or (None, None)
    rules = _rules(client, bucket, prefix)
    replication = _ask(client, "get_bucket_replication", bucket)
    versioning = None if versions is None else str(versions.get("Status") or "Off").lower()
    findings = [*_of_rules(rules), *_of_replication(replication or {}, prefix)]
    if mode not in (None, "enabled"):
        findings.append(
            f"new objects are locked ({mode}, {days} days): what is deleted or erased before that "
            "is gone for readers, and its bytes only afterwards"
        )
    if versioning in ("enabled", "suspended"):
        findings.append(
            "the bucket keeps versions: a delete removes every version that the account may delete"
        )
    return Bucket(region, versioning, mode, days, tuple(findings))


def ask_lock(client: Client, bucket: str) -> tuple[str | None, int | None] | None:
    """
    Ask for the default retention of new objects; its mode and days as in :class:`Bucket`.

    None where nobody here may ask, or the server does not know the question.

    Raises:
        OSError: The store failed.
    """
    reply = _ask(client, "get_object_lock_configuration", bucket)
    return None if reply is None else _lock(reply)


def ask_versioned(client: Client, bucket: str) -> bool | None:
    """
    Ask whether the bucket keeps versions, or has kept some; None where that is not told.

    Raises:
        OSError: The store failed.
    """
    reply = _ask(client, "get_bucket_versioning", bucket)
    return None if reply is None else bool(reply.get("Status"))


def ask_version_days(client: Client, bucket: str, name: str) -> int | None:
    """
    Ask after how many days the bucket has removed versions of an object that are not current.

    None for ever, or unknown. Rules are run once a day, at midnight, and late.

    Raises:
        OSError: The store failed.
    """
    lifecycle = _ask(client, "get_bucket_lifecycle_configuration", bucket) or {}
    days = [
        int(expires["NoncurrentDays"])
        for rule in lifecycle.get("Rules", ())
        if _covers(rule, name)
        for expires in [rule.get("NoncurrentVersionExpiration") or {}]
        if expires.get("NoncurrentDays") and not expires.get("NewerNoncurrentVersions")
    ]
    return min(days) + _LATE_DAYS if days else None


def _rules(client: Client, bucket: str, prefix: str) -> list[Mapping[str, Any]]:
    lifecycle = _ask(client, "get_bucket_lifecycle_configuration", bucket) or {}
    return [rule for rule in lifecycle.get("Rules", ()) if _applies(rule, prefix)]


def _ask(client: Client, method: str, bucket: str) -> dict[str, Any] | None:
    """Give the reply; empty where nothing is set; None where it is not to be known."""
    try:
        return client.call(method, Bucket=bucket)
    except FileNotFoundError:
        return {}
    except OSError as exc:
        if isinstance(exc, PermissionError) or exc.errno in _UNKNOWN:
            return None
        # A server that does not know the question answers with an error of its own.
        if isinstance(exc, ConnectionError | TimeoutError) or exc.errno == errno.ENODEV:
            raise
        return None


def _lock(reply: Mapping[str, Any]) -> tuple[str | None, int | None]:
    found = reply.get("ObjectLockConfiguration") or {}
    if found.get("ObjectLockEnabled") != "Enabled":
        return None, None
    default = (found.get("Rule") or {}).get("DefaultRetention") or {}
    if not default.get("Mode"):
        return "enabled", None
    days = default.get("Days") or 365 * int(default.get("Years") or 0)
    return str(default["Mode"]), int(days)


def _applies(rule: Mapping[str, Any], prefix: str) -> bool:
    """Tell whether a lifecycle or replication rule may touch anything below *prefix*."""
    if rule.get("Status") != "Enabled":
        return False
    filtered = rule.get("Filter") or {}
    both = filtered.get("And") or {}
    begins = rule.get("Prefix") or filtered.get("Prefix") or both.get("Prefix") or ""
    # Objects of a vault bear no tags.
    tagged = filtered.get("Tag") or both.get("Tags")
    return not tagged and (prefix.startswith(begins) or str(begins).startswith(prefix))


def _covers(rule: Mapping[str, Any], name: str) -> bool:
    """Tell whether a lifecycle rule surely touches an object, whatever its size."""
    filtered = rule.get("Filter") or {}
    both = filtered.get("And") or {}
    sizes = ("ObjectSizeGreaterThan", "ObjectSizeLessThan")
    if any(where.get(size) is not None for where in (filtered, both) for size in sizes):
        return False
    begins = rule.get("Prefix") or filtered.get("Prefix") or both.get("Prefix") or ""
    return _applies(rule, name) and name.startswith(str(begins))


def _of_rules(rules: list[Mapping[str, Any]]) -> Iterator[str]:
    for rule in rules:
        name = str(rule.get("ID") or "without a name")
        expires = rule.get("Expiration") or {}
        if expires.get("Days") or expires.get("Date"):
            yield (
                f"lifecycle rule {name!r} deletes objects of the vault by their age: "
                "backups will be lost. Exclude the vault's prefix from it"
            )
        moves = {m.get("StorageClass") for m in rule.get("Transitions") or ()}
        if moves & _ARCHIVES:
            yield (
                f"lifecycle rule {name!r} moves objects of the vault to an archive: they cannot "
                "be read until they are restored there. Exclude the vault's prefix from it"
            )


def _of_replication(reply: Mapping[str, Any], prefix: str) -> Iterator[str]:
    rules = (reply.get("ReplicationConfiguration") or {}).get("Rules", ())
    targets = {
        str((rule.get("Destination") or {}).get("Bucket", "")).rpartition(":")[2]
        for rule in rules
        if _applies(rule, prefix)
    }
    for target in sorted(targets):
        yield (
            f"the bucket is replicated to bucket {target!r} by the provider: copies lie there too, "
            "and what is erased here is not erased there by this library"
        )
