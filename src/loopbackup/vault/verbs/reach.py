"""
An erasure at the replicas: it reaches those that were given to ``open``, and waits for the others.

Of each the ledger says below which record no old key is left. So what an erasure
waits for can be told by everybody, and any later call or replication finishes it.
"""

from __future__ import annotations

from contextlib import ExitStack
from datetime import datetime
from typing import Any, Final, NamedTuple

from attrs import evolve, frozen

from ...errors import LoopbackupError
from ...logs import get_logger
from ...terms import Actor
from ..format.names import KEYS
from ..ledger.replicas import Replica
from ..store.registry import redact_url
from ..store.seam import StoreSeam
from .replica_keys import renew_keys
from .replica_note import Progress, note
from .replica_place import ReplicaPlace, find_replica, where_of
from .session import Session

__all__ = ["OVERWRITTEN", "REPLICA_LIMIT", "Reached", "Remaining", "at_replica", "reach_replicas"]

REPLICA_LIMIT: Final = "The replica "
"""So begins every limit of a receipt that is about a replica."""
OVERWRITTEN: Final = (
    "At replicas the old keyring root is overwritten, not deleted. A store that keeps versions may "
    "keep what was overwritten, and does not say so: it opens with an old key slot and its "
    "credential. End old versions there."
)
_NOT_GIVEN: Final = "it was not given to open(replicas=...)"


class Remaining(NamedTuple):
    """What an erasure still waits for."""

    what: str
    """Name of an object, or what the names of several begin with."""
    until: datetime | None
    """When the store lets it go, if it says so."""
    where: str = "primary"
    """``primary``, or the URL of the replica, without credentials."""
    why: str = "the store keeps it"


@frozen
class Reached:
    """What an erasure has come to at one replica."""

    id: str
    url: str
    """Without credentials; the id where it is not known."""
    location: str | None
    """As declared."""
    is_lost: bool = False
    """It was given up: nobody waits for it."""
    has_old_keys: bool = True
    """As far as the vault knows of one that is lost."""
    left: tuple[Remaining, ...] = ()
    """What is still to be deleted."""

    @property
    def stage(self) -> str:
        """``keys_destroyed``, ``pending`` or ``lost``, as the receipt has it."""
        if self.is_lost:
            return "lost"
        return "pending" if self.left else "keys_destroyed"

    def named(self) -> dict[str, Any]:
        """Name it as the receipt does: by id and location."""
        return {"store": self.id, "location": self.location}

    @property
    def name(self) -> str:
        """What it is called in receipts: the beginning of its id, and where it lies."""
        return f"{self.id[:8]} ({self.location or 'location not declared'})"

    @property
    def limit(self) -> str | None:
        """Say what of the erasure does not hold because of it; None if nothing."""
        if self.is_lost and self.has_old_keys:
            return (
                f"{REPLICA_LIMIT}{self.name} was declared lost: what lies there, old keys "
                "included, opens with the credentials of the vault from before."
            )
        if self.is_lost:
            return (
                f"{REPLICA_LIMIT}{self.name} was declared lost: the old keys there were deleted "
                "before, the encrypted bytes were not, as far as the vault knows."
            )
        if not self.left:
            return None
        return (
            f"{REPLICA_LIMIT}{self.name} still has old keys: {self.left[0].why}. Whoever has "
            "access to it and a credential can read what was erased, until the erasure is finished "
            "there."
        )


def reach_replicas(session: Session, actor: Actor, index: int) -> tuple[Reached, ...]:
    """
    Put the keys that count on every replica that has not got them, and bury the old ones.

    Its records and data stay as they are: that is for a replication. What fails at
    one replica is said of it, and stops nothing.

    Args:
        index: Number of the record that changed the keys.

    Cost: nothing for a replica that the ledger says is done; else as :func:`renew_keys`.
    """
    known = session.log.state.replicas.values()
    waiting = [one for one in known if not one.lost and one.has_keys_of(index)]
    with ExitStack() as stack:
        places, failed = _places(session, stack) if waiting else ({}, {})
        return tuple(
            _reach(session, actor, one, index, places, failed)
            for one in sorted(known, key=lambda one: one.index)
        )


def _places(session: Session, stack: ExitStack) -> tuple[dict[bytes, ReplicaPlace], dict[str, str]]:
    """Open what was given, to be closed by *stack*; say by URL why some cannot be."""
    places: dict[bytes, ReplicaPlace] = {}
    failed: dict[str, str] = {}
    for url, open_ in session.replicas.items():
        where = redact_url(url)
        try:
            seam = StoreSeam(open_())
            stack.callback(seam.close)
            place = find_replica(session, where, seam)
        except LoopbackupError as exc:
            failed[where] = f"it cannot be reached ({exc.kind})"
            get_logger().warning("a replica cannot be reached", kind=exc.kind)
            continue
        if place is not None:
            places[place.store] = place
    return places, failed


def _reach(
    session: Session,
    actor: Actor,
    replica: Replica,
    index: int,
    places: dict[bytes, ReplicaPlace],
    failed: dict[str, str],
) -> Reached:
    known = at_replica(session, replica, index)
    if known.is_lost or not known.has_old_keys:
        return known
    url, place = known.url, places.get(replica.store)
    if place is None:
        return evolve(known, left=(Remaining(KEYS, None, url, failed.get(url, _NOT_GIVEN)),))
    try:
        done = renew_keys(session, replica, place.seam)
        note(session, actor, replica.store, done, Progress())
    except LoopbackupError as exc:
        get_logger().warning("an erasure cannot be finished at a replica", kind=exc.kind)
        why = f"it failed while keys were changed ({exc.kind})"
        return evolve(known, left=(Remaining(KEYS, None, url, why),))
    left = tuple(
        Remaining(name, until, url, "its store keeps old key objects") for name, until in done.left
    )
    return evolve(known, has_old_keys=bool(left), left=left)


def at_replica(session: Session, replica: Replica, index: int) -> Reached:
    """Give what the ledger knows of the keys that record *index* ended, at a replica."""
    body = where_of(session, replica)
    store = replica.store.hex()
    url, location = (body.url, body.location) if body else (store, None)
    has_old_keys = replica.has_keys_of(index)
    return Reached(store, url, location, is_lost=replica.lost, has_old_keys=has_old_keys)
