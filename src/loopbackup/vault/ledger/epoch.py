"""A change of epoch: when its record holds, and what the log asks of whoever holds the keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ..format import record as rec
from ..keys.root import KeyState
from .values import epoch_short

__all__ = ["EpochState", "FollowsEpochs", "why_void"]


class EpochState(Protocol):
    """What the fold knows that such a record is held against."""

    vault_id: bytes
    authority: bytes
    epoch: bytes

    @property
    def writers(self) -> Mapping[bytes, rec.Certificate]:
        """Who may sign, by writer id."""
        ...

    @property
    def shards(self) -> Mapping[int, bytes]:
        """Number -> hash of the current shard objects."""
        ...

    @property
    def condemned(self) -> Mapping[bytes, tuple[int, int]]:
        """Short names that nothing may name any more."""
        ...


class FollowsEpochs(Protocol):
    """Whoever holds the keys of the epoch that was current when it last looked."""

    @property
    def epoch(self) -> bytes:
        """Name of that epoch."""
        ...

    def follow(self, state: KeyState) -> None:
        """
        Take up the keys of *state*'s epoch.

        Raises:
            CredentialError: The credential at hand has no slot any more.
            DamagedData: A key object is missing or altered, or the epoch was
                replaced in its turn.
        """
        ...


def why_void(state: EpochState, facts: rec.EpochChanged) -> str | None:
    """
    Say why an epoch record has no effect on *state*; None if it holds.

    That it is built on the current epoch and root its frame says, as every
    record's does; here every shard that it replaces has to be current.
    """
    house = facts.house
    if not rec.verify_certificate(house, vault_id=state.vault_id, authority=state.authority):
        return "the authority did not sign the certificate of the new house key"
    if house.writer in state.writers:
        return "its house key has the id of a writer who is enrolled"
    if facts.epoch == state.epoch or epoch_short(facts.epoch) in state.condemned:
        return "it names the current epoch again, or one that is condemned"
    if len({slot_id for slot_id, _, _ in facts.slots}) != len(facts.slots):
        return "it names a slot twice"
    if len({number for number, _, _ in facts.changes}) != len(facts.changes):
        return "it names a keyring shard twice"
    for number, base, new in facts.changes:
        if state.shards.get(number) != base:
            return "it replaces a keyring shard that is no longer current"
        if b"s" + new in state.condemned:
            return "it names a keyring shard that is condemned"
    return None
