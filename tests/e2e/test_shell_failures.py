"""The command where something is wrong: exit codes, what it says, and what it leaves alone."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from tests.e2e.shell import (
    BIG,
    PASSPHRASE,
    Shell,
    back_up,
    make_source,
    make_vault,
    shell_of,
)
from tests.e2e.support import noise
from tests.rights import folder_for_all, unprivileged

import loopbackup as lb
from loopbackup.cli.main import main
from loopbackup.logs import get_logger

NO_FILE = {"LOOPBACKUP_PASSPHRASE_FILE": ""}
MB = 1 << 20


def opened_again(shell: Shell) -> lb.Vault:
    """Open the vault to change it, as its application would on another machine."""
    return lb.Vault.open(shell.vault, lb.Passphrase(PASSPHRASE), state_dir=None)


def _words(value: list[str] | str) -> str:
    """Name a case by what is typed."""
    return ascii(" ".join(value)) if isinstance(value, list) else ""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A vault, and what it was like one snapshot earlier."""
    folder = tmp_path_factory.mktemp("made")
    source = make_source(folder / "source")
    with make_vault(folder / "vault") as opened:
        back_up(opened, source)
        shutil.copytree(folder / "vault", folder / "old")
        back_up(opened, source)
    return folder / "vault", folder / "old"


@pytest.fixture
def shell(made: tuple[Path, Path], tmp_path: Path) -> Shell:
    """A copy of it, to be damaged."""
    shutil.copytree(made[0], tmp_path / "vault")
    return shell_of(tmp_path, tmp_path / "vault")


# ---- wrong use: 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--quiet"], "COMMAND"),
        (["restore!"], "no such command"),
        (["restore"], "SNAPSHOT, TARGET"),
        (["keys", "--tries=3"], "no such option: --tries"),
        (["keys", "more"], "too many arguments"),
        (["keys", "--vau", "x"], "no such option: --vau"),
        (["restore", "latest", "out", "--overwrite", "sometimes"], "--overwrite"),
        (["restore", "latest", ""], "a folder or a URL"),
        (["restore", "latest", "out", "--target-option", "x=1"], "--target-option"),
        (["find", "latest", ""], "pattern"),
        (["check", "--data", "2"], "from 0 to 1"),
        (["snapshots", "--since", "yesterday"], "a time is written 2026-11-24"),
        (["keys", "--option", "fsync"], "KEY=VALUE"),
        (["keys", "--option", "speed=9"], "--option"),
        (["keys", "--options-file", "gone"], "gone (No such file or directory)"),
        (["keys", "--options-file", "passphrase"], "no JSON"),
        (["keys", "--head", "9"], "a head is written"),
        (["keys", "--public-key", "9"], "--public-key is 64 hex digits"),
        (["keys", "--vault", "nowhere://acme"], "no driver for nowhere://"),
        (["keys", "--no-state", "--state-dir", "x"], "exclude each other"),
        (["keys", "--key-file", "k", "--passphrase-file", "p"], "exclude each other"),
        (["keys", "--passphrase-command", "echo '"], "a quote that does not end"),
        (["cat", "latest", "docs"], "not a directory"),
    ],
    ids=_words,
)
def test_what_cannot_be_asked_so_is_told_in_a_line(
    shell: Shell, words: list[str], told: str
) -> None:
    """Two, what is wrong, and how to ask."""
    assert told in shell.fails(2, "--quiet", *words).splitlines()[0]


def test_who_asks_for_nothing_is_shown_what_there_is(shell: Shell) -> None:
    """The help, as an error."""
    done = shell.run()

    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode() == shell.told("--help")


def test_a_vault_has_to_be_named(shell: Shell) -> None:
    """By the command line or by the environment."""
    assert "LOOPBACKUP_VAULT" in shell.fails(2, "keys", env={"LOOPBACKUP_VAULT": ""})


