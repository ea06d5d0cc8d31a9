"""Sweeping: delete what was condemned long enough ago, and say so in the ledger."""

from __future__ import annotations

from typing import Final

from attrs import define

from ...errors import StoreError
from ...logs import get_logger
from ...terms import Action, Actor
from ..format import names
from ..format import record as rec
from ..ledger.log import Draft
from ..ledger.state import State, join_names, object_name
from .session import Session

__all__ = ["Swept", "sweep"]

MAX_KEPT: Final = 1024


@define
class Swept:
    """Counts of a sweep."""

    objects: int = 0
    bytes: int = 0
    kept: int = 0


def sweep(session: Session, actor: Actor, counted: int) -> Swept:
    """
    Delete what is condemned and past the grace on the primary store.

    Args:
        counted: Size of the ledger at which liveness was counted anew: the
            caller has found every live chunk a place outside of what was
            condemned by then, and condemned nothing live itself.

    An object that the store refuses to delete is kept in the record and tried
    again by the next sweep.
    """
    state = session.log.state
    upto, due = _due(session, state, counted)
    if not due:
        return Swept()
    sizes = {
        entry.key: entry.size_bytes
        for prefix in (names.PACKS, names.INDEX, names.LISTS, names.SHARDS)
        for entry in session.store.list(prefix)
    }
    result, kept = Swept(), []
    for short in due:
        name = object_name(short)
        if name not in sizes:
            continue
        try:
            remains = session.store.delete(name)
        except StoreError as exc:
            get_logger().warning("an object cannot be deleted yet", object=name, kind=exc.kind)
            kept.append(short)
            continue
        if remains.versions:
            kept.append(short)
        result.objects += 1
        result.bytes += sizes[name]
    result.kept = len(kept)
    before = state.swept.get(session.header.vault_id, (-1, frozenset()))
    if upto >= before[0] and (upto, frozenset(kept)) != before and len(kept) <= MAX_KEPT:
        facts = rec.Swept(session.header.vault_id, upto, join_names(kept))
        session.log.commit_draft(Draft("swept", facts, [session.audit(actor, Action.PRUNE)]))
    return result


def _due(session: Session, state: State, counted: int) -> tuple[int, list[bytes]]:
    """Give the last record whose condemned names are all past the grace, and the names."""
    limit_us = int(session.log.now().timestamp() * 1_000_000) - session.header.grace_s * 1_000_000
    condemned = list(state.condemned.items())
    # A record is at least as old as any that came after it says to be: one clock that
    # was ahead must not keep everything for ever.
    times = {index: at_us for _, (index, at_us) in condemned}
    young: list[int] = []
    earliest_us = max(times.values(), default=0)
    for index in sorted(times, reverse=True):
        earliest_us = min(earliest_us, times[index])
        if earliest_us > limit_us:
            young.append(index)
    upto = min([counted, *young]) - 1
    return upto, [name for name, (index, _) in condemned if index <= upto]
