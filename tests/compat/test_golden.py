"""Vaults that were written once stay readable: by the library, and by its page alone."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.compat import reader, regenerate

import loopbackup as lb
from loopbackup import policy
from loopbackup.vault.format import record as rec
from loopbackup.vault.ledger.commit import Draft

HERE = Path(__file__).parent
READER = HERE / "reader.py"
Found = dict[str, Any]

names = pytest.mark.parametrize("name", sorted(regenerate.VAULTS))


def secret_of(golden: Path) -> tuple[str, Path]:
    """Find the kind and the file of a golden vault's credential."""
    if (golden / "key").exists():
        return "keyfile", golden / "key"
    return "passphrase", golden / "passphrase"


def expected_of(golden: Path) -> Found:
    """Read what a golden vault holds."""
    found: Found = json.loads((golden / "expected.json").read_bytes())
    return found


def read(golden: Path, out: Path | None = None) -> Found:
    """Run the independent reader."""
    kind, file = secret_of(golden)
    read = reader.read(golden / "vault", kind, file.read_text().splitlines()[0], out)
    # What the program would print: tuples are lists, bytes are hexadecimal.
    found: Found = json.loads(json.dumps(read, default=bytes.hex, skipkeys=True))
    return found


def open_copy(golden: Path, tmp_path: Path, actor: lb.Actor | None = regenerate.ACTOR) -> lb.Vault:
    """Open a copy of a golden vault with the library; nothing may be written to it."""
    kind, file = secret_of(golden)
    key = lb.KeyFile(file) if kind == "keyfile" else lb.Passphrase.from_file(file)
    shutil.copytree(golden / "vault", tmp_path / "copy")
    return lb.Vault.open(tmp_path / "copy", key, actor=actor, read_only=True, state_dir=None)


def only_expected(found: Found, expected: Found) -> Found:
    """Reduce what the reader says to the fields that are expected of it."""
    snapshots = []
    for snapshot, wanted in zip(found["snapshots"], expected["snapshots"], strict=True):
        entries = sorted(snapshot["entries"], key=lambda entry: (entry["path"], entry["subject"]))
        pairs = zip(entries, wanted["entries"], strict=True)
        reduced = [{field: entry.get(field) for field in fields} for entry, fields in pairs]
        snapshots.append({field: snapshot[field] for field in wanted} | {"entries": reduced})
    told = {key: found[key] for key in ("vault", "head", "policy")}
    return told | {"snapshots": snapshots}


def look(path: bytes, kind: str) -> Found:
    """Say what stands on the disk, in the words of ``expected.json``."""
    found = os.lstat(path)
    entry: Found = {"mtime_ns": found.st_mtime_ns}
    if kind not in ("item", "symlink"):
        entry["mode"] = stat.S_IMODE(found.st_mode)
    if kind == "symlink":
        entry["target"] = os.fsencode(os.readlink(path)).hex()
    if kind in ("file", "item"):
        assert stat.S_ISREG(found.st_mode)
        content = Path(os.fsdecode(path)).read_bytes()
        entry |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert kind != "folder" or stat.S_ISDIR(found.st_mode)
    assert kind != "fifo" or stat.S_ISFIFO(found.st_mode)
    return entry


def assert_restored(folder: Path, entries: list[Found]) -> None:
    """Hold a folder against what a snapshot has, with nothing more and nothing less."""
    wanted, present = {}, {}
    for entry in entries:
        path = bytes.fromhex(entry["path"])
        present[path] = look(os.path.join(os.fsencode(folder), path), entry["kind"])
        # An item without a time gets whatever time it is.
        if entry["kind"] == "item" and not entry["mtime_ns"]:
            present[path]["mtime_ns"] = 0
        wanted[path] = {field: entry[field] for field in present[path]}
    assert present == wanted
    # Folders above items are no entries.
    extra = {path for path, _ in regenerate.walk(folder)} - wanted.keys()
    assert all(any(path.startswith(above + b"/") for path in wanted) for above in extra)


