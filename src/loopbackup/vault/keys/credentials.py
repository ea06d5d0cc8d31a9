"""
What opens a vault: a passphrase or a key file.

Each gives a 32-byte seed of an X25519+ML-KEM-768 key pair, so that a slot can
be moved to another epoch knowing its public key alone.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import subprocess
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal, Protocol, Self, runtime_checkable

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from msgspec import Meta, Struct

from ...errors import AlreadyExistsError, CredentialError, DamagedData, InputError

__all__ = [
    "KEYFILE_BYTES",
    "Credential",
    "KeyFile",
    "Passphrase",
    "Recipient",
    "SlotParams",
    "check_credential",
    "holds_key",
]


NOWHERE: Final[Mapping[str, str]] = MappingProxyType({})
"""The context of credentials that need none."""


class SlotParams(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """
    What a credential needs to find its seed again; stands in clear in the slot.

    The Argon2id parameters are bounded, so that a hostile slot cannot ask for
    more than 1 GiB.
    """

    salt: Annotated[bytes, Meta(max_length=64)] = b""
    memory_kib: Annotated[int, Meta(ge=0, le=1 << 20)] = 0
    passes: Annotated[int, Meta(ge=0, le=16)] = 0
    lanes: Annotated[int, Meta(ge=0, le=16)] = 0
    wrapped: Annotated[bytes, Meta(max_length=4096)] = b""
    """The seed, as a key service has wrapped it."""


@runtime_checkable
class Credential(Protocol):
    """Something that opens a slot."""

    @property
    def kind(self) -> str:
        """Which slots it may open: ``passphrase``, ``keyfile`` or ``kms``."""
        ...

    def new_params(self, context: Mapping[str, str] = NOWHERE) -> SlotParams:
        """Choose parameters for a new slot; *context* names it, as for :meth:`seed`."""
        ...

    def seed(self, params: SlotParams, context: Mapping[str, str] = NOWHERE) -> bytes:
        """
        Give the 32-byte seed for a slot with *params*.

        Args:
            context: ``vault`` and ``slot``, in hex; key services bind to them.

        Raises:
            CredentialError: It cannot be read, or is not for this slot.
        """
        ...


def check_credential(value: object) -> None:
    """
    Refuse what opens no slot; never shows it, for it may be the secret itself.

    Raises:
        InputError: It is no credential.
    """
    if isinstance(value, str | bytes):
        raise InputError(
            "a key is a credential, not bare text: Passphrase(...) or KeyFile(path)", kind="key"
        )
    if isinstance(value, Recipient):
        raise InputError(
            "a Recipient opens nothing, for it holds no secret: open with the key file whose "
            "public key it is",
            kind="key",
        )
    if isinstance(value, type) or not isinstance(value, Credential):
        raise InputError(
            f"a key is a Passphrase, a KeyFile or a Kms, not {type(value).__name__}", kind="key"
        )


class Passphrase:
    """
    A secret that people type or a machine keeps.

    Args:
        secret: At least one character; compared after Unicode NFC.
        strength: ``"default"`` costs 64 MiB and about 0.1 s a try (RFC 9106,
            second recommended option), ``"high"`` 256 MiB and about 0.4 s.
            It holds for slots made with it; opening follows the slot.

    Raises:
        InputError: The secret is empty, or no text.
    """

    kind = "passphrase"

    def __init__(self, secret: str, *, strength: Literal["default", "high"] = "default") -> None:
        if not isinstance(secret, str):
            raise InputError(f"a passphrase is text, not {type(secret).__name__}")
        if not secret:
            raise InputError("a passphrase cannot be empty")
        if strength not in ("default", "high"):
            raise InputError('strength is "default" or "high"')
        try:
            self._secret = unicodedata.normalize("NFC", secret).encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            # Without the cause, which holds the secret.
            raise InputError("a passphrase contains surrogates, which are no text") from None
        self._memory_kib = (64 if strength == "default" else 256) * 1024
        self._paths: tuple[Path, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file that it was read from, if any: no backup stores that."""
        return self._paths

    @classmethod
    def from_env(cls, name: str) -> Self:
        """Read it from an environment variable."""
        try:
            secret = os.environ.get(name)
        except (TypeError, ValueError):
            raise InputError("the name of an environment variable is text") from None
        if not secret:
            raise CredentialError(f"the environment variable {name:.100} is not set or empty")
        return cls(secret)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Read it from the first line of a file, as UTF-8 whatever the locale."""
        path = _path_of(path)
        try:
            secret = _first_line(path.read_bytes())
        except (OSError, ValueError) as exc:
            raise CredentialError("the passphrase file cannot be read", path=str(path)) from exc
        if not secret:
            raise CredentialError("the passphrase file is empty", path=str(path))
        made = cls(secret)
        made._paths = (path.absolute(),)
        return made

    @classmethod
    def from_command(cls, *argv: str) -> Self:
        """Run a command, such as a password manager's, and take its first line."""
        if not argv:
            raise InputError("from_command needs a command")
        try:
            done = subprocess.run(  # noqa: S603 - the host names the command; no shell
                argv, stdout=subprocess.PIPE, check=True
            )
        except (OSError, subprocess.CalledProcessError) as exc:
            raise CredentialError("the passphrase command failed") from exc
        secret = _first_line(done.stdout)
        if not secret:
            raise CredentialError("the passphrase command printed nothing")
        return cls(secret)

    @classmethod
    def prompt(cls, text: str = "Passphrase of the vault: ") -> Self:
        """Ask the person at the terminal."""
        return cls(getpass.getpass(text))

    def new_params(self, context: Mapping[str, str] = NOWHERE) -> SlotParams:
        """Choose a fresh salt."""
        return SlotParams(os.urandom(16), self._memory_kib, 3, 4)

    def seed(self, params: SlotParams, context: Mapping[str, str] = NOWHERE) -> bytes:
        """Stretch the secret with Argon2id (RFC 9106)."""
        weak = len(params.salt) < 16 or params.memory_kib < 19 * 1024
        if weak or params.passes < 1 or params.lanes < 1:
            raise DamagedData("a passphrase slot asks for parameters that are too weak")
        return Argon2id(
            salt=params.salt,
            length=32,
            iterations=params.passes,
            lanes=params.lanes,
            memory_cost=params.memory_kib,
        ).derive(self._secret)

    def __repr__(self) -> str:
        return "Passphrase(...)"


