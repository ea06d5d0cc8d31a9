"""The keys of a vault in the hands of a user: who can open it, from now on and no longer."""

from __future__ import annotations

import re

from ..errors import InputError
from ..terms import Action, Actor
from .keys.credentials import Credential, Recipient
from .keys.kms import Kms
from .verbs.info import SlotInfo
from .verbs.session import Session

__all__ = ["Keys"]


class Keys:
    """
    The slots of a vault, one for each credential that opens it.

    Changes write new keys, prove that they open, and commit them in one ledger
    record. Other processes that have the vault open go on with the credentials
    that they hold.
    """

    def __init__(self, session: Session, actor: Actor) -> None:
        self._session = session
        self._actor = actor

    def list(self) -> tuple[SlotInfo, ...]:
        """
        List the slots.

        Raises:
            PolicyError: Refused.
        """
        self._session.begin(Action.READ, self._actor)
        slots = self._session.log.state.slots
        return tuple(SlotInfo(slot_id.hex(), kind) for slot_id, kind, _ in slots)

    @property
    def current(self) -> str:
        """Id of the slot that the vault is open with."""
        return self._session.slot.hex()

    def add(self, key: Credential | Recipient | Kms) -> str:
        """
        Let one more key open the vault; give the id of its slot.

        It opens all that is in the vault, not only what comes. Nothing that is
        stored is written again.

        Args:
            key: A passphrase, a key file, a key service, or the public key of
                somebody else's key file.

        Raises:
            InputError: It is no key, or the vault has 64 slots.
            CredentialError: It cannot be read; ``transient`` when a key service
                cannot be asked now.
            PolicyError: Refused.

        Cost: a few small objects and one record; for a passphrase one Argon2id.
        """
        from .verbs.keys import run_add

        return run_add(self._session, self._actor, key).hex()

    def remove(self, slot_id: str) -> None:
        """
        Remove a slot, and change all keys.

        Its credential opens the vault no more. Whoever kept the keys of before
        can still read what was stored until now where he can read the store,
        and nothing that is written from now on. After the removal of
        :attr:`current` this vault has to be opened with another credential.

        Raises:
            InputError: It is the last slot, or no id.
            NotFoundError: There is no such slot.
            PolicyError: Refused.

        Cost: as :meth:`rotate`.
        """
        from .verbs.keys import run_remove

        given: object = slot_id
        if not isinstance(given, str) or not re.fullmatch(r"[0-9a-fA-F]{16}", given):
            raise InputError("slot_id is 16 hex digits, as vault.keys.list() gives them")
        run_remove(self._session, self._actor, bytes.fromhex(slot_id))

    def rotate(self) -> None:
        """
        Change all keys, for the same credentials.

        Raises:
            PolicyError: Refused.

        Cost: keyring shards are read, written and read back: 115 bytes for each
        subject, and 38 more for each time that keys were changed (a million
        subjects: 150 MB, 3 s). Data are not written again: they stay under the
        keys that they have.
        """
        from .verbs.keys import run_rotate

        run_rotate(self._session, self._actor)
