"""What programs are given: the JSON of each command, as docs/reference/cli.md fixes it."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import loopbackup as lb

__all__ = ["check", "entry", "keys", "restored", "snapshot", "vault"]

Document = dict[str, Any]


def vault(opened: lb.Vault) -> Document:
    """Say which vault it is, and what to keep of it elsewhere."""
    return {
        "id": opened.id,
        "url": opened.url,
        "public_key": opened.public_key,
        "head": opened.head,
        "freshness": opened.freshness,
    }


def snapshot(found: lb.Snapshot) -> Document:
    """Describe a snapshot."""
    report = found.report
    return {
        "id": found.id,
        "name": found.name,
        "created_at": _time(found.created_at),
        "entries": report.files,
        "size_bytes": found.size_bytes,
        "missing": report.missing,
        "tags": dict(found.tags),
        "category": found.category,
    }


def entry(found: lb.Entry) -> Document:
    """Describe an entry; names twice, for a path need not be text."""
    path, raw_path = _path(found.raw_path)
    document: Document = {
        "path": path,
        "raw_path": raw_path,
        "type": found.type,
        "size_bytes": found.size_bytes,
        "modified_at": _time(found.modified_at),
        "subject": _subject(found.subject),
        "mode": found.mode,
        "uid": found.uid,
        "gid": found.gid,
        "user": found.user,
        "group": found.group,
    }
    if found.target is not None:
        raw = found.target.encode("utf-8", "surrogateescape")
        document["target"], document["raw_target"] = _path(raw)
    more = {
        "version": found.version,
        "meta": dict(found.meta) or None,
        "problem": found.problem,
        "overlay": found.overlay,
    }
    return document | {key: value for key, value in more.items() if value is not None}


def restored(
    report: lb.Restored, of: lb.Snapshot, target: str, *, ok: bool, dry_run: bool
) -> Document:
    """Say what a restore did, or would do."""
    shown, raw = _path(target.encode("utf-8", "surrogateescape"))
    return {
        "ok": ok,
        "dry_run": dry_run,
        "snapshot": snapshot(of),
        "target": shown,
        "raw_target": raw,
        "entries": report.files,
        "bytes_written": report.bytes_written,
        "skipped": report.skipped,
        "repaired": report.repaired,
        "restricted": report.restricted,
        "problems": _problems(report.problems),
    }


def check(report: lb.CheckReport, opened: lb.Vault, *, data: float) -> Document:
    """Say what a check found; *data* is the share that was read."""
    return {
        "ok": report.ok,
        "vault": vault(opened),
        "data": data,
        "records": report.records,
        "snapshots": report.snapshots,
        "packs": report.packs,
        "chunks": report.chunks,
        "read_bytes": report.read_bytes,
        "problems": _problems(report.problems),
    }


def keys(opened: lb.Vault) -> Document:
    """List what opens a vault."""
    current = opened.keys.current
    return {
        "vault": vault(opened),
        "keys": [
            {"id": slot.id, "kind": slot.kind, "current": slot.id == current}
            for slot in opened.keys.list()
        ],
    }


def _problems(found: Iterable[lb.Problem]) -> list[Document]:
    documents = []
    for problem in found:
        path, raw_path = (None, None) if problem.path is None else _path(problem.path)
        documents.append(
            {
                "kind": problem.kind,
                "message": problem.message,
                "path": path,
                "raw_path": raw_path,
                "object": problem.object,
                "snapshots": list(problem.snapshots),
            }
        )
    return documents


def _path(raw: bytes) -> tuple[str, str]:
    """Give a path as text, where what is none is U+FFFD, and its bytes in Base64."""
    return raw.decode("utf-8", "replace"), base64.b64encode(raw).decode()


def _subject(subject: lb.Subject | None) -> list[str] | None:
    if subject is None:
        return None
    return [subject] if isinstance(subject, str) else list(subject)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
