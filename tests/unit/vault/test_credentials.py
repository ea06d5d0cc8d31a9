"""Credentials: Argon2id as published, files and commands that fail clearly."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from loopbackup.errors import AlreadyExistsError, CredentialError, InputError
from loopbackup.vault.keys.credentials import Credential, KeyFile, Passphrase, SlotParams

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "argon2id.json").read_text("utf-8"))[
    "vectors"
]
CHEAP = SlotParams(b"s" * 16, 19 * 1024, 1, 1)


@pytest.mark.parametrize("number", range(len(VECTORS)))
def test_argon2id_is_the_published_one(number: int) -> None:
    """RFC 9106 and OpenSSL's vectors, through the call that the library uses."""
    case = VECTORS[number]
    password, salt, secret, data = (
        bytes.fromhex(case[name]) for name in ("password", "salt", "secret", "ad")
    )

    derived = Argon2id(
        salt=salt,
        length=case["length"],
        iterations=case["iterations"],
        lanes=case["lanes"],
        memory_cost=case["memory_kib"],
        ad=data or None,
        secret=secret or None,
    ).derive(password)

    assert derived.hex() == case["output"]


def test_passphrase_is_stretched_with_the_parameters_of_the_slot() -> None:
    """The seed is Argon2id of the text's UTF-8."""
    expected = Argon2id(
        salt=CHEAP.salt, length=32, iterations=1, lanes=1, memory_cost=19 * 1024
    ).derive("åäö".encode())

    assert Passphrase("åäö").seed(CHEAP) == expected


def test_two_spellings_of_one_text_are_one_passphrase() -> None:
    """Keyboards differ in how they compose letters; NFC takes that away."""
    assert Passphrase("a\u030a").seed(CHEAP) == Passphrase("\u00e5").seed(CHEAP)


@pytest.mark.parametrize(("strength", "mib"), [("default", 64), ("high", 256)])
def test_new_slots_cost_what_the_strength_says(strength: str, mib: int) -> None:
    """64 MiB by default, 256 MiB on wish, three passes, four lanes, a fresh salt."""
    secret = Passphrase("secret", strength=strength)  # type: ignore[arg-type]

    first, second = secret.new_params(), secret.new_params()

    assert (first.memory_kib, first.passes, first.lanes) == (mib * 1024, 3, 4)
    assert len(first.salt) == 16
    assert first.salt != second.salt


@pytest.mark.parametrize(
    "arguments", [{"secret": ""}, {"secret": "x", "strength": "low"}], ids=["empty", "strength"]
)
def test_passphrase_that_cannot_be_is_refused(arguments: dict[str, str]) -> None:
    """Empty text and unknown strengths are the caller's mistake."""
    with pytest.raises(InputError):
        Passphrase(**arguments)  # type: ignore[arg-type]


def test_passphrase_comes_from_where_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Environment, first line of a file, first line of a command, terminal: one secret."""
    expected = Passphrase("open sesame").seed(CHEAP)
    file = tmp_path / "secret"
    file.write_text("open sesame\nnot this\n")
    monkeypatch.setenv("ACME_VAULT", "open sesame")
    monkeypatch.setattr("getpass.getpass", lambda text: "open sesame" if text else "")

    found = [
        Passphrase.from_env("ACME_VAULT"),
        Passphrase.from_file(file),
        Passphrase.from_command(sys.executable, "-c", "print('open sesame\\nnot this')"),
        Passphrase.prompt(),
    ]

    assert [credential.seed(CHEAP) for credential in found] == [expected] * 4


def test_passphrase_that_is_not_there_is_a_credential_error(tmp_path: Path) -> None:
    """Unset, unreadable, empty or failing: the error is of one kind."""
    empty = tmp_path / "empty"
    empty.write_text("\nsecond")

    attempts: list[Callable[[], object]] = [
        lambda: Passphrase.from_env("ACME_VAULT_UNSET"),
        lambda: Passphrase.from_file(tmp_path / "none"),
        lambda: Passphrase.from_file(empty),
        lambda: Passphrase.from_command(str(tmp_path / "none")),
        lambda: Passphrase.from_command(sys.executable, "-c", "raise SystemExit(3)"),
        lambda: Passphrase.from_command(sys.executable, "-c", "pass"),
    ]

    for attempt in attempts:
        with pytest.raises(CredentialError):
            attempt()


def test_passphrase_file_is_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    """Another machine comes to the same; a line ends at LF or CRLF and at nothing else."""
    path = tmp_path / "passphrase"
    path.write_bytes("\u00f6ffne\u2028dich\x0b\r\nsecond".encode())
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    code = (
        "import sys; from loopbackup import Passphrase; from loopbackup.vault.keys.credentials "
        "import SlotParams; print(Passphrase.from_file(sys.argv[1]).seed("
        f"SlotParams({CHEAP.salt!r}, {CHEAP.memory_kib}, {CHEAP.passes}, {CHEAP.lanes})).hex())"
    )

    seed = Passphrase("\u00f6ffne\u2028dich\x0b").seed(CHEAP)
    for locale in ("C", "C.UTF-8"):
        done = subprocess.run(
            [sys.executable, "-X", "utf8=0", "-c", code, str(path)],
            env={**os.environ, "LC_ALL": locale, "PYTHONCOERCECLOCALE": "0"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == seed.hex()
    assert Passphrase.from_file(binary).seed(CHEAP) == Passphrase("\udcff\udcfe").seed(CHEAP)


def test_credentials_never_show_their_secret() -> None:
    """No repr holds what must not be in a log."""
    assert "sesame" not in repr(Passphrase("open sesame"))
    assert isinstance(Passphrase("x"), Credential)


# ---- key files


def test_key_file_is_private_and_opens_again(tmp_path: Path) -> None:
    """Written for its owner only; reading it twice gives one seed of 32 bytes."""
    path = tmp_path / "acme.key"

    made = KeyFile.generate(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert made.seed(made.new_params()) == KeyFile(path).seed(SlotParams())
    assert len(made.seed(SlotParams())) == 32


def test_key_file_is_never_overwritten(tmp_path: Path) -> None:
    """What stands there may be the only key of a vault."""
    path = tmp_path / "acme.key"
    KeyFile.generate(path)
    before = path.read_bytes()

    with pytest.raises(AlreadyExistsError):
        KeyFile.generate(path)

    assert path.read_bytes() == before


SPOILS: dict[str, Callable[[str], str]] = {
    "empty": lambda text: "",
    "cut": lambda text: text[:-3],
    "letter": lambda text: text.replace(text[20], "g", 1),
    "digit": lambda text: text[:20] + ("0" if text[20] != "0" else "1") + text[21:],
    "longer": lambda text: text + "more",
    "not ascii": lambda text: "é" + text,
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_damaged_key_file_is_told_apart_from_a_wrong_one(tmp_path: Path, spoil: str) -> None:
    """The checksum finds a mistyped digit before a vault is asked."""
    path = tmp_path / "acme.key"
    KeyFile.generate(path)
    path.write_text(SPOILS[spoil](path.read_text()), encoding="utf-8")

    with pytest.raises(CredentialError):
        KeyFile(path).seed(SlotParams())


def test_missing_key_file_is_a_credential_error(tmp_path: Path) -> None:
    """Where it should lie stands in an attribute, not in the text."""
    with pytest.raises(CredentialError) as caught:
        KeyFile(tmp_path / "none").seed(SlotParams())

    assert os.fspath(tmp_path) not in str(caught.value)
    assert caught.value.context["path"] == str(tmp_path / "none")
