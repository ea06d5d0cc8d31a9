"""
Make the golden vaults of format 1 anew, and what each must hold.

What is expected is taken from what went in, never from what a reader gives back.
Keys, ids and salts are random, so every run gives other bytes; the contents stay.
Run it while format 1 is still being made. What a release wrote is never made anew.

    python tests/compat/regenerate.py [FOLDER]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import loopbackup as lb
from loopbackup import policy
from loopbackup.testing.memory import SIZES
from loopbackup.vault.keys.credentials import Credential
from loopbackup.vault.vault import Vault
from loopbackup.vault.verbs.creation import create_vault
from loopbackup.vault.verbs.opening import open_vault

DATA = Path(__file__).parent / "data" / "v1"
PASSPHRASE = "correct horse battery staple"
ACTOR = lb.Actor("user-42", roles={"admin"}, purpose="golden vault")
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
MTIME_NS = 1_700_000_000_123_456_789
# Packs so small that a run fills several and writes an index object.
SMALL = SIZES | {"pack_size": 1 << 19}
# Pieces so small that a file of 1 MiB has more chunks than an entry can name.
TINY = SIZES | {"chunk_min": 64, "chunk_max": 64, "chunk_jump": 16}

Expected: TypeAlias = dict[str, Any]


class Clock:
    """A clock that is moved by hand and ticks at every look."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        """Give the time."""
        self.now += timedelta(milliseconds=1)
        return self.now


# What goes in.


def noise(length: int, name: str) -> bytes:
    """Make bytes that look random and are the same in every run."""
    return hashlib.shake_128(name.encode()).digest(length)


def poem(length: int) -> bytes:
    """Make text that compresses well and does not repeat itself."""
    lines: list[bytes] = []
    size = 0
    while size < length:
        lines.append(b"line %d of what Acme AB keeps about user-42\n" % len(lines))
        size += len(lines[-1])
    return b"".join(lines)[:length]


def write_tree(root: Path) -> None:
    """Write the folder of the first snapshot."""
    top = os.fsencode(root)
    files = {
        b"empty": b"",
        b"notes.txt": b"hello vault\n",
        b"notes copy.txt": b"hello vault\n",
        b"poem.txt": poem(9 << 20),
        b"deep/er/noise.bin": noise(20_000, "noise"),
        b"deep/caf\xe9.txt": b"a name in Latin-1\n",
        b"deep/line\nbreak": b"a name of two lines\n",
        b"deep.txt": b"sorts behind everything in deep\n",
        "users/user-42/r\u00e9sum\u00e9.txt".encode(): b"about user-42\n",
        b"users/user-42/photo.bin": noise(5_000, "photo"),
        b"users/user-43/photo.bin": noise(5_000, "photo"),
    }
    for name, content in files.items():
        path = os.path.join(top, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
    os.mkdir(os.path.join(top, b"void"))
    for name, target in {
        b"link": b"notes.txt",
        b"deep/up": b"../users",
        b"dangling": b"no/such/\xff",
    }.items():
        os.symlink(target, os.path.join(top, name))
    os.mkfifo(os.path.join(top, b"pipe"))
    os.link(os.path.join(top, b"notes.txt"), os.path.join(top, b"deep/notes again.txt"))
    with open(os.path.join(top, b"sparse.img"), "wb") as file:
        file.seek(3 << 20)
        file.write(noise(20_000, "sparse"))
        file.truncate(5 << 20)
    # Where the file system has no place for it, the vault has none either.
    with suppress(OSError, AttributeError):
        os.setxattr(os.path.join(top, b"poem.txt"), b"user.origin", b"Acme AB\xff")
    finish_tree(
        root,
        {
            b"empty": 0o600,
            b"notes.txt": 0o755,
            b"deep/notes again.txt": 0o755,
            b"deep/er": 0o700,
            b"void": 0o1777,
        },
    )


def change_tree(root: Path) -> None:
    """Change the folder for the second snapshot."""
    (root / "notes.txt").write_bytes(b"hello again\n")
    (root / "users/user-44").mkdir()
    (root / "users/user-44/new.txt").write_bytes(b"about user-44\n")
    shutil.rmtree(root / "deep/er")
    (root / "empty").unlink()
    finish_tree(root, {b"notes copy.txt": 0o400})


def finish_tree(root: Path, modes: dict[bytes, int]) -> None:
    """Set modes and times, whatever the umask and the clock are; each path has its own time."""
    for number, (path, found) in enumerate(walk(root)):
        full = os.path.join(os.fsencode(root), path)
        if not stat.S_ISLNK(found.st_mode):
            usual = 0o755 if stat.S_ISDIR(found.st_mode) else 0o644
            os.chmod(full, modes.get(path, usual))
        time_ns = MTIME_NS + number * 10**9
        os.utime(full, ns=(time_ns, time_ns), follow_symlinks=False)


def walk(root: Path) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yield everything below a folder, by name."""
    top = os.fsencode(root)
    for folder, folders, names in os.walk(top):
        folders.sort()
        for name in sorted(folders + names):
            path = os.path.join(folder, name)
            yield os.path.relpath(path, top), os.lstat(path)


