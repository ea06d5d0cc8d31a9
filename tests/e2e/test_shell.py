"""The command, in processes of its own: what it lists and restores, for people and programs."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from attrs import evolve
from tests.e2e.shell import (
    BIG,
    COMMAND,
    LATIN,
    PASSPHRASE,
    Shell,
    at_terminal,
    back_up,
    fingerprint,
    make_source,
    make_vault,
    shell_of,
)
from tests.e2e.support import Clock

import loopbackup as lb
from loopbackup import policy
from loopbackup.cli.failures import Exit
from loopbackup.cli.tables import in_order

COMMANDS = ("snapshots", "ls", "find", "cat", "restore", "check", "keys")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
NO_FILE = {"LOOPBACKUP_PASSPHRASE_FILE": ""}


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A vault with three snapshots, which no command of this module changes by one bit."""
    folder = tmp_path_factory.mktemp("shell")
    source = make_source(folder / "source")
    vault = folder / "vault"
    clock = Clock()
    with lb.Vault.create(vault, lb.Passphrase(PASSPHRASE), state_dir=None, clock=clock) as opened:
        back_up(opened, source)
        clock.pass_by(days=1)
        (source / "docs/readme.txt").write_text("second\n")
        back_up(opened, source)
        clock.pass_by(days=1)
        letter = lb.Item(
            "letter", data=b"Dear", subject=("acme", "42"), version="1", meta={"a": "b"}
        )
        opened.backup([letter], name="mail")
    before = fingerprint(vault)

    yield shell_of(folder, vault)

    assert fingerprint(vault) == before


@pytest.fixture
def shell(used: Shell, tmp_path: Path) -> Shell:
    """The vault, and a folder of the test's own."""
    return shell_of(tmp_path, used.vault)


# ---- looking


def test_snapshots_are_listed_newest_first(shell: Shell) -> None:
    """A line each, under a head; times in UTC; the same from the console script."""
    told = shell.told("snapshots")
    script = Path(sys.executable).with_name("loopbackup")

    lines = told.splitlines()
    assert lines[0].split() == ["ID", "MADE", "(UTC)", "ENTRIES", "SIZE", "NAME"]
    assert [line.split()[1:] for line in lines[1:]] == [
        ["2026-03-03", "12:00", "1", "4", "B", "mail"],
        ["2026-03-02", "12:00", "10", "300.0", "kB", "app", "env=prod"],
        ["2026-03-01", "12:00", "10", "300.0", "kB", "app", "env=prod"],
    ]
    assert shell.told("snapshots", command=(str(script),)) == told


def test_snapshots_for_programs_say_which_vault_it_is(shell: Shell) -> None:
    """One document; its head and key are those to keep, its ids those of the library."""
    document = shell.json("snapshots")

    with lb.Vault.open(shell.vault, lb.Passphrase(PASSPHRASE), read_only=True) as vault:
        assert document["vault"] == {
            "id": vault.id,
            "url": str(shell.vault),
            "public_key": vault.public_key,
            "head": vault.head,
            "freshness": "unknown",
        }
        assert [s["id"] for s in document["snapshots"]] == [s.id for s in vault.snapshots()]
    last, middle, _ = document["snapshots"]
    assert datetime.fromisoformat(last["created_at"]).astimezone(UTC).day == 3
    assert {key: middle[key] for key in middle if key not in ("id", "created_at")} == {
        "name": "app",
        "entries": 10,
        "size_bytes": len(BIG) + 2 + len("second\nlatin"),
        "missing": 0,
        "tags": {"env": "prod"},
        "category": None,
    }