@names
def test_golden_vault_is_read_by_the_page_alone(name: str, tmp_path: Path) -> None:
    """The independent reader verifies, lists and restores exactly what went in."""
    golden = regenerate.DATA / name
    expected = expected_of(golden)

    found = read(golden, tmp_path)

    assert (found["problems"], found["alarms"]) == ([], [])
    assert only_expected(found, expected) == expected
    for snapshot in expected["snapshots"]:
        assert_restored(tmp_path / snapshot["id"], snapshot["entries"])


@names
def test_golden_vault_is_read_by_the_library(name: str, tmp_path: Path) -> None:
    """The library restores exactly what an older one put in, and finds no fault."""
    golden = regenerate.DATA / name
    expected = expected_of(golden)

    with open_copy(golden, tmp_path) as vault:
        head, snapshots = vault.head, vault.snapshots()
        report = vault.check(data=True)
        for snapshot in snapshots:
            vault.restore(snapshot, tmp_path / snapshot.id)

    assert report.ok, report.problems
    assert head == expected["head"]
    assert {found.id for found in snapshots} == {wanted["id"] for wanted in expected["snapshots"]}
    for wanted in expected["snapshots"]:
        assert_restored(tmp_path / wanted["id"], wanted["entries"])


@names
def test_library_lists_a_golden_vault(name: str, tmp_path: Path) -> None:
    """Names, times, tags, subjects, versions and meta of an older vault are all there."""
    golden = regenerate.DATA / name
    expected = {wanted["id"]: wanted for wanted in expected_of(golden)["snapshots"]}

    with open_copy(golden, tmp_path) as vault:
        listed = {found.id: (found, [*found.ls(recursive=True)]) for found in vault.snapshots()}

    assert listed.keys() == expected.keys()
    for snapshot, entries in listed.values():
        wanted = expected[snapshot.id]
        reduced = regenerate.expected_snapshot(snapshot, [])
        assert reduced | {"entries": wanted["entries"]} == wanted
        assert sorted(map(shown, entries), key=repr) == sorted(
            map(meant, wanted["entries"]), key=repr
        )


def test_what_registers_say_outlives_the_erasure_of_a_golden_vault(tmp_path: Path) -> None:
    """The data of somebody are gone, and the request that they should go is not."""
    with open_copy(regenerate.DATA / "items", tmp_path) as vault:
        said = list(vault.ledger.entries(subject=("acme", "user-45")))

    assert [entry.payload for entry in said if entry.kind == "register.requests"] == [
        b'{"kind":"erase"}'
    ]


def test_policy_of_a_golden_vault_binds(tmp_path: Path) -> None:
    """What an older library wrote down is a policy to this one, and the same."""
    with open_copy(regenerate.DATA / "items", tmp_path, actor=None) as vault:
        bound = vault.policy
        assert isinstance(bound, policy.Policy)
        assert bound.dumps() == expected_of(regenerate.DATA / "items")["policy"]
        with pytest.raises(lb.PolicyError, match="role admin"):
            vault.snapshots()


def shown(entry: lb.Entry) -> Found:
    """Say what the library tells about an entry."""
    subject = [entry.subject] if isinstance(entry.subject, str) else [*(entry.subject or ())]
    told = {"path": entry.raw_path.hex(), "subject": subject, "size": entry.size_bytes}
    return told | {"mode": entry.mode, "version": entry.version, "meta": dict(entry.meta)}


def meant(entry: Found) -> Found:
    """Say what the library has to tell about an entry."""
    told = {field: entry[field] for field in ("path", "subject", "size", "mode")}
    return told | {"version": entry.get("version"), "meta": entry.get("meta") or {}}