@pytest.mark.parametrize(
    "words",
    [
        ["keys", "--passphrase", "hunter2"],
        ["keys", "--passphrase=hunter2"],
        ["--passphrase", "hunter2", "keys"],
        ["keys", "--password", "hunter2"],
        ["keys", "--pass=hunter2"],
        ["keys", "--pass", "hunter2"],
        ["--pass", "hunter2", "keys"],
        ["keys", "hunter2"],
        ["keys", "--option", "hunter2"],
    ],
    ids=" ".join,
)
def test_a_passphrase_is_no_argument_and_is_not_repeated(shell: Shell, words: list[str]) -> None:
    """What stands on the command line by mistake gets no further."""
    assert "hunter2" not in shell.fails(2, *words)


def test_a_file_of_options_is_not_quoted(shell: Shell) -> None:
    """It is the place for secrets."""
    (shell.folder / "options.json").write_text('{"secret": "hunter2')
    (shell.folder / "list.json").write_text('["hunter2"]')

    assert "hunter2" not in shell.fails(2, "keys", "--options-file", "list.json")
    told = shell.fails(2, "keys", "--options-file", "options.json")
    assert "options.json" in told
    assert "hunter2" not in told


def test_latest_of_several_series_names_them(shell: Shell) -> None:
    """So that they can be pasted."""
    with opened_again(shell) as vault:
        vault.backup([lb.Item("a", data=b"1")], name="mail and more")

    told = shell.fails(2, "ls", "latest", "--quiet").splitlines()

    assert told[1:] == ["  --name app", "  --name 'mail and more'"]
    assert "context" not in told[0]


def test_an_entry_of_several_people_asks_whose(shell: Shell) -> None:
    """With the option that says it."""
    same = [lb.Item("cv", data=name.encode(), subject=name) for name in ("user-42", "user-43")]
    with opened_again(shell) as vault:
        vault.backup(same, name="same")

    assert "--subject" in shell.fails(2, "cat", "latest", "cv", "--name", "same")
    assert shell.told("cat", "latest", "cv", "--name=same", "--subject=user-43") == "user-43"


# ---- what is not there: 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["ls", "ffff"], "'loopbackup snapshots' lists"),
        (["ls", "latest", "--name", "other"], "no such snapshot"),
        (["ls", "latest", "--at", "2020-01-01"], "no such snapshot"),
        (["ls", "latest", "nowhere"], "nothing at that path: nowhere"),
        (["ls", "latest", "docs/evil\x1b[2J"], "docs/evil\\x1b[2J"),
        (["cat", "latest", "nowhere"], "'loopbackup find SNAPSHOT PATTERN'"),
        (["ls", "latest", "--subject", "44"], "nothing of that subject"),
    ],
    ids=_words,
)
def test_what_is_not_there_is_missing(shell: Shell, words: list[str], told: str) -> None:
    """One, and where to look."""
    shown = shell.fails(1, *words)

    assert told in shown
    assert "\x1b" not in shown


def test_an_empty_vault_is_no_error(shell: Shell) -> None:
    """There is nothing, and that is said."""
    with make_vault(shell.folder / "empty"):
        pass

    done = shell.run("snapshots", "--vault", "empty")

    assert (done.returncode, done.stdout) == (0, b"")
    assert b"there is no snapshot" in done.stderr


# ---- what does not open it: 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--passphrase-file", "wrong"], "opens no slot of vault"),
        (["--passphrase-file", "empty"], "the passphrase file is empty: empty"),
        (["--passphrase-file", "gone"], "gone (No such file or directory)"),
        (["--passphrase-command", "sh -c 'exit 9'"], "(exit status 9)"),
        (["--passphrase-command", "no-such-command"], "(No such file or directory)"),
        (["--passphrase-command", "true"], "printed nothing"),
        (["--key-file", "wrong"], "1 passphrase slot"),
    ],
    ids=_words,
)
def test_what_does_not_open_the_vault_is_told(shell: Shell, words: list[str], told: str) -> None:
    """Three; nothing was read, nothing is shown of it."""
    (shell.folder / "wrong").write_text("wrong")
    (shell.folder / "empty").write_text("")

    shown = shell.fails(3, "snapshots", *words, env=NO_FILE)

    assert told in shown


