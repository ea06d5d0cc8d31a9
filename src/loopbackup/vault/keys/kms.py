"""
Key services: a slot whose seed is wrapped by a key that never leaves the service.

:class:`LocalKms` stands in for one in tests and on a single host.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ...errors import AlreadyExistsError, CredentialError, InputError
from .credentials import NOWHERE, Credential, KeyFile, SlotParams, check_credential

__all__ = ["Kms", "KmsKey", "LocalKms", "as_credential"]

MAX_WRAPPED_BYTES: Final = 4096
_NONCE: Final = 12


@runtime_checkable
class Kms(Protocol):
    """
    A key service, for :meth:`loopbackup.Vault.create`, ``open`` and ``keys.add``.

    ``context`` is ``{"vault": hex, "slot": hex}``. What was wrapped under one
    context must not be unwrapped under another. May be called from any thread.
    A service that cannot be asked now raises ``ConnectionError`` or
    ``TimeoutError``; one that refuses, ``PermissionError``; other bytes than it
    gave, or another context, ``ValueError``.
    """

    def wrap(self, key: bytes, context: Mapping[str, str]) -> bytes:
        """Give 32 bytes wrapped, in at most 4,096."""
        ...

    def unwrap(self, blob: bytes, context: Mapping[str, str]) -> bytes:
        """Give back what was wrapped."""
        ...

    def destroy(self, context: Mapping[str, str]) -> str:
        """Make what was wrapped under *context* useless for ever; say what shows it."""
        ...


class KmsKey:
    """
    Opens a vault with a key service.

    Args:
        kms: The service. Giving it in the place of a key does the same.

    Raises:
        InputError: It is none.
    """

    kind = "kms"

    def __init__(self, kms: Kms) -> None:
        given: object = kms
        if isinstance(given, type) or not isinstance(given, Kms):
            raise InputError("a key service has wrap, unwrap and destroy")
        self._kms = kms

    @property
    def place(self) -> str | None:
        """Where the service is, as far as it tells: its ``region``."""
        found = getattr(self._kms, "region", None)
        return found if isinstance(found, str) else None

    def new_params(self, context: Mapping[str, str] = NOWHERE) -> SlotParams:
        """Choose a seed and have it wrapped for the slot that *context* names."""
        seed = os.urandom(32)
        try:
            wrapped: object = self._kms.wrap(seed, dict(context))
        except (OSError, ValueError) as exc:
            raise _translated(exc, "wrap") from exc
        if not isinstance(wrapped, bytes) or not 0 < len(wrapped) <= MAX_WRAPPED_BYTES:
            raise InputError(f"a key service gives 1 to {MAX_WRAPPED_BYTES:,} bytes")
        return SlotParams(wrapped=wrapped)

    def seed(self, params: SlotParams, context: Mapping[str, str] = NOWHERE) -> bytes:
        """Have the seed unwrapped."""
        try:
            seed: object = self._kms.unwrap(params.wrapped, dict(context))
        except (OSError, ValueError) as exc:
            raise _translated(exc, "unwrap") from exc
        if not isinstance(seed, bytes) or len(seed) != 32:
            raise CredentialError("the key service gave back something that is no key")
        return seed

    def __repr__(self) -> str:
        return f"KmsKey({self._kms!r})"


def _translated(exc: OSError | ValueError, verb: str) -> CredentialError:
    if isinstance(exc, CredentialError):
        return exc
    transient = isinstance(exc, ConnectionError | TimeoutError)
    what = "cannot be asked now; try again" if transient else "refused"
    return CredentialError(f"the key service {what} ({verb})", kind="kms", transient=transient)


def as_credential(value: Credential | Kms) -> Credential:
    """
    Give what opens slots, for a credential or a key service.

    Raises:
        InputError: It is neither.
    """
    given: object = value
    if isinstance(given, Kms) and not isinstance(given, type):
        return KmsKey(given)
    check_credential(value)
    assert isinstance(value, Credential)
    return value


class LocalKms:
    """
    A folder with one key file for each slot: a key service for tests and single hosts.

    The keys are key files, so no backup stores them. Keep the folder on another
    disk than the vault.

    Args:
        folder: Made when the first key is, readable by its owner only.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        given: object = folder
        if not isinstance(given, str | os.PathLike):
            raise InputError("the folder of a LocalKms is a path")
        self._folder = Path(folder).absolute()

    def _place(self, context: Mapping[str, str]) -> Path:
        return self._folder / f"{hashlib.sha256(_canonical(context)).hexdigest()[:32]}.key"

    def wrap(self, key: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt under the context's key, which is made if it is not there."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = self._place(context)
        with contextlib.suppress(AlreadyExistsError):
            KeyFile.generate(place)
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher(place).encrypt(nonce, key, _canonical(context))

    def unwrap(self, blob: bytes, context: Mapping[str, str]) -> bytes:
        """Decrypt; ValueError when the bytes or the context are others."""
        if not self._folder.is_dir():
            raise ConnectionError("the folder of keys is not there; is it mounted?")
        cipher = self._cipher(self._place(context))
        try:
            return cipher.decrypt(blob[:_NONCE], blob[_NONCE:], _canonical(context))
        except (InvalidTag, ValueError) as exc:
            raise ValueError("not wrapped here, or for another context") from exc

    def destroy(self, context: Mapping[str, str]) -> str:
        """Delete the context's key."""
        place = self._place(context)
        try:
            place.unlink()
        except FileNotFoundError:
            return f"local key {place.stem} was not there"
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return f"local key {place.stem} was deleted"

    @staticmethod
    def _cipher(place: Path) -> AESGCM:
        return AESGCM(KeyFile(place).seed(SlotParams()))

    def __repr__(self) -> str:
        return f"LocalKms({str(self._folder)!r})"


def _canonical(context: Mapping[str, str]) -> bytes:
    return json.dumps(dict(context), sort_keys=True, separators=(",", ":")).encode()