@pytest.mark.parametrize(
    ("words", "days"),
    [
        (["--name", "app"], [2, 1]),
        (["--since", "2026-03-02"], [3, 2]),
        (["--until", "2026-03-02"], [2, 1]),
        (["--until", "2026-03-02 12:00"], [2, 1]),
        (["--until", "2026-03-02 12:00 UTC"], [2, 1]),
        (["--until", "2026-03-02T12:00:00Z"], [1]),
        (["--until", "2026-03-02T12:30+01:00"], [1]),
        (["--name", "other"], []),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_snapshots_are_selected_by_name_and_time(
    shell: Shell, words: list[str], days: list[int]
) -> None:
    """A date is a whole day and a minute a whole minute, as listings show times."""
    found = shell.json("snapshots", *words)["snapshots"]

    assert [datetime.fromisoformat(snapshot["created_at"]).day for snapshot in found] == days


def test_a_folder_is_listed_with_sizes_times_and_kinds(shell: Shell) -> None:
    """The top by default; folders end in a slash, links say where to."""
    top = shell.told("ls", "latest", "--name", "app").splitlines()
    docs = shell.told("ls", "latest", "docs", "--name", "app").splitlines()
    long = shell.told("ls", "-l", "latest", "users/42", "--name", "app").splitlines()

    assert [line.split()[-1] for line in top] == ["docs/", "users/"]
    assert any(line.endswith("docs/link -> readme.txt") for line in docs)
    assert any(line.split()[0] == "7" and line.endswith("docs/readme.txt") for line in docs)
    assert [line.split()[0] for line in long] == ["-rw-r--r--"]
    assert long[0].split()[2:4] == ["42", "300,000"]


def test_entries_for_programs_have_their_exact_names(shell: Shell) -> None:
    """Names that are no text come as Base64; every line is ASCII and a document of its own."""
    entries = shell.json_lines("ls", "-R", "latest", "--name", "app")

    raw = {base64.b64decode(entry["raw_path"]): entry for entry in entries}
    assert raw[LATIN]["path"] == "docs/caf\ufffd.txt"
    assert raw[b"docs/link"]["target"] == "readme.txt"
    assert base64.b64decode(raw[b"docs/link"]["raw_target"]) == b"readme.txt"
    assert raw[b"users/42/cv.pdf"]["subject"] == ["42"]
    assert raw[b"docs"]["type"] == "directory"
    assert b"docs/evil\x1b[2J\n.txt" in raw
    assert len(raw) == 10
    assert shell.told("ls", "-R", "latest", "--name", "app", "--json").isascii()


def test_an_item_for_programs_has_version_and_meta(shell: Shell) -> None:
    """What an item has of its own, and both parts of its subject."""
    (entry,) = shell.json_lines("ls", "latest", "--name", "mail")

    assert entry["type"] == "item"
    assert entry["modified_at"] is None
    assert (entry["version"], entry["meta"]) == ("1", {"a": "b"})
    assert entry["subject"] == ["acme", "42"]


def test_no_name_drives_the_terminal(shell: Shell) -> None:
    """Control characters are escaped, and bytes that are no text."""
    told = shell.told("ls", "latest", "docs", "--name", "app")

    assert "\x1b" not in told
    assert "docs/evil\\x1b[2J\\x0a.txt" in told
    assert "docs/caf\\xe9.txt" in told


@pytest.mark.parametrize("locale", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_every_name_can_be_shown_in_every_locale(
    tmp_path: Path, shell: Shell, locale: dict[str, str]
) -> None:
    """What the locale lacks is escaped, and nothing fails."""
    vault = tmp_path / "vault"
    with make_vault(vault) as opened:
        opened.backup([lb.Item("smörgås", data=b"1")], name="n")
    ascii_only = {**locale, "PYTHONIOENCODING": "ascii"}

    told = Shell(shell.folder, vault).told("ls", "latest", env=ascii_only)

    assert told.endswith("sm\\xf6rg\\xe5s\n")


def test_find_matches_as_gitignore_does(shell: Shell) -> None:
    """Everywhere by name, or from the top; nothing found is no success."""
    found = shell.told("find", "latest", "cv.pdf", "--name", "app").splitlines()
    one = shell.json_lines("find", "latest", "/users/42/*", "--name", "app")
    none = shell.run("find", "latest", "*.doc", "--name", "app")

    assert [line.split()[-1] for line in found] == ["users/42/cv.pdf", "users/43/cv.pdf"]
    assert [entry["path"] for entry in one] == ["users/42/cv.pdf"]
    assert (none.returncode, none.stdout) == (1, b"")
    assert b"nothing in the snapshot matches" in none.stderr


def test_people_get_entries_by_path(tmp_path: Path, shell: Shell) -> None:
    """Whoever they are about, and folders before what comes after them."""
    paths = ["b/2", "a", "b/1", "b-", "c"]
    letters = [lb.Item(path, data=b"1", subject=f"user-{n}") for n, path in enumerate(paths)]
    vault = tmp_path / "vault"
    with make_vault(vault) as opened:
        opened.backup(letters, name="n")

    told = Shell(shell.folder, vault).told("find", "latest", "*").splitlines()

    assert [line.split()[-1] for line in told] == ["a", "b/1", "b/2", "b-", "c"]


def test_more_entries_than_people_read_come_as_they_are_found(used: Shell) -> None:
    """All of them, and without keeping them."""
    with lb.Vault.open(used.vault, lb.Passphrase(PASSPHRASE), read_only=True) as vault:
        (entry,) = vault.snapshot(name="mail").ls()
    found = [evolve(entry, raw_path=b"%d" % number) for number in (2, 1, *range(3, 10_100))]

    assert list(in_order(iter(found))) == found
    assert list(in_order(iter(found[:2]))) == found[1::-1]


def test_a_subject_selects_and_its_two_parts_have_two_options(shell: Shell) -> None:
    """What an option holds is never split."""
    mine = shell.json_lines("find", "latest", "*", "--name", "app", "--subject", "43")
    person = shell.told("cat", "latest", "letter", "--name=mail", "--tenant=acme", "--subject=42")
    stranger = ("cat", "latest", "letter", "--name", "mail", "--subject", "acme/42")

    assert {entry["path"] for entry in mine} == {"users/43", "users/43/cv.pdf"}
    assert person == "Dear"
    assert "nothing of that subject" in shell.fails(1, *stranger)


def test_cat_writes_exactly_the_content(shell: Shell) -> None:
    """Also of a name that is no text, given as its bytes; and of an old snapshot."""
    shown = shell.run("cat", "latest", "users/42/cv.pdf", "--name", "app").stdout
    latin = shell.run("cat", "latest", LATIN, "--name", "app").stdout
    old = shell.told("cat", "latest", "docs/readme.txt", "--name", "app", "--at", "2026-03-01")
    first = shell.json("snapshots", "--name", "app")["snapshots"][-1]["id"]

    assert shown == BIG
    assert latin == b"latin"
    assert old == "first\n"
    assert shell.told("cat", first[:6], "/docs/readme.txt") == "first\n"


def test_keys_are_listed_and_nothing_secret_of_them(tmp_path: Path, shell: Shell) -> None:
    """Id and kind, and which one opened this."""
    vault = tmp_path / "vault"
    key_file = lb.KeyFile.generate(tmp_path / "vault.key")
    with make_vault(vault) as opened:
        slot = opened.keys.add(key_file)
    mine = Shell(shell.folder, vault)

    told = mine.told("keys", "--key-file", "vault.key")
    document = mine.json("keys")

    assert f"{slot}  keyfile  (opened this)" in told.splitlines()
    assert [key["kind"] for key in document["keys"]] == ["passphrase", "keyfile"]
    assert [key["current"] for key in document["keys"]] == [True, False]
    assert set(document["keys"][0]) == {"id", "kind", "current"}


@pytest.mark.parametrize(
    ("words", "share"), [([], 0.0), (["--data"], 1.0), (["--data", "0.5"], 0.5)], ids=str
)
def test_check_says_that_all_is_well(shell: Shell, words: list[str], share: float) -> None:
    """Zero, and how much was read."""
    document = shell.json("check", *words)

    assert (document["ok"], document["problems"], document["snapshots"]) == (True, [], 3)
    assert document["data"] == share
    assert (document["read_bytes"] > len(BIG)) == (share == 1.0) or share == 0.5
    assert shell.told("check", *words).startswith("all well: ")


# ---- restoring


def test_a_restore_brings_the_tree_back(shell: Shell) -> None:
    """Content, links and exact names; what stands there stays, and is told."""
    told = shell.told("restore", "latest", "out", "--name", "app")
    again = shell.run("restore", "latest", "out", "--name", "app")

    out = shell.folder / "out"
    assert told == "10 entries, 300.0 kB, restored to out\n"
    assert (out / "users/42/cv.pdf").read_bytes() == BIG
    assert (out / "docs/readme.txt").read_text() == "second\n"
    assert (out / "docs/link").readlink() == Path("readme.txt")
    assert LATIN.split(b"/")[1] in os.listdir(os.fsencode(out / "docs"))
    assert again.stdout == b"0 entries, 0 B, restored to out; 10 left as they were\n"
    assert b"see --overwrite" in again.stderr


def test_a_restore_for_programs_counts_what_it_did(shell: Shell) -> None:
    """The whole report, whatever was selected."""
    selected = ("--name", "app", "--include", "*.txt", "--exclude", "evil*")
    document = shell.json("restore", "latest", "out", *selected)

    assert document["ok"]
    assert document["snapshot"]["name"] == "app"
    assert document["target"] == "out"
    counts = {key: document[key] for key in ("entries", "bytes_written", "skipped", "repaired")}
    assert counts == {"entries": 2, "bytes_written": 12, "skipped": 0, "repaired": 0}
    assert (document["restricted"], document["problems"]) == (0, [])


def test_a_dry_run_writes_nothing(shell: Shell) -> None:
    """It says what would be done."""
    told = shell.told("restore", "latest", "out", "--name", "app", "--dry-run")

    assert told == "10 entries, 300.0 kB, would be restored to out\n"
    assert not (shell.folder / "out").exists()


@pytest.mark.parametrize(
    ("overwrite", "expected"), [("never", "mine"), ("changed", "second\n"), ("always", "second\n")]
)
def test_a_restore_overwrites_only_when_told(shell: Shell, overwrite: str, expected: str) -> None:
    """Somebody may have gone on working there."""
    (shell.folder / "out/docs").mkdir(parents=True)
    (shell.folder / "out/docs/readme.txt").write_text("mine")

    shell.told("restore", "latest", "out", "--name", "app", "--overwrite", overwrite)

    assert (shell.folder / "out/docs/readme.txt").read_text() == expected


def test_a_restore_of_nothing_is_no_success(shell: Shell) -> None:
    """A slip in a pattern must not look like a restore."""
    done = shell.run("restore", "latest", "out", "--name", "app", "--include", "user/**", "--json")

    assert done.returncode == 1
    assert json.loads(done.stdout)["ok"] is False
    assert b"nothing in the snapshot matches" in done.stderr


def test_a_restore_goes_to_an_archive_too(shell: Shell) -> None:
    """Any URL that the library restores to; with its options."""
    target = f"zip://::file://{shell.folder}/out.zip"
    options = shell.folder / "target.json"
    options.write_text('{"zip": {"mode": "w"}}')
    words = ("--name", "mail", "--target-options-file", "target.json")

    told = shell.told("restore", "latest", target, *words)

    assert told.startswith("1 entry, 4 B, restored to zip://")


# ---- what it may and may not do to the vault


def test_a_restore_is_recorded_where_that_is_asked_for(tmp_path: Path, shell: Shell) -> None:
    """Who, and why, stand in the ledger; without --record nothing was written."""
    vault = tmp_path / "vault"
    with make_vault(vault) as opened:
        opened.backup([lb.Item("a", data=b"1")], name="n")
    mine = Shell(shell.folder, vault)
    before = fingerprint(vault)
    mine.told("restore", "latest", "one")
    assert fingerprint(vault) == before

    mine.told("restore", "latest", "two", "--record", "incident 88")
    mine.told("ls", "latest", "--record", "incident 88")

    with lb.Vault.open(vault, lb.Passphrase(PASSPHRASE), state_dir=None) as opened:
        *_, restored, read = opened.ledger.entries()
    assert (restored.kind, read.kind) == ("restore", "read")
    assert restored.actor == read.actor
    assert restored.actor
    assert restored.purpose == read.purpose == "incident 88"


def test_policy_is_asked_unless_the_glass_is_broken(tmp_path: Path, shell: Shell) -> None:
    """The command has no role; what is overridden stands in the ledger with --record."""
    vault = tmp_path / "vault"
    rules = policy.Policy(policy.Access({}, others={"job"}))
    job = lb.Actor("svc-backup", roles={"job"})
    key = lb.Passphrase(PASSPHRASE)
    with lb.Vault.create(vault, key, policy=rules, actor=job, state_dir=None) as opened:
        opened.backup([lb.Item("a", data=b"1")], name="n")
    mine = Shell(shell.folder, vault)

    refused = mine.run("restore", "latest", "one")
    mine.told("restore", "latest", "two", "--override", "incident 88")
    mine.told("restore", "latest", "three", "--override", "incident 88", "--record", "incident 88")

    assert refused.returncode != 0
    assert "the actor has no role" in str(refused.stderr)
    assert (shell.folder / "two" / "a").read_bytes() == b"1"
    with lb.Vault.open(vault, key, actor=job, state_dir=None) as opened:
        kinds = [entry.kind for entry in opened.ledger.entries()]
    assert kinds == ["created", "snapshot", "override", "restore"]


# ---- ways in


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\nsecond line\n"], ids=repr)
def test_the_first_line_of_a_file_is_the_passphrase(shell: Shell, end: str) -> None:
    """With or without a line end, however editors leave it."""
    (shell.folder / "mine").write_bytes((PASSPHRASE + end).encode())

    shell.told("keys", "--passphrase-file", "mine", env=NO_FILE)


def test_a_passphrase_comes_from_standard_input_a_command_or_the_environment(shell: Shell) -> None:
    """Whatever is given on the command line comes before the environment."""
    printed = f"printf '%s\\n' '{PASSPHRASE}'"
    typed = f"{PASSPHRASE}\n".encode()
    wrong = {"LOOPBACKUP_PASSPHRASE_FILE": "/dev/null"}

    shell.told("keys", "--passphrase-file", "-", env=wrong, stdin=typed)
    shell.told("keys", "--passphrase-command", printed, env=wrong)
    shell.told("keys", env={"LOOPBACKUP_PASSPHRASE_FILE": "passphrase"})


def test_options_may_stand_before_the_command_or_after_it(shell: Shell) -> None:
    """All of them, and those that add up do."""
    (shell.folder / "options.json").write_text('{"fsync": true}')
    away = {"LOOPBACKUP_VAULT": "/nowhere"}
    before = ("--vault", str(shell.vault), "--option", "fsync=false", "--quiet")

    told = shell.run(*before, "keys", "--options-file", "options.json", env=away)
    wrong = shell.fails(2, "--option", "no=1", "keys", "--option", "fsync=true")

    assert (told.returncode, told.stderr) == (0, b"")
    assert "'no'" in wrong


def test_a_key_file_and_a_key_service_open_it(tmp_path: Path, shell: Shell) -> None:
    """Whatever opens a vault in the library does here."""
    vault = tmp_path / "vault"
    with make_vault(vault, lb.KeyFile.generate(tmp_path / "vault.key")) as opened:
        opened.keys.add(lb.LocalKms(tmp_path / "kms"))
    mine = Shell(shell.folder, vault)

    assert mine.json("keys", "--key-file", "vault.key")["keys"][0]["current"]
    assert mine.json("keys", "--local-kms", "kms")["keys"][1]["current"]


def test_a_recipient_says_which_vault_he_means(tmp_path: Path, shell: Shell) -> None:
    """His slot was made by somebody else: on a new machine the vault's key has to be given."""
    vault = tmp_path / "vault"
    theirs = lb.KeyFile.generate(tmp_path / "theirs.key")
    with make_vault(vault) as opened:
        opened.keys.add(lb.Recipient(theirs.public_key))
        public_key = opened.public_key
    mine = Shell(shell.folder, vault)

    told = mine.fails(5, "keys", "--key-file", "theirs.key")
    document = mine.json("keys", "--key-file", "theirs.key", "--public-key", public_key)

    assert "--public-key HEX" in told
    assert document["keys"][1]["current"]


def test_a_person_is_asked_at_the_terminal(shell: Shell) -> None:
    """Three times; nothing that is typed is shown, and only the result is on standard output."""
    with at_terminal(shell, "snapshots", "--json", env=NO_FILE) as terminal:
        terminal.wait_for(b"Passphrase of the vault: ")
        terminal.type(b"wrong one\n")
        terminal.wait_for(b"that is not the passphrase; try again")
        terminal.wait_for(b"Passphrase of the vault: ")
        terminal.type(PASSPHRASE.encode() + b"\n")
        code, result, screen = terminal.end()

    assert code == 0
    assert len(json.loads(result)["snapshots"]) == 3
    assert b"goat" not in screen


@pytest.mark.parametrize(
    ("typed", "times", "told"),
    [
        (b"wrong\n", 3, b"opens no slot"),
        (b"\n", 1, b"no passphrase was typed"),
        (b"\x04", 1, b"no passphrase was typed"),
    ],
    ids=["wrong", "empty", "end-of-file"],
)
def test_who_does_not_know_the_passphrase_is_told(
    shell: Shell, typed: bytes, times: int, told: bytes
) -> None:
    """After the third wrong one, or at once where nothing is typed."""
    with at_terminal(shell, "snapshots", env=NO_FILE) as terminal:
        for _ in range(times):
            terminal.wait_for(b"Passphrase of the vault: ")
            terminal.type(typed)
        code, result, screen = terminal.end()

    assert (code, result) == (3, b"")
    assert told in screen


def test_nobody_is_asked_before_there_is_a_vault(shell: Shell) -> None:
    """What cannot help is not asked for."""
    with at_terminal(shell, "snapshots", "--vault", "nowhere", env=NO_FILE) as terminal:
        code, _, screen = terminal.end()

    assert code == 4
    assert b"Passphrase" not in screen
    assert b"there is no vault at nowhere" in screen


def test_progress_is_for_terminals(shell: Shell) -> None:
    """And not for those that are to be quiet."""
    with at_terminal(shell, "restore", "latest", "one", "--name", "app", env={}) as terminal:
        code, result, screen = terminal.end()
    with at_terminal(shell, "restore", "latest", "one", "--name", "app", env={}) as terminal:
        _, _, again = terminal.end()
    with at_terminal(shell, "restore", "latest", "two", "--name=app", "-q", env={}) as terminal:
        _, _, quiet = terminal.end()
    away = shell.run("restore", "latest", "three", "--name", "app", env={})

    assert code == 0
    assert b"restore: 10 of 10 entries" in screen
    assert b"restore: 10 of 10 entries" in again
    assert result == b"10 entries, 300.0 kB, restored to one\n"
    assert quiet == b""
    assert away.stderr == b""


# ---- help


def test_help_is_quick_and_loads_nothing_that_it_does_not_need() -> None:
    """Neither ciphers nor anything else that a vault needs."""
    code = "import sys; from loopbackup.cli.main import main\ntry: main(['--help'])\nfinally: "
    listed = subprocess.run(
        [sys.executable, "-c", code + "print(*sys.modules, file=sys.stderr)"],
        capture_output=True,
        check=True,
    )
    loaded = {name.partition(".")[0] for name in listed.stderr.decode().split()}

    heavy = {"attr", "blake3", "cryptography", "fsspec", "msgspec", "pathspec", "structlog"}
    assert not loaded & heavy
    assert "argparse" in loaded


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_how_it_is_used(shell: Shell, command: str) -> None:
    """And the overview names it."""
    told = shell.told(command, "--help")

    assert told.startswith(f"usage: loopbackup {command} ")
    assert "--passphrase-file" in told
    assert "--passphrase " not in told
    assert f"\n  {command} " in shell.told("--help")


def test_the_version_is_that_of_the_library(shell: Shell) -> None:
    """As its package says."""
    from importlib.metadata import version

    assert shell.told("--version") == f"loopbackup {version('loopbackup')}\n"
    assert COMMAND[-1] == "loopbackup"


def test_every_option_and_exit_code_stands_in_the_reference(shell: Shell) -> None:
    """And the reference names none that there is not."""
    page = (Path(__file__).parents[2] / "docs/reference/cli.md").read_text("utf-8")
    helps = "".join(shell.told(command, "--help") for command in COMMANDS)

    assert set(OPTION.findall(page)) == set(OPTION.findall(helps)) - {"--help"}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)} == set(Exit)
