"""
Read vaults of format 1, written from docs/reference/format.md alone.

Nothing of the library is imported: where the two disagree, one of them or the page
is wrong. Numbers in brackets are sections of the page. What cannot be read is
reported, the rest is restored. Owners, devices and sockets are listed, not made.

    python tests/compat/reader.py VAULT --passphrase-file FILE [--out FOLDER] [--json]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

if not __package__:  # A script has only its own folder on the path.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.compat.reader_ledger import FoldError
from tests.compat.reader_sealed import Credential, VaultError
from tests.compat.reader_vault import ENTRY_KINDS, Domain, Vault

FILE, FOLDER, SYMLINK, FIFO, ITEM = 0, 1, 2, 3, 7


def describe(domain: Domain, entry: SimpleNamespace, digest: str) -> dict[str, Any]:
    """Say what an entry is, ready for JSON; paths and targets are hexadecimal."""
    found = {"path": entry.path.hex(), "kind": ENTRY_KINDS[entry.kind], "subject": domain.label}
    found |= {"size": entry.size, "mode": entry.mode, "mtime_ns": entry.mtime_ns, "sha256": digest}
    target = None if entry.extra.target is None else entry.extra.target.hex()
    found |= {"target": target, "version": entry.extra.version, "meta": entry.extra.meta}
    return found | {"problem": entry.extra.problem}


def finish(path: bytes, entry: SimpleNamespace) -> None:
    """Make a link or pipe, and set mode and time of what stands there."""
    if entry.kind == SYMLINK:
        os.symlink(entry.extra.target, path)
    elif entry.kind == FIFO:
        os.mkfifo(path)
    if entry.kind not in (SYMLINK, ITEM):
        os.chmod(path, entry.mode)
    if entry.kind != ITEM or entry.mtime_ns:
        os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)


def restore(vault: Vault, snapshot: bytes, out: Path | None) -> tuple[list[Any], list[str]]:
    """Read a snapshot, into a folder if one is given; give its entries and what failed."""
    found: list[Any] = []
    problems: list[str] = []
    later: list[tuple[bytes, SimpleNamespace]] = []
    for domain, entry in vault.entries(snapshot):
        path, digest = os.path.join(os.fsencode(out or ""), entry.path), hashlib.sha256()
        try:
            if out:
                folder = path if entry.kind == FOLDER else os.path.dirname(path)
                os.makedirs(folder, exist_ok=True)
            has_file = out and entry.kind in (FILE, ITEM)
            with open(path if has_file else os.devnull, "xb" if has_file else "wb") as file:
                for data in vault.content(domain, entry):
                    digest.update(data)
                    file.write(data)
        except (VaultError, OSError) as problem:
            problems.append(f"{entry.path!r}: {problem}")
            continue
        found.append(describe(domain, entry, digest.hexdigest()))
        if out and entry.kind in (FILE, FOLDER, SYMLINK, FIFO, ITEM):
            later.append((path, entry))
    # Links come when nothing is written any more, so nothing is written through one.
    # Folders come last, the inner ones first: what is made in them changes their times.
    for path, entry in sorted(later, key=lambda pair: (pair[1].kind == FOLDER, -len(pair[0]))):
        try:
            finish(path, entry)
        except OSError as problem:
            problems.append(f"{entry.path!r}: {problem}")
    return found, problems


def read(folder: Path, credential: Credential, out: Path | None = None) -> dict[str, Any]:
    """Verify a vault and read all that lives in it; restore below *out* by snapshot id."""
    vault = Vault(folder, credential)
    ledger, snapshots, problems = vault.ledger, [], vault.problems
    vault.verify_packs()
    for snapshot_id in ledger.snapshots:
        try:
            body = vars(vault.snapshot(snapshot_id))
            place = out and out / snapshot_id.hex()
            if place:  # A new folder holds no link that leads out of it.
                place.mkdir(parents=True)
            entries, failed = restore(vault, snapshot_id, place)
        except VaultError as problem:
            problems.append(f"{snapshot_id.hex()}: {problem}")
            continue
        problems += [f"{snapshot_id.hex()} {text}" for text in failed]
        snapshots.append({"id": snapshot_id.hex(), **body, "entries": entries})
    audit = [[frame.index, frame.kind, vars(body)] for frame, body in vault.audit()]
    return {
        "vault": vault.vid.hex(),
        "head": f"{ledger.size}:{ledger.tree.hex()}",
        "alarms": ledger.alarms,
        "problems": problems,
        "audit": audit,
        "snapshots": snapshots,
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the command line: 0 if all is well, 1 if something could not be read."""
    parser = argparse.ArgumentParser(description="Read a vault of format 1.")
    parser.add_argument("vault", type=Path)
    credential = parser.add_mutually_exclusive_group(required=True)
    credential.add_argument("--passphrase-file", type=Path)
    credential.add_argument("--key-file", type=Path)
    parser.add_argument("--out", type=Path, help="restore below this folder")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    options = parser.parse_args(arguments)
    kind = "passphrase" if options.passphrase_file else "keyfile"
    file = options.passphrase_file or options.key_file
    secret = file.read_text("utf-8", "surrogateescape").splitlines()[0]
    try:
        found = read(options.vault, Credential(kind, secret), options.out)
    except (VaultError, FoldError, OSError) as problem:
        sys.exit(f"{options.vault}: {problem}")
    if options.json:
        print(json.dumps(found, indent=1))
        return bool(found["problems"])
    print(f"vault {found['vault']}, head {found['head']}")
    for snapshot in found["snapshots"]:
        created_at = datetime.fromtimestamp(snapshot["created_us"] / 1e6, UTC)
        number, tags = len(snapshot["entries"]), snapshot["tags"]
        print(f"{snapshot['id']} {created_at} {snapshot['name']} {tags}: {number} entries")
    for line in [*found["alarms"], *found["problems"]]:
        print(line, file=sys.stderr)
    return bool(found["problems"])


if __name__ == "__main__":
    sys.exit(main())
