"""Who can open a vault: adding and removing slots, and changing all keys."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from ...errors import InputError, NotFoundError
from ...terms import Action, Actor, Facts
from ..keys.credentials import Credential, Recipient, SlotParams
from ..keys.kms import Kms, as_credential
from ..keys.slots import SlotContext, SlotOwner, make_owner
from .epoch import change_epoch, keep_slots
from .session import Session

__all__ = ["run_add", "run_remove", "run_rotate"]


def _begin(session: Session, actor: Actor, **more: str) -> None:
    session.check_open()
    session.check_writable()
    session.begin(Action.KEYS, actor, Facts(actor=actor, more=more))


def run_add(session: Session, actor: Actor, key: Credential | Recipient | Kms) -> bytes:
    """
    Add a slot for *key*; give its id.

    Raises:
        InputError: It is no key, or the vault has too many slots.
        CredentialError: It cannot be read.
        PolicyError: Refused.
    """
    given = key if isinstance(key, Recipient) else as_credential(key)
    # Where nobody says where it is, the place of the key at hand is no answer.
    place = getattr(given, "place", None) or ""
    _begin(session, actor, change="add", kind=given.kind, keys_in=place)
    # A slot's owner is the same in every epoch: made once, whatever races are lost.
    added = _owner(session, given)

    def plan(ids: Sequence[bytes], owner: Callable[[bytes], SlotOwner]) -> list[SlotOwner]:
        return [*keep_slots(ids, owner), added]

    details = {"change": "add", "slot": added.id.hex(), "kind": added.kind}
    change_epoch(session, actor, slots=plan, rekey=False, details=details)
    return added.id


def _owner(session: Session, given: Credential | Recipient) -> SlotOwner:
    if isinstance(given, Recipient):
        # Nobody here has the secret that a vouch is made with.
        return SlotOwner(os.urandom(8), given.kind, SlotParams(), given.public_key_bytes, b"")
    root = session.keyring.root
    context = SlotContext(root.vault_id, session.header.authority, root.epoch, b"")
    return make_owner(given, context)


def run_remove(session: Session, actor: Actor, slot: bytes) -> None:
    """
    Remove a slot and change all keys, so that it opens nothing that is written from now on.

    Raises:
        InputError: It is the last one.
        NotFoundError: There is no such slot.
        PolicyError: Refused.
    """
    _begin(session, actor, change="remove", slot=slot.hex())

    def plan(ids: Sequence[bytes], owner: Callable[[bytes], SlotOwner]) -> list[SlotOwner]:
        if slot not in ids:
            raise NotFoundError("the vault has no slot of that id", kind="slot")
        if len(ids) == 1:
            raise InputError(
                "the last slot cannot be removed: nothing would open the vault any more. "
                "Add another key first"
            )
        return [owner(slot_id) for slot_id in ids if slot_id != slot]

    details = {"change": "remove", "slot": slot.hex()}
    change_epoch(session, actor, slots=plan, rekey=True, details=details)
    if session.slot == slot:
        session.end()


def run_rotate(session: Session, actor: Actor) -> None:
    """
    Change all keys and remove nobody.

    Raises:
        PolicyError: Refused.
    """
    _begin(session, actor, change="rotate")
    change_epoch(session, actor, rekey=True, details={"change": "rotate"})