def test_standard_input_is_no_terminal(shell: Shell) -> None:
    """A passphrase is read from it only where that is asked for."""
    quietly = (sys.executable, "-m", "loopbackup")
    typed = f"{PASSPHRASE}\n".encode()

    told = shell.fails(3, "snapshots", env=NO_FILE, stdin=typed, command=quietly)

    assert told.startswith("loopbackup: there is no terminal to ask for the passphrase")
    assert told.count("\n") == 1


def test_a_damaged_key_file_is_told(shell: Shell) -> None:
    """With its place, which its owner may see."""
    lb.KeyFile.generate(shell.folder / "vault.key")
    with opened_again(shell) as vault:
        vault.keys.add(lb.KeyFile(shell.folder / "vault.key"))
    (shell.folder / "vault.key").write_text("loopbackup-key-1 00")

    assert "or it is damaged: vault.key" in shell.fails(3, "keys", "--key-file", "vault.key")


def test_a_key_service_that_gives_no_access_is_told(shell: Shell) -> None:
    """As its library finds none on this machine."""
    nothing = {name: "" for name in os.environ if name.startswith("AWS_")}
    nowhere = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null"}
    with opened_again(shell) as vault:
        vault.keys.add(lb.LocalKms(shell.folder / "kms"))

    told = shell.fails(3, "keys", "--aws-kms", "alias/acme", env={**nothing, **nowhere})

    assert "boto3 finds no access to AWS" in told


# ---- where nothing can be reached: 4


def test_no_vault_there_is_told_with_what_to_look_for(shell: Shell) -> None:
    """An empty folder, none at all, and one that is no vault."""
    (shell.folder / "other").mkdir()
    (shell.folder / "other/vault").write_text("notes of mine")

    for place in ("other", "gone", "passphrase"):
        assert "vault" in shell.fails(4, "snapshots", "--vault", place)
    assert "--vault URL" in shell.fails(4, "snapshots", "--vault", "gone")