@names
def test_vault_of_today_is_read_by_the_page_alone(name: str, tmp_path: Path) -> None:
    """What the library writes now is what the page says now."""
    regenerate.make(name, tmp_path / name)
    expected = expected_of(tmp_path / name)

    found = read(tmp_path / name)

    assert (found["problems"], found["alarms"]) == ([], [])
    assert only_expected(found, expected) == expected


def test_reader_restores_links_holes_and_attributes(tmp_path: Path) -> None:
    """What a file system adds to names and bytes comes out of the page as well."""
    regenerate.make("tree", tmp_path / "tree")
    expected = expected_of(tmp_path / "tree")

    read(tmp_path / "tree", tmp_path / "out")

    for snapshot in expected["snapshots"]:
        folder = tmp_path / "out" / snapshot["id"]
        assert os.path.samefile(folder / "notes.txt", folder / "deep/notes again.txt")
        assert os.stat(folder / "sparse.img").st_blocks * 512 < 1 << 20
        assert os.stat(folder / "sparse.img").st_size == 5 << 20
        wanted = next(e for e in snapshot["entries"] if e["path"] == b"poem.txt".hex())
        poem = os.fsencode(folder / "poem.txt")
        assert wanted["xattrs"] == [
            [name.encode().hex(), os.getxattr(poem, name).hex()] for name in os.listxattr(poem)
        ]


def test_many_entries_of_one_subject_are_read_by_the_page_alone(tmp_path: Path) -> None:
    """Streams that are so long that the snapshot's table names a list of them are read."""
    items = [
        lb.Item(f"{number:05}/" + "/".join(["x" * 240] * 6), data=b"", subject="user-42")
        for number in range(1_200)
    ]
    key = lb.KeyFile.generate(tmp_path / "key")
    clock = regenerate.Clock()
    with regenerate.new_vault(tmp_path / "vault", key, clock, regenerate.SMALL) as vault:
        snapshot = vault.backup(items, name="many")
        entries = regenerate.expected_items(items)
        snapshots = [regenerate.expected_snapshot(snapshot, entries)]
        told = {"vault": vault.id, "head": vault.head, "policy": None}
        expected = told | {"snapshots": snapshots}

    found = read(tmp_path)

    assert (found["problems"], found["alarms"]) == ([], [])
    assert only_expected(found, expected) == expected


def test_reader_is_a_program(tmp_path: Path) -> None:
    """Run as a command, the reader restores a vault and says all about it as JSON."""
    golden = regenerate.DATA / "items"
    command = [sys.executable, str(READER), str(golden / "vault")]
    command += [str(golden / "key"), str(tmp_path / "out")]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, text=True)

    expected = expected_of(golden)
    assert only_expected(json.loads(done.stdout), expected) == expected
    for snapshot in expected["snapshots"]:
        assert_restored(tmp_path / "out" / snapshot["id"], snapshot["entries"])


def test_reader_opens_nothing_with_another_key(tmp_path: Path) -> None:
    """A key file that has no slot is told apart from damage."""
    lb.KeyFile.generate(tmp_path / "key")
    secret = (tmp_path / "key").read_text()

    with pytest.raises(ValueError, match="no slot is this credential's"):
        reader.read(regenerate.DATA / "items" / "vault", "keyfile", secret)