def some_items(night: int) -> list[lb.Item]:
    """Make 40 items about 12 subjects; every third one differs from night to night."""
    items = []
    for number in range(40):
        who = number % 12
        user = f"user-{40 + who}"
        changes = night if number % 3 == 0 else 0
        # Small ones share bundles, some are empty, one has several chunks.
        length = {0: 0, 7: 600_000}.get(number, 100 + 37 * number)
        items.append(
            lb.Item(
                f"users/{user}/{number:02}.bin" if who else f"house/{number:02}.bin",
                data=noise(length, f"{number}/{changes}"),
                subject=[None, user, ("Acme AB", user), ("acme", user)][min(who, who % 3 + 1)],
                version=f"v{changes}",
                modified_at=START + timedelta(days=changes, seconds=number) if who % 4 else None,
                meta={"content-type": "application/octet-stream"} if who % 2 else {},
            )
        )
    return items


# What must come out.


def expected_tree(root: Path) -> list[Expected]:
    """Say what a snapshot of a folder must hold."""
    sorts: dict[Callable[[int], bool], str] = {
        stat.S_ISREG: "file",
        stat.S_ISDIR: "folder",
        stat.S_ISLNK: "symlink",
        stat.S_ISFIFO: "fifo",
    }
    entries = []
    for path, found in walk(root):
        kind = next(name for is_it, name in sorts.items() if is_it(found.st_mode))
        full, parts = os.path.join(os.fsencode(root), path), path.split(b"/")
        is_owned = parts[0] == b"users" and len(parts) > 1
        entry = {
            "path": path.hex(),
            "kind": kind,
            "subject": [parts[1].decode()] if is_owned else [],
            "size": found.st_size if kind == "file" else 0,
            "mode": stat.S_IMODE(found.st_mode),
            "mtime_ns": found.st_mtime_ns,
        }
        if kind == "symlink":
            entry["target"] = os.readlink(full).hex()
        if kind == "file":
            entry["sha256"] = hashlib.sha256(Path(os.fsdecode(full)).read_bytes()).hexdigest()
            with suppress(AttributeError):
                xattrs = {name: os.getxattr(full, name) for name in os.listxattr(full)}
                entry["xattrs"] = [
                    [os.fsencode(name).hex(), value.hex()] for name, value in sorted(xattrs.items())
                ]
        entries.append(entry)
    return entries


def expected_items(items: Iterable[lb.Item]) -> list[Expected]:
    """Say what a snapshot of items must hold."""
    entries = []
    for item in items:
        assert isinstance(item.data, bytes)
        subject = [item.subject] if isinstance(item.subject, str) else [*(item.subject or ())]
        at = item.modified_at
        entry = {
            "path": item.raw_path.hex(),
            "kind": "item",
            "subject": subject,
            "size": len(item.data),
            "mode": 0,
            "mtime_ns": 0 if at is None else int(at.timestamp()) * 10**9,
            "sha256": hashlib.sha256(item.data).hexdigest(),
            "version": item.version,
        }
        entries.append(entry | ({"meta": dict(item.meta)} if item.meta else {}))
    return entries


def expected_snapshot(snapshot: lb.Snapshot, entries: list[Expected]) -> Expected:
    """Say what the reader must give for a snapshot."""
    created_us = (snapshot.created_at - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)
    return {
        "id": snapshot.id,
        "name": snapshot.name,
        "created_us": created_us,
        "tags": dict(snapshot.tags),
        "entries": sorted(entries, key=lambda entry: (entry["path"], entry["subject"])),
    }


# The vaults.


@contextmanager
def new_vault(
    folder: Path,
    key: Credential,
    clock: Clock,
    sizes: dict[str, int],
    rules: policy.Policy | None = None,
) -> Iterator[Vault]:
    """Make and open a vault that waits for nothing before it deletes."""
    create_vault(
        folder,
        key,
        storage_options=None,
        location="EU",
        grace_s=0,
        single_writer=False,
        clock=clock,
        sizes=sizes,
        policy=rules,
        actor=ACTOR,
    )
    with tempfile.TemporaryDirectory() as state_dir:
        session = open_vault(
            folder,
            key,
            storage_options=None,
            actor=ACTOR,
            read_only=False,
            head=None,
            clock=clock,
            state_dir=Path(state_dir),
        )
        with Vault(session, ACTOR) as vault:
            yield vault