def test_a_store_that_may_not_be_read_is_told(
    shell: Shell, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to look at."""
    monkeypatch.delenv("LOOPBACKUP_VAULT", raising=False)
    with folder_for_all() as folder:
        shutil.copytree(shell.vault, folder / "vault")
        shutil.copy(shell.folder / "passphrase", folder / "passphrase")
        words = ["--vault", str(folder / "vault"), "--passphrase-file", str(folder / "passphrase")]
        assert main(["snapshots", "--no-state", *words]) == 0  # All modules are loaded by now.
        (folder / "vault/vault").chmod(0)
        capsys.readouterr()

        with unprivileged():
            code = main(["snapshots", "--no-state", *words])

    assert code == 4
    assert "check the rights" in capsys.readouterr().err


def test_a_store_that_may_only_be_read_is_enough(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written but the target; and what cannot be recorded is said."""
    with folder_for_all() as folder:
        shutil.copytree(shell.vault, folder / "vault")
        shutil.copy(shell.folder / "passphrase", folder / "passphrase")
        for path in (folder / "vault").rglob("*"):
            path.chmod(0o555 if path.is_dir() else 0o444)
        (folder / "passphrase").chmod(0o444)
        (folder / "vault").chmod(0o555)
        words = ["--vault", str(folder / "vault"), "--passphrase-file", str(folder / "passphrase")]
        get_logger()  # Loads what warnings need.
        warm = [str(folder / "warm"), "--vault", str(shell.vault), *words[2:]]  # Loads all modules.
        main(["restore", "latest", *warm, "--no-state", "--record", "x"])
        capsys.readouterr()

        with unprivileged():
            target = folder / "one"
            code = main(["restore", "latest", str(target), "--no-state", *words])
            told = capsys.readouterr()
            recorded = main(
                ["restore", "latest", str(folder / "two"), "--no-state", "--record", "x", *words]
            )
        restored = (target / "users/42/cv.pdf").read_bytes()

    assert (code, recorded) == (0, 0)
    assert restored == BIG
    assert "recorded" not in told.err
    assert "the restore could not be recorded" in capsys.readouterr().err


# ---- an older or another vault: 5


def test_an_old_copy_is_refused_where_the_newer_one_is_known(
    shell: Shell, made: tuple[Path, Path]
) -> None:
    """By the memory of the machine or by a head; and it can be looked at all the same."""
    head = shell.json("snapshots")["vault"]["head"]
    shutil.rmtree(shell.vault)
    shutil.copytree(made[1], shell.vault)

    by_memory = shell.fails(5, "snapshots")
    by_head = shell.fails(5, "snapshots", "--head", head, "--no-state")
    document = shell.json("snapshots", "--no-state")

    assert "it is an old copy" in by_memory
    assert "--no-state" in by_memory
    assert "it is an old copy" in by_head
    assert len(document["snapshots"]) == 1
    assert document["vault"]["freshness"] == "unknown"


def test_another_vault_in_its_place_is_refused(shell: Shell) -> None:
    """Before the passphrase is used, unless it is named."""
    shell.told("snapshots")
    public_key = shell.json("snapshots")["vault"]["public_key"]
    shutil.rmtree(shell.vault)
    with make_vault(shell.vault) as vault:
        other = vault.public_key

    assert "--public-key HEX" in shell.fails(5, "snapshots")
    assert "--public-key" in shell.fails(5, "snapshots", "--public-key", public_key)
    shell.told("snapshots", "--public-key", other)


def test_a_new_machine_says_that_it_cannot_tell(shell: Shell) -> None:
    """Once; after that, or with a head, it can."""
    first = shell.run("snapshots")
    second = shell.run("snapshots")
    head = shell.json("snapshots")["vault"]["head"]
    given = shell.run("snapshots", "--no-state", "--head", head)

    assert b"whether this is its newest copy cannot be told" in first.stderr
    assert (second.stderr, given.stderr) == (b"", b"")


def test_a_machine_where_nothing_can_be_kept_goes_on(shell: Shell) -> None:
    """With a note; but what was asked for by name has to be there."""
    nowhere = {"XDG_STATE_HOME": "/proc/nowhere"}

    done = shell.run("snapshots", env=nowhere)

    assert done.returncode == 0
    assert b"no place for a state directory" in done.stderr
    assert "--no-state" in shell.fails(2, "snapshots", "--state-dir", "/proc/nowhere")


def test_a_memory_that_cannot_be_written_is_enough(
    shell: Shell, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty one is gone without, a filled one is used, and none is passed over."""
    get_logger()  # Loads what warnings need.
    with folder_for_all() as folder:
        for name in ("vault", "other"):
            shutil.copytree(shell.vault, folder / name)
        shutil.copy(shell.folder / "passphrase", folder / "passphrase")
        words = ["snapshots", "--passphrase-file", str(folder / "passphrase"), "--vault"]
        monkeypatch.setenv("XDG_STATE_HOME", str(folder / "filled"))
        main([*words, str(folder / "vault")])
        main([*words, str(folder / "other"), "--state-dir", str(folder / "others/loopbackup")])
        (folder / "empty/loopbackup").mkdir(parents=True)
        shutil.rmtree(folder / "others/loopbackup/places")
        for path in folder.rglob("*"):
            path.chmod(0o555 if path.is_dir() else 0o444)
        codes, told = [], []
        capsys.readouterr()

        for state in ("empty", "filled", "others"):
            monkeypatch.setenv("XDG_STATE_HOME", str(folder / state))
            with unprivileged():
                codes.append(main([*words, str(folder / "vault")]))
            told.append(capsys.readouterr().err)

    assert codes == [0, 0, 2]
    assert "no place for a state directory" in told[0]
    assert "cannot be told" not in told[1]
    assert "--no-state" in told[2]


def test_a_memory_that_cannot_be_read_is_not_passed_over(shell: Shell) -> None:
    """That would switch off what it is for."""
    shell.told("snapshots")
    (head,) = (shell.folder / "state").rglob("head")
    head.unlink()
    head.mkdir()

    told = shell.fails(2, "snapshots")

    assert "cannot be read" in told
    assert "--no-state" in told
    shell.told("snapshots", "--no-state")


# ---- a rule: 6


def test_a_restricted_subject_is_refused(shell: Shell) -> None:
    """By name; of a whole snapshot it is left out and counted."""
    with opened_again(shell) as vault:
        vault.ledger.append("restriction", {"reason": "case 17"}, subject="42")

    told = shell.fails(6, "restore", "latest", "one", "--subject", "42")
    document = shell.json("restore", "latest", "two")

    assert "restrict" in told
    assert not (shell.folder / "one").exists()
    assert document["restricted"] == 2
    assert not (shell.folder / "two/users/42").exists()


# ---- damage: 1


def _damage(vault: Path) -> None:
    """Destroy the data of the person who has most, and of nobody else."""
    biggest = max((vault / "packs").rglob("*"), key=lambda path: path.stat().st_size)
    _alter(biggest, biggest.stat().st_size // 2)


def test_damage_is_found_named_and_restored_around(shell: Shell) -> None:
    """One; which entries it costs, for people and for programs, and all others come back."""
    with opened_again(shell) as vault:
        vault.backup([lb.Item("a", data=noise(MB, "a")), lb.Item("b", data=b"b")], name="big")
    _damage(shell.vault)
    words = ("latest", "--name", "big")

    checked = shell.json("check", "--data", code=1)
    told = shell.run("check", "--data")
    restored = shell.json("restore", words[0], "out", *words[1:], code=1)
    people = shell.run("restore", words[0], "again", *words[1:])
    shown = shell.run("cat", words[0], "a", *words[1:])

    assert not checked["ok"]
    paths = {problem["raw_path"] for problem in checked["problems"]}
    assert base64.b64encode(b"a").decode() in paths
    assert told.returncode == 1
    assert b": a: " in told.stdout
    assert not restored["ok"]
    assert [problem["path"] for problem in restored["problems"]] == ["a"]
    assert (shell.folder / "out/b").read_bytes() == b"b"
    assert not (shell.folder / "out/a").exists()
    assert people.returncode == 1
    assert b"not everything could be restored: 1 problem\n  damaged: a: " in people.stderr
    assert shown.returncode == 1
    assert b"'loopbackup check --data'" in shown.stderr


def test_a_record_that_does_not_follow_ends_everything(shell: Shell) -> None:
    """Nothing is guessed past a ledger that was altered."""
    _alter(shell.vault / "ledger" / f"{1:020}", -1)

    assert "does not follow from the records before it" in shell.fails(1, "snapshots")


@pytest.mark.parametrize(("at", "told", "left"), [(40, "void", 1), (-1, "a body", 2)], ids=str)
def test_damage_that_is_met_on_the_way_is_no_success(
    shell: Shell, at: int, told: str, left: int
) -> None:
    """What can be shown is, but what is lost may be the very snapshot that is wanted."""
    _alter(max((shell.vault / "ledger").iterdir()), at)

    done = shell.run("snapshots", "--quiet", "--json")

    assert done.returncode == 1
    assert len(json.loads(done.stdout)["snapshots"]) == left
    assert f"loopbackup: error: {told}" in done.stderr.decode()


def _alter(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


def test_what_cannot_be_written_is_named(shell: Shell) -> None:
    """A file in the way of a folder costs what lies in the folder."""
    (shell.folder / "out").mkdir()
    (shell.folder / "out/docs").write_text("in the way")

    done = shell.run("restore", "latest", "out", "--json")

    document = json.loads(done.stdout)
    assert done.returncode == 1
    assert not document["ok"]
    assert {problem["path"].partition("/")[0] for problem in document["problems"]} == {"docs"}
    assert (shell.folder / "out/users/42/cv.pdf").read_bytes() == BIG
    assert (shell.folder / "out/docs").read_text() == "in the way"


def test_debug_shows_where_an_error_comes_from(shell: Shell) -> None:
    """A traceback, and then the line as ever."""
    done = shell.run("snapshots", "--vault", "gone", "--debug")

    assert done.returncode == 4
    assert b"Traceback" in done.stderr
    assert b"\nloopbackup: there is no vault at gone\n" in done.stderr