def damaged(name: str, pattern: str, tmp_path: Path, at: int = -1) -> Path:
    """Copy a golden vault and turn one bit of its largest object of a pattern."""
    shutil.copytree(regenerate.DATA / name, tmp_path / name)
    path = max(tmp_path.glob(f"{name}/vault/{pattern}"), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    return tmp_path / name


def assert_lost(found: Found, golden: Path, lost: str) -> None:
    """Hold what was read against what went in but for one path, which is a problem each time."""
    expected = expected_of(golden)["snapshots"]
    for snapshot, wanted in zip(found["snapshots"], expected, strict=True):
        paths = sorted(entry["path"] for entry in snapshot["entries"])
        assert paths == [entry["path"] for entry in wanted["entries"] if entry["path"] != lost]
    assert len(found["problems"]) == len(expected)
    assert all("nowhere whole" in problem for problem in found["problems"])


def test_reader_restores_around_a_damaged_chunk(tmp_path: Path) -> None:
    """A chunk whose bytes were altered is reported with what it costs; all else is restored."""
    golden = damaged("items", "packs/*/*", tmp_path, at=1 << 16)

    found = read(golden, tmp_path / "out")

    assert_lost(found, golden, b"users/user-47/07.bin".hex())


def test_reader_restores_around_a_lost_pack(tmp_path: Path) -> None:
    """A pack that is gone is reported with what it costs; all else is restored."""
    shutil.copytree(regenerate.DATA / "items", tmp_path / "items")
    packs = tmp_path.glob("items/vault/packs/*/*")
    max(packs, key=lambda path: path.stat().st_size).unlink()

    found = read(tmp_path / "items")

    assert_lost(found, tmp_path / "items", b"users/user-47/07.bin".hex())


def test_reader_restores_into_new_folders_only(tmp_path: Path) -> None:
    """A folder that exists could hold links that lead elsewhere, so it is refused."""
    read(regenerate.DATA / "items", tmp_path / "out")

    with pytest.raises(FileExistsError):
        read(regenerate.DATA / "items", tmp_path / "out")


def test_reader_does_without_an_altered_body(tmp_path: Path) -> None:
    """The frame is signed: what an altered body said is lost, and everything else restores."""
    golden = damaged("tree", "ledger/*5", tmp_path)

    found = read(golden)

    assert found["alarms"] == [[5, "holds, but a body of it is lost"]]
    assert found["problems"] == []
    assert all(snapshot["entries"] for snapshot in found["snapshots"])


def test_reader_voids_the_forgetting_of_held_data(tmp_path: Path) -> None:
    """A record that forgets what is held has no effect on whoever follows the page either."""
    key = lb.KeyFile.generate(tmp_path / "key")
    with regenerate.new_vault(tmp_path / "vault", key, regenerate.Clock(), {}) as vault:
        about = [lb.Item("a", data=b"held", subject="user-42"), lb.Item("b", data=b"free")]
        snapshot = vault.backup(about, name="s")
        vault.hold("user-42", reason="case 17", review_at=regenerate.START)
        rogue = Draft("forget", rec.Forgotten([bytes.fromhex(snapshot.id)]))
        with pytest.raises(lb.ConflictError):
            vault._session.log.commit_draft(rogue)

    found = read(tmp_path)

    paths = {entry["path"] for entry in found["snapshots"][0]["entries"]}
    assert paths == {b"a".hex(), b"b".hex()}
    assert found["problems"] == []
    (alarm,) = found["alarms"]
    assert "held" in alarm[1]


def test_reader_sees_a_gap(tmp_path: Path) -> None:
    """A record behind a missing one is no part of the history, and is told."""
    shutil.copytree(regenerate.DATA / "tree", tmp_path / "tree")
    records = sorted(tmp_path.glob("tree/vault/ledger/*"))
    records[-2].unlink()

    found = read(tmp_path / "tree")

    assert found["alarms"] == [[len(records) - 1, "stands above a gap"]]
    assert found["head"].startswith(f"{len(records) - 2}:")


def test_reader_owes_nothing_to_the_library() -> None:
    """The reader imports nothing of loopbackup, stands in one file and is short."""
    text = READER.read_text()

    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])

    assert "cryptography" in imported
    assert not imported & {"", "loopbackup", "tests"}
    assert sorted(HERE.glob("reader*.py")) == [READER]
    assert len(text.splitlines()) < 520


def test_golden_vaults_stay_small() -> None:
    """All golden vaults together take less than two megabytes."""
    sizes = [path.stat().st_size for path in regenerate.DATA.rglob("*") if path.is_file()]

    assert 0 < sum(sizes) < 2_000_000