def make_tree(folder: Path, source: Path) -> Expected:
    """Make the vault of a folder: the usual sizes, two snapshots, keys changed between them."""
    clock, snapshots = Clock(), []
    (folder / "passphrase").write_text(PASSPHRASE + "\n")
    subjects = lb.subject_from_path("users/{subject}/**", unmatched="none")
    source.mkdir()
    with new_vault(folder / "vault", lb.Passphrase(PASSPHRASE), clock, {}) as vault:
        for night, write in enumerate((write_tree, change_tree)):
            write(source)
            tags = {"night": str(night)}
            snapshot = vault.backup(source, name="tree", subject=subjects, tags=tags)
            snapshots.append(expected_snapshot(snapshot, expected_tree(source)))
            clock.now += timedelta(days=1)
            if not night:
                vault.keys.rotate()
        return {"vault": vault.id, "head": vault.head, "policy": None, "snapshots": snapshots}


def set_marks(vault: Vault, snapshot: str) -> None:
    """Set one mark of each kind, and end those that would keep a snapshot."""
    who = ("Acme AB", "user-42")
    vault.release(vault.hold(who, reason="case 16", review_at=START), reason="closed")
    restriction = vault.ledger.append("restriction", {"reason": "contested"}, subject=who)
    lifted = {"reason": "settled", "lifts": restriction}
    vault.ledger.append("restriction", lifted, subject=who)
    overlay = {"path": "users/user-42/02.bin", "replacement": b"right", "snapshots": [snapshot]}
    vault.ledger.append("overlay", overlay, subject=who)
    vault.ledger.append("register.requests", {"kind": "rectify"}, subject=who)
    vault.ledger.append("register.processors", b"Acme AB")


def make_items(folder: Path, source: Path) -> Expected:
    """Make the vault of items: small sizes, policies, marks, three snapshots, one forgotten."""
    clock, snapshots = Clock(), []
    key = lb.KeyFile.generate(folder / "key")
    first = policy.Policy(policy.Access({}, others={"admin"}))
    second = policy.Policy(*first.rules, policy.Retention(keep_daily=2, erase_after="P7Y"))
    with new_vault(folder / "vault", key, clock, SMALL, first) as vault:
        vault.set_policy(second, reason="golden vault")
        for night in range(3):
            items = some_items(night)
            snapshot = vault.backup(items, name="items", tags={"night": str(night)})
            snapshots.append(expected_snapshot(snapshot, expected_items(items)))
            clock.now += timedelta(days=1)
        set_marks(vault, snapshots[1]["id"])
        vault.forget(snapshots.pop(1)["id"], reason="golden vault")
        vault.prune()
        vault.hold(("Acme AB", "user-42"), reason="case 17", review_at=clock.now)
        vault.hold(paths=["house/**"], reason="case 18", review_at=clock.now)
        vault.keys.remove(vault.keys.add(lb.KeyFile.generate(source.parent / "second")))
        gone = ("acme", "user-45")
        vault.ledger.append("register.requests", {"kind": "erase"}, subject=gone)
        vault.erase_subjects([gone], reason="golden vault")
        for _ in range(2):
            vault.prune()
            clock.now += timedelta(days=2)
        assert [receipt.stage for receipt in vault.receipts()] == ["completed"]
        for expected in snapshots:
            entries = [entry for entry in expected["entries"] if entry["subject"] != [*gone]]
            expected["entries"] = entries
        told = {"vault": vault.id, "head": vault.head, "policy": second.dumps()}
        return told | {"snapshots": snapshots}


def make_long(folder: Path, source: Path) -> Expected:
    """Make the vault of one file whose chunks are listed apart."""
    key = lb.KeyFile.generate(folder / "key")
    item = lb.Item("long", data=bytes(TINY["chunk_max"] * 8_192) + b"the end", subject="user-42")
    with new_vault(folder / "vault", key, Clock(), TINY) as vault:
        snapshot = vault.backup([item], name="long")
        snapshots = [expected_snapshot(snapshot, expected_items([item]))]
        return {"vault": vault.id, "head": vault.head, "policy": None, "snapshots": snapshots}


VAULTS = {"tree": make_tree, "items": make_items, "long": make_long}


def make(name: str, folder: Path) -> None:
    """Make one golden vault in a new folder, with its credential and ``expected.json``."""
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as source:
        expected = VAULTS[name](folder, Path(source) / "source")
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def main() -> None:
    """Make all of them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=DATA)
    data = parser.parse_args().folder
    for name in VAULTS:
        if (data / name).exists():
            shutil.rmtree(data / name)
        make(name, data / name)
        size = sum(path.stat().st_size for path in (data / name).rglob("*") if path.is_file())
        print(f"{name}: {size:,} bytes")


if __name__ == "__main__":
    main()