def _path_of(path: str | os.PathLike[str]) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(f"the path of a file is text or a Path, not {type(path).__name__}")
    return Path(path)


_MAGIC = b"loopbackup-key-1 "


def _first_line(data: bytes) -> str:
    """Decode up to the first line end; other machines must come to the same characters."""
    line = data.partition(b"\n")[0].removesuffix(b"\r")
    return line.decode("utf-8", "surrogateescape")


_KEYFILE = re.compile(r"loopbackup-key-1 ([0-9a-f]{64}) ([0-9a-f]{8})\s*")
KEYFILE_BYTES = 1024
"""No more of a key file is looked at."""


class KeyFile:
    """
    A file that holds 32 random bytes. Whoever can read it can open the vault.

    Args:
        path: Where it lies; it is read when a vault is opened.
    """

    kind = "keyfile"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = _path_of(path)
        # It may be read again much later, when the process has gone elsewhere.
        self._at = self.path.absolute()

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file itself: no backup stores it."""
        return (self._at,)

    @classmethod
    def generate(cls, path: str | os.PathLike[str]) -> Self:
        """
        Write a new key file, readable by its owner only.

        Raises:
            AlreadyExistsError: Something stands there; it is left alone.
            InputError: No file can be made there.
        """
        path = _path_of(path)
        key = os.urandom(32).hex()
        text = f"loopbackup-key-1 {key} {_checksum(key)}\n"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise AlreadyExistsError("the key file exists already", path=str(path)) from None
        except (OSError, ValueError) as exc:
            reason = os.strerror(exc.errno or 0) if isinstance(exc, OSError) else "no path"
            raise InputError(f"no key file can be made there: {reason}", path=str(path)) from exc
        with os.fdopen(fd, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # Without this a power cut could leave the vault and take its only key.
        folder = os.open(Path(path).resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return cls(path)

    def new_params(self, context: Mapping[str, str] = NOWHERE) -> SlotParams:
        """Choose nothing: the file is random enough."""
        return SlotParams()

    def seed(self, params: SlotParams, context: Mapping[str, str] = NOWHERE) -> bytes:
        """Read the file."""
        try:
            with open(self._at, encoding="ascii") as file:
                match = _KEYFILE.fullmatch(file.read(KEYFILE_BYTES))
        except (OSError, ValueError) as exc:
            raise CredentialError("the key file cannot be read", path=str(self.path)) from exc
        if match is None or _checksum(match[1]) != match[2]:
            raise CredentialError("this is no key file, or it is damaged", path=str(self.path))
        return bytes.fromhex(match[1])

    @property
    def public_key(self) -> str:
        """
        What others need to let this file open their vault, as text for :class:`Recipient`.

        It is no secret. Raises CredentialError when the file cannot be read.
        """
        from .keypair import encode_public_key, public_key_of

        return encode_public_key(public_key_of(self.seed(SlotParams())))

    def __repr__(self) -> str:
        return f"KeyFile({str(self.path)!r})"


class Recipient:
    """
    Whoever holds the key file of a public key; for ``vault.keys.add`` only.

    Args:
        public_key: As :attr:`KeyFile.public_key` gives it: ``lbkpub1...``.

    Raises:
        InputError: It is none, or was changed on its way.
    """

    kind = "recipient"

    def __init__(self, public_key: str) -> None:
        from .keypair import decode_public_key, encode_public_key

        self.public_key_bytes = decode_public_key(public_key)
        self.public_key = encode_public_key(self.public_key_bytes)

    def __repr__(self) -> str:
        return f"Recipient('{self.public_key[:15]}...')"


def holds_key(content: bytes | memoryview) -> bool:
    """Tell whether a file that begins with *content* would be taken for a key file."""
    if content[: len(_MAGIC)] != _MAGIC:
        return False
    text = bytes(content[:KEYFILE_BYTES]).decode("ascii", "replace")
    match = _KEYFILE.fullmatch(text)
    return match is not None and _checksum(match[1]) == match[2]


class Seed:
    """A raw 32-byte seed, for tests of hosts: no key stretching, no file."""

    kind = "keyfile"

    def __init__(self, seed: bytes) -> None:
        self._seed = seed

    def new_params(self, context: Mapping[str, str] = NOWHERE) -> SlotParams:
        """Choose nothing."""
        return SlotParams()

    def seed(self, params: SlotParams, context: Mapping[str, str] = NOWHERE) -> bytes:
        """Give the seed."""
        return self._seed

    def __repr__(self) -> str:
        return "Seed(...)"


def _checksum(key: str) -> str:
    return hashlib.sha256(b"loopbackup-key-1 " + key.encode()).hexdigest()[:8]
