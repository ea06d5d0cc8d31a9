"""The replicas of a vault as a whole: which there are, how far each is, which is given up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from attrs import frozen

from ...errors import InputError, NotFoundError
from ...show import text
from ...terms import Action, Actor, Facts, check_reason
from ..format import record as rec
from ..ledger.log import Draft
from ..ledger.replicas import Replica as Known
from ..store.protocol import Store
from ..store.registry import open_store, redact_url
from .replica_place import where_of
from .session import Session, to_datetime

__all__ = ["Replica", "list_replicas", "run_declare_lost", "stores_of"]


@frozen
class Replica:
    """A copy of the vault in another store, as the ledger knows it."""

    id: str
    """Thirty-two hex digits."""
    url: str
    """Without credentials; empty where that is lost."""
    location: str | None
    """As declared."""
    behind: int
    """
    Ledger records that it lacks, as far as the ledger says; the one that says so is not counted.
    """
    replicated_at: datetime | None
    """When it last was brought further; None: never yet."""
    is_lost: bool
    """It was given up: see :meth:`loopbackup.Vault.declare_lost`."""

    def __str__(self) -> str:
        where = f"{self.url or self.id} ({self.location or 'location not declared'})"
        if self.is_lost:
            return f"{where}: declared lost"
        if self.replicated_at is None:
            return f"{where}: never replicated"
        lag = f"{self.behind:,} records behind" if self.behind else "up to date"
        return f"{where}: {lag}, {text.moment(self.replicated_at)}"


def list_replicas(session: Session) -> tuple[Replica, ...]:
    """Give what the ledger knows, oldest first; nobody is asked."""
    state = session.log.state
    known = sorted(state.replicas.values(), key=lambda replica: replica.index)
    return tuple(_show(session, replica, state.size) for replica in known)


def _show(session: Session, replica: Known, size: int) -> Replica:
    body = where_of(session, replica)
    return Replica(
        replica.store.hex(),
        "" if body is None else body.url,
        None if body is None else body.location,
        # The record that says how far it is comes after what it tells of.
        max(0, size - replica.size - 1),
        to_datetime(replica.at_us) if replica.at_us else None,
        replica.lost,
    )


def stores_of(
    session: Session, url: str, storage_options: Mapping[str, Any] | None
) -> Callable[[], Store]:
    """Say how to open the store at *url*: as given here, or else when the vault was opened."""
    redact_url(url)
    given = session.replicas.get(url)
    if storage_options is None and given is not None:
        return given
    return partial(
        open_store,
        url,
        storage_options,
        allow_insecure_loopback=session.allow_insecure_loopback,
    )


def run_declare_lost(session: Session, actor: Actor, replica: str, reason: str) -> None:
    """Give up a replica; see :meth:`loopbackup.Vault.declare_lost`."""
    check_reason(reason)
    if not isinstance(replica, str):
        raise InputError("a replica is named by its URL or its id")
    session.begin(Action.REPLICATE, actor, Facts(actor=actor, reason=reason))
    there = [one for one in list_replicas(session) if not one.is_lost]
    found = [one for one in there if replica == one.id or redact_url(replica) == one.url]
    if len(found) > 1:
        raise InputError(f"{len(found)} replicas lie there; name one by its id: vault.replicas")
    if not found:
        raise NotFoundError("the vault has no such replica: see vault.replicas", kind="replica")
    facts = rec.ReplicaLost(bytes.fromhex(found[0].id))
    audit = session.audit(actor, Action.REPLICATE, reason=reason)
    session.log.commit_draft(Draft("replica-lost", facts, [audit]))
